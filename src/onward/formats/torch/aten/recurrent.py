"""ATen's recurrent operators, whose weights become cells."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....core.cell import KINDS, Cell
from ....core.identity import Identity
from ....errors import ArgumentError
from .layers import as_float32
from .registry import Tensor, aten
from .translator import Translator

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def new_cell(
    t: Translator, kind: str, params: Sequence[Tensor], has_biases: bool, num_layers: int,
    bidirectional: bool, **options: Any,
) -> Cell:  # fmt: skip
    """Return a cell with the weights of an operator; calls with the same weights share it."""
    arrays = [_constant(t, each) for each in params]
    key = (kind, has_biases, num_layers, bidirectional, *options.items(), *map(Identity, arrays))
    if key in t.cells:
        return t.cells[key]
    if not 0 < num_layers <= len(params):
        raise ArgumentError(f"{num_layers} layers have {len(params)} weights")
    names = list(NAMES[: 4 if has_biases else 2])
    if len(params) > len(names) * num_layers * (1 + bidirectional):
        names.append("weight_hr")
    directions = ("", "_reverse")[: 1 + bidirectional]
    suffixes = [f"_l{layer}{direction}" for layer in range(num_layers) for direction in directions]
    keys = [name + suffix for suffix in suffixes for name in names]
    weights = dict(zip(keys, arrays, strict=True))
    if arrays[0].dtype == np.float16:  # cells compute in float32
        weights = {name: array.astype(np.float32) for name, array in weights.items()}
    W = weights["weight_ih_l0"]
    options |= {"num_layers": num_layers, "bias": has_biases, "bidirectional": bidirectional}
    if "weight_hr_l0" in weights:
        options["proj_size"] = weights["weight_hr_l0"].shape[0]
    hidden = weights["weight_hh_l0"].shape[0] // len(KINDS[kind].gates)
    t.cells[key] = Cell(kind, W.shape[1], hidden, dtype=W.dtype, **options).filled(weights)
    return t.cells[key]


def _constant(t: Translator, x: Tensor) -> Any:
    array = t.array(x)
    if array is None:
        raise ArgumentError("a recurrent layer whose weights are not constants is not supported")
    return np.asarray(array)


def run_cell(
    t: Translator, cell: Cell, x: Tensor, states: Sequence[Any], batch_first: bool, lengths: Any = None
) -> tuple[Any, ...]:
    """Add a cell over x and return y and the final states."""
    dtype, (x, *states) = x.dtype, [as_float32(t, each) for each in (x, *states)]
    order = [1, 0, 2]
    steps: Any = t.add("Transpose", x, perm=order) if batch_first else x
    made = t.add_all("Recurrent", (steps, lengths, *states), 1 + len(states), cell=cell)
    if not batch_first:
        return in_dtype(t, made, dtype)
    y, *final = in_dtype(t, (t.add("Transpose", made[0], perm=order), *made[1:]), dtype)
    return t.in_memory_of(made[0], y), *final


def _step(t: Translator, cell: Cell, x: Tensor, states: Sequence[Tensor]) -> tuple[str, ...]:
    """Run one step of a cell and return its states."""
    dtype, (x, *states) = x.dtype, [as_float32(t, each) for each in (x, *states)]
    return in_dtype(t, t.add_all("Step", (x, *states), len(states), cell=cell), dtype)


def in_dtype(t: Translator, values: Sequence[str], dtype: Any) -> tuple[str, ...]:
    """Return float32 values as the outputs of a cell over a tensor of this dtype."""
    return tuple(t.add("Cast", value, to=dtype) if dtype == np.float16 else value for value in values)


def _define(name: str, kind: str, **options: Any) -> None:
    @aten(f"{name}.input")
    def function(
        t: Translator, input: Tensor, hx: Any, params: Sequence[Tensor], has_biases: bool, num_layers: int,
        dropout: float, train: bool, bidirectional: bool, batch_first: bool,
    ) -> tuple[Any, ...]:  # fmt: skip
        made = new_cell(t, kind, params, has_biases, num_layers, bidirectional, **options)
        return run_cell(t, made, input, [hx] if isinstance(hx, Tensor) else hx, batch_first)

    @aten(f"{name}_cell")
    def cell(
        t: Translator, input: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Any:  # fmt: skip
        params = [each for each in (w_ih, w_hh, b_ih, b_hh) if each is not None]
        made = new_cell(t, kind, params, b_ih is not None, 1, False, **options)
        is_one = isinstance(hx, Tensor)
        states = _step(t, made, input, [hx] if is_one else hx)
        return states[0] if is_one else states


CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
    "rnn_tanh": ("RNN", {"nonlinearity": "tanh"}),
    "rnn_relu": ("RNN", {"nonlinearity": "relu"}),
}
for each, (cell_kind, cell_options) in CELLS.items():
    _define(each, cell_kind, **cell_options)
