"""Files that PyTorch writes, in every way that it has, live: loaded here, they answer as the module did."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from torch.nn.utils import parametrizations, prune, weight_norm

import onward
from onward.cli import main

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's own: deprecated and experimental


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(11, 5, padding_idx=0)
        self.lstm = torch.nn.LSTM(5, 6, 2, batch_first=True, bidirectional=True, dropout=0.25, proj_size=4)
        self.gru = torch.nn.GRU(8, 7, bias=False, batch_first=True)
        self.rnn = torch.nn.RNN(7, 4, nonlinearity="relu", batch_first=True)
        self.norm = torch.nn.LayerNorm(4)
        self.head = torch.nn.ModuleDict({"fc": torch.nn.Linear(4, 3)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(self.embedding(x))
        y, _ = self.gru(y)
        y, _ = self.rnn(y)
        return self.head["fc"](y)


X = np.random.default_rng(0).integers(11, size=(3, 9))
UNSAID = {"batch_first": True, "nonlinearity": "relu"}


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def check(path: Path, net: Net, before: str = "", atol: float = 2e-6, **said: Any) -> onward.Sequential:
    """That a file's layers, in order, answer as the module."""
    parts = onward.load(path, **said)
    parts.pop(before + "norm", None)  # which forward leaves out, and of which not every file says the eps
    assert list(parts) == [before + name for name in ("embedding", "lstm", "gru", "rnn", "head.fc")]
    layers = onward.Sequential(*parts.values())
    with torch.no_grad():
        expected = net(torch.from_numpy(X)).double().numpy()
    np.testing.assert_allclose(layers(X), expected, rtol=0, atol=atol)
    return layers


