"""Generate the archives of this folder with PyTorch: python tests/data/exported_program/generate.py

Each archive holds one module in another version or layout of the format; expected.npz holds its inputs and
outputs. PyTorch 2.13 writes version 8.20. The others are what it writes without the fields that their
versions lack, in the layout of their time.
"""

import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._export.serde.serialize import serialize
from torch.export import Dim

FOLDER = Path(__file__).parent
NEW_FIELDS = {
    "is_hop_single_tensor_return",
    "kind",
    "sym_float_values",
    "custom_obj_values",
    "torch_version",
    "guards_code",
}


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


def without(tree: Any, fields: set[str]) -> Any:
    if isinstance(tree, dict):
        return {key: without(value, fields) for key, value in tree.items() if key not in fields}
    return [without(value, fields) for value in tree] if isinstance(tree, list) else tree


def rewritten(content: bytes, major: int, minor: int) -> bytes:
    """Return a program in an older version of the schema."""
    tree = without(json.loads(content), NEW_FIELDS)
    for node in tree["graph_module"]["graph"]["nodes"]:
        node.pop("name", None)
    tree["schema_version"] = {"major": major, "minor": minor}
    return json.dumps(tree).encode()


def main() -> None:
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    module = Tagger().eval()
    tokens, h = torch.randint(0, 7, (4, 5)), torch.randn(2, 4, 3)
    calls = module.calls.clone()
    batch = Dim("batch", min=3, max=64)
    program = torch.export.export(module, (tokens, h), dynamic_shapes=({0: batch}, {1: batch}))
    torch.export.save(program, FOLDER / "version_8.pt2")
    with zipfile.ZipFile(FOLDER / "version_8.pt2") as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    members = {name: member for name, member in members.items() if "sample_inputs" not in name}
    save("version_8.pt2", members)
    model = next(name for name in members if "/models/" in name)
    save("version_7.pt2", members | {model: rewritten(members[model], 7, 3)})

    stored = serialize(program)
    for major, minor in ((8, 3), (5, 3)):
        old = {
            "version": f"{major}.{minor}".encode(),
            "serialized_exported_program.json": rewritten(stored.exported_program, major, minor),
            "serialized_state_dict.pt": stored.state_dict,
            "serialized_constants.pt": stored.constants,
        }
        save(f"old_layout_{major}.pt2", old)

    module.calls.copy_(calls)
    with torch.inference_mode():
        result = module(tokens, h)
    np.savez_compressed(
        FOLDER / "expected.npz",
        tokens=tokens.numpy(),
        h=h.numpy(),
        scores=result["scores"].numpy(),
        last=result["state"][0].numpy(),
        mean=result["state"][1].numpy(),
    )


def save(name: str, members: dict[str, bytes]) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for member, data in members.items():
            archive.writestr(
                zipfile.ZipInfo(member), data, zipfile.ZIP_DEFLATED if member.endswith("json") else None
            )
    (FOLDER / name).write_bytes(content.getvalue())


if __name__ == "__main__":
    main()
