"""Keras' files opened without Keras: its own answers, old versions' differences, weights alone, bad files."""

import io
import json
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import support
from support import hostile

import onward
from onward.errors import ArgumentError, FileError, KerasWarning
from onward.formats.keras import layer_configs, runtime, version_1
from onward.formats.keras.source import Context, Source
from onward.formats.keras.weights import ByPath

# of the one model of Keras 1, what is tested in test_what_keras_1_does_not_say_is_said
pytestmark = pytest.mark.filterwarnings("ignore:Keras 1 does not say")
DATA = support.DATA / "keras"
ANSWERS = np.load(DATA / "answers.npz")
MODELS = sorted(
    path.name for path in DATA.iterdir() if path.suffix in (".h5", ".keras") and "weights" not in path.name
)


def case(name: str) -> tuple[list[Any], list[Any]]:
    """The inputs of a file's model and Keras' outputs for them."""
    keys = sorted(key for key in ANSWERS if key.startswith(f"{name}/"))
    return [ANSWERS[k] for k in keys if "/x" in k], [ANSWERS[k] for k in keys if "/y" in k]


def called(model: Any, inputs: list[Any]) -> list[Any]:
    outputs = model(inputs if len(inputs) > 1 else inputs[0])
    return outputs if isinstance(outputs, list) else [outputs]


