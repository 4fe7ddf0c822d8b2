"""Modules with options: recorded options are used, and unsupported ones are reported."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrizations, prune

import onward

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns about deprecated and experimental features


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("tracked", [False, True])
def test_instance_norms_use_recorded_options(axes: int, affine: bool, tracked: bool, tmp_path: Path) -> None:
    kind = getattr(torch.nn, f"InstanceNorm{axes}d")
    norm = kind(5, eps=0.01, affine=affine, track_running_stats=tracked)
    x = 3 * torch.randn(4, 5, *(7, 6)[:axes]) + 1
    with torch.no_grad():
        for weight in norm.parameters():
            weight.normal_()
        norm(x)  # fill the running statistics
        expected = norm.eval()(x)
    torch.save(torch.nn.ModuleDict({"norm": norm}), tmp_path / "model.pt")
    (layer,) = onward.load(tmp_path / "model.pt").values()
    np.testing.assert_allclose(layer(x.numpy()), expected.numpy(), rtol=0, atol=4e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.nn.Embedding(5, 3, max_norm=1.0), "max_norm=1.0"),
        (lambda: torch.nn.EmbeddingBag(5, 3), "contains no layer that Onward supports"),
        (lambda: torch.nn.Bilinear(5, 3, 2), "contains no layer that Onward supports"),
        (
            lambda: {"a": torch.eye(3).to_sparse()},
            "a: .*a kind of tensor that NumPy does not have",
        ),
        (lambda: {"a": torch.zeros(3).to(torch.float8_e4m3fn)}, "a: the tensor has dtype"),
        (
            lambda: {"a": torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)},
            "a: the weights are quantized: save the model before quantizing it in PyTorch",
        ),
        (lambda: {"a": torch.zeros(3, device="meta")}, "a: .*a kind of tensor"),
        (lambda: {"a": torch._neg_view(torch.ones(3))}, "a: the tensor is a lazy"),
    ],
)
def test_unsupported_options_and_tensors_are_refused(
    make: Callable[[], Any], words: str, tmp_path: Path
) -> None:
    torch.save(make(), tmp_path / "model.pt")
    with pytest.raises(onward.errors.FileError, match=words):
        onward.load(tmp_path / "model.pt")


class NormedCell(torch.nn.Module):
    """A user-defined cell with the parameter names of torch.nn.LSTMCell but another equation."""

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
def test_a_user_defined_module_is_not_a_layer(make: Any, tmp_path: Path) -> None:
    module = make()
    torch.save(torch.nn.ModuleDict({"own": module, "fc": torch.nn.Linear(3, 2)}), tmp_path / "model.pt")
    parts = onward.load(tmp_path / "model.pt")
    assert "own" not in parts
    assert "fc" in parts
    assert parts.reasons["own"] == f"{type(module).__name__}, which Onward does not support"
    assert [name for name in module.state_dict() if "norm" not in name] == [
        name.removeprefix("own.") for name in parts.leftover
    ]


def test_a_cell_with_norms_in_a_state_dict_is_not_a_layer(tmp_path: Path) -> None:
    torch.save(
        torch.nn.ModuleDict({"own": NormedCell(), "gru": torch.nn.GRU(2, 3)}).state_dict(), tmp_path / "m"
    )
    parts = onward.load(tmp_path / "m")
    assert list(parts) == ["gru"]
    assert "a recurrent layer, but with own.norm.weight" in parts.reasons["own"]
    assert parts.leftover[:2] == ["own.weight_ih", "own.weight_hh"]


OPTIONS = [
    ("Softplus", {}), ("ReLU6", {}), ("Hardtanh", {"min_val": 0.0, "max_val": 6.0}),
    ("SELU", {"inplace": True}),
    ("LeakyReLU", {"negative_slope": 0.2}), ("LeakyReLU", {"negative_slope": 0.3, "inplace": True}),
    ("ELU", {"alpha": 0.5}), ("GELU", {}), ("Softmax", {"dim": -1}), ("Softmax", {"dim": 1}),
]  # fmt: skip


UNSUPPORTED_OPTIONS = [
    ("Softplus", {"beta": 3.0}), ("Softplus", {"threshold": 5}), ("GELU", {"approximate": "tanh"}),
    ("Hardtanh", {}),
]  # fmt: skip


def parts_of(module: torch.nn.Module, folder: Path) -> Any:
    """Return the parts of a file that contains the module and a Linear."""
    net = torch.nn.ModuleList([torch.nn.Sequential(module.eval()), torch.nn.Linear(2, 2)])
    torch.save(net, folder / "m")
    return onward.load(folder / "m")


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_activations_have_the_recorded_options(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    module, x = getattr(torch.nn, name)(**options), 8 * torch.randn(3, 4, 9)
    parts = parts_of(module, tmp_path)
    np.testing.assert_allclose(next(iter(parts.values()))(x.numpy()), module(x).numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"eps": 0.1}, {"bias": False, "eps": 0.1}])
def test_layer_norms_have_the_recorded_options(options: dict[str, Any], tmp_path: Path) -> None:
    module, x = torch.nn.LayerNorm(9, **options), torch.randn(3, 4, 9)
    layer = next(iter(parts_of(module, tmp_path).values()))
    with torch.no_grad():
        np.testing.assert_allclose(layer(x.numpy()), module(x).numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("name", "options"), UNSUPPORTED_OPTIONS)
def test_unsupported_options_of_activations_are_reasons(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    parts = parts_of(getattr(torch.nn, name)(**options), tmp_path)
    assert [type(layer).__name__ for layer in parts.values()] == ["Linear"]
    assert name in next(iter(parts.reasons.values()))


@pytest.mark.parametrize("mode", ["circular", "replicate", "reflect"])
@pytest.mark.parametrize("axes", [1, 2])
def test_unsupported_padding_modes_are_reasons(axes: int, mode: str, tmp_path: Path) -> None:
    conv = getattr(torch.nn, f"Conv{axes}d")(4, 4, 3, padding=1, padding_mode=mode)
    parts = parts_of(conv, tmp_path)
    assert [type(layer).__name__ for layer in parts.values()] == ["Linear"]
    assert f"Conv{axes}d" in next(iter(parts.reasons.values()))


def test_a_softmax_without_dim_is_a_reason(tmp_path: Path) -> None:
    parts = parts_of(torch.nn.Softmax(), tmp_path)
    assert parts.reasons == {"0.0": "Softmax, whose dim the file does not record"}


def test_an_embedding_with_max_norm_is_a_reason(tmp_path: Path) -> None:
    embedding = torch.nn.Embedding(9, 4, max_norm=1.0)
    parts = parts_of(embedding, tmp_path)
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
        assert "has a parametrization other than weight_norm" in parts.reasons[name]
    assert "pruning" in parts.reasons["pruned"]


def test_a_norm_over_two_axes_is_not_a_matrix(tmp_path: Path) -> None:
    modules = {"a": torch.nn.LayerNorm((4, 9)), "norm": torch.nn.LayerNorm((4, 9), bias=False)}
    modules |= {"b": torch.nn.LayerNorm((4, 9, 2)), "fc": torch.nn.Linear(3, 2)}
    torch.save(torch.nn.ModuleDict(modules).state_dict(), tmp_path / "m")
    parts = onward.load(tmp_path / "m")
    assert list(parts) == ["fc"]
    assert all("normalization" in parts.reasons[name] for name in ("a", "norm", "b"))


class Stepped(torch.nn.Module):
    """A module that contains cells of torch.nn and its own parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = torch.nn.ModuleList([torch.nn.LSTMCell(4, 3), torch.nn.GRUCell(3, 3)])
        self.h0 = torch.nn.Parameter(torch.zeros(3))
        self.out = torch.nn.Linear(3, 1)


