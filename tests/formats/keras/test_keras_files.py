"""Keras files opened without Keras: the outputs are those of Keras, and configurations are checked."""

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.keras_files import ANSWERS, DATA, called, case, changed, layer_of

import onward
from onward.errors import ArgumentError, FileError

# test_keras_versions.py tests this warning
pytestmark = pytest.mark.filterwarnings("ignore:Keras 1 does not record")


MODELS = sorted(
    {
        key.partition("/")[0]
        for key in ANSWERS
        if "weights" not in key and (DATA / key.partition("/")[0]).exists()
    }
)


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_those_of_keras(name: str) -> None:
    inputs, expected = case(name)
    for y, wanted in zip(called(onward.load(DATA / name), inputs), expected, strict=True):
        np.testing.assert_allclose(y, wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", MODELS)
def test_a_row_has_the_same_bits_on_its_own_and_in_a_batch(name: str) -> None:
    model = onward.load(DATA / name)
    inputs, _ = case(name)
    together = called(model, inputs)
    for row in range(len(inputs[0])):
        for y, alone in zip(together, called(model, [x[row : row + 1] for x in inputs]), strict=True):
            np.testing.assert_array_equal(y[row], alone[0])


@pytest.mark.parametrize("name", MODELS)
def test_saving_and_loading_preserves_the_bits(name: str, tmp_path: Path) -> None:
    model = onward.load(DATA / name)
    model.save(tmp_path / "again.safetensors")
    again = onward.load(tmp_path / "again.safetensors")
    inputs, _ = case(name)
    for y, same in zip(called(model, inputs), called(again, inputs), strict=True):
        np.testing.assert_array_equal(y, same)
    assert repr(again) == repr(model)


def test_a_stream_continues_from_block_to_block() -> None:
    model: Any = onward.load(DATA / "cudnn.h5")
    (x,), _ = case("cudnn.h5")
    stream = model.stream(batch=len(x))
    y = [stream(block) for block in (x[:, :2], x[:, 2:])]
    np.testing.assert_array_equal(y[-1][:, -1], model(x))


@pytest.mark.parametrize(
    "calls",
    [
        [{"args": [{"class_name": "__keras_tensor__", "config": {}}]}],
        [{"kwargs": 7}],
        [[]],
        [7],
    ],
    ids=str,
)
def test_a_malformed_call_is_an_error_that_names_the_model(calls: Any, tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"][-1]["inbound_nodes"] = calls

    with pytest.raises(FileError, match=r"graph_3.h5: (layer|model) functional\w* "):
        onward.load(changed("graph_3.h5", tmp_path, change))


def test_named_outputs_are_returned_by_name(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        first, second, third = config["config"]["output_layers"]
        config["config"]["output_layers"] = {"z": first, "y": [second, {"x": third}]}

    inputs, expected = case("graph_3.h5")
    got: Any = onward.load(changed("graph_3.h5", tmp_path, change))(inputs)
    found = [got["z"], got["y"][0], got["y"][1]["x"]]
    for y, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(y, wanted, rtol=2e-5, atol=2e-6)


def test_named_inputs_keep_their_order(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        first, second = config["config"]["input_layers"]
        config["config"]["input_layers"] = {"z": first, "y": second}

    (x, z), expected = case("graph_2.h5")
    model: Any = onward.load(changed("graph_2.h5", tmp_path, change))
    for given in ({"z": x, "y": z}, [z, x]):
        for y, wanted in zip(model(given), expected, strict=True):
            np.testing.assert_allclose(y, wanted, rtol=2e-5, atol=2e-6)


def call_of(config: dict[str, Any], kind: str, index: int = 0) -> Any:
    """The first call of a layer of a model."""
    layers = [each for each in config["config"]["layers"] if each["class_name"] == kind]
    return layers[index]["inbound_nodes"][0]


def test_states_by_position_and_by_name_agree(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        call = call_of(config, "LSTM", 1)
        call["args"].append(call["kwargs"].pop("initial_state"))

    inputs, _ = case("graph_3.h5")
    model = onward.load(changed("graph_3.h5", tmp_path, change))
    for y, wanted in zip(model(inputs), onward.load(DATA / "graph_3.h5")(inputs), strict=True):
        np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize(
    ("key", "index"),
    [
        (
            [{"class_name": "__slice__", "config": {"start": None, "stop": None, "step": None}}, -1],
            np.s_[:, -1],
        ),
        ([{"class_name": "__ellipsis__", "config": {}}, 0, 1], np.s_[..., 0, 1]),
        (1, 1),
    ],
)
def test_operations_index_as_keras_does(key: Any, index: Any, tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        _, decoded, _ = config["config"]["output_layers"]
        given = {"class_name": "__keras_tensor__", "config": {"keras_history": decoded}}
        entry = {"class_name": "GetItem", "config": {"name": "item"}, "name": "item"}
        config["config"]["layers"].append(entry | {"inbound_nodes": [{"args": [given, key], "kwargs": {}}]})
        config["config"]["output_layers"] = ["item", 0, 0]

    inputs, (_, decoded, _) = case("graph_3.h5")
    model: Any = onward.load(changed("graph_3.h5", tmp_path, change))
    model.save(tmp_path / "again.safetensors")
    again: Any = onward.load(tmp_path / "again.safetensors")
    np.testing.assert_allclose(model(inputs), decoded[index], rtol=2e-5, atol=2e-6)
    np.testing.assert_array_equal(model(inputs), again(inputs))


@pytest.mark.parametrize(
    ("option", "problem"),
    [({"training": True}, "is called with training=True"), ({"constants": 3}, "is called with constants")],
)
def test_an_unsupported_call_argument_is_an_error_that_names_the_layer(
    option: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    def change(config: dict[str, Any]) -> None:
        layer_of(config, "LSTM")["dropout"] = 0.5
        call_of(config, "LSTM")["kwargs"].update(option)

    with pytest.raises(FileError, match=rf"layer lstm\w* \(LSTM\) {problem}"):
        onward.load(changed("graph_3.h5", tmp_path, change))


@pytest.mark.parametrize(
    "key, value",
    [("time_distributed", True), ("rms", 3), ("activation", "sofmax"), ("dtype", "int8_from_float32")],
)
def test_an_unsupported_option_is_an_error_that_names_layer_and_key(
    key: str, value: Any, tmp_path: Path
) -> None:
    path = changed("tagger_2.h5", tmp_path, lambda config: layer_of(config, "LSTM").update({key: value}))
    with pytest.raises(FileError, match=rf"(?s)tagger_2.h5: layer lstm\w* \(LSTM\) has .*{key}"):
        onward.load(path)


@pytest.mark.parametrize("kind", ["Lambda", "ConvLSTM3D", "TFOpLambda"])
def test_an_unknown_layer_needs_custom_objects(kind: str, tmp_path: Path) -> None:
    def rename(config: dict[str, Any]) -> None:
        next(each for each in config["config"]["layers"] if each["class_name"] == "Dropout")["class_name"] = (
            kind
        )

    path = changed("tagger_2.h5", tmp_path, rename)
    with pytest.raises(FileError, match=kind):
        onward.load(path)
    inputs, (expected,) = case("tagger_2.h5")
    with h5py.File(path) as file:
        name = json.loads(file.attrs["model_config"])["config"]["layers"][3]["config"]["name"]
    assert repr(onward.load(path, custom_objects={name: abs})) == repr(
        onward.load(path, custom_objects={kind: abs})
    )
    # as in Keras, a layer that does not support masks drops them
    y = onward.load(path, custom_objects={kind: lambda x: x})(inputs[0])
    assert y.shape == expected.shape


@pytest.mark.parametrize("name", ["tagger_2.h5", "tagger_3.keras"])
def test_a_model_in_json_opens_with_its_weights(name: str, tmp_path: Path) -> None:
    if name.endswith(".h5"):
        weights, config = DATA / name, h5py.File(DATA / name).attrs["model_config"]
    else:
        weights = tmp_path / "model.weights.h5"
        with zipfile.ZipFile(DATA / name) as archive:
            weights.write_bytes(archive.read("model.weights.h5"))
            config = archive.read("config.json").decode()
    (tmp_path / "model.json").write_text(config)
    inputs, (expected,) = case(name)
    version = {"keras_version": "2.15.0"} if name.endswith(".h5") else {"keras_version": "3.0.0"}
    model: Any = onward.load(tmp_path / "model.json", weights=weights, **version)
    np.testing.assert_allclose(model(inputs[0]), expected, rtol=2e-5, atol=2e-6)
    with pytest.raises(ArgumentError, match="pass weights="):
        onward.load(tmp_path / "model.json")


def test_loading_a_weights_file_explains_load_weights() -> None:
    with pytest.raises(FileError, match="load_weights"):
        onward.load(DATA / "weights_3.weights.h5")
    names = onward.load_tensors(DATA / "weights_2.h5")
    assert any(name.endswith("recurrent_kernel:0") for name in names)
