"""Every public constructor, function and method with wrong arguments: only errors of Onward, at once."""

import inspect
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import onward
from onward import train
from onward.errors import ArgumentError, DtypeError, OnwardError

LSTM, GRU = onward.LSTM(3, 4, rng=0), onward.GRU(3, 4, rng=0)
MODEL = onward.Sequential(LSTM, onward.Last(), onward.Linear(4, 2, rng=0))
X, DY = np.ones((5, 2, 3), np.float32), np.ones((5, 2, 4), np.float32)
DATA = X, [0, 1]
BAD: list[Any] = [
    *(None, True, -1, 0, 2**40, 2**64, 10**400, 0.5, float("nan"), float("inf"), 1j, "", "x", b"x", "\0"),
    *("é" * 300, [], (), {}, set(), object(), [1, [2, 3]], ["a"], {"a": 1}, [np.nan] * 3),
    *(range(3), lambda: None, int, Path(), GRU(X), LSTM(X), LSTM, np.datetime64("2020-01-01")),
    *(np.array([3]), np.array(3.5), np.ones((2, 3)), np.ones((0, 0)), np.float32(0.5), np.array("a")),
    *(np.array([None]), np.ma.masked_array([1.0, 2.0], [True, False])),
]  # fmt: skip


class Case(NamedTuple):
    """Right arguments of a callable."""

    call: Callable[..., Any]
    arguments: dict[str, Any]


def constructors() -> Iterator[Case]:
    sizes = {
        **dict.fromkeys(("input_size", "hidden_size", "in_features", "out_features", "num_embeddings"), 3),
        **dict.fromkeys(("embedding_dim", "num_features", "num_groups", "num_channels", "in_channels"), 2),
        **dict.fromkeys(("out_channels", "kernel_size", "normalized_shape"), 2),
        **dict.fromkeys(("name",), "elu"),
    }
    for name in onward.__all__:
        kind = getattr(onward, name)
        if inspect.isclass(kind) and kind is not onward.Sequential:
            taken = inspect.signature(kind).parameters
            yield Case(kind, {key: value for key, value in sizes.items() if key in taken})
    for kind, arguments in {
        train.SGD: {"lr": 0.1},
        train.RMSprop: {},
        train.Adam: {},
        train.AdamW: {},
        train.Constant: {},
        train.StepLR: {"step_size": 2},
        train.CosineAnnealingLR: {},
        train.OneCycleLR: {},
        train.ReduceLROnPlateau: {},
        train.Warmup: {"steps": 2},
        train.Batches: {"x": X, "y": [0, 1]},
        train.Chunks: {"x": np.ones((40, 3)), "y": np.zeros(40, int)},
    }.items():
        yield Case(kind, arguments)


def calls() -> Iterator[Case]:
    _, _, cache = LSTM.forward(X)
    yield from (
        Case(layer, {"x": X})
        for layer in (LSTM, GRU, MODEL, MODEL[2:], onward.Softmax(), onward.LayerNorm(3))
    )
    yield from (
        Case(layer, {"x": X}) for layer in (onward.Conv1d(2, 2, 2), onward.MaxPool1d(2), onward.Dropout())
    )
    yield Case(onward.Last(), {"y": X})
    yield Case(onward.Embedding(4, 2), {"x": [[1, 2]]})
    yield Case(LSTM.forward, {"x": X})
    yield Case(LSTM.backward, {"dy": DY, "dstate": None, "cache": cache})
    yield Case(MODEL.load_state_dict, {"state_dict": MODEL.state_dict()})
    yield Case(MODEL.quantize, {"precision": "float16"})
    yield Case(MODEL.trace, {"x": X})
    yield Case(MODEL.load_weights, {"path": "no"})
    yield Case(MODEL.save, {"path": "m.safetensors"})
    stream, pool = MODEL.stream(batch=2), MODEL.pool(4)
    ids = pool.open(2)
    yield Case(stream.load, {"path": "no"})
    yield Case(stream.save, {"path": "s"})
    yield Case(pool.step, {"ids": ids, "x": X[0]})
    yield Case(pool.load, {"path": "no"})
    yield Case(onward.export_onnx, {"model": MODEL, "path": "m.onnx"})
    yield Case(onward.load, {"path": "no"})
    yield Case(onward.load_tensors, {"path": "no"})
    yield Case(onward.set_num_threads, {"n": 1})
    yield Case(train.fit, {"model": MODEL, "data": DATA, "epochs": 0, "progress": False})
    yield Case(train.evaluate, {"model": MODEL, "data": DATA})
    yield Case(train.clip_norm, {"gradients": {"w": np.ones(3)}, "max_norm": 1.0})
    yield Case(train.clip_value, {"gradients": {"w": np.ones(3)}, "clip_value": 1.0})
    yield Case(train.global_norm, {"gradients": {"w": np.ones(3)}})
    for loss in (train.mse, train.mae, train.huber, train.bce):
        yield Case(loss, {"y": np.ones((3, 2)), "targets": np.ones((3, 2))})
    yield Case(train.cross_entropy, {"y": np.ones((3, 2)), "targets": [0, 1, 1]})


