"""Quantization against NumPy's integer arithmetic; the same bits however a model runs."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support
from numpy.typing import NDArray
from support import oracle
from support.bits import CELLS, assert_bitwise, every_cell, numbers, parts
from support.cases import Case, Inputs, inputs_of, layer_of, run
from support.in_one_test import in_one_test

import onward
from onward import _core, bundled
from onward.errors import ArgumentError, DtypeError, FileError, PrecisionError
from onward.graph.plan.planner import Planner
from onward.layers.graphs import graph_of

both_precisions = pytest.mark.parametrize("precision", ["float16", "int8"])


def case_of(cell: str, **changes: Any) -> Case:
    """A small case of a cell; `lstm_projected` is an LSTM with a projection."""
    options = {
        "layers": 2, "bidirectional": True, "bias": True, "batch_first": False, "unbatched": False,
        "projected": cell == "lstm_projected", "state": True, "lengths": False, "dtype": "float32",
        "H": 33, "I": 13, "B": 5, "T": 20,
    }  # fmt: skip
    return Case(cell.removesuffix("_projected"), **(options | changes))


def layers_of(case: Case, inputs: Inputs, precision: str) -> tuple[Any, Any]:
    """The float32 layer of a case, and its quantized copy."""
    layer = layer_of(case)
    layer.load_state_dict(inputs.weights)
    return layer, layer.quantize(precision)


# ---- Computation -------------------------------------------------------------------------------------------


@every_cell
def test_float16_gives_the_bits_of_float32_with_rounded_weights(isa: str, cell: str) -> None:
    case = case_of(cell)
    inputs = inputs_of(case)
    layer, small = layers_of(case, inputs, "float16")
    layer.load_state_dict(
        {name: w.astype(np.float16) if w.ndim == 2 else w for name, w in inputs.weights.items()}
    )
    expected, got = run(case, inputs, layer), run(case, inputs, small)
    assert_bitwise([a for a in expected if a is not None], [a for a in got if a is not None])


def test_every_float16_is_converted_exactly(isa: str) -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].reshape(992, 64)
    layer = onward.RNN(64, 992, nonlinearity="relu", bias=False).quantize("float16")
    layer.load_state_dict({"weight_ih_l0": halves, "weight_hh_l0": np.zeros((992, 992), np.float16)})
    for sign in (1, -1):
        y, _ = layer(sign * np.eye(64)[None])
        np.testing.assert_array_equal(y[0].T, np.maximum(sign * halves.astype(np.float32), 0))


def product(W: NDArray[Any], scale: NDArray[Any], a: NDArray[Any]) -> NDArray[np.float64]:
    """The int8 product in NumPy: quantize each row of a by its largest magnitude / 127, then sum integers."""
    largest = np.abs(a).max()
    inverse = np.float32(127) / largest if largest > 0 else np.float32(0)
    # exact in float64, so it is rounded only once, as with an fma
    q = np.rint(a.astype(np.float64) * np.float64(inverse)).astype(np.int64)
    return np.float64(scale) * np.float64(largest / np.float32(127)) * (W.astype(np.int64) @ q)


@in_one_test("H", [1, 4, 7, 33])
@in_one_test("features", [1, 4, 15, 70])
@in_one_test("rows", [1, 9])
def test_int8_sums_products_of_quantized_rows_and_weights(isa: str, H: int, features: int, rows: int) -> None:
    layer = onward.RNN(features, H, nonlinearity="relu", rng=0).quantize("int8")
    w, x = layer.state_dict(), numbers("float32", rows, features)
    h0 = np.abs(numbers("float32", rows, H))
    y, _ = layer(x[None], h0[None])
    for b in range(rows):
        from_x = product(w["weight_ih_l0"], w["weight_ih_l0_scale"], x[b]) + w["bias_ih_l0"]
        from_h = product(w["weight_hh_l0"], w["weight_hh_l0_scale"], h0[b]) + w["bias_hh_l0"]
        np.testing.assert_allclose(y[0, b], np.maximum(from_x + from_h, 0), rtol=1e-6, atol=1e-6)


@every_cell
def test_int8_approximates_float64_for_every_cell(isa: str, cell: str) -> None:
    case = case_of(cell)
    inputs = inputs_of(case)
    _, small = layers_of(case, inputs, "int8")
    bound = 0.05 if cell == "rnn_relu" else 0.02
    for got, expected in zip(run(case, inputs, small), oracle.run(case, inputs), strict=True):
        assert (got is None) == (expected is None)
        if got is not None and expected is not None:
            error = np.abs(got - expected)
            assert 1e-5 < error.max() < bound
            assert error.mean() < bound / 5


def test_weights_are_rounded_to_the_nearest_level_of_their_row() -> None:
    weights = numbers("float32", 12, 5)
    layer = onward.RNN(5, 12)
    layer.load_state_dict({**layer.state_dict(), "weight_ih_l0": weights})
    stored = layer.quantize("int8").state_dict()
    q, scale = stored["weight_ih_l0"], stored["weight_ih_l0_scale"]
    assert q.dtype == np.int8
    np.testing.assert_array_equal(np.abs(q).max(axis=1), 127)
    assert (np.abs(q * scale[:, None] - weights) <= scale[:, None] * 0.501).all()


def test_zero_and_tiny_rows_are_stored_as_zeros(isa: str) -> None:
    layer = onward.RNN(3, 4, nonlinearity="relu", bias=False)
    weights = np.array([[0, 0, 0], [1e-35, 0, 0], [1e-44, 0, 0], [1, 2, 3]])
    layer.load_state_dict({"weight_ih_l0": weights, "weight_hh_l0": np.zeros((4, 4))})
    y, _ = layer.quantize("int8")([[0, 0, 0], [1e-36, 0, 0], [1e-44, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(y[:3], 0)
    np.testing.assert_allclose(y[3], [0, 0, 0, 6], rtol=1e-2)


@both_precisions
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_affect_their_own_row_only(isa: str, precision: str, bad: float) -> None:
    layer, x = onward.GRU(20, 9, rng=0).quantize(precision), numbers("float32", 3, 4, 20)
    clean, _ = layer(x)
    x[1, 2, 17] = bad
    y, _ = layer(x)
    np.testing.assert_array_equal(y[:, [0, 1, 3]], clean[:, [0, 1, 3]])
    np.testing.assert_array_equal(y[0], clean[0])
    assert np.isnan(y[1:, 2]).all() if np.isnan(bad) else np.isfinite(y).all()


@every_cell
@pytest.mark.parametrize("hidden_size", [1, 21, 70])
def test_an_infinity_counts_as_the_largest_number_in_int8(isa: str, cell: str, hidden_size: int) -> None:
    layer, x = CELLS[cell](hidden_size=hidden_size).quantize("int8"), numbers("float32", 9, 3, 5)
    x[2, 1, 2], x[3, 1, 4], x[4, 1] = np.inf, -np.inf, [np.inf, 0, -np.inf, 3, np.inf]
    y, _ = layer(x)
    assert_bitwise(y, layer(np.nan_to_num(x))[0])
    assert np.isfinite(y).all() or "relu" in cell or "options" in cell  # whose states have no bounds
    assert_bitwise(y, np.stack(list(map(layer.stream(batch=3), x))))
    last, x = onward.Linear(5, 9, rng=0).quantize("int8"), x.reshape(-1, 5)
    assert_bitwise(last(x), last(np.nan_to_num(x)))


# ---- The same bits -----------------------------------------------------------------------------------------


@every_cell
@both_precisions
@pytest.mark.parametrize("hidden_size", [3, 33, 70])
def test_all_instruction_sets_give_the_same_bits(cell: str, precision: str, hidden_size: int) -> None:
    x, before, answers = numbers("float32", 30, 9, 5), _core.isa(), []
    for name in _core.available_isas():
        _core.set_isa(name)
        y, state = CELLS[cell](hidden_size=hidden_size, bidirectional=True).quantize(precision)(x)
        answers.append([y, *parts(state)])
    _core.set_isa(before)
    for answer in answers[1:]:
        assert_bitwise(answers[0], answer)


@every_cell
@both_precisions
@in_one_test("hidden_size", [3, 70])
def test_a_row_has_the_same_bits_in_any_batch(isa: str, cell: str, precision: str, hidden_size: int) -> None:
    layer = CELLS[cell](hidden_size=hidden_size).quantize(precision)
    x = numbers("float32", 3, 33, 5)
    alone = [layer(x[:, [row]])[0] for row in range(33)]
    for size in (2, 3, 5, 8, 17, 33):
        assert_bitwise([layer(x[:, :size])[0]], [np.concatenate(alone[:size], axis=1)])


@every_cell
@both_precisions
def test_chunks_streams_and_threads_give_the_bits_of_one_call(cell: str, precision: str) -> None:
    layer = CELLS[cell](hidden_size=70, num_layers=2).quantize(precision)
    x = numbers("float32", 131, 5)
    whole, final = layer(x)
    state, pieces = None, []
    for chunk in np.split(x, [1, 40, 97]):
        y, state = layer(chunk, state)
        pieces.append(y)
    assert_bitwise([whole, *parts(final)], [np.concatenate(pieces), *parts(state)])
    stream = layer.stream()
    assert_bitwise([whole], [np.stack([stream(step) for step in x])])
    before = onward.get_num_threads()
    onward.set_num_threads(3)
    shared, _ = layer(x)
    onward.set_num_threads(before)
    assert_bitwise([whole], [shared])


NETS = {
    "chain": lambda: onward.Sequential(
        onward.LSTM(3, 33, 2, proj_size=6, rng=0), onward.Linear(6, 9, rng=1), onward.GRU(9, 7, rng=2)
    ),
    "called_by_layer": lambda: onward.Sequential(
        onward.RNN(3, 7, rng=0), onward.Linear(7, 4), onward.Softmax()
    ),
    "keras": lambda: onward.load(support.DATA / "keras" / "cudnn.h5"),
}


@pytest.mark.parametrize("net", NETS)
@both_precisions
def test_a_saved_model_streams_and_pools_with_the_same_bits(tmp_path: Path, net: str, precision: str) -> None:
    original = NETS[net]()
    original.quantize(precision).save(tmp_path / "net")
    small, x = onward.load(tmp_path / "net"), numbers("float32", 9, 5, 3)

    def last(model: Any, steps: int) -> Any:
        if net == "keras":  # batch first; the golden model returns only the last step
            return model(x[:steps].swapaxes(0, 1))
        return model(x[:steps])[-1]

    whole = np.stack([last(small, T) for T in range(1, 10)])
    assert_bitwise([whole[-1]], [last(original.quantize(precision), 9)])
    assert not np.array_equal(whole[-1], last(original, 9))
    stream, pool = small.stream(batch=5), small.pool(8)
    ids = pool.open(8)[[7, 0, 3, 4, 2]]
    assert_bitwise([whole], [np.stack([stream(x_t) for x_t in x])])
    assert_bitwise([whole], [np.stack([pool.step(ids, x_t) for x_t in x])])


@both_precisions
def test_a_saved_state_is_bound_to_its_precision(tmp_path: Path, precision: str) -> None:
    layer = onward.GRU(3, 7, rng=0)
    stream, small = layer.stream(), layer.quantize(precision).stream()
    stream(np.ones(3))
    stream.save(tmp_path / "state")
    words = f"is the state of a model in 'float32', but this one is in '{precision}'"
    with pytest.raises(FileError, match=words):
        small.load(tmp_path / "state")
    small.save(tmp_path / "state")
    with pytest.raises(FileError, match=f"of a model in '{precision}', but this one is in 'float32'"):
        stream.load(tmp_path / "state")


# ---- Layers other than recurrent ones ----------------------------------------------------------------------

OTHERS: dict[str, tuple[Any, Any]] = {
    "linear": (lambda: onward.Linear(33, 70, rng=0), numbers("float32", 5, 3, 33)),
    "conv1d": (lambda: onward.Conv1d(6, 4, 3, 2, 1, 2, groups=2, rng=0), numbers("float32", 5, 6, 40)),
    "conv2d": (lambda: onward.Conv2d(3, 5, (3, 2), padding=1, rng=0), numbers("float32", 2, 3, 9, 11)),
    "embedding": (lambda: onward.Embedding(17, 7, rng=0), np.arange(17).reshape(1, 17)),
}
every_other = pytest.mark.parametrize("name", OTHERS)


@every_other
def test_float16_weights_of_any_layer_give_the_bits_of_the_rounded_weights(isa: str, name: str) -> None:
    make, x = OTHERS[name]
    layer, rounded = make(), make()
    weights = layer.state_dict()
    rounded.load_state_dict({**weights, "weight": weights["weight"].astype(np.float16)})
    np.testing.assert_array_equal(layer.quantize("float16")(x), rounded(x))


@every_other
def test_int8_weights_of_any_layer_approximate_float32(isa: str, name: str) -> None:
    make, x = OTHERS[name]
    error = np.abs(make().quantize("int8")(x) - make()(x))
    assert 1e-5 < error.max() < 0.05


def test_an_int8_linear_layer_sums_products_of_quantized_rows(isa: str) -> None:
    make, x = OTHERS["linear"]
    small = make().quantize("int8")
    w, y = small.state_dict(), small(x)
    for place in np.ndindex(5, 3):
        expected = product(w["weight"], w["weight_scale"], x[place]) + w["bias"]
        np.testing.assert_allclose(y[place], expected, rtol=1e-6, atol=1e-6)


@every_other
@both_precisions
def test_any_quantized_layer_has_the_same_bits_alone_saved_pickled_and_in_a_graph(
    tmp_path: Path, name: str, precision: str
) -> None:
    make, x = OTHERS[name]
    small = make().quantize(precision)
    y = small(x)
    assert_bitwise([y], [np.concatenate([small(row[None]) for row in x])])
    small.save(tmp_path / "layer")
    assert_bitwise([y, y], [onward.load(tmp_path / "layer")(x), pickle.loads(pickle.dumps(small))(x)])
    (of_graph,) = Planner(graph_of(small))(x)
    assert_bitwise([y], [of_graph])
    with pytest.raises(ArgumentError, match="already quantized"):
        small.quantize(precision)


@pytest.mark.parametrize("name", ["linear", "embedding"])
def test_quantized_layers_have_no_gradients(name: str) -> None:
    make, x = OTHERS[name]
    with pytest.raises(ArgumentError, match="has no gradients: quantized weights"):
        make().quantize("int8").forward(x)


def test_a_depthwise_convolution_is_not_quantized() -> None:
    layer = onward.Conv1d(6, 6, 3, groups=6, rng=0)
    assert layer.quantize("int8").state_dict()["weight"].dtype == np.float32


# ---- Files, copies and state dicts -------------------------------------------------------------------------


@every_cell
@both_precisions
def test_files_pickles_and_copies_preserve_a_model(tmp_path: Path, cell: str, precision: str) -> None:
    net = onward.Sequential(CELLS[cell](hidden_size=8, num_layers=2)).quantize(precision)
    net.save(tmp_path / "net.safetensors")
    x = numbers("float32", 7, 2, 5)
    for other in (onward.load(tmp_path / "net.safetensors"), pickle.loads(pickle.dumps(net)), copy.copy(net)):
        assert repr(other) == repr(net)
        assert_bitwise([other(x)], [net(x)])


@both_precisions
def test_a_file_contains_only_the_stored_arrays(tmp_path: Path, precision: str) -> None:
    layer = onward.LSTM(64, 128)
    layer.save(tmp_path / "large")
    layer.quantize(precision).save(tmp_path / "small")
    large, small = (len((tmp_path / name).read_bytes()) for name in ("large", "small"))
    assert small < large * {"float16": 0.52, "int8": 0.28}[precision]


@both_precisions
def test_a_state_dict_loads_into_a_layer_of_the_same_precision(precision: str) -> None:
    small, other = (onward.GRU(5, 8, rng=seed).quantize(precision) for seed in (0, 1))
    x = numbers("float32", 7, 5)
    assert not (small(x)[0] == other(x)[0]).all()
    other.load_state_dict(small.state_dict())
    assert_bitwise([other(x)[0]], [small(x)[0]])


def test_int8_weights_are_not_converted_from_floats() -> None:
    layer = onward.RNN(5, 8)
    small = layer.quantize("int8")
    before = small.state_dict()
    with pytest.raises(
        ArgumentError, match="weight_ih_l0 has dtype float32; expected int8: load float weights before"
    ):
        small.load_state_dict({**before, "weight_ih_l0": layer.state_dict()["weight_ih_l0"]})
    with pytest.raises(ArgumentError, match="weight_hh_l0_scale is missing"):
        small.load_state_dict({name: w for name, w in before.items() if name != "weight_hh_l0_scale"})
    assert_bitwise(before.values(), small.state_dict().values())


def test_quantize_leaves_the_original_unchanged() -> None:
    layer, x = onward.LSTM(5, 8, rng=0), numbers("float32", 7, 5)
    y, _ = layer(x)
    small = layer.quantize("int8")
    small.load_state_dict(onward.LSTM(5, 8, rng=1).quantize("int8").state_dict())
    assert_bitwise([layer(x)[0]], [y])
    assert repr(layer) == "LSTM(5, 8)"
    assert repr(small) == "LSTM(5, 8).quantize('int8')"


# ---- Errors ------------------------------------------------------------------------------------------------


def test_an_error_above_the_tolerance_is_reported() -> None:
    net = onward.Sequential(onward.LSTM(5, 8, rng=0), onward.Linear(8, 2, rng=0))
    x = numbers("float32", 7, 3, 5)
    small = net.quantize("int8", check=x, tolerance=0.02)
    largest = np.abs(small(x) - net(x)).max()
    net.quantize("int8", check=x, tolerance=float(largest) * 1.001)
    with pytest.raises(
        PrecisionError, match=f"changes outputs by up to {largest:.2g} .*of 1e-06: .*'float16'"
    ):
        net.quantize("int8", check=x, tolerance=1e-6)
    with pytest.raises(PrecisionError, match="float16 changes outputs"):
        net.quantize("float16", check=x, tolerance=0)
    x[0] = np.nan
    with pytest.raises(PrecisionError, match="up to nan"):
        net.quantize("int8", check=x, tolerance=0.02)


def test_invalid_arguments_are_rejected() -> None:
    layer, x = onward.RNN(5, 8), np.zeros((3, 5))
    with pytest.raises(ArgumentError, match="precision='int4'; expected one of 'float16', 'int8'"):
        layer.quantize("int4")
    with pytest.raises(ArgumentError, match="precision=\\['int8'\\]; expected one of"):
        layer.quantize(["int8"])  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="tolerance='a', but must be a number of at least 0"):
        layer.quantize("int8", check=x, tolerance="a")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"check gives outputs of shape \(0, 8\)"):
        layer.quantize("int8", check=x[:0], tolerance=0.1)
    with pytest.raises(ArgumentError, match="pass both check"):
        layer.quantize("int8", check=x)
    with pytest.raises(ArgumentError, match="pass both check"):
        layer.quantize("int8", tolerance=0.1)
    with pytest.raises(ArgumentError, match="is already quantized"):
        layer.quantize("int8").quantize("float16")
    with pytest.raises(DtypeError, match="computes in float64, but quantized models compute in float32"):
        onward.RNN(5, 8, dtype="float64").quantize("int8")
    with pytest.raises(ArgumentError, match="has 131073 columns, but int8 supports at most 131072"):
        onward.RNN(2**17 + 1, 1).quantize("int8")


@pytest.mark.parametrize(
    ("precision", "bad", "message"),
    [
        ("float16", 7e4, "weight_hh_l0 has values up to 70000.0, but float16 only reaches 65504"),
        ("int8", np.nan, "weight_hh_l0 has NaN or infinite values"),
    ],
)
def test_weights_out_of_range_are_rejected(precision: str, bad: float, message: str) -> None:
    layer = onward.RNN(5, 8)
    layer.load_state_dict({**layer.state_dict(), "weight_hh_l0": np.full((8, 8), bad)})
    with pytest.raises(ArgumentError, match=message):
        layer.quantize(precision)


@pytest.mark.parametrize(
    ("precision", "message"),
    [
        ("int4", "precision is 'int4'; expected one of float16, int8"),
        ("float16", "dtype int8; expected float16"),
    ],
)
def test_a_file_whose_precision_contradicts_its_tensors_is_rejected(
    tmp_path: Path, precision: str, message: str
) -> None:
    layer = onward.RNN(5, 8).quantize("int8")
    layer.__dict__["precision"] = precision
    layer.save(tmp_path / "bad")
    with pytest.raises(FileError, match=message):
        onward.load(tmp_path / "bad")


# ---- A real model ------------------------------------------------------------------------------------------


@both_precisions
def test_a_quantized_classifier_keeps_its_accuracy(precision: str) -> None:
    net: Any = onward.load(bundled.models()["vowels"])
    with np.load(bundled.datasets()["japanese_vowels_test"]) as data:
        x, lengths, labels = data["x"], data["lengths"], data["y"]
    utterances = np.split(x, np.cumsum(lengths)[:-1])
    right, right_small = (
        np.mean([model(u).argmax() == label for u, label in zip(utterances, labels, strict=True)])
        for model in (net, net.quantize(precision))
    )
    assert abs(right - right_small) <= 0.005
