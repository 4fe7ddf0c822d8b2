"""The layers beyond torch.nn against plain loops; their gradients against central differences."""

import copy
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.recurrences import RECURRENCES, Kind, check_direction, joined, random_state

import onward
from onward import errors, train
from onward.graph.plan.planner import Planner
from onward.layers.recurrence import Recurrence

EACH = pytest.mark.parametrize("kind", RECURRENCES.values(), ids=RECURRENCES)
PLAIN = {name: kind for name, kind in RECURRENCES.items() if " " not in name}  # without options
EACH_CLASS = pytest.mark.parametrize("kind", PLAIN.values(), ids=PLAIN)
SOME = pytest.mark.parametrize(
    "kind", [PLAIN[name] for name in ("MinGRU", "LayerNormLSTM", "GatedDeltaRule")]
)
T, B = 20, 3


def example(layer: Any, seed: int = 1) -> tuple[NDArray[Any], tuple[NDArray[Any], ...]]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((T, B, layer.input_size)).astype(layer.dtype)
    return x, random_state(layer, rng, B)


def arrays_of(state: Any) -> tuple[NDArray[Any], ...]:
    return state if isinstance(state, tuple) else (state,)


@EACH
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_layer_equals_a_plain_loop(kind: Kind, dtype: str) -> None:
    layer = kind.layer(dtype=dtype)
    x, state = example(layer)
    tolerance = {"float32": 2e-5, "float64": 1e-12}[dtype]
    zeros = tuple(np.zeros_like(part) for part in state)
    for given, initial, lengths in (
        (None, zeros, None),
        (joined(layer, state), state, None),
        (joined(layer, state), state, [T, 7, 0]),
    ):
        y, after = layer(x, given, lengths=lengths)
        expected, final = kind.run(layer, x, initial, lengths)
        assert y.dtype == layer.dtype and y.shape == expected.shape
        np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)
        for part, other in zip(arrays_of(after), final, strict=True):
            assert part.shape == other.shape
            np.testing.assert_allclose(part, other, rtol=tolerance, atol=tolerance)


@EACH_CLASS
def test_the_bits_do_not_depend_on_chunks_the_batch_the_layout_or_the_threads(kind: Kind) -> None:
    layer, first = kind.layer(), kind.layer(batch_first=True)
    x, state = example(layer)
    y, after = layer(x, joined(layer, state))
    for end in (0, 1, 2, 17, T):
        start, middle = layer(x[:end], joined(layer, state))
        rest, final = layer(x[end:], middle)
        np.testing.assert_array_equal(np.concatenate([start, rest]), y)
        for part, other in zip(arrays_of(final), arrays_of(after), strict=True):
            np.testing.assert_array_equal(part, other)
    row, row_state = layer(x[:, 1], joined(layer, tuple(part[:, 1] for part in state)))
    np.testing.assert_array_equal(row, y[:, 1])
    np.testing.assert_array_equal(arrays_of(row_state)[0], arrays_of(after)[0][:, 1])
    np.testing.assert_array_equal(first(x.swapaxes(0, 1), joined(layer, state))[0], y.swapaxes(0, 1))
    with onward.num_threads(2):
        np.testing.assert_array_equal(layer(x, joined(layer, state))[0], y)


@EACH_CLASS
def test_rows_that_have_ended_keep_their_state_and_give_zeros(kind: Kind) -> None:
    layer = kind.layer()
    x, state = example(layer)
    lengths = [T, 7, 0]
    x[7:, 1] = np.nan
    y, after = layer(x, joined(layer, state), lengths=lengths)
    for row, end in enumerate(lengths):
        own, final = layer(x[:end, row], joined(layer, tuple(part[:, row] for part in state)))
        np.testing.assert_array_equal(y[:end, row], own)
        assert not y[end:, row].any()
        for part, other in zip(arrays_of(after), arrays_of(final), strict=True):
            np.testing.assert_array_equal(part[:, row], other)


@EACH_CLASS
def test_streams_and_pools_have_the_bits_of_one_call(kind: Kind, tmp_path: Path) -> None:
    layer = kind.layer()
    x, _ = example(layer)
    y, after = layer(x)
    stream = layer.stream()
    np.testing.assert_array_equal([stream(x_t) for x_t in x[:, 0]], y[:, 0])
    np.testing.assert_array_equal(arrays_of(stream.state)[0], arrays_of(after)[0][:, 0])
    batch = layer.stream(B)
    np.testing.assert_array_equal(batch(x[:9]), y[:9])
    batch.save(tmp_path / "state.safetensors")
    other = layer.stream(B)
    other.load(tmp_path / "state.safetensors")
    np.testing.assert_array_equal(other(x[9:]), y[9:])
    pool = layer.pool(2)
    ids = pool.open(B)
    np.testing.assert_array_equal([pool.step(ids, x_t) for x_t in x], y)