def legacy(value: Any, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def protocol_4(value: Any, path: Path) -> None:
    torch.save(value, path, pickle_protocol=4)


def legacy_protocol_5(value: Any, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False, pickle_protocol=5)


SAVES = [torch.save, legacy, protocol_4, legacy_protocol_5]


@pytest.mark.parametrize("save", SAVES, ids=lambda save: save.__name__)
def test_a_state_dict(save: Callable[..., None], net: Net, tmp_path: Path) -> None:
    save(net.state_dict(), tmp_path / "model.bin")
    check(tmp_path / "model.bin", net, **UNSAID)
    assert onward.load(tmp_path / "model.bin").leftover == ["norm.weight", "norm.bias"]
    for name, array in onward.load_tensors(tmp_path / "model.bin").items():
        np.testing.assert_array_equal(array, net.state_dict()[name].numpy())


@pytest.mark.parametrize("save", SAVES, ids=lambda save: save.__name__)
def test_a_whole_module(save: Callable[..., None], net: Net, tmp_path: Path) -> None:
    save(net, tmp_path / "model.pth")
    layers = check(tmp_path / "model.pth", net)
    assert [repr(layer) for layer in layers] == [
        "Embedding(11, 5, padding_idx=0)",
        "LSTM(5, 6, num_layers=2, batch_first=True, dropout=0.25, bidirectional=True, proj_size=4)",
        "GRU(8, 7, bias=False, batch_first=True)",
        "RNN(7, 4, nonlinearity='relu', batch_first=True)",
        "Linear(4, 3)",
    ]


@pytest.mark.parametrize("save", SAVES, ids=lambda save: save.__name__)
@pytest.mark.parametrize("wrap", ["data_parallel", "compiled", "lightning", "models"])
def test_checkpoints_and_wrappers(save: Callable[..., None], wrap: str, net: Net, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    optimizer = torch.optim.Adam(net.parameters(), lr=0)
    net(torch.from_numpy(X)).sum().backward()
    optimizer.step()
    if wrap == "data_parallel":
        save(
            {"net": torch.nn.DataParallel(net).state_dict(), "epoch": 3, "opt": optimizer.state_dict()}, path
        )
        check(path, net, **UNSAID)
    elif wrap == "compiled":
        save(torch.compile(net).state_dict(), path)
        check(path, net, **UNSAID)
    elif wrap == "lightning":
        state_dict = {f"model.{name}": weight for name, weight in net.state_dict().items()}
        checkpoint = {"state_dict": state_dict, "optimizer_states": [optimizer.state_dict()], "callbacks": {}}
        save(checkpoint | {"hyper_parameters": {"lr": 0.1, "betas": (0.9, 0.99), "path": tmp_path}}, path)
        check(path, net, before="model.", **UNSAID)
    else:
        save({"model": net, "best": torch.nn.Linear(2, 3)}, path)
        parts = onward.load(path)
        assert list(parts) == [
            f"model.{n}" for n in ("embedding", "lstm", "gru", "rnn", "norm", "head.fc")
        ] + ["best"]


@pytest.mark.parametrize("wrapped", [torch.nn.DataParallel, torch.nn.Sequential])
def test_a_wrapped_module_pickled_whole(wrapped: Any, net: Net, tmp_path: Path) -> None:
    torch.save(wrapped(net), tmp_path / "model")
    check(tmp_path / "model", net, before="" if wrapped is torch.nn.DataParallel else "0.")


@pytest.mark.parametrize("how", ["script", "trace"])
def test_torchscript(how: str, net: Net, tmp_path: Path) -> None:
    class Plain(Net):  # what TorchScript can compile
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y, _ = self.lstm(self.embedding(x))
            y, _ = self.gru(y)
            y, _ = self.rnn(y)
            return self.head["fc"](y)

    plain = Plain().eval()
    plain.load_state_dict(net.state_dict())
    example = torch.from_numpy(X)
    scripted = torch.jit.script(plain) if how == "script" else torch.jit.trace(plain, example)
    scripted.save(tmp_path / "model.pt")
    check(tmp_path / "model.pt", net)


def test_a_frozen_script_has_no_modules_left_but_its_arrays(tmp_path: Path) -> None:
    linear = torch.nn.Linear(300, 2).eval()
    torch.jit.freeze(torch.jit.script(linear)).save(tmp_path / "model.pt")
    arrays = onward.load_tensors(tmp_path / "model.pt").values()
    assert any(np.array_equal(array, linear.weight.detach().numpy()) for array in arrays)
    with pytest.raises(onward.errors.FileError, match=r"constants\.0"):
        onward.load(tmp_path / "model.pt")


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_precisions(dtype: str, net: Net, tmp_path: Path) -> None:
    lower = net.to(getattr(torch, dtype))
    for save in (torch.save, legacy):
        save(lower.state_dict(), tmp_path / "model")
        reference = copy.deepcopy(lower).to(torch.float64 if dtype == "float64" else torch.float32)
        atol = 1e-13 if dtype == "float64" else 2e-6
        layers = check(tmp_path / "model", reference, atol=atol, **UNSAID)
        assert layers.dtype == np.dtype("f8" if dtype == "float64" else "f4")


@pytest.mark.parametrize(
    "dtype",
    [
        "uint8", "int8", "int16", "int32", "int64", "bool", "uint16", "uint32", "uint64", "complex64",
        "complex128", "float16", "float32", "float64",
    ],
)  # fmt: skip
def test_arrays_of_every_dtype_as_they_lie(dtype: str, tmp_path: Path) -> None:
    base = torch.arange(24).reshape(4, 6).to(getattr(torch, dtype))
    tensors = {
        "whole": base, "transposed": base.T, "strided": base[::2, 1::3], "row": base[2], "scalar": base[3, 3],
        "empty": base[:0], "expanded": base[0, :2].expand(3, 2), "parameter": torch.nn.Parameter(base, False),
    }  # fmt: skip
    for save in SAVES:
        save(tensors, tmp_path / "model")
        found = onward.load_tensors(tmp_path / "model")
        assert list(found) == list(tensors)
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(found[name], tensor.detach().numpy())
            assert found[name].dtype == np.dtype(dtype)


def test_weight_norms(net: Net, tmp_path: Path) -> None:
    old, new = copy.deepcopy(net), copy.deepcopy(net)
    for normed, norm in ((old, weight_norm), (new, parametrizations.weight_norm)):
        norm(normed.head["fc"])
        norm(normed.lstm, "weight_hh_l0")
        norm(normed.gru, "weight_ih_l0", dim=1)
        norm(normed.rnn, "weight_hh_l0", dim=None)
        with torch.no_grad():
            for name, parameter in normed.named_parameters():
                if name.endswith(("_g", "original0")):
                    parameter.mul_(1.5)
        torch.save(normed.state_dict(), tmp_path / "model.pt")
        check(tmp_path / "model.pt", normed, **UNSAID)
    torch.save(old, tmp_path / "whole.pt")
    check(tmp_path / "whole.pt", old)


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells(name: str, tmp_path: Path) -> None:
    options = {"nonlinearity": "relu"} if name == "RNNCell" else {}
    cell = getattr(torch.nn, name)(5, 7, **options)
    torch.save({"cell": cell}, tmp_path / "model.pt")
    (layer,) = onward.load(tmp_path / "model.pt").values()
    x = torch.randn(4, 5)
    with torch.no_grad():
        expected = cell(x)
    expected = expected[0] if name == "LSTMCell" else expected
    np.testing.assert_allclose(layer(x[None].numpy())[0][0], expected.numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("tracked", [False, True])
def test_instance_norms(axes: int, affine: bool, tracked: bool, tmp_path: Path) -> None:
    kind = getattr(torch.nn, f"InstanceNorm{axes}d")
    norm = kind(5, eps=0.01, affine=affine, track_running_stats=tracked)
    x = 3 * torch.randn(4, 5, *(7, 6)[:axes]) + 1
    with torch.no_grad():
        for weight in norm.parameters():
            weight.normal_()
        norm(x)  # to have seen something
        expected = norm.eval()(x)
    torch.save(torch.nn.ModuleDict({"norm": norm}), tmp_path / "model.pt")
    (layer,) = onward.load(tmp_path / "model.pt").values()
    np.testing.assert_allclose(layer(x.numpy()), expected.numpy(), rtol=0, atol=4e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.nn.Embedding(5, 3, max_norm=1.0), "max_norm=1.0"),
        (lambda: torch.nn.EmbeddingBag(5, 3), "no tensor belongs to a layer"),
        (lambda: torch.nn.Bilinear(5, 3, 2), "no tensor belongs to a layer"),
        (lambda: {"a": torch.eye(3).to_sparse()}, "a: it is a tensor of a kind that NumPy lacks"),
        (lambda: {"a": torch.zeros(3).to(torch.float8_e4m3fn)}, "a: it has dtype"),
        (
            lambda: {"a": torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)},
            "a: it is a tensor of a kind",
        ),
        (lambda: {"a": torch.zeros(3, device="meta")}, "a: it is a tensor of a kind"),
        (lambda: {"a": torch._neg_view(torch.ones(3))}, "a: it is a lazy view"),
    ],
)
def test_what_cannot_be_honoured_is_refused(make: Callable[[], Any], words: str, tmp_path: Path) -> None:
    torch.save(make(), tmp_path / "model.pt")
    with pytest.raises(onward.errors.FileError, match=words):
        onward.load(tmp_path / "model.pt")