@pytest.mark.parametrize("whole", [False, True])
def test_layers_beside_other_tensors_are_found(whole: bool, tmp_path: Path) -> None:
    module = Stepped()
    torch.save(module if whole else {"net": module.state_dict(), "mean": torch.zeros(4)}, tmp_path / "m")
    parts = onward.load(tmp_path / "m")
    assert [repr(layer) for layer in parts.values()] == ["LSTM(4, 3)", "GRU(3, 3)", "Linear(3, 1)"]
    torch.save({**torch.nn.LSTM(4, 3).state_dict(), "mean": torch.zeros(4)}, tmp_path / "m")
    assert [repr(layer) for layer in onward.load(tmp_path / "m").values()] == ["LSTM(4, 3)"]


def test_load_weights_trusts_the_model_about_user_defined_cells(tmp_path: Path) -> None:
    own = NormedCell()
    del own.norm
    torch.save(torch.nn.ModuleDict({"own": own, "fc": torch.nn.Linear(3, 2)}), tmp_path / "m")
    model = onward.Sequential(onward.LSTM(5, 3, bias=False), onward.Linear(3, 2))
    model.load_weights(tmp_path / "m")
    np.testing.assert_array_equal(model.state_dict()["0.weight_ih_l0"], own.weight_ih.detach().numpy())
