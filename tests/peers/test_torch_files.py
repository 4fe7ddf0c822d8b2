"""Files that PyTorch writes in each of its formats: their layers give the same outputs as the modules."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrizations, weight_norm

import onward

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns about deprecated and experimental features


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


OPTIONS_OF_NET = {"batch_first": True, "nonlinearity": "relu"}


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def assert_same_outputs(
    path: Path, net: Net, before: str = "", atol: float = 2e-6, **options: Any
) -> onward.Sequential:
    """Check that the file's layers, applied in order, give the module's outputs."""
    parts = onward.load(path, **options)
    parts.pop(before + "norm", None)  # unused by forward, and not every file records its eps
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
def test_a_state_dict_gives_the_layers_of_its_module(
    save: Callable[..., None], net: Net, tmp_path: Path
) -> None:
    save(net.state_dict(), tmp_path / "model.bin")
    assert_same_outputs(tmp_path / "model.bin", net, **OPTIONS_OF_NET)
    assert onward.load(tmp_path / "model.bin").leftover == ["norm.weight", "norm.bias"]
    for name, array in onward.load_tensors(tmp_path / "model.bin").items():
        np.testing.assert_array_equal(array, net.state_dict()[name].numpy())


@pytest.mark.parametrize("save", SAVES, ids=lambda save: save.__name__)
def test_a_whole_module_gives_its_layers(save: Callable[..., None], net: Net, tmp_path: Path) -> None:
    save(net, tmp_path / "model.pth")
    layers = assert_same_outputs(tmp_path / "model.pth", net)
    assert [repr(layer) for layer in layers] == [
        "Embedding(11, 5, padding_idx=0)",
        "LSTM(5, 6, num_layers=2, batch_first=True, dropout=0.25, bidirectional=True, proj_size=4)",
        "GRU(8, 7, bias=False, batch_first=True)",
        "RNN(7, 4, nonlinearity='relu', batch_first=True)",
        "Linear(4, 3)",
    ]


@pytest.mark.parametrize("save", SAVES, ids=lambda save: save.__name__)
@pytest.mark.parametrize("wrap", ["data_parallel", "compiled", "lightning", "models"])
def test_checkpoints_and_wrappers_contain_the_module(
    save: Callable[..., None], wrap: str, net: Net, tmp_path: Path
) -> None:
    path = tmp_path / "model.ckpt"
    optimizer = torch.optim.Adam(net.parameters(), lr=0)
    net(torch.from_numpy(X)).sum().backward()
    optimizer.step()
    if wrap == "data_parallel":
        save(
            {"net": torch.nn.DataParallel(net).state_dict(), "epoch": 3, "opt": optimizer.state_dict()}, path
        )
        assert_same_outputs(path, net, **OPTIONS_OF_NET)
    elif wrap == "compiled":
        save(torch.compile(net).state_dict(), path)
        assert_same_outputs(path, net, **OPTIONS_OF_NET)
    elif wrap == "lightning":
        state_dict = {f"model.{name}": weight for name, weight in net.state_dict().items()}
        checkpoint = {"state_dict": state_dict, "optimizer_states": [optimizer.state_dict()], "callbacks": {}}
        save(checkpoint | {"hyper_parameters": {"lr": 0.1, "betas": (0.9, 0.99), "path": tmp_path}}, path)
        assert_same_outputs(path, net, before="model.", **OPTIONS_OF_NET)
    else:
        save({"model": net, "best": torch.nn.Linear(2, 3)}, path)
        parts = onward.load(path)
        assert list(parts) == [
            f"model.{n}" for n in ("embedding", "lstm", "gru", "rnn", "norm", "head.fc")
        ] + ["best"]


@pytest.mark.parametrize("wrapped", [torch.nn.DataParallel, torch.nn.Sequential])
def test_wrapped_modules_give_the_layers_inside(wrapped: Any, net: Net, tmp_path: Path) -> None:
    torch.save(wrapped(net), tmp_path / "model")
    assert_same_outputs(tmp_path / "model", net, before="" if wrapped is torch.nn.DataParallel else "0.")


def test_a_frozen_script_runs(tmp_path: Path) -> None:
    linear = torch.nn.Linear(300, 2).eval()
    torch.jit.freeze(torch.jit.script(linear)).save(tmp_path / "model.pt")
    arrays = onward.load_tensors(tmp_path / "model.pt").values()
    assert any(np.array_equal(array, linear.weight.detach().numpy()) for array in arrays)
    x = torch.randn(5, 300)
    y = onward.load(tmp_path / "model.pt")(x.numpy())
    np.testing.assert_allclose(y, linear(x).detach().numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_modules_of_every_precision_give_their_outputs(dtype: str, net: Net, tmp_path: Path) -> None:
    lower = net.to(getattr(torch, dtype))
    for save in (torch.save, legacy):
        save(lower.state_dict(), tmp_path / "model")
        reference = copy.deepcopy(lower).to(torch.float64 if dtype == "float64" else torch.float32)
        atol = 1e-13 if dtype == "float64" else 2e-6
        layers = assert_same_outputs(tmp_path / "model", reference, atol=atol, **OPTIONS_OF_NET)
        assert layers.dtype == np.dtype("f8" if dtype == "float64" else "f4")


@pytest.mark.parametrize(
    "dtype",
    [
        "uint8", "int8", "int16", "int32", "int64", "bool", "uint16", "uint32", "uint64", "complex64",
        "complex128", "float16", "float32", "float64",
    ],
)  # fmt: skip
def test_arrays_of_every_dtype_and_layout_are_read(dtype: str, tmp_path: Path) -> None:
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


def test_weight_norms_are_computed(net: Net, tmp_path: Path) -> None:
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
        assert_same_outputs(tmp_path / "model.pt", normed, **OPTIONS_OF_NET)
    torch.save(old, tmp_path / "whole.pt")
    assert_same_outputs(tmp_path / "whole.pt", old)


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "RNNCell"])
def test_cells_become_layers(name: str, tmp_path: Path) -> None:
    options = {"nonlinearity": "relu"} if name == "RNNCell" else {}
    cell = getattr(torch.nn, name)(5, 7, **options)
    torch.save({"cell": cell}, tmp_path / "model.pt")
    (layer,) = onward.load(tmp_path / "model.pt").values()
    x = torch.randn(4, 5)
    with torch.no_grad():
        expected = cell(x)
    expected = expected[0] if name == "LSTMCell" else expected
    np.testing.assert_allclose(layer(x[None].numpy())[0][0], expected.numpy(), rtol=0, atol=2e-6)


def test_weights_load_into_a_new_model(net: Net, tmp_path: Path) -> None:
    module = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(3, 4), "fc": torch.nn.Linear(4, 2)})
    torch.save({"model": module.state_dict(), "epoch": 1}, tmp_path / "model.pt")
    model = onward.Sequential(onward.LSTM(3, 4), onward.Linear(4, 2))
    model.load_weights(tmp_path / "model.pt")
    x = torch.randn(6, 2, 3)
    with torch.no_grad():
        expected = module["fc"](module["lstm"](x)[0])
    np.testing.assert_allclose(model(x.numpy()), expected.numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("inside", [False, True])
def test_compiled_modules_give_the_layers_inside(inside: bool, net: Net, tmp_path: Path) -> None:
    compiled: Any = torch.compile(net)
    torch.save(torch.nn.Sequential(compiled) if inside else compiled, tmp_path / "m")
    assert_same_outputs(tmp_path / "m", net, before="0." if inside else "")


def test_a_file_without_layers_is_refused_with_its_contents(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.LSTM(9, 3)).eval()
    small = torch.ao.quantization.quantize_dynamic(net, {torch.nn.LSTM}, torch.qint8)
    for value, words in (
        (small.state_dict(), "CellParamsBase, whose weights are quantized"),
        (torch.randn(3, 4), "it contains a tensor without a name"),
        ({"epoch": 3}, "it contains no tensors"),
    ):
        torch.save(value, tmp_path / "m")
        with pytest.raises(onward.errors.FileError, match=words):
            onward.load(tmp_path / "m")


class Tagger(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = torch.nn.LSTM(3, 4), torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["state_dict", "module"])
def test_files_of_quantize_dynamic_name_the_feature(tmp_path: Path, kind: str) -> None:
    """The errors spoke of kinds of tensors and classes of the archive."""
    layers = {torch.nn.LSTM, torch.nn.Linear}
    model = torch.ao.quantization.quantize_dynamic(Tagger().eval(), layers, dtype=torch.qint8)
    path = tmp_path / "model.pt"
    torch.save(model if kind == "module" else model.state_dict(), path)
    with pytest.raises(
        onward.errors.FileError, match=r"quantized.*save the model before quantizing it in PyTorch"
    ):
        onward.load(path)


def test_a_fixed_size_says_that_the_export_fixed_it(tmp_path: Path) -> None:
    program = torch.export.export(Tagger().eval(), (torch.ones(5, 1, 3),))
    torch.export.save(program, tmp_path / "model.pt2")
    model: Any = onward.load(tmp_path / "model.pt2")
    with pytest.raises(
        onward.errors.ShapeError, match=r"its export fixed axis 0 to 5\. If its layers take other"
    ):
        model(np.ones((6, 1, 3), np.float32))


def test_a_state_dict_of_convolutions_names_what_it_is_and_how_to_load_it(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.ones(4, 3, 5)}, tmp_path / "weights.pt")
    with pytest.raises(onward.errors.FileError, match=r"a convolution with .*, such as conv=\{\"stride\": 1"):
        onward.load(tmp_path / "weights.pt")
