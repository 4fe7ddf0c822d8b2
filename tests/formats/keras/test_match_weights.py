"""Keras weights loaded into new models: matched with their layers, or refused with the reason."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import support

import onward
from onward.errors import FileError

DATA = support.DATA / "keras"
ANSWERS = np.load(DATA / "answers.npz")


def tagger() -> onward.Sequential:
    return onward.Sequential(
        onward.Embedding(5, 4),
        onward.LSTM(4, 3, batch_first=True),
        onward.GRU(3, 3, bidirectional=True, batch_first=True),
        onward.Linear(6, 2),
    )


def front_end() -> onward.Sequential:
    return onward.Sequential(
        onward.Conv2d(2, 3, (3, 2)),
        onward.BatchNorm2d(3),
        onward.Conv1d(9, 4, 2),
        onward.LayerNorm(4),
        onward.GRU(4, 3),
    )


@pytest.mark.parametrize("name", ["weights_2.h5", "weights_2.weights.h5", "weights_3.weights.h5"])
def test_a_model_with_loaded_weights_gives_the_outputs_of_keras(name: str) -> None:
    net = tagger()
    net.load_weights(DATA / name)
    np.testing.assert_allclose(net(ANSWERS[f"{name}/x0"].astype(int)), ANSWERS[f"{name}/y0"], atol=2e-6)


@pytest.mark.parametrize(
    "name", ["front_end_2.h5", "front_end_2.keras", "front_end_3.h5", "front_end_3.keras"]
)
def test_load_weights_equals_load_for_a_whole_model(name: str) -> None:
    net, model = front_end(), onward.load(DATA / name)
    net.load_weights(DATA / name)
    (cell,) = (node.attributes["cell"] for node in model.graph.nodes if "cell" in node.attributes)  # type: ignore[union-attr]
    expected = {f"4.{weight}": array for weight, array in cell.weights.items()}
    for key, array in model.state_dict().items():  # type: ignore[union-attr]
        kind, _, weight = key.partition("/")
        if place := PLACES.get(kind.rstrip("_0123456789")):
            expected[f"{place}.{WEIGHTS[weight]}"] = array
    weights = net.state_dict()
    batches = weights.pop("1.num_batches_tracked")
    assert batches == 0
    assert weights.keys() == expected.keys()
    for key, array in weights.items():
        np.testing.assert_array_equal(array, expected[key], err_msg=key)
    distinct = {(array.shape, array.tobytes()) for array in expected.values()}
    assert len(distinct) == len(expected)  # so that swapped weights are noticed


PLACES = {"conv2d": "0", "batch_normalization": "1", "conv1d": "2", "layer_normalization": "3"}
WEIGHTS = {
    **{"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"},
    **{"moving_mean": "running_mean", "moving_variance": "running_var"},
}


def test_optimizer_state_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "trained.weights.h5"
    shutil.copy(DATA / "weights_2.weights.h5", path)
    with h5py.File(path, "r+") as file:
        file["metrics/mean/vars/0"] = file["optimizer/vars/0"] = 1.0
    net = tagger()
    net.load_weights(path)
    assert not [name for name in onward.load_tensors(path) if "metrics" in name or "optimizer" in name]


def test_a_layer_may_have_the_name_of_an_optimizer(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["metrics"]
        file.create_group("metrics").attrs["weight_names"] = ["kernel:0"]
        file["metrics/kernel:0"] = np.ones((2, 2), "f4")
    assert list(onward.load_tensors(path)) == ["metrics/kernel:0"]


def test_cudnn_layouts_are_converted() -> None:
    net = onward.Sequential(
        onward.LSTM(3, 4, batch_first=True), onward.GRU(4, 3, batch_first=True), onward.Last(batch_first=True)
    )
    net.load_weights(DATA / "cudnn.h5")
    np.testing.assert_allclose(net(ANSWERS["cudnn.h5/x0"]), ANSWERS["cudnn.h5/y0"], atol=2e-6)


def keras_3_weights(content: dict[str, Any], path: Path) -> Path:
    """A Keras 3 file whose layers have arrays of these shapes; array number i is filled with i, from 1."""
    with h5py.File(path, "w") as file:
        for number, (name, shapes) in enumerate(content.items(), 1):
            for k, shape in enumerate(shapes):
                file[f"layers/{name}/vars/{k}"] = np.full(shape, number, "f4")
    return path


def test_layers_of_one_class_are_matched_by_their_numbers(tmp_path: Path) -> None:
    names = ["dense", *(f"dense_{k}" for k in range(1, 12))]
    path = keras_3_weights({name: [(2, 2)] for name in names}, tmp_path / "model.weights.h5")
    net = onward.Sequential(*(onward.Linear(2, 2, bias=False) for _ in names))
    net.load_weights(path)
    assert [weight[0, 0] for weight in net.state_dict().values()] == list(range(1, 13))


def test_the_class_distinguishes_layers_of_equal_shapes(tmp_path: Path) -> None:
    path = keras_3_weights({"dense": [(5, 2)], "embedding": [(5, 2)]}, tmp_path / "model.weights.h5")
    net = onward.Sequential(onward.Embedding(5, 2), onward.Linear(5, 2, bias=False))
    net.load_weights(path)
    assert [weight[0, 0] for weight in net.state_dict().values()] == [2, 1]


def test_an_unrecorded_order_is_not_guessed(tmp_path: Path) -> None:
    path = keras_3_weights(
        {"dense": [(2, 2)], "time_distributed/dense": [(2, 2)]}, tmp_path / "model.weights.h5"
    )
    net = onward.Sequential(onward.Linear(2, 2, bias=False), onward.Linear(2, 2, bias=False))
    with pytest.raises(FileError, match="does not record the order of /layers/dense"):
        net.load_weights(path)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (lambda: onward.Sequential(*tagger().layers[:3]), "more weights than the model: /dense"),
        (
            lambda: onward.Sequential(
                *tagger().layers[:2], onward.GRU(3, 3, reset_after=False, batch_first=True)
            ),
            r"2, GRU\(3, 3, .*\), takes kernel \(3, 9\), .*, bias \(9,\)",
        ),
        (lambda: onward.Sequential(*tagger().layers[1:]), "0, LSTM.* next in the file is /embedding"),
        (
            lambda: onward.Sequential(*tagger().layers, onward.Linear(2, 2)),
            "4, Linear.* in the file is nothing",
        ),
        (lambda: onward.LSTM(4, 3, proj_size=2), "weight_hr_l0, which Keras layers do not have"),
        (lambda: onward.LSTM(4, 3, peephole=True), "weight_peephole_l0, which Keras layers do not have"),
    ],
)
def test_a_mismatch_is_named_and_changes_nothing(net: Callable[[], Any], words: str) -> None:
    model = net()
    before = model.state_dict()
    with pytest.raises(FileError, match=words) as error:
        model.load_weights(DATA / "weights_2.h5")
    assert str(DATA / "weights_2.h5") in str(error.value)
    for name, weight in model.state_dict().items():
        np.testing.assert_array_equal(weight, before[name])


def test_moving_averages_are_not_used_as_trained_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["nested"]
        group = file.create_group("nested")
        group.attrs["weight_names"] = [
            f"{layer}/{name}:0"
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
            for layer in "ab"
        ]
        for name in group.attrs["weight_names"]:
            group[name] = np.ones(3, "f4")
    net = onward.Sequential(onward.BatchNorm1d(3), onward.BatchNorm1d(3))
    with pytest.raises(FileError, match="next in the file is /nested/a/gamma:0"):
        net.load_weights(path)