def test_weights_go_into_a_model_built_by_hand(net: Net, tmp_path: Path) -> None:
    module = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(3, 4), "fc": torch.nn.Linear(4, 2)})
    torch.save({"model": module.state_dict(), "epoch": 1}, tmp_path / "model.pt")
    model = onward.Sequential(onward.LSTM(3, 4), onward.Linear(4, 2))
    model.load_weights(tmp_path / "model.pt")
    x = torch.randn(6, 2, 3)
    with torch.no_grad():
        expected = module["fc"](module["lstm"](x)[0])
    np.testing.assert_allclose(model(x.numpy()), expected.numpy(), rtol=0, atol=2e-6)


class NormedCell(torch.nn.Module):
    """A user's cell, with the names of torch.nn.LSTMCell and another equation."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_ih = torch.nn.Parameter(torch.randn(12, 5))
        self.weight_hh = torch.nn.Parameter(torch.randn(12, 3))
        self.norm = torch.nn.LayerNorm(12)


class Doubled(torch.nn.LSTM):
    def forward(self, x: Any) -> Any:  # type: ignore[override]
        return 2 * super().forward(x)[0]


class Twice(torch.nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize("make", [NormedCell, lambda: Doubled(5, 3), lambda: Twice(5, 3)])
def test_a_module_of_an_own_class_is_no_layer_whatever_its_weights(make: Any, tmp_path: Path) -> None:
    module = make()
    torch.save(torch.nn.ModuleDict({"own": module, "fc": torch.nn.Linear(3, 2)}), tmp_path / "model.pt")
    parts = onward.load(tmp_path / "model.pt")
    assert "own" not in parts
    assert "fc" in parts
    assert parts.reasons["own"] == f"{type(module).__name__}, which is no layer of Onward"
    assert [name for name in module.state_dict() if "norm" not in name] == [
        name.removeprefix("own.") for name in parts.leftover
    ]


def test_a_cell_that_has_norms_is_no_layer_in_a_state_dict(tmp_path: Path) -> None:
    torch.save(
        torch.nn.ModuleDict({"own": NormedCell(), "gru": torch.nn.GRU(2, 3)}).state_dict(), tmp_path / "m"
    )
    parts = onward.load(tmp_path / "m")
    assert list(parts) == ["gru"]
    assert "such a layer has no own.norm.weight" in parts.reasons["own"]
    assert parts.leftover[:2] == ["own.weight_ih", "own.weight_hh"]


OPTIONS = [
    ("Softplus", {}), ("ReLU6", {}), ("Hardtanh", {"min_val": 0.0, "max_val": 6.0}),
    ("SELU", {"inplace": True}),
    ("LeakyReLU", {"negative_slope": 0.2}), ("LeakyReLU", {"negative_slope": 0.3, "inplace": True}),
    ("ELU", {"alpha": 0.5}), ("GELU", {}), ("Softmax", {"dim": -1}), ("Softmax", {"dim": 1}),
]  # fmt: skip
OTHERS = [
    ("Softplus", {"beta": 3.0}), ("Softplus", {"threshold": 5}), ("GELU", {"approximate": "tanh"}),
    ("Hardtanh", {}),
]  # fmt: skip
WAYS = ["whole", "script", "trace"]


def parts_of(module: torch.nn.Module, way: str, x: torch.Tensor, folder: Path) -> Any:
    """The parts of a Sequential with a module and a Linear, saved in one of the ways."""
    net = torch.nn.ModuleList([torch.nn.Sequential(module.eval()), torch.nn.Linear(2, 2)])
    if way == "whole":
        torch.save(net, folder / "m")
    else:
        net = torch.nn.Sequential(*net[0], torch.nn.Flatten(0), torch.nn.LazyLinear(2))
        net(x)
        (torch.jit.script(net.eval()) if way == "script" else torch.jit.trace(net.eval(), x)).save(
            folder / "m"
        )
    return onward.load(folder / "m")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_an_activation_has_the_options_that_the_file_says(
    name: str, options: dict[str, Any], way: str, tmp_path: Path
) -> None:
    module, x = getattr(torch.nn, name)(**options), 8 * torch.randn(3, 4, 9)
    parts = parts_of(module, way, x, tmp_path)
    np.testing.assert_allclose(next(iter(parts.values()))(x.numpy()), module(x).numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"eps": 0.1}, {"bias": False, "eps": 0.1}])
def test_a_layer_norm_has_the_options_that_the_file_says(
    options: dict[str, Any], way: str, tmp_path: Path
) -> None:
    module, x = torch.nn.LayerNorm(9, **options), torch.randn(3, 4, 9)
    layer = next(iter(parts_of(module, way, x, tmp_path).values()))
    with torch.no_grad():
        np.testing.assert_allclose(layer(x.numpy()), module(x).numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "options"), OTHERS)
def test_an_activation_with_options_that_onward_lacks_is_a_reason(
    name: str, options: dict[str, Any], way: str, tmp_path: Path
) -> None:
    parts = parts_of(getattr(torch.nn, name)(**options), way, torch.randn(3, 4, 9), tmp_path)
    assert [type(layer).__name__ for layer in parts.values()] == ["Linear"]
    assert name in next(iter(parts.reasons.values()))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["circular", "replicate", "reflect"])
@pytest.mark.parametrize("axes", [1, 2])
def test_a_convolution_that_pads_otherwise_is_a_reason(
    axes: int, mode: str, way: str, tmp_path: Path
) -> None:
    conv = getattr(torch.nn, f"Conv{axes}d")(4, 4, 3, padding=1, padding_mode=mode)
    parts = parts_of(conv, way, torch.randn(2, 4, *(6, 7)[:axes]), tmp_path)
    assert [type(layer).__name__ for layer in parts.values()] == ["Linear"]
    assert f"Conv{axes}d" in next(iter(parts.reasons.values()))


def test_a_softmax_of_which_a_file_does_not_say_the_axis_is_a_reason(tmp_path: Path) -> None:
    parts = parts_of(torch.nn.Softmax(), "whole", torch.randn(3, 4, 9), tmp_path)
    assert parts.reasons == {"0.0": "Softmax, but the file does not say its dim"}


@pytest.mark.parametrize("way", WAYS)
def test_an_embedding_that_scales_its_rows_is_a_reason(way: str, tmp_path: Path) -> None:
    embedding = torch.nn.Embedding(9, 4, max_norm=1.0)
    parts = parts_of(embedding, way, torch.randint(9, (3, 2)), tmp_path)
    assert [type(layer).__name__ for layer in parts.values()] == ["Linear"]
    assert "max_norm=1.0" in next(iter(parts.reasons.values()))


def test_parametrizations_other_than_one_weight_norm_are_reasons(tmp_path: Path) -> None:
    normed = parametrizations.weight_norm(torch.nn.Linear(9, 3))
    modules = {
        "stacked": parametrizations.spectral_norm(normed),
        "spectral": parametrizations.spectral_norm(torch.nn.Linear(9, 3)),
        "recurrent": parametrizations.orthogonal(torch.nn.LSTM(9, 3), "weight_ih_l0"),
        "pruned": prune.l1_unstructured(torch.nn.LSTM(9, 3), "weight_hh_l0", 0.5),
        "fc": torch.nn.Linear(3, 2),
    }
    torch.save(torch.nn.ModuleDict(modules).state_dict(), tmp_path / "m")
    parts = onward.load(tmp_path / "m")
    assert list(parts) == ["fc"]
    for name in ("stacked", "spectral", "recurrent"):
        assert "is parametrized by other means than weight_norm" in parts.reasons[name]
    assert "pruning" in parts.reasons["pruned"]


def test_a_norm_over_two_axes_is_no_matrix(tmp_path: Path) -> None:
    modules = {"a": torch.nn.LayerNorm((4, 9)), "norm": torch.nn.LayerNorm((4, 9), bias=False)}
    modules |= {"b": torch.nn.LayerNorm((4, 9, 2)), "fc": torch.nn.Linear(3, 2)}
    torch.save(torch.nn.ModuleDict(modules).state_dict(), tmp_path / "m")
    parts = onward.load(tmp_path / "m")
    assert list(parts) == ["fc"]
    assert all("normalization" in parts.reasons[name] for name in ("a", "norm", "b"))


@pytest.mark.parametrize("inside", [False, True])
def test_a_compiled_module_is_the_one_that_was_compiled(inside: bool, net: Net, tmp_path: Path) -> None:
    compiled: Any = torch.compile(net)
    torch.save(torch.nn.Sequential(compiled) if inside else compiled, tmp_path / "m")
    check(tmp_path / "m", net, before="0." if inside else "")


def test_what_holds_no_layer_says_what_it_holds(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.LSTM(9, 3)).eval()
    small = torch.ao.quantization.quantize_dynamic(net, {torch.nn.LSTM}, torch.qint8)
    for value, words in (
        (small.state_dict(), "CellParamsBase, whose weights are quantized"),
        (torch.randn(3, 4), "it is one tensor alone"),
        ({"epoch": 3}, "it is empty"),
    ):
        torch.save(value, tmp_path / "m")
        with pytest.raises(onward.errors.FileError, match=words):
            onward.load(tmp_path / "m")


def test_a_layer_that_is_alone_is_converted_with_its_options(tmp_path: Path) -> None:
    rnn, x = torch.nn.RNN(3, 4, nonlinearity="relu", batch_first=True), torch.randn(2, 5, 3)
    with torch.no_grad():
        expected = rnn(x)[0].numpy()
    torch.save(torch.nn.Sequential(rnn, torch.nn.Dropout()), tmp_path / "rnn.pt")
    for target in ("rnn.safetensors", "rnn.onnx"):
        main(["convert", str(tmp_path / "rnn.pt"), str(tmp_path / target)], standalone_mode=False)
        net = onward.load(tmp_path / target)
        y = net.layers()(x.numpy()) if target == "rnn.onnx" else net(x.numpy())[0]
        np.testing.assert_allclose(y, expected, rtol=0, atol=2e-6)


def test_a_layer_beside_one_that_onward_lacks_is_not_alone(tmp_path: Path) -> None:
    torch.save(torch.nn.Sequential(torch.nn.GRU(3, 4), torch.nn.Hardswish()), tmp_path / "m.pt")
    for target, words in (
        ("m.onnx", "connected"),
        ("m.safetensors", "tensors alone do not say 1: Hardswish"),
    ):
        with pytest.raises(click.UsageError, match=words):
            main(["convert", str(tmp_path / "m.pt"), str(tmp_path / target)], standalone_mode=False)


class Stepped(torch.nn.Module):
    """Cells of torch.nn in a module that has more of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = torch.nn.ModuleList([torch.nn.LSTMCell(4, 3), torch.nn.GRUCell(3, 3)])
        self.h0 = torch.nn.Parameter(torch.zeros(3))
        self.out = torch.nn.Linear(3, 1)


