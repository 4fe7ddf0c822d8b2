"""The files that torch.save and torch.jit.save write: what is pickled in them, and where its tensors lie.

Read by memory map: a tensor is a view of the file, checked against its size before any memory is taken.
"""

import math
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.storage import widened
from ...errors import FileError
from .unpickle import Data, Global, Record, load

MAGIC = 0x1950A86A20F9469CFC6C
LEGACY = 1001
LOCAL_HEADER = struct.Struct("<4s22xHH")
MAX_RATIO, SLACK = 20, 1 << 24  # of what a file unpacks to: times its size, and bytes beyond that
MAX_WRAPPED = 8
MAX_AXES = 64
ZIP_STORED, ZIP_DEFLATED = 0, 8
STORED = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": "bfloat16",
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?", "ComplexFloatStorage": "c8", "ComplexDoubleStorage": "c16", "UntypedStorage": "u1",
    "torch.uint16": "u2", "torch.uint32": "u4", "torch.uint64": "u8",
}  # fmt: skip
SIZES = {"bfloat16": 2}


@dataclass(eq=False)
class Storage:
    """Where the elements of tensors lie; those of `key` from `start` on."""

    kind: str
    key: str | int
    start: int = 0


@dataclass
class Archive:
    """A file's pickled value, and of TorchScript the constants of its code, and the text of that by path."""

    tree: Any
    size: int
    content: Callable[[str | int], memoryview]
    byteorder: str = "<"
    constants: Any = ()
    code: Callable[[str], str] = field(default=lambda path: "")
    claimed: int = 0

    def array(self, value: Any) -> NDArray[Any] | None:
        """What a tensor or NumPy array holds, read-only; None for any other value. Raises FileError."""
        for _ in range(MAX_WRAPPED):
            match value:
                case Record(
                    "torch._utils._rebuild_parameter"
                    | "torch._utils._rebuild_parameter_with_state"
                    | "torch._utils._rebuild_device_tensor_from_numpy"
                    | "torch._utils._rebuild_device_tensor_from_cpu_tensor",
                    (Record() as inner, *_),
                ):
                    value = inner
                case Record("torch._tensor._rebuild_from_type_v2", (Global(path), _, tuple(args), *_)):
                    value = Record(path, args)
                case Record("torch._utils._rebuild_tensor", (Storage() as storage, start, shape, strides)):
                    return self._tensor(storage, storage.kind, start, shape, strides, [])
                case Record(
                    "torch._utils._rebuild_tensor_v2",
                    (Storage() as storage, start, shape, strides, _, _, *flags),
                ):
                    return self._tensor(storage, storage.kind, start, shape, strides, flags)
                case Record(
                    "torch._utils._rebuild_tensor_v3",
                    (Storage() as storage, start, shape, strides, _, _, Global(kind), *flags),
                ):
                    return self._tensor(storage, kind, start, shape, strides, flags)
                case Record(
                    "numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct",
                    _,
                    (_, shape, Record("numpy.dtype") as dtype, fortran, data),
                ):
                    return self._numpy(data, dtype, shape, "F" if fortran else "C")
                case Record(
                    "numpy.core.numeric._frombuffer" | "numpy._core.numeric._frombuffer",
                    (data, Record("numpy.dtype") as dtype, shape, order),
                ):
                    return self._numpy(data, dtype, shape, order)
                case Record(path) if path.startswith("torch._utils._rebuild_"):
                    raise FileError(f"it is a tensor of a kind that NumPy lacks, made by {path}")
                case _:
                    return None
        return None

    def _tensor(
        self, storage: Storage, kind: str, start: Any, shape: Any, strides: Any, flags: list[Any]
    ) -> NDArray[Any]:
        if kind not in STORED:
            raise FileError(f"it has dtype {kind}; expected one of {', '.join(STORED)}")
        if any(flags):
            raise FileError("it is a lazy view, negative or conjugate: save it after .resolve_neg()")
        if not (_are_sizes(shape) and _are_sizes(strides) and _are_sizes((start,))):
            raise FileError(f"its shape, strides and offset are not up to {MAX_AXES} integers from 0 on")
        if len(shape) != len(strides):
            raise FileError(f"it has shape {shape} and strides {strides}")
        code = STORED[kind]
        dtype = np.dtype(self.byteorder + ("u2" if code == "bfloat16" else code))
        content = self.content(storage.key)
        elements = math.prod(shape)
        last = start + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        begin = storage.start * dtype.itemsize
        if elements and begin + (last + 1) * dtype.itemsize > len(content):
            raise FileError(f"it has {last + 1} elements of {dtype}, but its storage {len(content)} bytes")
        self._claim(elements * max(dtype.itemsize, 4))
        try:
            array: NDArray[Any] = np.ndarray(
                shape,
                dtype,
                content if elements else None,
                begin + start * dtype.itemsize if elements else 0,
                # of an axis of one, the stride may be anything
                [0 if n == 1 else stride * dtype.itemsize for n, stride in zip(shape, strides, strict=True)]
                if elements
                else None,
            )
        except (ValueError, OverflowError) as error:
            raise FileError(f"it has shape {shape}: {error}") from error
        return widened(array) if code == "bfloat16" else native(array)

    def _numpy(self, data: Any, dtype: Record, shape: Any, order: Any) -> NDArray[Any]:
        kind = dtype.args[0] if dtype.args else None
        if not (isinstance(kind, str) and re.fullmatch(r"[biufc]\d{1,2}|\?", kind)):
            raise FileError("it is an array of something else than numbers")
        byteorder = dtype.state[1] if isinstance(dtype.state, tuple) and len(dtype.state) > 1 else "="
        if isinstance(data, str):  # bytes of Python 2
            data = data.encode("latin-1")
        known = order in ("C", "F") and byteorder in ("<", ">", "=", "|")
        if not (known and isinstance(data, bytes) and _are_sizes(shape)):
            raise FileError("it is a damaged array of NumPy")
        self._claim(len(data))
        try:
            return native(np.ndarray(shape, np.dtype(byteorder + kind), data, order=order))
        except (ValueError, TypeError, OverflowError) as error:
            raise FileError(f"it has shape {shape}: {error}") from error

    def _claim(self, size: int) -> None:
        """Views cost nothing, but someone will copy them."""
        self.claimed += size
        check_size(self.claimed, self.size, "its tensors")


