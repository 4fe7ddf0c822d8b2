"""TorchScript's operators on numbers, strings, lists and dicts give what Python gives, and bounded errors."""

from pathlib import Path

import numpy as np
import pytest
from support.script_archives import model

from onward.errors import ArgumentError

X = np.ones((2, 3), np.float32)


def test_operators_on_strings_and_lists_are_those_of_python(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "l = [7, 3, 5]",
        'words = torch.split("b,a,b", ",")',
        'joined = torch.join("--", words)',
        "n = torch.__lshift__(torch.index(l, 3), torch.len(words))",
        'if torch.eq(joined, "b--a--b"):',
        "  n = torch.add(n, torch.len(joined))",
        "else:",
        "  pass",
        'if torch.ne(words, ["b", "a", "b"]):',
        "  n = torch.mul(n, 100)",
        "else:",
        "  pass",
        'd = torch.dict([("a", 1), ("b", 2)])',
        'return torch.add(torch.mul(x, n), d["b"])',
    )
    np.testing.assert_array_equal(program(X), X * ((1 << 3) + 7) + 2)


def test_lists_are_sorted_in_place_and_as_copies(tmp_path: Path) -> None:
    """`list.sort` was taken for the operator that sorts tensors."""
    program = model(
        tmp_path,
        "sizes = [torch.size(x, 1), 7, torch.size(x, 0)]",
        "first = sorted(sizes)",
        "_0 = torch.sort(sizes, True)",
        'names = ["b", "c", "a"]',
        "_1 = torch.sort(names)",
        'if torch.eq(torch.__getitem__(names, 0), "a"):',
        "  y = torch.mul(x, first[1])",
        "else:",
        "  y = x",
        "return torch.add(y, sizes[2])",
    )
    np.testing.assert_array_equal(program(X), 3 * X + 2)
    np.testing.assert_array_equal(program(X.T), 3 * X.T + 2)
    values = ["torch.sum(x)", "torch.select(torch.select(x, 0, 0), 0, 1)"]
    for elements in (values, [f"float({value})" for value in values]):
        program = model(
            tmp_path, f"a = [{', '.join(elements)}]", "_0 = torch.sort(a)", "return torch.mul(x, a[0])"
        )
        with pytest.raises(ArgumentError, match="line 5: the order of a list depends on the values"):
            program(X)


REASONS = {
    "torch.index([1, 2], 3)": "does not contain the value",
    "torch.eq([x], [x])": "lists of tensors cannot be compared",
    "torch.eq({1: 2}, {1: 2})": "a dict cannot be compared",
    "torch.pow(0, -1)": "0 cannot be raised",
    "torch.mul((1, 2), 3)": "a tuple cannot be repeated",
    'torch.sub("a", 1)': "expected a number, got a str",
    "{(1, 2): 3}": "a tuple is a key",
    "torch.__contains__([1], torch.item(torch.sum(x)))": "depends on the value of a tensor",
    "torch.item(x)": r"a tensor of shape \(2, 3\) is not one number",
    "torch.add(*[x, x])": "Starred is not supported",
    "x.strides": "a Tensor has no attribute strides",
    "__torch__.M(x)": "no named tuple",
}


@pytest.mark.parametrize("code", REASONS)
def test_an_error_tells_what_the_code_does_wrong(code: str, tmp_path: Path) -> None:
    program = model(tmp_path, f"_0 = {code}", "return x")
    with pytest.raises(ArgumentError, match=f"line [0-9]+: .*{REASONS[code]}"):
        program(X)
