"""Sizes that TorchScript computes from those of its inputs are never constants of the recorded graph."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.randomized import random_cases
from support.skips import Cases
from support.torch_modules import Packed
from torch import Tensor, nn

import onward
from onward.errors import ArgumentError, OnwardError
from onward.formats.torch.script.program import Program
from onward.model import Model

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns that TorchScript is deprecated


class CausalConvolution(nn.Module):
    """A strided convolution that pads up to whole strides, with sizes in tensors, as neural codecs do."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(inputs, outputs, kernel, stride)
        self.register_buffer("stride", torch.tensor(stride))
        self.register_buffer("kernel", torch.tensor(kernel))
        self.register_buffer("total", torch.tensor(kernel - stride))

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[-1]
        frames = torch.ceil((length - self.kernel + self.total) / self.stride + 1).to(torch.int64) - 1
        extra = frames * self.stride + self.kernel - self.total - length
        padded: Tensor = self.convolution(nn.functional.pad(x, (int(self.total), extra)))
        return padded


class Transposed(nn.Module):
    """A transposed convolution that cuts what exceeds whole strides."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.convolution, self.excess = nn.ConvTranspose1d(inputs, outputs, kernel, stride), kernel - stride

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.convolution(x)
        return y[..., : y.shape[-1] - self.excess]


def check(module: nn.Module, traced_with: Tensor, lengths: list[int], path: Path) -> None:
    """Compare a traced module with PyTorch for inputs of several lengths."""
    torch.jit.trace(module, traced_with, check_trace=False).save(str(path))
    program, loaded = torch.jit.load(str(path)), onward.load(path)
    for length in lengths:
        x = torch.randn(*traced_with.shape[:-1], length)
        expected, actual = program(x).numpy(), loaded(x.numpy())
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_codecs_of_any_strides_keep_their_length(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    for _ in range(random_cases(8)):
        strides = [int(n) for n in rng.choice([2, 3, 4, 5, 8], size=rng.integers(2, 5))]
        layers: list[nn.Module] = [CausalConvolution(1, 4, 5, 1)]
        layers += [CausalConvolution(4, 4, 2 * n, n) for n in strides]
        layers += [Transposed(4, 4, 2 * n, n) for n in strides[::-1]]
        total = int(np.prod(strides))
        lengths = [total, 7 * total, *(int(n) for n in rng.integers(1, 9 * total, size=3))]
        check(nn.Sequential(*layers).eval(), torch.randn(1, 1, 3 * total), lengths, tmp_path / "model.pt")


class Steps(nn.Module):
    """The number of steps that a function of the length selects or appends, as a factor."""

    def __init__(self, kind: str, number: int) -> None:
        super().__init__()
        self.kind, self.number = kind, number

    def forward(self, x: Tensor) -> Tensor:
        length, n = x.shape[-1], self.number
        if self.kind == "padded":  # to a multiple
            y = nn.functional.pad(x, (0, -length % n))
        elif self.kind == "clamped":
            y = x[..., :n]
        elif self.kind == "remainder":
            y = x[..., : length % n + 1]
        else:
            y = x[..., :: self.number]
        return y[..., :1] * y.shape[-1]


@pytest.mark.parametrize("kind", ["padded", "clamped", "remainder", "strided"])
@torch.no_grad()
def test_functions_of_sizes_are_not_constants(kind: str, tmp_path: Path) -> None:
    for number in (3, 19, 38, 100, 160):
        check(Steps(kind, number), torch.randn(2, 3, 500), [1, 39, 48, 161, 333, 1000], tmp_path / "model.pt")


class MinGRU(nn.Module):
    """A minimal GRU, whose states are a scan in logarithms."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.gates, self.output = nn.Linear(size, 2 * size), nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        h, z = self.gates(x).chunk(2, -1)
        log_h = torch.where(h >= 0, (h.relu() + 0.5).log(), -nn.functional.softplus(-h))
        log_a = (-nn.functional.softplus(z)).cumsum(1)
        states = (log_a + (log_h - nn.functional.softplus(-z) - log_a).logcumsumexp(1)).exp()
        y: Tensor = self.output(states[:, -x.shape[1] :])
        return y