@SOME
def test_streams_and_pools_in_float64_run_in_numpy(kind: Kind) -> None:
    layer = kind.layer(dtype="float64")
    x, _ = example(layer)
    y, _ = layer(x)
    stream, pool = layer.stream(B), layer.pool(B)
    ids = pool.open(B)
    np.testing.assert_array_equal(np.concatenate([stream(x[:9]), stream(x[9:])]), y)
    np.testing.assert_array_equal([pool.step(ids, x_t) for x_t in x], y)


class Derived(onward.MinGRU):
    """A layer of a user with the equations of another one."""


class Unknown(Recurrence):
    """A layer without equations."""

    def __init__(self) -> None:
        self.input_size = self.output_size = 3
        self._configure(((3,),), False, "float32", None, 1.0, {}, {})


def test_layers_of_users() -> None:
    layer, x = Derived(3, 4, rng=0), np.ones((5, 3), np.float32)
    np.testing.assert_array_equal(layer.stream()(x), onward.MinGRU(3, 4, rng=0)(x)[0])
    with pytest.raises(errors.ArgumentError, match="has no equations"):
        Unknown()(x)
    with pytest.raises(errors.ArgumentError, match="has no equations"):
        Unknown().stream()


@SOME
def test_files_have_the_bits_of_the_layer(kind: Kind, tmp_path: Path) -> None:
    layer = kind.layer(batch_first=True)
    x, state = example(layer)
    x = x.swapaxes(0, 1)
    y, after = layer(x, joined(layer, state))
    layer.save(tmp_path / "layer.safetensors")
    again: Any = onward.load(tmp_path / "layer.safetensors")
    assert repr(again) == repr(layer)
    np.testing.assert_array_equal(again(x, joined(layer, state))[0], y)
    layer.export_onnx(tmp_path / "layer.onnx")
    model: Any = onward.load(tmp_path / "layer.onnx")
    for found, expected in zip(model(x, *state), (y, *arrays_of(after)), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(model.stream(batch=B)(x), layer(x)[0])
    layer.compile(tmp_path / "layer.onward")
    compiled: Any = onward.load(tmp_path / "layer.onward")
    np.testing.assert_array_equal(compiled(x), layer(x)[0])
    np.testing.assert_array_equal(compiled.stream(batch=B)(x), layer(x)[0])


@EACH
@pytest.mark.parametrize("lengths", [None, [4, 2, 0]], ids=["", "lengths"])
def test_gradients_equal_central_differences(kind: Kind, lengths: list[int] | None) -> None:
    layer, rng = kind.layer(dtype="float64"), np.random.default_rng(2)
    x = rng.standard_normal((4, B, layer.input_size))
    state = random_state(layer, rng, B)
    y, _, cache = layer.forward(x, joined(layer, state), lengths=lengths)
    dy, dafter = rng.standard_normal(y.shape), [rng.standard_normal(part.shape) for part in state]
    dx, dstate, gradients = layer.backward(dy, joined(layer, tuple(dafter)), cache)

    def loss() -> float:
        y, after, _ = layer.forward(x, joined(layer, state), lengths=lengths)
        parts = zip((y, *arrays_of(after)), (dy, *dafter), strict=True)
        return float(sum((part * gradient).sum() for part, gradient in parts))

    pairs = [(x, dx), *zip(state, arrays_of(dstate), strict=True)]
    for array, gradient in pairs:
        check_direction(array, gradient, loss, rng)
    assert gradients.keys() == layer.state_dict().keys()
    for name, gradient in gradients.items():
        weight = layer.state_dict()[name]

        def of_weight(name: str = name, weight: NDArray[Any] = weight) -> float:
            layer.load_state_dict({name: weight}, strict=False)
            return loss()

        check_direction(weight, gradient, of_weight, rng)


@EACH_CLASS
def test_forward_has_the_bits_of_a_call(kind: Kind) -> None:
    layer = kind.layer()
    x, state = example(layer)
    y, after = layer(x, joined(layer, state), lengths=[T, 5, 0])
    trained, final, _ = layer.forward(x, joined(layer, state), lengths=[T, 5, 0])
    np.testing.assert_array_equal(trained, y)
    for part, other in zip(arrays_of(final), arrays_of(after), strict=True):
        np.testing.assert_array_equal(part, other)


@EACH_CLASS
def test_gradients_do_not_depend_on_x_past_the_lengths(kind: Kind) -> None:
    """NaN there made the gradients of weights NaN."""
    layer, lengths = kind.layer(), [T, 7, 0]
    x, state = example(layer)
    padded = x.copy()
    padded[7:, 1], padded[:, 2] = np.nan, np.inf
    found = []
    for each in (x, padded):
        y, _, cache = layer.forward(each, joined(layer, state), lengths=lengths)
        dx, _, gradients = layer.backward(np.ones_like(y), None, cache)
        found.append([dx, *gradients.values()])
    for a, b in zip(*found, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_array_equal(a, b)


class OfOneSize(onward.LayerNormLSTM):
    """A layer whose constructor does not tell all options."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__(size, size, eps=eps, rng=0)

    def config(self) -> dict[str, Any]:
        return {}


def planners() -> int:
    """How many planners there are, except for those before the last `gc.freeze()`."""
    gc.collect()
    return sum(type(each) is Planner for each in gc.get_objects())  # objects of torch warn of isinstance


def test_gradients_are_those_of_the_options_of_each_layer_and_end_with_it() -> None:
    """Layers with equal texts shared a program, which stayed in memory."""
    x = np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    found = []
    gc.collect()
    gc.freeze()  # the objects of other tests, which would take long to go through
    for make in (OfOneSize, lambda size, eps: onward.LayerNormLSTM(size, size, eps=eps, rng=0)):
        for eps in (0.1, 10):
            layer = make(3, eps)
            cache = layer.forward(x)[2]
            found.append(layer.backward(np.ones((5, 2, 3), np.float32), None, cache)[0])
            count = planners()
            again = copy.copy(layer).backward(np.ones((5, 2, 3), np.float32), None, cache)[0]
            assert planners() == count  # copies share it
            np.testing.assert_array_equal(again, found[-1])
    del layer
    assert planners() == 0
    np.testing.assert_array_equal(found[:2], found[2:])
    assert abs(found[0] - found[1]).max() > 1e-3


@EACH_CLASS
def test_a_sequence_without_steps_or_rows(kind: Kind) -> None:
    layer = kind.layer()
    for x in (np.zeros((0, B, layer.input_size)), np.zeros((4, 0, layer.input_size))):
        state = random_state(layer, np.random.default_rng(0), x.shape[1])
        y, after, cache = layer.forward(x, joined(layer, state))
        assert y.shape == (*x.shape[:2], layer.output_size)
        np.testing.assert_array_equal(arrays_of(after)[0], state[0])
        dx, dstate, gradients = layer.backward(np.zeros_like(y), joined(layer, state), cache)
        assert dx.shape == x.shape and not any(gradient.any() for gradient in gradients.values())
        np.testing.assert_array_equal(arrays_of(dstate)[0], state[0])


@EACH_CLASS
def test_a_trace_shows_the_gates_and_states(kind: Kind) -> None:
    layer = kind.layer()
    x, _ = example(layer)
    trace = layer.trace(x, lengths=[T, 3, 1])
    np.testing.assert_array_equal(trace.y, layer(x, lengths=[T, 3, 1])[0])
    for array in trace.values():
        assert array.shape[:2] == (T, B) and array.ndim == 3
        assert not array[3:, 1].any()
    after = layer(x, lengths=[T, 3, 1])[1]
    np.testing.assert_array_equal(trace["h"][2, 1], arrays_of(after)[0][0, 1].reshape(-1))
    assert "l0" in trace.summary()
    with pytest.raises(errors.ArgumentError, match="preactivations"):
        layer.trace(x, preactivations=True)


@EACH_CLASS
def test_a_trace_with_arrays_of_several_sizes_is_drawn(kind: Kind) -> None:
    pytest.importorskip("matplotlib")
    layer = kind.layer()
    trace = layer.trace(example(layer)[0])
    assert len(trace.plot(row=1).axes) > len(trace)  # a panel for each array, and the input


@SOME
def test_a_model_with_the_layer_learns(kind: Kind) -> None:
    layer = kind.layer(batch_first=True)
    model = onward.Sequential(layer, onward.Last(True), onward.Linear(layer.output_size, 2, rng=0))
    x = np.random.default_rng(0).standard_normal((32, 5, layer.input_size))
    y = (x[:, :, 0].sum(1) > 0).astype(int)
    history = train.fit(model, (x, y), optimizer=train.Adam(0.05), epochs=12, rng=0, progress=False)
    assert history.epochs[-1].loss < 0.8 * history.epochs[0].loss
    assert "Last" in str(model)


@EACH_CLASS
def test_wrong_arguments_are_named(kind: Kind) -> None:
    layer = kind.layer()
    x, state = example(layer)
    with pytest.raises(errors.ShapeError, match="takes"):
        layer(x[..., :-1])
    with pytest.raises(errors.ShapeError, match="h0 has shape"):
        layer(x, joined(layer, tuple(part[..., :-1] for part in state)))
    with pytest.raises(errors.ArgumentError, match="the state of this"):
        layer(x, ("h",) * 3)
    with pytest.raises(errors.ArgumentError, match="lengths"):
        layer(x, lengths=[T + 1, 1, 1])
    with pytest.raises(errors.SignatureError, match="no argument h0"):
        layer(x, h0=0)
    with pytest.raises(errors.ArgumentError, match="cache was not returned"):
        layer.backward(x, None, None)
    with pytest.raises(errors.ShapeError, match="dy has shape"):
        layer.backward(np.zeros((1, 1)), None, layer.forward(x)[2])


def test_the_stabilizer_keeps_an_slstm_finite_where_its_gates_overflow() -> None:
    layer: Any = RECURRENCES["sLSTM"].layer()
    x, _ = example(layer)
    layer.load_state_dict({"bias_ih": np.repeat([90, 80, 0, 0], layer.hidden_size)}, strict=False)
    y, (_, c) = layer(50 * x)
    assert np.isfinite(y).all() and np.isfinite(c).all() and (np.abs(y) <= 1).all()
    layer.load_state_dict({"bias_ih": np.repeat([-200, 0, 0, 0], layer.hidden_size)}, strict=False)
    assert np.isfinite(layer(x)[0]).all()


def test_options_that_do_not_exist() -> None:
    with pytest.raises(errors.ArgumentError, match="forget_gate='tanh'"):
        onward.sLSTM(2, 3, forget_gate="tanh")
    with pytest.raises(errors.ArgumentError, match="input_size=0"):
        onward.MinGRU(0, 3)
    with pytest.raises(errors.ArgumentError, match="exponent"):
        onward.RGLRU(3, exponent=0)


def dequantized(small: Recurrence, kind: Kind) -> Recurrence:
    """The layer in float32 whose weights are those that a quantized layer stores."""
    layer, stored = kind.layer(), small.state_dict()
    scales = {
        name: stored.pop(f"{name}_scale", np.ones(1))[:, None]
        for name in layer.state_dict()
        if stored[name].ndim > 1
    }
    layer.load_state_dict({name: w * scales.get(name, 1) for name, w in stored.items()})
    return layer


@EACH
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_quantized_layer_stores_and_computes_its_products_in_the_precision(
    kind: Kind, precision: str, tmp_path: Path
) -> None:
    layer = kind.layer()
    small = layer.quantize(precision)
    x, state = example(layer)
    x = np.round(x * 40).clip(-127, 127).astype(np.float32) / 64
    x[..., 0] = 127 / 64  # so that rows of int8 represent x exactly
    y, _ = small(x, joined(small, state))
    expected, _ = dequantized(small, kind)(x, joined(small, state))
    if precision == "float16":
        np.testing.assert_array_equal(y, expected)
    elif isinstance(layer, onward.MinGRU | onward.RGLRU | onward.GatedDeltaRule):
        np.testing.assert_allclose(y, expected, atol=1e-5)
    else:  # they also round what they multiply in the loop, which normalizations enlarge
        assert 0 < np.abs(y - expected).mean() < 0.02
    matrices = {name for name, w in layer.state_dict().items() if w.ndim > 1 and name != "A_log"}
    assert {name for name, w in small.state_dict().items() if w.dtype == precision} == matrices
    stream = small.stream(B)
    stream.state = joined(small, state)
    np.testing.assert_array_equal(np.concatenate([stream(x[:5]), stream(x[5:])]), y)
    small.save(tmp_path / "m")
    opened: Any = onward.load(tmp_path / "m")
    np.testing.assert_array_equal(opened(x, joined(small, state))[0], y)
    onward.Sequential(small).export_onnx(tmp_path / "m.onnx")
    np.testing.assert_array_equal(onward.load(tmp_path / "m.onnx").stream(B)(x), small(x)[0])
    with pytest.raises(errors.ArgumentError, match="no gradients"):
        small.forward(x)
    with pytest.raises(errors.ArgumentError, match="already quantized"):
        small.quantize(precision)
