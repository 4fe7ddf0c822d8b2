"""Write the archive that the installed PyTorch writes: python tests/data/exported_program/generate.py

PyTorch 2.5 to 2.13 wrote the archives, each one module with the same weights. The last of them also writes
expected.npz, with the inputs and outputs.
"""

import io
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

FOLDER = Path(__file__).parent
LAST = "2.13"


class Tagger(nn.Module):
    """An embedding that the output layer shares, a GRU, a transposed weight, a counter, nested outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(7, 3), nn.GRU(3, 3, bidirectional=True, batch_first=True)
        self.head = nn.Linear(3, 7)
        self.head.weight = self.embedding.weight
        self.mix = nn.Parameter(torch.randn(3, 6).t())
        self.scale = nn.Parameter(torch.randn(3).bfloat16())
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, tokens: Tensor, h: Tensor) -> dict[str, Any]:
        self.calls.add_(1)
        y, last = self.gru(self.embedding(tokens), h)
        z = y @ self.mix * self.scale.float()
        return {"scores": self.head(z), "state": (last, z.mean(1) * tokens.shape[0])}


def main() -> None:
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    module = Tagger().eval()
    tokens, h = torch.randint(0, 7, (4, 5)), torch.randn(2, 4, 3)
    calls = module.calls.clone()
    batch = Dim("batch", min=3, max=64)
    program = torch.export.export(module, (tokens, h), dynamic_shapes=({0: batch}, {1: batch}))
    version = ".".join(torch.__version__.split(".")[:2])
    path = FOLDER / f"torch_{version}.pt2"
    torch.export.save(program, path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    save(path, {name: without_folders(data) for name, data in members.items() if "_inputs" not in name})
    module.calls.copy_(calls)
    with torch.inference_mode():
        result = module(tokens, h)
    outputs = {
        "tokens": tokens.numpy(),
        "h": h.numpy(),
        "scores": result["scores"].numpy(),
        "last": result["state"][0].numpy(),
        "mean": result["state"][1].numpy(),
    }
    if version == LAST:
        np.savez_compressed(FOLDER / "expected.npz", **outputs)
    with np.load(FOLDER / "expected.npz") as stored:
        for name, array in outputs.items():
            np.testing.assert_allclose(array, stored[name], rtol=0, atol=1e-5)


def without_folders(data: bytes) -> bytes:
    """Shorten the absolute paths of source files in stack traces."""
    short = re.sub(
        rb'(File \\")/[^"]*?/(?:site-packages|dist-packages|tests|lib/python3\.\d+)/', rb"\1", data
    )
    assert b'File \\"/' not in short, "a stack trace has the path of another folder"
    return short


def save(path: Path, members: dict[str, bytes]) -> None:
    """Write the members without dates, and the JSON compressed."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for member, data in members.items():
            archive.writestr(
                zipfile.ZipInfo(member), data, zipfile.ZIP_DEFLATED if member.endswith("json") else None
            )
    path.write_bytes(content.getvalue())


if __name__ == "__main__":
    main()