class MinLSTM(nn.Module):
    """A minimal LSTM, whose states are sums over the earlier steps that a comparison of places selects."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.gates, self.output = nn.Linear(size, 3 * size), nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        f, i, h = self.gates(x).chunk(3, -1)
        total = torch.sigmoid(f) + torch.sigmoid(i)
        a = torch.log(torch.sigmoid(f) / total).cumsum(1)
        places = torch.arange(x.shape[1], device=x.device)
        earlier = (places[:, None] >= places[None]).unsqueeze(-1)
        weights = torch.where(earlier, a.unsqueeze(2) - a.unsqueeze(1), float("-inf")).exp()
        y: Tensor = self.output((weights * (torch.sigmoid(i) / total * h).unsqueeze(1)).sum(2))
        return y


@pytest.mark.parametrize("kind", [MinGRU, MinLSTM])
@pytest.mark.parametrize("how", ["traced", "scripted"])
@torch.no_grad()
def test_recurrent_layers_as_scans_run_at_any_length(kind: type[nn.Module], how: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path = kind(6), tmp_path / "model.pt"
    x = torch.randn(2, 9, 6)
    (torch.jit.trace(module, x) if how == "traced" else torch.jit.script(module)).save(str(path))
    program = onward.load(path)
    for shape in ((2, 9, 6), (3, 30, 6), (1, 1, 6)):
        x = torch.randn(shape)
        np.testing.assert_allclose(program(x.numpy()), module(x).numpy(), rtol=0, atol=1e-5)


class Cut(nn.Module):
    """A table of positions, and parts whose number depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_emb = nn.Parameter(torch.randn(1, 7, 5))

    def forward(self, x: Tensor, sizes: Tensor) -> Tensor:
        parts: list[int] = sizes.tolist()
        return torch.split(x + self.pos_emb[:, : x.shape[1]], parts, 1)[0]


class Joined(nn.Module):
    """Steps of two and of three features, which are not joined."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, 2).matmul(torch.ones(3, 2))


def test_an_error_says_that_its_axes_are_guesses(tmp_path: Path) -> None:
    for module, reason in (
        (Cut(), 'pass .* inputs={"x": '),
        (Joined(), "for x with 3 axes of float32, code"),
    ):
        torch.jit.script(module).save(tmp_path / "model.pt")
        model = onward.load(tmp_path / "model.pt")
        with pytest.raises(ArgumentError, match=f"the file declares no axes.*{reason}"):
            model.export_onnx(tmp_path / "model.onnx")


class Turned(nn.Module):
    """A convolution along the steps of (N, T, C), which could also be traced with two axes, (C, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x.permute(0, 2, 1)).amax(2)
        return y


def test_an_order_of_axes_tells_their_number(tmp_path: Path) -> None:
    torch.jit.trace(Turned(), torch.zeros(2, 6, 3)).save(tmp_path / "model.pt")
    model = onward.load(tmp_path / "model.pt")
    assert isinstance(model, Model)
    (declared,) = model.general.planner.graph.inputs
    assert declared.axes == ("x_0", "x_1", 3)


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list that gets the arguments of each recording."""
    found: list[Any] = []
    own = Program.record
    monkeypatch.setattr(
        Program, "record", lambda *given, **options: found.append(given) or own(*given, **options)
    )
    return found


class Tail(nn.Module):
    """The last steps of a sequence, if it has more than nine, through a matrix; the features are fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] > 9:
            x = x[:, -9:]
        y: Tensor = self.linear(x)
        return y


@torch.no_grad()
def test_the_first_call_records_the_code_once(tmp_path: Path, records: list[Any]) -> None:
    script, path = torch.jit.script(Tail()), tmp_path / "tail.pt"
    script.save(str(path))
    loaded = onward.load(path)
    for count, length in enumerate((14, 30, 12, 10), start=1):  # a program in which the features are fixed
        x = torch.randn(2, length, 6)
        np.testing.assert_allclose(loaded(x.numpy()), script(x).numpy(), rtol=1e-5, atol=1e-5)
        assert len(loaded.programs) == 1 and len(records) == 1, count
    for length in (9, 3, 11):  # the guards of the recording hold in the other program too
        x = torch.randn(2, length, 6)
        np.testing.assert_allclose(loaded(x.numpy()), script(x).numpy(), rtol=1e-5, atol=1e-5)
    assert len(loaded.programs) == len(records) == 2


class Weighted(nn.Module):
    """A module whose constants have as many elements as there are features, for any number of steps."""

    def forward(self, x: Tensor) -> Tensor:
        features = x.shape[2]
        return x @ torch.eye(features).triu(-1) + torch.hann_window(features) * torch.logspace(0, 1, features)


