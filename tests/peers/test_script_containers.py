"""TorchScript methods take and return lists, dicts, tuples and None, which change from call to call."""

import copy
import gc
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import onward
from onward.errors import ArgumentError, SignatureError
from onward.model import Model

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns that TorchScript is deprecated


class Layers(nn.Module):
    """Recurrent layers whose states are a list of lists."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.LSTM(3, 3) for _ in range(2)])

    def forward(
        self, x: Tensor, states: list[list[Tensor]] | None = None
    ) -> tuple[Tensor, list[list[Tensor]]]:
        after: list[list[Tensor]] = []
        for i, layer in enumerate(self.layers):
            if states is None:
                x, (h, c) = layer(x)
            else:
                x, (h, c) = layer(x, (states[i][0], states[i][1]))
            after.append([h, c])
        return x, after


class Lists(nn.Module):
    def forward(self, x: list[Tensor], factors: list[float], more: list[Tensor] | None) -> list[Tensor]:
        found: list[Tensor] = []
        for i, each in enumerate(x):
            found.append(each * factors[i] - i)
        if more is not None:
            for each in more:
                found.append(each.sum(0))
        return found


class Dicts(nn.Module):
    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        total = torch.zeros(3)
        for name in x:
            total = total + x[name].sum(0)
        found: dict[str, Tensor] = {}
        for name in x:
            found[name] = x[name] - total
        return found


class Pairs(nn.Module):
    def forward(self, x: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], Tensor]:
        found: list[Tensor] = []
        for a, b in x:
            found.append(a - 2 * b)
        return found, found[-1].exp()


class Nested(nn.Module):
    def forward(self, x: dict[str, list[Tensor]], k: int) -> dict[str, list[Tensor]]:
        found: dict[str, list[Tensor]] = {}
        for name in x:
            found[name] = [each * k for each in x[name]] + x[name]
        return found


class Optionals(nn.Module):
    def forward(self, x: Tensor, y: Tensor | None, pair: tuple[Tensor, Tensor] | None = None) -> Tensor:
        if y is not None:
            x = x * y
        if pair is not None:
            x = x + pair[0] - 3 * pair[1]
        return x


Make = Callable[[np.random.Generator], tuple[Any, ...]]


def numbers(rng: np.random.Generator, last: int = 3) -> np.ndarray[Any, Any]:
    return rng.standard_normal((int(rng.integers(1, 5)), last)).astype(np.float32)


def lists(rng: np.random.Generator) -> tuple[Any, ...]:
    count = int(rng.integers(1, 5))
    more = None if rng.random() < 0.4 else [numbers(rng) for _ in range(rng.integers(0, 3))]
    x = [numbers(rng) for _ in range(count)]
    return x, [float(n) for n in rng.integers(-3, 4, count)], more


def dicts(rng: np.random.Generator) -> tuple[Any, ...]:
    return ({name: numbers(rng) for name in rng.permutation(["a", "b", "x"])[: rng.integers(1, 4)]},)


def pairs(rng: np.random.Generator) -> tuple[Any, ...]:
    arrays = [numbers(rng) for _ in range(rng.integers(1, 4))]
    return ([(a, 2 - a) for a in arrays],)


def nested(rng: np.random.Generator) -> tuple[Any, ...]:
    names = rng.permutation(["p", "q"])[: rng.integers(1, 3)]
    return {name: [numbers(rng) for _ in range(rng.integers(1, 3))] for name in names}, int(rng.integers(5))


def optionals(rng: np.random.Generator) -> tuple[Any, ...]:
    x = numbers(rng)
    pair = None if rng.random() < 0.5 else (x + 1, x * x)
    given = x, None if rng.random() < 0.5 else x - 2, pair
    return given[: 2 if rng.random() < 0.3 else 3]


def converted(value: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to the arrays or tensors in nested containers."""
    if isinstance(value, dict):
        return {
            str(key) if isinstance(key, str) else key: converted(each, function)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(converted(each, function) for each in value)
    return function(value) if isinstance(value, np.ndarray | Tensor) else value


def opened(module: nn.Module, folder: Path) -> Any:
    torch.jit.script(module.eval()).save(folder / "model.pt")
    return onward.load(folder / "model.pt")


def check(actual: Any, expected: Any) -> None:
    """Compare nested containers, their kinds and keys."""
    assert type(actual) is type(expected)
    if isinstance(expected, list | tuple | dict):
        if isinstance(expected, dict):
            assert actual.keys() == expected.keys()
            actual, expected = (list(dict(sorted(each.items())).values()) for each in (actual, expected))
        assert len(actual) == len(expected)
        for pair in zip(actual, expected, strict=True):
            check(*pair)
    elif expected is None:
        assert actual is None
    else:
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("module", "make"),
    [(Lists, lists), (Dicts, dicts), (Pairs, pairs), (Nested, nested), (Optionals, optionals)],
    ids=["lists", "dicts", "pairs", "nested", "optionals"],
)
def test_lengths_keys_and_none_change_from_call_to_call(
    module: type[nn.Module], make: Make, tmp_path: Path
) -> None:
    torch_module, rng = module(), np.random.default_rng(0)
    model = opened(torch_module, tmp_path)
    for _ in range(25):
        args = make(rng)
        with torch.no_grad():
            expected = torch_module(*converted(args, torch.from_numpy))
        check(model(*converted(args, np.copy)), converted(expected, Tensor.numpy))


