"""PyTorch files of whole modules and checkpoints, loaded without torch."""

import json
from pathlib import Path

import numpy as np
import pytest
import support
from safetensors.numpy import save_file

import onward
from onward.cli import main
from onward.errors import ArgumentError, FileError

DATA = support.DATA / "torch"


ANSWER = np.load(DATA / "answer.npz")


TENSORS = onward.load_tensors(DATA / "weights.pt")


WITH_OPTIONS = ["whole"]
WITHOUT_OPTIONS = ["weights", "legacy", "big_endian", "checkpoint"]


@pytest.mark.parametrize("name", WITH_OPTIONS + WITHOUT_OPTIONS)
def test_layers_give_torchs_outputs_for_every_way_of_saving(name: str) -> None:
    options = {} if name in WITH_OPTIONS else {"batch_first": True, "nonlinearity": "relu"}
    parts = onward.load(DATA / f"{name}.pt", **options)
    assert list(parts) == ["embedding", "lstm", "rnn", "head"]
    y, _ = parts["lstm"](parts["embedding"](ANSWER["x"]))
    y, _ = parts["rnn"](y)
    np.testing.assert_allclose(parts["head"](y), ANSWER["y"], rtol=0, atol=1e-6)


def test_recorded_options_are_used() -> None:
    parts = onward.load(DATA / "whole.pt")
    assert repr(parts["embedding"]) == "Embedding(9, 3, padding_idx=2)"
    assert repr(parts["lstm"]) == "LSTM(3, 4, batch_first=True, bidirectional=True)"
    assert repr(parts["rnn"]) == "RNN(8, 5, nonlinearity='relu', batch_first=True)"
    for name in ("whole", "script", "trace"):
        with pytest.raises(ArgumentError, match="the file records its options; remove the arguments"):
            onward.load(DATA / f"{name}.pt", batch_first=True)


def test_load_tensors_names_arrays_by_their_keys() -> None:
    assert list(TENSORS)[:2] == ["embedding.weight", "lstm.weight_ih_l0"]
    for name in ("legacy", "big_endian", "whole", "script", "trace"):
        found = onward.load_tensors(DATA / f"{name}.pt")
        assert list(found) == list(TENSORS)
        for key, array in found.items():
            np.testing.assert_array_equal(array, TENSORS[key])
            assert array.flags.writeable
            assert array.dtype == np.dtype("f4")
    found = onward.load_tensors(DATA / "checkpoint.pt")
    assert found["optimizer_state_dict.state.3.exp_avg"].shape == TENSORS["lstm.bias_ih_l0"].shape
    np.testing.assert_array_equal(found["model_state_dict.module.head.weight"], TENSORS["head.weight"])


FRONT = {
    "conv": "Conv1d(4, 6, 3, stride=2, padding=1, groups=2)",
    "same": "Conv1d(6, 6, 3, padding='same', bias=False)",
    "group_norm": "GroupNorm(2, 6)",
    "batch_norm": "BatchNorm1d(6, eps=0.001)",
    "average": "AvgPool1d(2, stride=1)",
    "relu": "Activation('relu')",
    "pool": "MaxPool1d(2, stride=2)",
    "image": "Conv2d(1, 1, (3, 1), padding=(1, 0))",
    "layer_norm": "LayerNorm((6,), eps=0.01)",
    "head": "Linear(6, 2)",
}


def test_convolutions_and_norms_have_the_recorded_options() -> None:
    parts = onward.load(DATA / "front_whole.pt")
    assert {path: repr(layer) for path, layer in parts.items()} == FRONT
    assert parts.leftover == []
    assert parts.reasons == {"dropout": "Dropout, which has no effect at inference"}
    answer = np.load(DATA / "front_answer.npz")
    y = answer["x"]
    for layer in ("conv", "same", "group_norm", "batch_norm", "average", "relu", "pool"):
        y = parts[layer](y)
    y = parts["image"](y[:, None])[:, 0]
    y = parts["head"](parts["layer_norm"](y.swapaxes(1, 2)))
    np.testing.assert_allclose(y, answer["y"], rtol=0, atol=3e-6)


