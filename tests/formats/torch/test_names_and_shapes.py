"""State dicts become layers by the names and shapes of their tensors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.safetensors_files import problem, saved, state_dict

import onward
from onward.errors import FileError

RNG = np.random.default_rng(0)


STATE_DICTS = [
    onward.LSTM(5, 7),
    onward.LSTM(5, 7, num_layers=3, bidirectional=True, proj_size=2, bias=False),
    onward.LSTM(1, 1),
    onward.GRU(5, 7, bidirectional=True),
    onward.GRU(40, 1, num_layers=12),
    onward.RNN(5, 7, num_layers=2, bias=False),
    onward.Linear(5, 7),
    onward.Linear(5, 7, bias=False),
    onward.GRU(5, 7, dtype="float64"),
]


@pytest.mark.parametrize("prefix", ["", "encoder.rnn.", "module.0."])
@pytest.mark.parametrize("layer", STATE_DICTS, ids=repr)
def test_names_and_shapes_identify_layers(layer: Any, prefix: str, tmp_path: Path) -> None:
    path = saved(tmp_path, {prefix + name: weight for name, weight in layer.state_dict().items()})
    parts = onward.load(path)
    name = prefix.removeprefix("module.")[:-1]  # DataParallel's wrapper
    assert list(parts) == [name]
    found = parts[name]
    assert repr(found) == repr(layer)
    assert parts.leftover == []
    for name, weight in layer.state_dict().items():
        np.testing.assert_array_equal(found.state_dict()[name], weight)


def test_arguments_supply_what_a_state_dict_does_not_record(tmp_path: Path) -> None:
    weights = state_dict(onward.RNN(5, 7), "a.") | state_dict(onward.GRU(5, 7), "b.")
    parts = onward.load(saved(tmp_path, weights), nonlinearity="relu", batch_first=True)
    assert repr(parts["a"]) == "RNN(5, 7, nonlinearity='relu', batch_first=True)"
    assert repr(parts["b"]) == "GRU(5, 7, batch_first=True)"
    assert "nonlinearity='sin'" in problem(saved(tmp_path, weights), nonlinearity="sin")


def test_only_the_last_part_of_a_name_makes_a_matrix_an_embedding(tmp_path: Path) -> None:
    names = ["embedding.weight", "tok_Emb.weight", "emb.fc.weight", "head.weight", "weight"]
    parts = onward.load(saved(tmp_path, {name: np.ones((9, 5), np.float32) for name in names}))
    kinds = {prefix: type(layer).__name__ for prefix, layer in parts.items()}
    assert kinds == {
        "embedding": "Embedding",
        "tok_Emb": "Embedding",
        "emb.fc": "Linear",
        "head": "Linear",
        "": "Linear",
    }


def test_tensors_that_belong_to_no_layer_are_left_over(tmp_path: Path) -> None:
    weights = state_dict(onward.LSTM(5, 7), "lstm.") | {
        "norm.weight": np.ones(3, np.float32),
        "norm.bias": np.ones(3, np.float32),
        "conv.weight": np.ones((3, 3, 3), np.float32),
        "norm.steps": np.array(3),
        "fc.weight": np.ones((2, 3), np.float32),
        "fc.weight_g": np.ones((2, 1), np.float32),
        "cell.weight_ih": np.ones((4, 1), np.float32),
        "alpha": np.ones(1),
    }
    parts = onward.load(saved(tmp_path, weights))
    assert sorted(parts) == ["fc", "lstm"]
    assert sorted(parts.leftover) == sorted(
        set(weights) - set(state_dict(onward.LSTM(5, 7), "lstm.")) - {"fc.weight"}
    )


@pytest.mark.parametrize(
    ("cell", "inside"),
    [("lstm.", "scale"), ("lstm.", "norm.weight"), ("cell.", "scale"), ("cell.", "n.bias"), ("", "n.bias")],
)
def test_weights_beside_unknown_tensors_are_not_a_layer(tmp_path: Path, cell: str, inside: str) -> None:
    weights = state_dict(onward.LSTM(5, 7), cell) | {f"{cell}{inside}": np.ones(3, np.float32)}
    if cell != "lstm.":  # the names of LSTMCell
        weights = {name.removesuffix("_l0"): weight for name, weight in weights.items()}
    other = {} if cell == "" else state_dict(onward.Linear(3, 2), "fc.")
    path = saved(tmp_path, weights | other)
    reason = f"a recurrent layer, but with {cell}{inside}, which such a layer does not have"
    if cell == "":
        with pytest.raises(FileError, match=reason):
            onward.load(path)
        return
    parts = onward.load(path)
    assert list(parts) == ["fc"]
    assert parts.reasons[cell.rstrip(".")] == reason
    assert set(parts.leftover) == set(weights)


def test_other_tensors_do_not_hide_an_unnamed_layer(tmp_path: Path) -> None:
    weights = state_dict(onward.LSTM(5, 7), "") | {"out": np.ones(3), "norm.weight": np.ones(3)}
    parts = onward.load(saved(tmp_path, weights))
    assert list(parts) == [""]
    assert parts.leftover == ["out", "norm.weight"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight_hh_l0": None}, "rnn: weight_hh_l0 is missing; expected a matrix"),
        ({"weight_ih_l0": None}, "rnn: weight_ih_l0 is missing; expected a matrix"),
        ({"weight_ih_l0": np.ones(28)}, "rnn: weight_ih_l0 has shape (28,); expected a matrix"),
        (
            {"weight_hh_l0": np.ones((27, 7))},
            "weight_hh_l0 has shape (27, 7); expected 4 (LSTM), 3 (GRU) or 1 (RNN)",
        ),
        ({"weight_hh_l0": np.ones((14, 7))}, "weight_hh_l0 has shape (14, 7); expected 4 (LSTM)"),
        ({"weight_hh_l0": np.ones((28, 0))}, "weight_hh_l0 has shape (28, 0); expected 4 (LSTM)"),
        ({"weight_hr_l0": np.ones((7, 0))}, "weight_hh_l0 has shape (28, 7); expected"),
        ({"weight_hr_l0": np.array(1.0)}, "weight_hr_l0 has shape (); expected a matrix"),
        ({"weight_ih_l0": np.ones((21, 5))}, "weight_ih_l0 has shape (21, 5); expected (28, 5)"),
        ({"weight_ih_l0": np.ones((28, 0))}, "input_size=0"),
        ({"bias_ih_l0": None}, "bias_ih_l0 is missing; expected shape (28,)"),
        ({"weight_ih_l2": np.ones((28, 7))}, "weight_ih_l1 is missing; expected shape (28, 7)"),
        ({"weight_ih_l999999999999": np.ones((28, 7))}, "weight_ih_l1 is missing; expected shape (28, 7)"),
        ({"bias_hh_l0_reverse": np.ones(28)}, "weight_ih_l0_reverse is missing; expected shape (28, 5)"),
        ({"weight_hh_l0": np.ones((28, 7), int)}, "weight_hh_l0 has dtype int64; expected floats"),
    ],
)
def test_inconsistent_shapes_are_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    weights = state_dict(onward.LSTM(5, 7)) | changes
    weights = {f"rnn.{name}": weight for name, weight in weights.items() if weight is not None}
    assert words in problem(saved(tmp_path, weights))


@pytest.mark.parametrize(
    ("tensors", "words"), [({}, "no tensors"), ({"norm.weight": np.ones(3)}, "norm.weight")]
)
def test_a_file_without_layers_is_refused(tensors: dict[str, Any], words: str, tmp_path: Path) -> None:
    message = problem(saved(tmp_path, tensors))
    assert "the file contains no layer that Onward supports" in message
    assert words in message
