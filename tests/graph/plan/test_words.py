"""Programs with hostile numbers, as a file may hold them: each is refused before it leaves its arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from onward import _core
from onward.graph.plan.steps import OutputStage
from onward.graph.plan.view import View
from onward.graph.plan.words import NUMBER, QUOTIENT, WordWriter

LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1
BYTES = 4096  # of the only array, which is space 1


def program(
    steps: Sequence[tuple[str, Sequence[Any]]] = (),
    table: Sequence[tuple[int, int, int]] = (),
    arrays: Sequence[tuple[int, int, int]] = (),
    weights: Sequence[Any] = (),
) -> Any:
    writer = WordWriter(lambda found: weights.index(found))
    for part in ([], [BYTES], list(arrays), [], []):  # guards, spaces, arrays, outputs and locations
        writer.write(part)
    writer.steps(steps)
    writer.write(0)
    writer.values = list(table)
    return _core.Program(writer.program, list(weights))


def run(*step: Any, weights: Sequence[Any] = ()) -> None:
    plan = program([(step[0], step[1:])], weights=weights).bind([], throws=True)
    plan.run([np.zeros(plan.arena_size, np.uint8), np.zeros(BYTES, np.uint8)], 0, 1)


def at(offset: Any, *shape: Any, strides: Sequence[int] | None = None, dtype: str = "float32") -> View:
    """A view of the array."""
    if strides is None:
        return View.contiguous(1, offset, shape, dtype)
    return View(1, offset, shape, tuple(strides), dtype)


@pytest.mark.parametrize(("dividend", "holds"), [(LOWEST, False), (LOWEST + 1, True), (7, True)])
def test_a_quotient_that_no_size_can_be_does_not_end_the_process(dividend: int, holds: bool) -> None:
    """The processor's division trapped."""
    made = program(table=[(NUMBER, dividend, 0), (NUMBER, -1, 0), (QUOTIENT, 0, 1)])
    if holds:
        assert made.bind([], throws=True) is not None
    else:
        with pytest.raises(OverflowError, match="a size is too large"):
            made.bind([], throws=True)


@pytest.mark.parametrize("size", [-1, HIGHEST, HIGHEST - 62])
def test_arrays_whose_sizes_overflow_when_they_are_rounded_up_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="an array has a size below 0, or too large"):
        program(arrays=[(size, 0, 0)]).bind([], throws=True)


@pytest.mark.parametrize(("scales", "fits"), [(3, True), (1, False), (2, False)])
def test_exact_sums_have_a_scale_for_each_row(scales: int, fits: bool) -> None:
    """One scale was read as one of each row."""
    matrix = _core.IntegerMatrix(np.ones((4, 5), np.int8), np.zeros(4, np.int32))
    x, zero = at(0, 3, 5, dtype="int8"), at(100, 1, dtype="int8")
    arguments = matrix, x, 1, zero, *OutputStage(row_scale=at(50, scales)), at(100, 3, 4)
    if fits:
        run("integer_product", *arguments, weights=[matrix])
    else:
        with pytest.raises(ValueError, match="a scale for each row"):
            run("integer_product", *arguments, weights=[matrix])


@pytest.mark.parametrize(
    ("dtype", "stage"),
    [
        ("float32", {"multiplier": at(60, 4, dtype="int32"), "shift": at(70, 4, dtype="int32")}),
        ("int8", {"multiplier": at(60, 4, dtype="int32")}),
        ("int8", {"shift": at(70, 4, dtype="int32")}),
        ("int8", {"scale": at(60, 4)}),
        ("int8", {"multiplier": at(60, 4), "shift": at(70, 4, dtype="int32")}),
        *(
            ("int32", {name: view, "multiplier": at(60, 1, dtype="int32"), "shift": at(70, 1, dtype="int32")})
            for name, view in {"row_scale": at(80, 3), "scale": at(80, 4), "bias": at(80, 4)}.items()
        ),
    ],
)
def test_what_exact_sums_become_has_one_dtype(dtype: str, stage: dict[str, View]) -> None:
    """A file could have a factor and scales, of which one would be ignored, or half a factor."""
    matrix = _core.IntegerMatrix(np.ones((4, 5), np.int8), np.zeros(4, np.int32))
    inputs = matrix, at(0, 3, 5, dtype="int8"), 1, at(100, 1, dtype="int8")
    with pytest.raises(ValueError, match=r"do not fit each other|wrong dtype|must be rescaled to"):
        run("integer_product", *inputs, *OutputStage(**stage), at(100, 3, 4, dtype=dtype), weights=[matrix])


def test_sizes_of_empty_arrays_are_not_those_of_states() -> None:
    """2^62 rows of no numbers had as many states as an empty array, because the number of states wrapped."""
    rng, H = np.random.default_rng(0), 4
    q, scale, zero = (
        rng.integers(-9, 9, (4 * H, H), np.int8),
        np.ones(4 * H, np.float32),
        np.zeros(4 * H, np.int32),
    )
    bias = np.zeros(4 * H, np.float32)
    lstm = _core.QuantizedLSTM([(q, scale, zero, q, scale, zero, bias, None)], [], False)

    def arguments(B: int, features: int, states: int) -> Sequence[Any]:
        state = at(200, states)
        return lstm, at(0, 1, B, features), None, None, at(100, states), state, at(300, states)

    run("quantized_lstm", *arguments(3, H, 3 * H), weights=[lstm])
    with pytest.raises(ValueError, match="do not match its weights"):
        run("quantized_lstm", *arguments(1 << 62, 0, 0), weights=[lstm])


LARGE = 1 << 33, 1 << 31


@pytest.mark.parametrize(
    ("M", "N", "K"), [(8, *LARGE), (*LARGE, 8), (*LARGE, 8)[::-1], (8, 1, HIGHEST), (8, 0, HIGHEST)]
)
def test_matrices_without_memory_are_not_packed(M: int, N: int, K: int) -> None:
    """With strides of 0, the number of bytes of a packed matrix wrapped."""
    with pytest.raises(MemoryError):
        run("matmul", *(at(0, *shape, strides=(0, 0)) for shape in ((M, K), (K, N), (M, N))))


def test_rows_without_memory_are_not_gathered() -> None:
    with pytest.raises(MemoryError):
        run("reduce", "sum", at(0, 1 << 61, strides=[0]), at(1, 1))


def test_a_program_has_a_space_for_each_output() -> None:
    no_list, outputs = [0], [2, 0, 0]  # two shapes without axes
    words = [*no_list, *no_list, *no_list, *no_list, *outputs, *no_list, *no_list]
    with pytest.raises(IndexError, match="more outputs than spaces"):
        _core.Program(np.array(words, np.int64), [])