def test_weights_that_a_state_dict_does_not_identify_are_left_over_with_a_reason() -> None:
    parts = onward.load(DATA / "front_weights.bin")
    assert list(parts) == ["head"]
    unknown_window = (
        "whose stride, padding and dilation a state dict does not record: pass them to load by the module's "
        'name, such as conv={"stride": 1, "padding": 0}'
    )
    assert parts.reasons == {
        "conv": f"a convolution with a weight of shape (6, 2, 3), {unknown_window}",
        "same": f"a convolution with a weight of shape (6, 6, 3), {unknown_window}",
        "image": f"a convolution with a weight of shape (1, 1, 3, 1), {unknown_window}",
        "group_norm": "a normalization, whose kind and eps a state dict does not record",
        "layer_norm": "a normalization, whose kind and eps a state dict does not record",
        "batch_norm": "a batch normalization, whose eps a state dict does not record",
    }
    assert {name.split(".")[0] for name in parts.leftover} == set(parts.reasons)


def test_convolution_weights_load_into_a_new_layer() -> None:
    tensors = onward.load_tensors(DATA / "front_weights.bin")
    conv = onward.Conv1d(4, 6, 3, stride=2, padding=1, groups=2)
    conv.load_state_dict({name: tensors[f"conv.{name}"] for name in ("weight", "bias")})
    x = np.load(DATA / "front_answer.npz")["x"]
    np.testing.assert_array_equal(conv(x), onward.load(DATA / "front_whole.pt")["conv"](x))


def test_a_module_with_an_unsupported_option_is_left_over_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes((DATA / "front_whole.pt").read_bytes().replace(b"zeros", b"wraps"))
    parts = onward.load(tmp_path / "model.pt")
    assert "Conv1d: padding_mode='wraps', but only 'zeros' is supported" in parts.reasons["conv"]
    assert {"conv.weight", "conv.bias", "same.weight"} < set(parts.leftover)


def test_info_explains_that_parts_are_not_connected(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["info", str(DATA / "front_whole.pt")])
    output = capsys.readouterr().out
    assert "contains no forward()" in output
    assert "dropout is not loaded: Dropout, which has no effect at inference" in output


def test_leftover_tensors_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    parts = onward.load(DATA / "checkpoint.pt")
    assert "optimizer_state_dict.state.0.exp_avg" in parts.leftover
    with pytest.raises(SystemExit):
        main(["info", "--json", str(DATA / "checkpoint.pt")])
    report = json.loads(capsys.readouterr().out)
    assert [layer["name"] for layer in report["layers"]] == list(parts)
    assert report["leftover"] == parts.leftover


