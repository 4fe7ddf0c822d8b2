"""Differences between the versions of Keras, and files that do not record their version."""

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.keras_files import DATA, case, changed, layer_of

import onward
from onward.errors import FileError, KerasWarning
from onward.formats.keras.layer import in_words_of_keras_2
from onward.formats.keras.load import _context

pytestmark = pytest.mark.filterwarnings("ignore:Keras 1 does not record")


def test_a_gru_without_reset_after_resets_before_the_product(tmp_path: Path) -> None:
    path = changed("tagger_2.h5", tmp_path, lambda config: layer_of(config, "GRU").pop("reset_after"))
    inputs, (expected,) = case("tagger_2.h5")
    np.testing.assert_allclose(onward.load(path)(inputs[0]), expected, rtol=2e-5, atol=2e-6)


def test_a_file_without_a_version_is_read_as_keras_2_with_a_warning(tmp_path: Path) -> None:
    path = changed("tagger_2.h5", tmp_path, lambda config: None)
    with h5py.File(path, "r+") as file:
        del file.attrs["keras_version"], file["model_weights"].attrs["keras_version"]
    inputs, (expected,) = case("tagger_2.h5")
    with pytest.warns(KerasWarning, match="Keras 2") as warned:
        model = onward.load(path)
    assert warned[0].filename == __file__  # the frame that the warning points to
    np.testing.assert_allclose(model(inputs[0]), expected, rtol=2e-5, atol=2e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = onward.load(path, keras_version="3")(inputs[0])
    assert np.abs(other - expected).max() > 1e-4  # Keras 3 defines hard_sigmoid differently


@pytest.mark.parametrize(
    ("version", "zeros"),
    [
        *(("2.21.0", True), ("2.4.0", True), ("2.3.0-tf", True), ("2.2.4-tf", True), ("2", True)),
        *(("2.3.1", False), ("2.2.4", False), ("2.1.6-tf", False)),
    ],
)
def test_masked_bidirectional_steps_are_zero_only_in_tensorflow(version: str, zeros: bool) -> None:
    model: Any = onward.load(DATA / "tagger_2.h5", keras_version=version)
    assert has_zeros(model) is zeros


def has_zeros(model: Any) -> bool:
    """Whether the Bidirectional layer replaces the outputs of masked steps."""
    nodes = [node for node in model.graph.nodes if node.name == "bidirectional"]
    return any(node.operation == "Where" for node in nodes)


def test_a_file_without_a_backend_issues_a_warning(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        del layer_of(config, "Bidirectional")["layer"]["config"]["time_major"]

    path = changed("tagger_2.h5", tmp_path, change)
    with pytest.warns(KerasWarning, match="whether bidirectional outputs zeros"):
        model: Any = onward.load(path, keras_version="2")
    assert not has_zeros(model)


@pytest.mark.parametrize(
    ("version", "inside"), [("2.21.0", True), ("2.2.0", True), ("2.1.6", False), ("2.1.6-tf", True)]
)
def test_masks_inside_a_step_are_those_of_keras_2_2(version: str, inside: bool) -> None:
    assert _context(version, False, {}).masks_inside is inside


def test_keras_1_files_issue_warnings_about_unrecorded_behavior(tmp_path: Path) -> None:
    with pytest.warns(KerasWarning, match="whether convolution1d_1 ran in Theano"):
        model: Any = onward.load(DATA / "old_1.h5")
    path = changed("old_1.h5", tmp_path, lambda config: None)
    with h5py.File(path, "r+") as file:
        del file.attrs["keras_version"]
    with pytest.warns(KerasWarning, match="assuming Keras 1"):
        assert repr(onward.load(path)) == repr(model)
    assert repr(onward.load(path, keras_version="1.2")) == repr(model)


def test_theano_kernels_are_flipped(tmp_path: Path) -> None:
    name = "front_end_2.h5"
    path = changed(name, tmp_path, lambda config: None)
    with h5py.File(path, "r+") as file:
        file["model_weights"].attrs["backend"] = "theano"
    straight, turned = onward.load(DATA / name).state_dict(), onward.load(path).state_dict()
    for key, weight in straight.items():
        axes = tuple(range(2, weight.ndim))
        np.testing.assert_array_equal(turned[key], np.flip(weight, axes) if axes else weight)
    assert any(weight.ndim > 2 for weight in straight.values())


@pytest.mark.parametrize(
    ("mode", "axis", "expected"), [("sum", -1, "Add"), ("max", -1, "Maximum"), ("concat", 1, "Concatenate")]
)
def test_a_keras_1_merge_becomes_the_layer_of_its_mode(mode: str, axis: int, expected: str) -> None:
    config = {"name": "both", "mode": mode, "concat_axis": axis, "dot_axes": -1, "layers": []}
    entry = in_words_of_keras_2({"class_name": "Merge", "config": config})
    assert entry["class_name"] == expected
    assert entry["config"].get("axis", axis) == axis


@pytest.mark.parametrize(
    ("kind", "config", "words"),
    [
        ("Merge", {"mode": "cos"}, "is a Merge, which Onward does not know"),
        ("Highway", {"output_dim": 3}, "is a Highway, which Onward does not know"),
        ("BatchNormalization", {"mode": 1}, "has mode=1, which Onward does not support"),
    ],
)
def test_keras_1_only_options_are_refused_by_name(
    kind: str, config: dict[str, Any], words: str, tmp_path: Path
) -> None:
    def change(whole: dict[str, Any]) -> None:
        entry = next(each for each in whole["config"] if each["class_name"] == "BatchNormalization")
        entry["class_name"] = kind
        entry["config"] = {**entry["config"], **config}

    with pytest.raises(FileError, match=f"batchnormalization_1.*{words}"):
        onward.load(changed("old_1.h5", tmp_path, change))
