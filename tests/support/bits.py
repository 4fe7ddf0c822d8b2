"""Cells and shapes for tests of bitwise equality, and the comparison itself."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import pytest

import onward
from onward import _core

Value = TypeVar("Value")
CELLS = {
    "rnn_tanh": lambda **options: onward.RNN(5, rng=0, **options),
    "rnn_relu": lambda **options: onward.RNN(5, nonlinearity="relu", rng=0, **options),
    "lstm": lambda **options: onward.LSTM(5, rng=0, **options),
    "lstm_projected": lambda **options: onward.LSTM(
        5, proj_size=options["hidden_size"] // 2, rng=0, **options
    ),
    "gru": lambda **options: onward.GRU(5, rng=0, **options),
    "gru_reset_before": lambda **options: onward.GRU(5, reset_after=False, rng=0, **options),
    "rnn_clip": lambda **options: onward.RNN(5, nonlinearity="relu", clip=0.7, rng=0, **options),
    "lstm_options": lambda **options: onward.LSTM(
        5,
        peephole=True,
        coupled=True,
        clip=0.5,
        activations=("hard_sigmoid", "softplus", "mish"),
        rng=0,
        **options,
    ),
    "lstm_peephole": lambda **options: onward.LSTM(5, peephole=True, rng=0, **options),
    "gru_options": lambda **options: onward.GRU(
        5, clip=0.6, activations=("silu", ("elu", 0.7)), rng=0, **options
    ),
    "gru_reset_before_options": lambda **options: onward.GRU(
        5, reset_after=False, activations=("softsign", "selu"), rng=0, **options
    ),
}
every_cell = pytest.mark.parametrize("cell", CELLS)
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
odd_sizes = pytest.mark.parametrize("hidden_size", [3, 16, 33, 70])


def numbers(dtype: str, *shape: int) -> Any:
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def each_isa() -> Iterator[str]:
    """Select each instruction set of this machine in turn, for weights that are packed meanwhile."""
    before = _core.isa()
    try:
        for name in _core.available_isas():
            _core.set_isa(name)
            yield name
    finally:
        _core.set_isa(before)


def with_each_isa(values: Iterable[Value]) -> Iterator[Value]:
    """Yield each value with each instruction set; `itertools.product` would select all of them in advance."""
    for value in values:
        for _ in each_isa():
            yield value


def parts(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


def assert_bitwise(one: Any, other: Any, message: str = "") -> None:
    for a, b in zip(one, other, strict=True):
        assert a.shape == b.shape, message
        if a.tobytes() != b.tobytes():
            np.testing.assert_array_equal(a.view(f"u{a.itemsize}"), b.view(f"u{b.itemsize}"), err_msg=message)
