"""Time models with the recurrences and front ends of our time in Onward, onnxruntime and PyTorch.

    python bench/zoo.py                         # the models below, and those of installed packages
    python bench/zoo.py --cases DIR             # also GTCRN, from a folder of published models

The models have random weights. Each one runs from its .pt2 file and from its ONNX file. The outputs are
compared with those of PyTorch before timing, the calls are interleaved in one process on one thread, and the
medians are reported. What onnxruntime refuses to open, and models of packages that are not installed, are
skipped by name. Needs onward[bench].
"""

import importlib.util
import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import recurrences
import report
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidGraph
from torch import Tensor, nn

import onward

TOLERANCE = 2e-4  # relative to the largest output


class Model(NamedTuple):
    """A module and its inputs, or a file without a module."""

    name: str
    module: nn.Module | None
    inputs: tuple[Tensor, ...]
    path: Path | None = None


class GatedDeltaRule(nn.Module):
    """A state (K, V) that forgets, and moves towards each value; its outputs are written one by one."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, gate: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        B, H, T, K = k.shape
        y, S = torch.zeros_like(v), torch.zeros(B, H, K, v.shape[-1])
        for t in range(T):
            S = S * gate[:, :, t].exp()[..., None, None]
            known = (S * k[:, :, t][..., None]).sum(-2)
            change = (v[:, :, t] - known) * beta[:, :, t][..., None]
            S = S + k[:, :, t][..., None] * change[..., None, :]
            y[:, :, t] = (S * q[:, :, t][..., None]).sum(-2) * K**-0.5
        return y, S


class TriangularInverse(nn.Module):
    """The inverse of a triangular matrix, row by row, as the chunked delta rule computes it."""

    def forward(self, a: Tensor) -> Tensor:
        a = a.clone()
        for i in range(1, a.shape[-1]):
            row, above = a[..., i, :i].clone(), a[..., :i, :i].clone()
            a[..., i, :i] = row + (row.unsqueeze(-1) * above).sum(-2)
        return a + torch.eye(a.shape[-1])


class WrittenCells(nn.Module):
    """A cell whose states are written to the output one by one."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        y = x.new_zeros(x.shape[0], x.shape[1], h.shape[1])
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            y[:, t] = h
        return y


