"""Rules that all tests follow."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.in_one_test import in_one_test

TESTS = Path(__file__).parent
FILES = sorted(path for path in TESTS.rglob("test_*.py") if "real" not in path.parts)
RANDOM = {"random_cases", "counted_cases", "Cases", "default_rng", "rng", "seed", "random"}
LEAVING = "assume|filter_too_much|xfail|except|skip|suppress"  # no case is left without one of these words
ENDS = ast.Continue, ast.Break, ast.Return, ast.Pass


def names_in(node: ast.AST) -> set[str]:
    """Return the names of variables, attributes and parameters."""
    found = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    found |= {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
    return found | {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}


def uncounted(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the places at which random tests leave a case without counting it."""
    for node in ast.walk(tree):
        match node:
            case ast.Name("assume") | ast.Attribute(attr="assume" | "filter_too_much" | "xfail"):
                yield node
            case ast.FunctionDef() if RANDOM & names_in(node):
                yield from filter(leaves_a_case, ast.walk(node))


def leaves_a_case(node: ast.AST) -> bool:
    """Whether a handler of errors ends a case and asserts nothing, or a call skips the whole test."""
    match node:
        case ast.ExceptHandler(body=body):
            checks = ("assert", "raise", "pytest.raises", ".skip()")
            return isinstance(body[-1], ENDS) and not any(word in ast.unparse(node) for word in checks)
        case ast.Call(ast.Attribute(ast.Name("pytest"), "skip")) | ast.Call(ast.Name("suppress")):
            return True
    return False


def test_a_random_test_counts_the_cases_that_it_skips() -> None:
    found = set[str]()
    for path in FILES:
        text = path.read_text()
        if re.search(LEAVING, text):
            places = (getattr(node, "lineno", 0) for node in uncounted(ast.parse(text)))
            found |= {f"{path.relative_to(TESTS)}, line {line}" for line in places}
    assert not found, "use support.skips"


@pytest.mark.parametrize(
    "code",
    [
        "try: f()\n        except ValueError: continue",
        "try: f()\n        except ValueError:\n            skipped += 1\n            continue",
        "try: f()\n        except ValueError: return",
        "try: f()\n        except ValueError: pass",
        "pytest.skip('')",
        "with suppress(ValueError): f()",
        "assume(x)",
    ],
)
def test_the_rule_finds_cases_that_are_not_counted(code: str) -> None:
    text = f"def test(seed):\n    for seed in range(9):\n        {code}"
    assert re.search(LEAVING, text) and list(uncounted(ast.parse(text)))


def test_instruction_sets_that_are_selected_before_a_test_runs() -> None:
    """`itertools.product` reads its arguments first: all its results had the instruction set of the start."""
    wrong = re.compile(r"(product|zip|list|sorted)\([^()]*(\([^()]*\)[^()]*)*(?<!with_)each_isa\(")
    assert not [str(path.relative_to(TESTS)) for path in FILES if wrong.search(path.read_text())]


def test_a_case_that_fails_or_skips_fails_the_test_of_all_cases() -> None:
    @in_one_test("number", [1, 2, 3])
    def check(number: int, tmp_path: str) -> None:
        assert tmp_path == "folder" and number != 2
        if number == 3:
            pytest.skip("no case may")

    with pytest.raises(BaseExceptionGroup, match="2 of 3 cases fail") as caught:
        check(tmp_path="folder")
    assert [error.__notes__ for error in caught.value.exceptions] == [
        ["with number = 2"],
        ["with number = 3"],
    ]
    with pytest.raises(AssertionError, match="there are no cases"):
        in_one_test("number", [])(check)(tmp_path="folder")