@pytest.mark.parametrize("whole", [False, True])
def test_what_is_around_a_layer_of_torch_does_not_stand_in_its_way(whole: bool, tmp_path: Path) -> None:
    module = Stepped()
    torch.save(module if whole else {"net": module.state_dict(), "mean": torch.zeros(4)}, tmp_path / "m")
    parts = onward.load(tmp_path / "m")
    assert [repr(layer) for layer in parts.values()] == ["LSTM(4, 3)", "GRU(3, 3)", "Linear(3, 1)"]
    torch.save({**torch.nn.LSTM(4, 3).state_dict(), "mean": torch.zeros(4)}, tmp_path / "m")
    assert [repr(layer) for layer in onward.load(tmp_path / "m").values()] == ["LSTM(4, 3)"]


def test_weights_of_a_cell_of_an_own_class_go_into_a_layer_that_someone_says_it_is(tmp_path: Path) -> None:
    own = NormedCell()
    del own.norm
    torch.save(torch.nn.ModuleDict({"own": own, "fc": torch.nn.Linear(3, 2)}), tmp_path / "m")
    model = onward.Sequential(onward.LSTM(5, 3, bias=False), onward.Linear(3, 2))
    model.load_weights(tmp_path / "m")
    np.testing.assert_array_equal(model.state_dict()["0.weight_ih_l0"], own.weight_ih.detach().numpy())