def native(array: NDArray[Any]) -> NDArray[Any]:
    """The array itself where its byte order is this machine's, else a copy in that."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def check_size(unpacked: int, size: int, what: str) -> None:
    """Refuses a file that makes much of little."""
    if unpacked > MAX_RATIO * size + SLACK:
        raise FileError(
            f"{what} have {unpacked} bytes, which is more than {MAX_RATIO} times the {size} of the file"
        )


def _are_sizes(values: Any) -> bool:
    """Integers that NumPy can take, so that no product of them is long to compute or to show."""
    if not isinstance(values, tuple | list) or len(values) > MAX_AXES:
        return False
    return all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _persistent(pickled: Any, folder: str = "") -> Any:
    """What a persistent id stands for: a storage, in a folder of an archive, or a class with its source."""
    match pickled:
        case ("storage", Global(path), str() | int() as key, _, _, *view):
            start = view[0][1] if view and view[0] else 0  # a view in the legacy format: key, start, size
            if type(start) is int and start >= 0:
                return Storage(path.rpartition(".")[2], f"{folder}{key}" if folder else key, start)
        case ("module", Global() as module, *_):
            return module
    raise ValueError("a persistent id names no storage")


def is_torch(data: Data) -> bool:
    """Whether a file is a zip archive or a pickle: safetensors begins with a length, then a brace."""
    return data[:4] == b"PK\3\4" or (data[:1] in (b"\x80", b"L") and data[8:9] != b"{")


def read(data: "Data | Members") -> Archive:
    """What torch wrote: of a zip archive, its members. Raises FileError."""
    return _zipped(data) if isinstance(data, Members) else _legacy(data)


def _legacy(data: Data) -> Archive:
    """Pickles one after another (magic number, version, system, value, keys), then the storages in order."""
    kinds: dict[str | int, str] = {}

    def persistent(pickled: Any) -> Any:
        value = _persistent(pickled)
        if isinstance(value, Storage):
            kinds.setdefault(value.key, value.kind)
        return value

    magic, at = load(data, 0, persistent)
    if magic != MAGIC:
        raise FileError("it is a pickle, but none that torch.save wrote")
    version, at = load(data, at, persistent)
    if version != LEGACY:
        raise FileError(f"it is not of version {LEGACY} of PyTorch's legacy format")
    _, at = load(data, at, persistent)
    tree, at = load(data, at, persistent)
    keys, at = load(data, at, persistent)
    if not isinstance(keys, list):
        raise FileError(f"the list of storages is missing at byte {at}")

    view = memoryview(data)
    contents = {}
    for key in keys:
        kind = STORED.get(kinds.get(key, "") if isinstance(key, str | int) else "")
        if kind is None:
            raise FileError(f"the storage at byte {at} is one that no tensor uses, or of an unknown dtype")
        size = int.from_bytes(view[at : at + 8], "little") * (SIZES.get(kind) or np.dtype(kind).itemsize)
        at += 8
        if size > len(view) - at:
            raise FileError(f"the file ends before the {size} bytes of the storage at byte {at}")
        contents[key] = view[at : at + size]
        at += size

    def content(key: str | int) -> memoryview:
        if key not in contents:
            raise FileError("its storage is missing")
        return contents[key]

    return Archive(tree, len(data), content)


def _zipped(members: "Members") -> Archive:
    pickles = [name for name in members.entries if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
    if len(pickles) != 1:
        raise FileError("it is a zip archive, but none that PyTorch wrote: it has no data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    byteorder = bytes(members.get(folder + "byteorder") or b"little").strip()
    if byteorder not in (b"little", b"big"):
        raise FileError("the record byteorder is neither little nor big")

    def unpickled(name: str) -> Any:
        storages = f"{folder}{name}/"
        pickled = bytes(members[f"{folder}{name}.pkl"])
        return load(pickled, 0, lambda pickled_id: _persistent(pickled_id, storages))[0]

    def content(key: str | int) -> memoryview:
        return members[str(key)]

    def code(path: str) -> str:
        return bytes(members.get(f"{folder}code/{path}") or b"").decode(errors="replace")

    tree = unpickled("data")
    constants = unpickled("constants") if f"{folder}constants.pkl" in members.entries else ()
    return Archive(tree, len(members.view), content, "<" if byteorder == b"little" else ">", constants, code)


class Members:
    """The entries of a zip archive by name: views of the file, or unpacked if compressed."""

    def __init__(self, data: Data) -> None:
        import zipfile  # slow to import: not before there is such a file

        self.view = memoryview(data)
        self.inflated: dict[str, memoryview] = {}
        try:
            with zipfile.ZipFile(data) as archive:  # type: ignore[call-overload]
                infos = archive.infolist()
        except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, struct.error) as error:
            raise FileError(f"it is not a whole zip archive: {error}") from error
        self.entries = {info.filename: info for info in infos}
        if len(self.entries) < len(infos):
            raise FileError("its zip archive has two entries of one name")
        for name in self.entries:
            if name.startswith("/") or ".." in re.split(r"[/\\]", name):
                raise FileError(f"its zip archive has an entry {name!r}, which leads out of it")
        packed = [info for info in infos if info.compress_type != ZIP_STORED]
        check_size(sum(info.file_size for info in packed), len(data), "the compressed entries")

    def get(self, name: str) -> memoryview | None:
        return self[name] if name in self.entries else None

    def __getitem__(self, name: str) -> memoryview:
        if name in self.inflated:
            return self.inflated[name]
        if name not in self.entries:
            raise FileError(f"the entry {name} is missing")
        info = self.entries[name]
        at = info.header_offset
        header = bytes(self.view[at : at + LOCAL_HEADER.size]) if at >= 0 else b""
        if len(header) < LOCAL_HEADER.size or header[:4] != b"PK\3\4" or info.flag_bits & 1:
            raise FileError(f"the entry {name} is damaged at byte {at}, or encrypted")
        _, name_size, extra_size = LOCAL_HEADER.unpack(header)
        at += LOCAL_HEADER.size + name_size + extra_size
        content = self.view[at : at + info.compress_size]
        if info.compress_type == ZIP_DEFLATED:
            self.inflated[name] = content = _inflated(content, info.file_size, name)
        elif info.compress_type != ZIP_STORED:
            raise FileError(f"the entry {name} is compressed by other means than deflate")
        if len(content) != info.file_size:
            raise FileError(f"the entry {name} has {len(content)} bytes of {info.file_size}")
        return content


def _inflated(content: memoryview, size: int, name: str) -> memoryview:
    try:
        return memoryview(zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size or 1))
    except zlib.error as error:
        raise FileError(f"the entry {name} is damaged: {error}") from error
