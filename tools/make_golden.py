"""Write the reference data of the tests: outputs of other frameworks, and small files that they wrote.

Needs torch, onnx and onnxruntime. In tests/data, golden_layers.npz holds the frameworks' outputs for the
cases of tests/support/cases.py, golden_gradients.npz the gradients of autograd, and torch/ one model in each
of PyTorch's formats with its output. The files hold a sample of each array, and no inputs: a seed reproduces
them.
"""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch

TESTS = Path(__file__).parent.parent / "tests"
sys.path.append(str(TESTS))

from support.cases import CASES, SPATIAL, inputs_of, sample  # noqa: E402
from support.frameworks import onnx_gru_answer, spatial_answer, torch_answer, torch_gradients  # noqa: E402


def main() -> None:
    golden = {}
    for case in CASES:
        if (
            case.cell == "gru_reset_before" and case.dtype == "float64"
        ):  # onnxruntime supports it in float32 only
            continue
        answer = onnx_gru_answer if case.cell == "gru_reset_before" else torch_answer
        for name, array in zip("yhc", answer(case, inputs_of(case)), strict=True):
            if array is not None:
                golden[f"{case.id}/{name}"] = sample(array)
    np.savez_compressed(TESTS / "data" / "golden_layers.npz", **golden)
    write_gradients(TESTS / "data" / "golden_gradients.npz")
    write_spatial(TESTS / "data" / "golden_spatial.npz")
    write_torch_files(TESTS / "data" / "torch")


def write_gradients(path: Path) -> None:
    """Sample each gradient, in the order of cases.gradients."""
    np.savez_compressed(
        path,
        **{
            case.id: np.concatenate([sample(g, 6) for g in torch_gradients(case, inputs_of(case)).values()])
            for case in CASES
            if case.cell != "gru_reset_before"
        },
    )


def write_spatial(path: Path) -> None:
    answers = {str(index): spatial_answer(index, "float64") for index in range(len(SPATIAL))}
    shapes = {f"{index}/shape": answer.shape for index, answer in answers.items()}
    np.savez_compressed(path, **{index: sample(answer) for index, answer in answers.items()}, **shapes)


class Tagger(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(9, 3, padding_idx=2)
        self.lstm = torch.nn.LSTM(3, 4, batch_first=True, bidirectional=True)
        self.rnn = torch.nn.RNN(8, 5, nonlinearity="relu", batch_first=True)
        self.head = torch.nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(self.embedding(x))
        y, _ = self.rnn(y)
        return self.head(y)


class Front(torch.nn.Module):
    """The layers that precede a recurrent layer, in an order in which each affects the output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2)
        self.same = torch.nn.Conv1d(6, 6, 3, padding="same", bias=False)
        self.group_norm = torch.nn.GroupNorm(2, 6)
        self.batch_norm = torch.nn.BatchNorm1d(6, eps=1e-3)
        self.average = torch.nn.AvgPool1d(2, 1)
        self.relu = torch.nn.ReLU()
        self.pool = torch.nn.MaxPool1d(2)
        self.image = torch.nn.Conv2d(1, 1, (3, 1), padding=(1, 0))
        self.layer_norm = torch.nn.LayerNorm(6, eps=1e-2)
        self.dropout = torch.nn.Dropout(0.3)
        self.head = torch.nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.average(self.batch_norm(self.group_norm(self.same(self.conv(x)))))
        y = self.image(self.pool(self.relu(y)).unsqueeze(1)).squeeze(1)
        return self.head(self.dropout(self.layer_norm(y.transpose(1, 2))))


def write_front(folder: Path) -> None:
    torch.manual_seed(1)
    front = Front()
    for _ in range(20):  # fill the running statistics
        front(torch.randn(8, 4, 20) * 3 + 1)
    front.eval()
    x = torch.randn(2, 4, 20)
    np.savez(folder / "front_answer.npz", x=x.numpy(), y=front(x).detach().numpy())
    torch.save(front, folder / "front_whole.pt")
    torch.save(front.state_dict(), folder / "front_weights.bin")
    for name, scripted in (("script", torch.jit.script(front)), ("trace", torch.jit.trace(front, x))):
        scripted.save(folder / f"front_{name}.pt")
        drop_debug_records(folder / f"front_{name}.pt")


def write_torch_files(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    write_front(folder)
    torch.manual_seed(0)
    tagger = Tagger()
    x = torch.randint(9, (2, 6))
    np.savez(folder / "answer.npz", x=x.numpy(), y=tagger(x).detach().numpy())

    torch.save(tagger, folder / "whole.pt")
    torch.save(tagger.state_dict(), folder / "weights.pt")
    torch.save(tagger.state_dict(), folder / "legacy.pt", _use_new_zipfile_serialization=False)
    write_big_endian(folder / "weights.pt", folder / "big_endian.pt")
    for name, scripted in (("script", torch.jit.script(tagger)), ("trace", torch.jit.trace(tagger, x))):
        scripted.save(folder / f"{name}.pt")
        drop_debug_records(folder / f"{name}.pt")

    adam = torch.optim.Adam(tagger.parameters(), lr=0)
    tagger(x).sum().backward()
    adam.step()
    weights = {f"module.{name}": weight for name, weight in tagger.state_dict().items()}
    checkpoint = {"epoch": 3, "model_state_dict": weights, "optimizer_state_dict": adam.state_dict()}
    torch.save(checkpoint, folder / "checkpoint.pt")


def write_big_endian(source: Path, target: Path) -> None:
    """Write what torch.save writes on a big-endian machine. All storages must be float32."""
    with zipfile.ZipFile(source) as little, zipfile.ZipFile(target, "w") as big:
        for name in little.namelist():
            content = little.read(name)
            if "/data/" in name:
                content = np.frombuffer(content, "<f4").astype(">f4").tobytes()
            big.writestr(name, b"big" if name.endswith("/byteorder") else content)


def drop_debug_records(path: Path) -> None:
    """Remove the records that map code to source lines, which are larger than everything else."""
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive, zipfile.ZipFile(path, "w") as lean:
        for info in archive.infolist():
            if not info.filename.endswith(".debug_pkl"):
                lean.writestr(info.filename, archive.read(info), info.compress_type)


if __name__ == "__main__":
    main()