# Many values are right: functions of the user, truth values, and any number of epochs.
FREE = {
    "custom_objects",
    "epochs",
    "progress",
    "loss",
    "return_state",
    "mask",
    "preactivations",
    "strict",
    "resume",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "case", [*constructors(), *calls()], ids=lambda case: getattr(case.call, "__qualname__", "call")
)
def test_wrong_arguments_raise_errors_of_onward(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused, bare = 0, list[str]()
    names = [
        name
        for name, parameter in inspect.signature(case.call).parameters.items()
        if name not in FREE and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    for name in names:
        for value in BAD:
            start = time.perf_counter()
            try:
                case.call(**(case.arguments | {name: value}))
            except OnwardError as error:
                assert len(str(error)) < 2000
                refused += 1
            except Exception as error:
                bare.append(f"{name}={value!r:.60}: {type(error).__name__}: {error}")
            assert time.perf_counter() - start < 2, (name, value)
    assert not bare
    assert refused >= len(BAD) / 3 or not names


def test_the_state_of_a_recurrent_layer_is_not_stacked_with_its_output() -> None:
    for pair in (GRU(np.ones((1, 1, 3))), LSTM(np.ones((1, 1, 3)))):
        for call in (onward.Linear(4, 2), onward.Softmax(), onward.LSTM(4, 2), onward.Last()):
            with pytest.raises(DtypeError, match=r"is a tuple of arrays, but must be one array.*pass y"):
                call(pair)
    assert onward.Softmax()(((1.0, 1.0), (2.0, 2.0))).tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_an_open_file_is_no_path_and_stays_open(tmp_path: Path) -> None:
    with open(tmp_path / "f", "w+b") as file:
        for load in (onward.load, onward.load_tensors, MODEL.load_weights):
            with pytest.raises(ArgumentError, match="must be the path of a file"):
                load(file.fileno())  # type: ignore[arg-type]
        file.write(b"still open")


def test_too_many_layers_are_refused_at_once() -> None:
    for kind in (onward.RNN, onward.LSTM, onward.GRU):
        with pytest.raises(ArgumentError, match=r"num_layers=1099511627776.* from 1 to 4096"):
            kind(64, 128, 2**40)


def test_parameters_given_as_numpy_scalars_can_be_saved(tmp_path: Path) -> None:
    point = np.float32(0.25)
    layers = onward.Activation("leaky_relu", point), onward.BatchNorm1d(3, eps=point, momentum=point)
    for layer in (*layers, onward.Dropout(point), onward.LayerNorm(np.int64(3), point)):
        layer.save(tmp_path / "m")
        assert repr(onward.load(tmp_path / "m")) == repr(layer)
        assert "np." not in repr(layer)
    model = onward.Sequential(LSTM, onward.Activation("leaky_relu", point))
    model.stream().save(tmp_path / "s")
    model.stream().load(tmp_path / "s")


def test_beta_alone_is_not_taken_for_alpha() -> None:
    x = np.linspace(-4, 4, 9)
    alone, both = onward.Activation("hard_sigmoid", beta=0.25), onward.Activation("hard_sigmoid", 1 / 6, 0.25)
    np.testing.assert_array_equal(alone(x), both(x))
    with pytest.raises(ArgumentError, match=r"beta=0.25 needs .*; got name='elu'"):
        onward.Activation("elu", beta=0.25)