@torch.no_grad()
def test_a_number_of_elements_fixes_one_axis_alone(tmp_path: Path, records: list[Any]) -> None:
    script, path = torch.jit.script(Weighted()), tmp_path / "weighted.pt"
    script.save(str(path))
    loaded = onward.load(path)
    for shape, count in (((2, 3, 5), 1), ((4, 1, 5), 1), ((3, 7, 5), 1), ((2, 3, 6), 2), ((1, 2, 5), 2)):
        x = torch.randn(*shape)
        np.testing.assert_allclose(loaded(x.numpy()), script(x).numpy(), rtol=1e-5, atol=1e-5)
        assert len(loaded.programs) == len(records) == count, shape


class Checked(nn.Module):
    """A module whose code raises an error if a condition holds that is computed in many steps."""

    def forward(self, x: Tensor) -> Tensor:
        is_wrong = x.size(0) > 1000
        for _ in range(40):
            is_wrong = (is_wrong & is_wrong) | (is_wrong & (x.size(1) > 1000))
        if is_wrong:
            raise ValueError("too large")
        return x * 2


@torch.no_grad()
def test_the_steps_of_a_condition_are_evaluated_once(tmp_path: Path) -> None:
    torch.jit.script(Checked()).save(str(tmp_path / "m.pt"))
    model: Any = onward.load(tmp_path / "m.pt")
    x = torch.randn(3, 4)
    np.testing.assert_array_equal(model(x.numpy()), 2 * x.numpy())
    model.save(tmp_path / "m.onnx")
    np.testing.assert_array_equal(onward.load(tmp_path / "m.onnx")(x.numpy()), 2 * x.numpy())


# Operations that clip, round or count: the sizes of their results depend on those of x, or on its values.
CODE = """
y = torch.arange(0, float(x.abs().max().item()), 0.5); return y.view(-1, 1) * y.size(0)
y = x[x > 0]; return torch.cat([y, y * 2]).view(2, -1) * y.size(0)
y = torch.nonzero(x > 0); return y[:, 0] + y.size(0)
y = torch.unique(x); return y * y.size(0)
n = int(x[0, 0].abs()); return x[:n].sum() + x[n:].sum()
n = int(x[0, 0].abs()); return torch.cat([x[:n] * 2, x[n:]]).view(x.size(0), -1)
y = x[:5]; return torch.cat([y, x[5:]]).view(x.size(0), -1) + y.size(0)
y = x[-5:]; return y.view(-1) * y.size(0)
y = x[2:6]; return torch.cat([x[:2], y, x[6:]]) + x * y.size(0)
y = x[-3:-1]; return y.sum(0) + y.size(0)
y = x[3:]; return y.sum(0) * y.size(0) + x.size(0)
y = x[::3]; return y * y.size(0)
y = x.flip(0)[::2]; return y * y.size(0)
y = x.flatten()[-10:]; return y * y.size(0)
return torch.nn.functional.interpolate(x[None], size=x.size(0) + 2)
return torch.nn.functional.interpolate(x.t()[None], scale_factor=1.5)
return torch.nn.functional.max_pool1d(x.t()[None], 2, ceil_mode=True)[0]
n = max(x.size(0), 4); return torch.zeros(n, 2) + n
n = max(8 - x.size(0), 0); return torch.nn.functional.pad(x, (0, 0, 0, n))
n = x.size(0) // 2 + 1; return x[:n].mean(0) * n
k = min(3, x.size(0)); return torch.topk(x, k, 0)[0] * k
y = torch.arange(3, x.size(0)); return y * y.size(0)
return torch.arange(x.size(0), 2, -1) * 2
return torch.diagonal(x, 1) * 2
y = torch.nn.functional.pad(x, (0, 0, 3, 0)).unfold(0, 3, 2); return y.sum(2) * y.size(0)
n = int(x.size(0) * 0.7) + int(1.1 * float(x.size(0)) / 1.1); return x[:n].sum(0) * n
n = float(x.size(0)) // 0.1; return x + n
n = int(x[0, 0].item() * 0.1 * 1e9); return x.to(torch.int64) + n
return torch.tensor(x.size(0) / 3) + x
return torch.tensor(x.size(0) / 7)
return torch.scalar_tensor(x.size(0) / 7) + torch.tensor([x.size(0) / 3, 0.1])
"""