def states_of(module: nn.Module, x: Tensor) -> tuple[Any, Any, Any]:
    """Return the states after x, and the output and the states after x once more."""
    with torch.no_grad():
        states = module(x)[1]
        return converted(states, Tensor.numpy), *converted(module(x, states), Tensor.numpy)


def test_states_in_lists_of_lists_pass_from_call_to_call_copies_and_pickles(tmp_path: Path) -> None:
    module, x = Layers().eval(), torch.randn(4, 2, 3)
    model = opened(module, tmp_path)
    states, y, after = states_of(module, x)
    _, first = model(x.numpy())
    check(first, states)
    for each in (model, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        check(each(x.numpy(), first), (y, after))
        check(each(x.numpy(), states=first)[1], after)
        check(each(x.numpy(), None)[1], states)
    assert model.inputs == ("x",)  # those of the last call


def test_declared_elements_of_lists_give_one_graph_that_streams_and_saves(tmp_path: Path) -> None:
    module, x = Layers().eval(), torch.randn(4, 2, 3)
    opened(module, tmp_path)
    states, y, after = states_of(module, x)
    element = ("float32", (1, 2, 3))
    declared = {"x": ("float32", ("time", 2, 3)), "states": [[element, element]] * 2}
    model = onward.load(tmp_path / "model.pt", inputs=declared)
    assert model.inputs == ("x", "states.0.0", "states.0.1", "states.1.0", "states.1.1")
    check(model(x.numpy(), states), (y, after))
    carry = {f"states.{i}.{k}": f"output.1.{i}.{k}" for i in range(2) for k in range(2)}
    stream = model.stream(carry=carry)
    check(
        np.concatenate([stream(x[:1].numpy()), stream(x[1:].numpy())]), model.stream(carry=carry)(x.numpy())
    )
    check(stream(x.numpy()), y)
    model.save(tmp_path / "model.safetensors")
    check(onward.load(tmp_path / "model.safetensors")(x.numpy(), states), (y, after))


def test_lists_of_unknown_length_are_named_before_the_first_call(tmp_path: Path) -> None:
    model = opened(Pairs(), tmp_path)
    with pytest.raises(ArgumentError, match=r"lists and dicts in x are not known.*inputs="):
        _ = model.inputs
    with pytest.raises(SignatureError, match=r"x\[0\] is ndarray; expected a tuple of 2 items"):
        model([np.ones(3, np.float32)])
    with pytest.raises(
        SignatureError, match=r"x is not what the code expects: List\[Tuple\[Tensor, Tensor\]\]"
    ):
        model(3)


class Parts(nn.Module):
    """The lengths of the results depend on the length of an input, and on a number."""

    def forward(self, x: Tensor, count: int) -> tuple[list[Tensor], dict[int, Tensor], Tensor | None]:
        found: dict[int, Tensor] = {}
        for i in range(count):
            found[i] = x[: i + 1].sum(0)
        total: Tensor | None = None
        if x.size(0) > 3:
            total = x.sum(0)
        return list(x.split(2)), found, total


def test_lengths_of_results_that_depend_on_sizes_and_numbers_change_from_call_to_call(tmp_path: Path) -> None:
    module, rng = Parts(), np.random.default_rng(0)
    model = opened(module, tmp_path)
    for _ in range(40):
        x, count = numbers(rng), int(rng.integers(1, 4))
        expected = module(torch.from_numpy(x), count)
        check(model(x, count), converted(expected, Tensor.numpy))


def test_methods_may_return_no_tensors(tmp_path: Path) -> None:
    assert opened(Lists(), tmp_path)([], [], None) == []


def test_programs_of_many_lengths_do_not_stay_in_memory(tmp_path: Path) -> None:
    def models() -> int:
        gc.collect()
        return sum(isinstance(each, Model) for each in gc.get_objects())

    model, before = opened(Pairs(), tmp_path), models()
    for count in range(1, 40):
        y, _ = model([(np.ones((1, 3), np.float32), np.zeros((1, 3), np.float32))] * count)
        assert len(y) == count
    assert models() < before + 20