class MelSpectrogram(nn.Module):
    """Logarithms of the energies of mel bands."""

    def __init__(self, n: int, hop: int, bands: int) -> None:
        super().__init__()
        self.n, self.hop = n, hop
        self.register_buffer("window", torch.hann_window(n))
        self.register_buffer("filters", torch.rand(n // 2 + 1, bands))

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.stft(x, self.n, self.hop, window=self.window, return_complex=True)
        power = torch.view_as_real(spectrum).pow(2).sum(-1)
        return torch.log(power.transpose(1, 2) @ self.filters + 1e-6)


class SpectralGain(nn.Module):
    """A spectrum times a gain for each frequency, and back."""

    def __init__(self, n: int, hop: int) -> None:
        super().__init__()
        self.n, self.hop = n, hop
        self.register_buffer("window", torch.hann_window(n))
        self.gain = nn.Parameter(torch.rand(n // 2 + 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.stft(x, self.n, self.hop, window=self.window, return_complex=True)
        return torch.istft(spectrum * self.gain, self.n, self.hop, window=self.window, length=x.shape[-1])


def separable(channels: int) -> nn.Module:
    layers: list[nn.Module] = []
    for dilation in (1, 2, 4):
        layers += [
            nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels),
            nn.PReLU(),
            nn.Conv1d(channels, channels, 1),
        ]
    return nn.Sequential(*layers)


def written_here() -> Iterator[Model]:
    heads = [torch.randn(1, 4, 24, 16) * scale for scale in (1.0, 0.3, 1.0)]
    gates = -torch.rand(1, 4, 24), torch.rand(1, 4, 24)
    yield Model("gated delta rule", GatedDeltaRule(), (*heads, *gates))
    yield Model("triangular inverse", TriangularInverse(), (torch.randn(1, 4, 2, 32, 32) * 0.1,))
    sequence, state = torch.randn(2, 20, 16), torch.zeros(2, 16)
    yield Model("written GRU cell", WrittenCells(nn.GRUCell(16, 16)), (sequence, state))
    yield Model("written RNN cell", WrittenCells(nn.RNNCell(16, 16)), (sequence, state))
    yield Model("mel spectrogram, 402", MelSpectrogram(402, 160, 40), (torch.randn(2, 16000),))
    yield Model("mel spectrogram, 512", MelSpectrogram(512, 128, 64), (torch.randn(1, 16000),))
    yield Model("spectral gain", SpectralGain(400, 100), (torch.randn(1, 16000),))
    encoder = nn.Sequential(nn.Conv1d(1, 32, 7, padding=3), nn.ELU(), nn.Conv1d(32, 64, 4, 2), nn.ELU())
    yield Model("encoder of audio", encoder, (torch.randn(1, 1, 24000),))
    decoder = nn.Sequential(nn.ConvTranspose1d(64, 32, 4, 2), nn.LeakyReLU(), nn.Conv1d(32, 1, 7, padding=3))
    yield Model("decoder of audio", decoder, (torch.randn(1, 64, 12000),))
    yield Model("separable convolutions", separable(128), (torch.randn(1, 128, 1000),))
    yield Model("few channels", nn.Conv1d(4, 4, 3, padding=1), (torch.randn(1, 4, 6400),))


def of_torchaudio() -> Iterator[Model]:
    from torchaudio.models import Conformer, ConvTasNet

    yield Model("ConvTasNet", ConvTasNet(msk_num_layers=4, msk_num_stacks=2), (torch.randn(1, 1, 16000),))
    yield Model("Conformer", Conformer(80, 4, 128, 4, 31), (torch.randn(1, 100, 80), torch.tensor([100])))


def of_ncps() -> Iterator[Model]:
    from ncps.torch import CfC

    yield Model("CfC", CfC(20, 50), (torch.randn(2, 30, 20),))


def of_encodec() -> Iterator[Model]:
    from encodec import EncodecModel

    yield Model(
        "EnCodec's encoder", EncodecModel.encodec_model_24khz(False).encoder, (torch.randn(1, 1, 24000),)
    )


PACKAGES: dict[str, Callable[[], Iterator[Model]]] = {
    "torchaudio": of_torchaudio,
    "ncps": of_ncps,
    "encodec": of_encodec,
}


def gtcrn(cases: Path) -> Iterator[Model]:
    path, arrays = cases / "gtcrn" / "gtcrn_simple.onnx", np.load(cases / "gtcrn" / "cases.npz")
    names = [declared.name for declared in onnxruntime.InferenceSession(path).get_inputs()]
    yield Model(
        "GTCRN, one frame", None, tuple(torch.from_numpy(arrays[f"in.{name}"][3]) for name in names), path
    )


def forms(model: Model, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the kind and the path of each file of a model."""
    if model.module is None:
        assert model.path is not None
        yield "onnx", model.path
        return
    program = torch.export.export(model.module, model.inputs)
    torch.export.save(program, folder / "model.pt2")
    yield "pt2", folder / "model.pt2"
    torch.onnx.export(program, (), folder / "model.onnx", external_data=False, verbose=False)
    yield "onnx", folder / "model.onnx"


def as_list(outputs: Any) -> list[Any]:
    return [np.asarray(y) for y in (outputs if isinstance(outputs, tuple | list) else [outputs])]


def check(name: str, outputs: Any, expected: Any) -> None:
    for y, right in zip(as_list(outputs), as_list(expected), strict=True):
        error = np.abs(y - right).max() / max(1e-9, np.abs(right).max())
        if not error < TOLERANCE:
            raise SystemExit(f"{name}: the outputs differ by {error:.1e}")


def medians(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Return the median of each call in milliseconds; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call(), call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, times.values())) < 5:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(found) for name, found in times.items()}


def measured(model: Model, folder: Path, seconds: float) -> Iterator[dict[str, Any]]:
    arrays = [x.numpy() for x in model.inputs]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for kind, path in forms(model, folder):
        ours = onward.load(path)
        calls: dict[str, Callable[[], Any]] = {"onward": lambda ours=ours: ours(*arrays)}
        if model.module is not None:
            calls["torch"] = lambda: model.module(*model.inputs)
        if kind == "onnx":
            try:
                session = onnxruntime.InferenceSession(path, options)
            except InvalidGraph as error:
                print(f"skipped: onnxruntime does not open {model.name}: {error}")
            else:
                feed = dict(zip((each.name for each in session.get_inputs()), arrays, strict=True))
                calls["onnxruntime"] = lambda session=session, feed=feed: session.run(None, feed)
        for name in calls.keys() - {"onward"}:
            check(f"{model.name} ({kind}), {name}", calls["onward"](), calls[name]())
        found = medians(calls, seconds)
        fastest = min(number for name, number in found.items() if name != "onward")
        yield {"model": model.name, "file": kind, **found, "ratio": fastest / found["onward"]}


def models(cases: Path | None, folder: Path) -> Iterator[Model]:
    """Yield all models that can run here, and print the names of packages that are missing."""
    yield from written_here()
    for name, path, arrays in recurrences.models(folder):
        yield Model(name, None, tuple(map(torch.from_numpy, arrays)), path)
    if cases:
        yield from gtcrn(cases)
    for package, made in PACKAGES.items():
        if importlib.util.find_spec(package):
            yield from made()
        else:
            print(f"skipped: the models of {package}, which is not installed")


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--cases", type=Path, metavar="DIR", help="a folder of published models")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    onward.set_num_threads(1)
    warnings.filterwarnings("ignore")
    measurements, ratios = report.Report(options, ["onnxruntime", "torch"]), []
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        for model in models(options.cases, Path(folder)):
            module = model.module.eval() if model.module is not None else None
            for row in measured(model._replace(module=module), Path(folder), 0.05 if options.quick else 0.5):
                measurements.add("milliseconds", **row)
                ratios.append(row["ratio"])
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    measurements.add("ratios", files=len(ratios), geometric_mean=mean, least=min(ratios))


if __name__ == "__main__":
    main()