@pytest.mark.parametrize("code", CODE.strip().splitlines())
def test_sizes_of_results_hold_for_all_inputs(code: str, tmp_path: Path) -> None:
    script = type("Code", (torch.jit.ScriptModule,), {})()
    script.define("def forward(self, x):\n" + "".join(f"    {line}\n" for line in code.split("; ")))
    script.save(str(tmp_path / "model.pt"))
    models, rng, cases = [onward.load(tmp_path / "model.pt")], np.random.default_rng(0), Cases()
    for shape in ((3, 4), (7, 4), (1, 4), (2, 4), (12, 4)):
        x = rng.integers(-4, 5, shape).astype(np.float32)
        with cases.new() as case:
            with case.skipping(RuntimeError):  # there is no such step in x
                expected = script(torch.from_numpy(x)).numpy()
            if len(models) == 1:
                models[0](x)
                models[0].save(tmp_path / "model.safetensors")
                models.append(onward.load(tmp_path / "model.safetensors"))
            for model in models:
                actual = model(x)
                assert actual.shape == expected.shape and actual.dtype == expected.dtype
                np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    cases.check(most=0.4)


FACTORS = [0.3, 0.7, 1 / 3, 1.1, 1.3, 2.6, 3.0]
RESIZED = [
    *(f"scale_factor={factor}{more}" for factor in FACTORS for more in ("", ", recompute_scale_factor=True")),
    *(f"size={size}" for size in (5, 7, 11, 50)),
]


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear"])
def test_interpolation_has_the_sizes_and_neighbors_of_torch(mode: str, tmp_path: Path) -> None:
    for options in RESIZED:
        script = type("Code", (torch.jit.ScriptModule,), {})()
        call = f'torch.nn.functional.interpolate(x, {options}, mode="{mode}")'
        script.define(f"def forward(self, x):\n    return {call}\n")
        script.save(str(tmp_path / "model.pt"))
        model = onward.load(tmp_path / "model.pt", inputs={"x": ["batch", 2, "time"]})
        for length in (4, 5, 10, 14, 17, 20, 26, 34, 35, 45, 49, 70, 84, 90, 117):
            x = torch.arange(2.0 * length).reshape(1, 2, length)
            expected, actual = script(x).numpy(), model(x.numpy())
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-4, err_msg=call)


@pytest.mark.parametrize("seed", range(random_cases(6)))
def test_packed_sequences_are_padded_to_the_steps_that_the_code_asks_for(seed: int, tmp_path: Path) -> None:
    """Also where all rows are shorter than the input, and where this has a single step."""
    rng = np.random.default_rng(seed)
    kind, options = (nn.RNN, nn.LSTM, nn.GRU)[seed % 3], {"batch_first": bool(rng.integers(2))}
    module = Packed(kind, float(rng.integers(2)), bool(rng.integers(3)), **options).eval()

    def inputs() -> tuple[Tensor, Tensor]:
        B, T = (int(n) for n in rng.integers(1, 6, 2))
        x = torch.randn((B, T, 3) if options["batch_first"] else (T, B, 3))
        return x, torch.from_numpy(rng.integers(1, T + 1, B))

    scripted = torch.jit.script(module)
    traced = torch.jit.trace(module, (torch.randn(4, 4, 3), torch.tensor([2, 3, 1, 2])), check_trace=False)
    for name, program in (("scripted", scripted), ("traced", traced)):
        program.save(str(tmp_path / name))
        loaded = onward.load(tmp_path / name)
        for x, lengths in (inputs() for _ in range(5)):
            for y, expected in zip(loaded(x.numpy(), lengths.numpy()), module(x, lengths), strict=True):
                np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-5, atol=1e-5)
                assert y.shape == expected.shape


class Pyramid(nn.Module):
    """Joins pairs of steps, as listeners of speech recognizers do, perhaps without a last odd one."""

    def __init__(self, cuts: bool) -> None:
        super().__init__()
        self.cuts, self.rnn = cuts, nn.GRU(6, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        b, t, f = x.size(0), x.size(1), x.size(2)
        if self.cuts:
            x = x[:, : t // 2 * 2]
        y: Tensor = self.rnn(x.reshape(b, t // 2, 2 * f))[0]
        return y


@pytest.mark.parametrize("cuts", [False, True])
@torch.no_grad()
def test_joined_steps_are_one_graph_for_all_lengths(cuts: bool, tmp_path: Path) -> None:
    script = torch.jit.script(Pyramid(cuts).eval())
    script.save(tmp_path / "model.pt")
    onward.load(tmp_path / "model.pt").save(tmp_path / "model.safetensors")
    for path in ("model.pt", "model.safetensors"):
        model = onward.load(tmp_path / path)
        for rows, length in ((2, 6), (1, 2), (3, 44), (2, 7), (1, 13)):
            x = torch.randn(rows, length, 3)
            if length % 2 and not cuts:
                with pytest.raises(OnwardError, match=r"cannot be reshaped|elements"):
                    model(x.numpy())
            else:
                np.testing.assert_allclose(model(x.numpy()), script(x).numpy(), rtol=0, atol=1e-5)
