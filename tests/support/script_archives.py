"""TorchScript archives with hand-written code."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import onward


def archived(code: str | bytes, state: bytes = b"}") -> bytes:
    """Return an archive of a module of the class M of some code, with pickled attributes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as members:
        members.writestr("m/data.pkl", b"\x80\x02c__torch__\nM\n)\x81" + state + b"b.")
        members.writestr("m/constants.pkl", pickle.dumps((), 2))
        members.writestr("m/code/__torch__.py", code)
    return content.getvalue()


def archive(folder: Path, body: str, attributes: str = "", more: str = "", state: bytes = b"}") -> Path:
    """Write an archive of one module, with the body of a class and more code."""
    code = f"class M(Module):\n  __parameters__ = []\n{attributes}{body}\n{more}"
    path = folder / "m.pt"
    path.write_bytes(archived(code, state))
    return path


def forward(*lines: str, signature: str = "self, x: Tensor", returns: str = "Tensor") -> str:
    """Return a method forward() with these lines."""
    return f"  def forward({signature}) -> {returns}:\n" + "".join(f"    {line}\n" for line in lines)


def model(folder: Path, *lines: str, **options: Any) -> Any:
    """Open an archive whose forward() has these lines."""
    more = options.pop("more", "")
    return onward.load(archive(folder, forward(*lines, **options), more=more))