@pytest.mark.parametrize("name", MODELS)
def test_answers_are_those_of_keras(name: str) -> None:
    inputs, expected = case(name)
    for y, wanted in zip(called(onward.load(DATA / name), inputs), expected, strict=True):
        np.testing.assert_allclose(y, wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", MODELS)
def test_a_row_alone_has_the_same_bits_as_in_a_batch(name: str) -> None:
    model = onward.load(DATA / name)
    inputs, _ = case(name)
    together = called(model, inputs)
    for row in range(len(inputs[0])):
        for y, alone in zip(together, called(model, [x[row : row + 1] for x in inputs]), strict=True):
            np.testing.assert_array_equal(y[row], alone[0])


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_opened_again_nothing_changes(name: str, tmp_path: Path) -> None:
    model = onward.load(DATA / name)
    model.save(tmp_path / "again.safetensors")
    again = onward.load(tmp_path / "again.safetensors")
    inputs, _ = case(name)
    for y, same in zip(called(model, inputs), called(again, inputs), strict=True):
        np.testing.assert_array_equal(y, same)
    assert repr(again) == repr(model)


@pytest.mark.parametrize("name", MODELS)
def test_leaves_can_be_named_and_replaced(name: str) -> None:
    model = onward.load(DATA / name)
    leaves = model.sublayers()
    assert {prefix + own for prefix, leaf in leaves.items() for own, _ in leaf.shapes()} == dict(
        model.shapes()
    ).keys()
    inputs, _ = case(name)
    for y, same in zip(called(model, inputs), called(model.with_sublayers(leaves), inputs), strict=True):
        np.testing.assert_array_equal(y, same)


def test_states_go_out_and_in_again() -> None:
    model = onward.load(DATA / "cudnn.h5")
    (x,), _ = case("cudnn.h5")
    whole, state = model(x, return_state=True)
    _, before = model(x[:, :2], return_state=True)
    rest, after = model(x[:, 2:], before, return_state=True)
    np.testing.assert_array_equal(whole, rest)
    np.testing.assert_array_equal(state[1], after[1])
    with pytest.raises(ArgumentError, match="state has 1 entries"):
        model(x, state[:1])


def test_lengths_mask_what_is_padded() -> None:
    model = onward.load(DATA / "cudnn.h5")
    (x,), _ = case("cudnn.h5")
    np.testing.assert_array_equal(model(x, lengths=[6, 3, 1])[1:2], model(x[1:2, :3]))


def changed(name: str, tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The file with another configuration."""
    path = tmp_path / name
    shutil.copy(DATA / name, path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return path


def layer_of(config: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in config["config"]["layers"] if each["class_name"] == kind)[
        "config"
    ]
    return found


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
def test_a_call_that_is_not_described_as_keras_does_is_an_error_that_names_the_model(
    calls: Any, tmp_path: Path
) -> None:
    def change(config: dict[str, Any]) -> None:
        config["config"]["layers"][-1]["inbound_nodes"] = calls

    with pytest.raises(FileError, match=r"graph_3.h5: (layer|model) functional_1 "):
        onward.load(changed("graph_3.h5", tmp_path, change))


def test_outputs_that_have_names_come_under_them(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        first, second, third = config["config"]["output_layers"]
        config["config"]["output_layers"] = {"z": first, "y": [second, {"x": third}]}

    inputs, expected = case("graph_3.h5")
    got: Any = onward.load(changed("graph_3.h5", tmp_path, change))(inputs)
    found = [got["z"], got["y"][0], got["y"][1]["x"]]
    for y, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(y, wanted, rtol=2e-5, atol=2e-6)


def test_inputs_that_have_names_are_in_the_order_of_these(tmp_path: Path) -> None:
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


def test_a_state_by_its_place_is_that_by_its_name(tmp_path: Path) -> None:
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
def test_what_a_call_says_that_is_not_honoured_is_an_error_that_names_the_layer(
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
def test_what_is_not_honoured_is_an_error_that_names_layer_and_key(
    key: str, value: Any, tmp_path: Path
) -> None:
    path = changed("tagger_2.h5", tmp_path, lambda config: layer_of(config, "LSTM").update({key: value}))
    with pytest.raises(FileError, match=rf"(?s)tagger_2.h5: layer lstm\w* \(LSTM\) has .*{key}"):
        onward.load(path)


@pytest.mark.parametrize("kind", ["Lambda", "ConvLSTM2D", "TFOpLambda"])
def test_an_unknown_layer_is_refused_by_name_unless_given(kind: str, tmp_path: Path) -> None:
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
    # as in Keras, a layer that says nothing of masks ends them
    y = onward.load(path, custom_objects={kind: lambda x: x})(inputs[0])
    assert y.shape == expected.shape


def test_a_gru_that_does_not_say_resets_before_the_product(tmp_path: Path) -> None:
    path = changed("tagger_2.h5", tmp_path, lambda config: layer_of(config, "GRU").pop("reset_after"))
    inputs, (expected,) = case("tagger_2.h5")
    np.testing.assert_allclose(onward.load(path)(inputs[0]), expected, rtol=2e-5, atol=2e-6)


def test_a_file_that_does_not_name_its_keras_is_taken_for_keras_2_with_a_warning(tmp_path: Path) -> None:
    path = changed("tagger_2.h5", tmp_path, lambda config: None)
    with h5py.File(path, "r+") as file:
        del file.attrs["keras_version"], file["model_weights"].attrs["keras_version"]
    inputs, (expected,) = case("tagger_2.h5")
    with pytest.warns(KerasWarning, match="Keras 2") as warned:
        model = onward.load(path)
    assert warned[0].filename == __file__  # where the argument is to be given
    np.testing.assert_allclose(model(inputs[0]), expected, rtol=2e-5, atol=2e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = onward.load(path, keras_version="3")(inputs[0])
    assert np.abs(other - expected).max() > 1e-4  # its hard_sigmoid is another


@pytest.mark.parametrize(
    ("version", "zeros"),
    [
        *(("2.21.0", True), ("2.4.0", True), ("2.3.0-tf", True), ("2.2.4-tf", True), ("2", True)),
        *(("2.3.1", False), ("2.2.4", False), ("2.1.6-tf", False)),
    ],
)
def test_two_directions_give_zeros_where_masked_in_tensorflow_alone(version: str, zeros: bool) -> None:
    model: Any = onward.load(DATA / "tagger_2.h5", keras_version=version)
    both = model.layers["bidirectional"]
    assert both.forward_layer.zero_output_for_mask is both.backward_layer.zero_output_for_mask is zeros


def test_where_a_file_does_not_say_whether_it_is_tensorflows_that_is_said(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        del layer_of(config, "Bidirectional")["layer"]["config"]["time_major"]

    path = changed("tagger_2.h5", tmp_path, change)
    with pytest.warns(KerasWarning, match="whether bidirectional gives zeros"):
        model: Any = onward.load(path, keras_version="2")
    assert not model.layers["bidirectional"].forward_layer.zero_output_for_mask


@pytest.mark.parametrize(
    ("version", "inside"), [("2.21.0", True), ("2.2.0", True), ("2.1.6", False), ("2.1.6-tf", True)]
)
def test_masks_inside_a_step_are_those_of_keras_2_2(version: str, inside: bool) -> None:
    model: Any = onward.load(DATA / "tagger_2.h5", keras_version=version)
    assert model.layers["time_distributed"].masks_inside is inside


def test_what_keras_1_does_not_say_is_said(tmp_path: Path) -> None:
    with pytest.warns(KerasWarning, match="whether Theano computed convolution1d_1"):
        model: Any = onward.load(DATA / "old_1.h5")
    path = changed("old_1.h5", tmp_path, lambda config: None)
    with h5py.File(path, "r+") as file:
        del file.attrs["keras_version"]
    with pytest.warns(KerasWarning, match="taken for Keras 1"):
        assert repr(onward.load(path)) == repr(model)
    assert repr(onward.load(path, keras_version="1.2")) == repr(model)


def test_theano_turns_kernels_around(tmp_path: Path) -> None:
    name = "front_end_2.h5"
    path = changed(name, tmp_path, lambda config: None)
    with h5py.File(path, "r+") as file:
        file["model_weights"].attrs["backend"] = "theano"
    straight, turned = onward.load(DATA / name).state_dict(), onward.load(path).state_dict()
    for key, weight in straight.items():
        axes = tuple(range(2, weight.ndim))
        np.testing.assert_array_equal(turned[key], np.flip(weight, axes) if axes else weight)


@pytest.mark.parametrize(
    ("mode", "axis", "expected"),
    [("sum", -1, "keras.Merge"), ("max", -1, "keras.Merge"), ("concat", 1, "keras.Concatenate")],
)
def test_merge_of_keras_1_is_the_layer_of_its_mode(mode: str, axis: int, expected: str) -> None:
    config = {"name": "both", "mode": mode, "concat_axis": axis, "dot_axes": -1, "layers": []}
    entry = version_1.translated({"class_name": "Merge", "config": config})
    layer = layer_configs.BUILDERS[entry["class_name"]](
        Source(
            entry, ByPath(None, "", set()), Context({}, 2, "sigmoid", zeros_in_both=False, masks_inside=False)
        )
    )
    assert layer.description()["type"] == expected
    assert getattr(layer, "axis", axis) == axis


@pytest.mark.parametrize(
    ("kind", "config", "words"),
    [
        ("Merge", {"mode": "cos"}, "is a Merge, which Onward does not know"),
        ("Highway", {"output_dim": 3}, "is a Highway, which Onward does not know"),
        ("BatchNormalization", {"mode": 1}, "has mode=1, which Onward does not honour"),
    ],
)
def test_what_only_keras_1_has_is_refused_by_name(
    kind: str, config: dict[str, Any], words: str, tmp_path: Path
) -> None:
    def change(whole: dict[str, Any]) -> None:
        entry = next(each for each in whole["config"] if each["class_name"] == "BatchNormalization")
        entry["class_name"] = kind
        entry["config"] = {**entry["config"], **config}

    with pytest.raises(FileError, match=f"batchnormalization_1.*{words}"):
        onward.load(changed("old_1.h5", tmp_path, change))


def test_weights_alone_say_how_to_use_them() -> None:
    with pytest.raises(FileError, match="load_weights"):
        onward.load(DATA / "weights_3.weights.h5")
    names = onward.load_tensors(DATA / "weights_2.h5")
    assert any(name.endswith("recurrent_kernel:0") for name in names)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Callable[[str, bytes], Path]]:
    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    yield write


def hdf5(change: Callable[[h5py.File], None]) -> bytes:
    content = io.BytesIO((DATA / "tagger_2.h5").read_bytes())
    with h5py.File(content, "r+") as file:
        change(file)
    return content.getvalue()


def kernel(file: h5py.File) -> str:
    """The path of the embedding's table."""
    group = file["model_weights"]["embedding"]
    return f"/model_weights/embedding/{group.attrs['weight_names'][0]}"


def replace_kernel(make: Callable[[h5py.File, str], None]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        path = kernel(file)
        del file[path]
        make(file, path)

    return change


def circle(file: h5py.File) -> None:
    file["model_weights/embedding/loop"] = file["model_weights"]


HOSTILE = {
    "external link": replace_kernel(
        lambda file, path: file.__setitem__(path, h5py.ExternalLink("/etc/hostname", "/x"))
    ),
    "soft link": replace_kernel(lambda file, path: file.__setitem__(path, h5py.SoftLink("/model_weights"))),
    "external data": replace_kernel(
        lambda file, path: file.create_dataset(path, (5, 4), "f4", external=[("/etc/passwd", 0, 80)]) and None
    ),
    "no numbers": replace_kernel(lambda file, path: file.create_dataset(path, (5, 4), "f4") and None),
    "huge and empty": replace_kernel(
        lambda file, path: file.create_dataset(path, (1 << 40, 1 << 20), "f4", chunks=(1, 1)) and None
    ),
    "compressed": replace_kernel(
        lambda file, path: (
            file.create_dataset(path, data=np.zeros((20_000, 2_000), "f4"), compression="gzip") and None
        )
    ),
    "huge chunk": replace_kernel(
        lambda file, path: (
            file.create_dataset(
                path,
                data=np.zeros((5, 4), "f4"),
                maxshape=(None, None),
                chunks=(1 << 12, 1 << 12),
                compression="gzip",
            )
            and None
        )
    ),
    "text": replace_kernel(lambda file, path: file.create_dataset(path, data=[b"x"]) and None),
    "circle": circle,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_hdf5_is_refused(name: str, files: Callable[[str, bytes], Path]) -> None:
    hostile.refused(files("hostile.h5", hdf5(HOSTILE[name])))


def archive(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as target:
        with zipfile.ZipFile(DATA / "tagger_3.keras") as source:
            given = {name: source.read(name) for name in source.namelist()}
        for name, data in (given | members).items():
            target.writestr(name, data)
    return content.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        {"../../evil": b""},
        {"/etc/evil": b""},
        {"model.weights.h5": bytes(1 << 27)},
        {"config.json": b"[" * 100_000},
        {"config.json": b'{"class_name": "Sequential"}'},
        {"config.json": b'{"class_name": "Sequential", "config": {"name": "x", "layers": [3]}}'},
        {"metadata.json": b"[]"},
        {"model.weights.h5": b"nothing"},
    ],
    ids=["above", "absolute", "bomb", "deep", "no config", "no layer", "no version", "no hdf5"],
)
def test_hostile_archives_are_refused(members: dict[str, bytes], files: Callable[[str, bytes], Path]) -> None:
    hostile.refused(files("hostile.keras", archive(**members)))


def test_masked_steps_move_to_the_front_and_back() -> None:
    x = np.arange(24.0).reshape(2, 4, 3)
    mask = np.array([[False, True, False, True], [False, False, False, False]])
    packed = runtime.recurrent.front(x, mask)
    np.testing.assert_array_equal(packed[0, :2], x[0, [1, 3]])
    y = runtime.recurrent.back(packed, mask, zero=False)
    np.testing.assert_array_equal(y[0], [[0, 0, 0], x[0, 1], x[0, 1], x[0, 3]])
    np.testing.assert_array_equal(y[1], np.zeros((4, 3)))
    np.testing.assert_array_equal(runtime.recurrent.back(packed, mask, zero=True)[0, 2], np.zeros(3))
