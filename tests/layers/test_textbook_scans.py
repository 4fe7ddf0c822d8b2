"""The equations beyond the LSTM: their outputs equal those of the layers, their gradients differences."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from support.recurrences import RECURRENCES, check_direction, joined, random_state

import onward
from onward import textbook_scans

Array = NDArray[Any]
T, B = 5, 3


def columns(weights: Mapping[str, Array], names: Mapping[str, str]) -> dict[str, Array]:
    """Return vectors as columns, by their names in the textbook."""
    return {own: weights[name][:, None] for own, name in names.items()}


def rows(weight: Array, names: str, *sizes: int) -> dict[str, Array]:
    """Return parts of the rows of a weight by name; vectors become columns."""
    own = weight if weight.ndim > 1 else weight[:, None]
    return dict(zip(names.split(), np.split(own, np.cumsum(sizes)[:-1]), strict=True))


def min_gru(layer: Any, w: Any) -> dict[str, Array]:
    return rows(w["weight_ih"], "Wz Wn", 7, 7) | rows(w["bias_ih"], "bz bn", 7, 7)


def lru(layer: Any, w: Any) -> dict[str, Array]:
    own = columns(w, {"nu": "nu_log", "theta": "theta_log", "gamma": "gamma_log", "D": "D"})
    own |= rows(w["weight_ih"], "B_re B_im", 7, 7)
    return own | dict(zip(("C_re", "C_im"), np.split(w["weight_ho"], 2, axis=1), strict=True))


def rg_lru(layer: Any, w: Any) -> dict[str, Array]:
    own = rows(w["weight_ih"], "Wr Wi", 5, 5) | rows(w["bias_ih"], "br bi", 5, 5)
    return own | columns(w, {"Lambda": "Lambda"})


def layer_norm_lstm(layer: Any, w: Any) -> dict[str, Array]:
    norms = {"x": "ih", "h": "hh", "c": "c"}
    parts = {"gain": "weight", "bias": "bias"}
    names = {f"{own}_{part}": f"norm_{norms[own]}.{parts[part]}" for own in norms for part in parts}
    return {"W": w["weight_ih"], "R": w["weight_hh"]} | columns(w, {"b": "bias_ih"} | names)


def s_lstm(layer: Any, w: Any) -> dict[str, Array]:
    return {"W": w["weight_ih"], "R": w["weight_hh"]} | columns(w, {"b": "bias_ih"})


def selective_scan(layer: Any, w: Any) -> dict[str, Array]:
    own = rows(w["x_proj.weight"], "Wl WB WC", layer.rank, layer.state_size, layer.state_size)
    return (
        own | {"Wd": w["dt_proj.weight"], "A_log": w["A_log"]} | columns(w, {"bd": "dt_proj.bias", "D": "D"})
    )


def gated_delta_rule(layer: Any, w: Any) -> dict[str, Array]:
    own = rows(w["weight_ih"], "Wq Wk Wv Wa Wb", layer.head_size, layer.head_size, layer.value_size, 1, 1)
    return own | columns(w, {"A_log": "A_log", "dt": "dt_bias"})


class Cell(NamedTuple):
    """A cell of the textbook, a layer with its equations, and the conversion of its weights."""

    name: str
    layer: Callable[..., Any]
    parameters: Callable[[Any, Any], dict[str, Array]]

    @property
    def forward(self) -> Any:
        return getattr(textbook_scans, f"{self.name}_cell_forward")

    @property
    def backward(self) -> Any:
        return getattr(textbook_scans, f"{self.name}_cell_backward")


def one_head(**options: Any) -> Any:
    return onward.GatedDeltaRule(5, 1, 3, 4, rng=0, **options)


CELLS = {
    cell.name: cell
    for cell in (
        Cell("min_gru", RECURRENCES["MinGRU"].layer, min_gru),
        Cell("lru", RECURRENCES["LRU"].layer, lru),
        Cell("rg_lru", RECURRENCES["RGLRU"].layer, rg_lru),
        Cell("layer_norm_lstm", RECURRENCES["LayerNormLSTM"].layer, layer_norm_lstm),
        Cell("slstm", RECURRENCES["sLSTM"].layer, s_lstm),
        Cell("selective", RECURRENCES["SelectiveScan"].layer, selective_scan),
        Cell("gated_delta", one_head, gated_delta_rule),
    )
}
EACH = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)


def example(cell: Cell) -> tuple[Any, dict[str, Array], Array, tuple[Array, ...]]:
    """Return a layer, its weights as parameters, a sequence (T, n_x, m), and a state (..., m)."""
    layer, rng = cell.layer(dtype="float64"), np.random.default_rng(1)
    x = rng.standard_normal((T, layer.input_size, B))
    state = [np.moveaxis(part[0], 0, -1) for part in random_state(layer, rng, B)]
    if cell.name == "slstm":
        state = [state[0], *np.split(state[1], 3)]
    if cell.name == "gated_delta":  # of the only head
        state = [state[0][0]]
    return layer, cell.parameters(layer, layer.state_dict()), x, tuple(map(np.ascontiguousarray, state))


@EACH
def test_a_cell_equals_the_layer(cell: Cell) -> None:
    layer, parameters, x, state = example(cell)
    y, after, caches = textbook_scans.scan_forward(cell.forward, x, state, parameters)
    assert len(caches) == T
    packed = [state[0], np.concatenate(state[1:])] if cell.name == "slstm" else state
    shapes = layer.state_shapes(B)
    given = tuple(np.moveaxis(part, -1, 0).reshape(shape) for part, shape in zip(packed, shapes, strict=True))
    expected, final = layer(x.swapaxes(1, 2), joined(layer, given))
    np.testing.assert_allclose(y.swapaxes(1, 2), expected, rtol=1e-12, atol=1e-12)
    first = final[0] if isinstance(final, tuple) else final
    found = np.moveaxis(after[0], -1, 0).reshape(first.shape)
    np.testing.assert_allclose(found, first, rtol=1e-12, atol=1e-12)


@EACH
def test_gradients_equal_central_differences(cell: Cell) -> None:
    _, parameters, x, state = example(cell)
    rng = np.random.default_rng(2)
    y, after, caches = textbook_scans.scan_forward(cell.forward, x, state, parameters)
    dy, dafter = rng.standard_normal(y.shape), tuple(rng.standard_normal(part.shape) for part in after)
    gradients: dict[str, Any] = textbook_scans.scan_backward(cell.backward, dy, dafter, caches)
    dstate = gradients.pop("dstate")
    arrays = {"x": x} | parameters
    assert gradients.keys() == {f"d{name}" for name in arrays}
    pairs = [(arrays[name], gradients[f"d{name}"]) for name in arrays] + list(zip(state, dstate, strict=True))

    def loss() -> float:
        y, after, _ = textbook_scans.scan_forward(cell.forward, x, state, parameters)
        return float((y * dy).sum() + sum((a * d).sum() for a, d in zip(after, dafter, strict=True)))

    for array, gradient in pairs:
        check_direction(array, gradient, loss, rng)


@EACH
def test_arguments_that_do_not_fit(cell: Cell) -> None:
    _, parameters, x, state = example(cell)
    with pytest.raises(ValueError, match="has shape"):
        cell.forward(x[0], (state[0][:-1], *state[1:]), parameters)
    first = next(iter(parameters))
    with pytest.raises(ValueError, match=f"{first} is missing"):
        cell.forward(x[0], state, {name: p for name, p in parameters.items() if name != first})