def test_the_content_decides_the_format(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((DATA / "weights.pt").read_bytes())
    onward.Linear(3, 2).save(tmp_path / "model.pt")
    assert list(onward.load(tmp_path / "model.safetensors")) == ["embedding", "lstm", "rnn", "head"]
    assert repr(onward.load(tmp_path / "model.pt")) == "Linear(3, 2)"


@pytest.mark.parametrize("name", [*WITH_OPTIONS, *WITHOUT_OPTIONS, "script", "trace"])
def test_load_weights_matches_layers_in_order(name: str) -> None:
    model = onward.Sequential(
        onward.Embedding(9, 3),
        onward.LSTM(3, 4, batch_first=True, bidirectional=True),
        onward.RNN(8, 5, nonlinearity="relu", batch_first=True),
        onward.Linear(5, 2),
    )
    model.load_weights(DATA / f"{name}.pt")
    np.testing.assert_allclose(model(ANSWER["x"]), ANSWER["y"], rtol=0, atol=1e-6)


def test_failed_load_weights_leaves_the_model_unchanged(tmp_path: Path) -> None:
    model = onward.Sequential(onward.Embedding(9, 3), onward.Linear(5, 2))
    before = model.state_dict()
    with pytest.raises(ArgumentError, match=r"weights\.pt: (?s:.*)cannot take these weights"):
        model.load_weights(DATA / "weights.pt")
    with pytest.raises(FileError):
        model.load_weights(tmp_path / "nowhere")
    for name, weight in model.state_dict().items():
        np.testing.assert_array_equal(weight, before[name])


def test_load_weights_from_safetensors_by_name(tmp_path: Path) -> None:
    source, target = (onward.Sequential(onward.GRU(3, 4), onward.Linear(4, 2)) for _ in range(2))
    source.save(tmp_path / "model")
    target.load_weights(tmp_path / "model")
    np.testing.assert_array_equal(target(np.ones((5, 3))), source(np.ones((5, 3))))


def test_load_weights_from_safetensors_matches_unique_shapes_only(tmp_path: Path) -> None:
    model = onward.Sequential(onward.GRU(3, 4), onward.Linear(4, 2))
    gru, linear = onward.GRU(3, 4), onward.Linear(4, 2)
    weights = {f"z.{name}": weight for name, weight in gru.state_dict().items()}
    weights |= {f"a.{name}": weight for name, weight in linear.state_dict().items()}
    save_file(weights, tmp_path / "model")
    model.load_weights(tmp_path / "model")
    np.testing.assert_array_equal(model(np.ones((5, 3))), linear(gru(np.ones((5, 3)))[0]))
    for shape, others in (((4, 4), 1), ((2, 2), 0)):  # two of one shape; one of a shape that the model lacks
        save_file({f"{k}.weight": np.ones(shape, "f4") for k in range(1 + others)}, tmp_path / "model")
        two = onward.Sequential(*(onward.Linear(4, 4, bias=False) for _ in range(1 + others)))
        renamed = onward.Sequential(onward.Last(), *two)
        with pytest.raises(ArgumentError, match="cannot take these weights"):
            renamed.load_weights(tmp_path / "model")


def test_sequential_connects_the_named_layers_in_order() -> None:
    model = onward.load(DATA / "whole.pt").sequential("embedding", "lstm", "rnn", "head")
    np.testing.assert_allclose(model(ANSWER["x"]), ANSWER["y"], rtol=0, atol=1e-6)


def test_sequential_without_names_says_what_the_file_does_not_record() -> None:
    with pytest.raises(ArgumentError, match=r"no forward\(\): .*order .*activations and transposes") as error:
        onward.load(DATA / "whole.pt").sequential()
    assert "parts.sequential('embedding', 'lstm', 'rnn', 'head')" in str(error.value)


def test_a_call_of_parts_tells_how_to_connect_them() -> None:
    parts = onward.load(DATA / "front_weights.bin")
    with pytest.raises(ArgumentError, match=r"Parts are layers by name.*parts\.sequential\('head'\)"):
        parts(np.zeros((1, 6), np.float32))


def test_sequential_rejects_unknown_names_and_unsupported_modules() -> None:
    parts = onward.load(DATA / "front_weights.bin")
    with pytest.raises(ArgumentError, match=r"'heads' cannot .* not one of the layers: head"):
        parts.sequential("heads")
    with pytest.raises(ArgumentError, match=r"'conv' cannot .* a convolution with a weight of shape"):
        parts.sequential("conv", "head")


def test_repr_says_that_the_file_contains_no_forward() -> None:
    parts = onward.load(DATA / "front_weights.bin")
    text = repr(parts)
    assert text.startswith("<Parts {'head': Linear(6, 2)} of a file that contains no forward(). ")
    assert "    program = torch.export.export(module.eval(), (x,))\n    torch.export.save(program," in text


def test_a_file_of_one_layer_does_not_ask_to_connect_it(tmp_path: Path) -> None:
    save_file(onward.LSTM(3, 4, rng=0).state_dict(), tmp_path / "lstm.safetensors")
    text = repr(onward.load(tmp_path / "lstm.safetensors"))
    assert text == "<Parts {'': LSTM(3, 4)} of a file that contains a single layer, parts['']>"
