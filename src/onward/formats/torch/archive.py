"""Read the files that torch.save and torch.jit.save write: the pickled value and the tensors it refers to.

A tensor is a view of the file, and its claimed size is checked before any memory is allocated.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...core import budget
from ...core.files import widened
from ...errors import FileError
from ..zip import MAX_AXES, SIGNATURE, Data, ZipMembers, native_byte_order
from .unpickle import Global, PickledObject, load, number_dtype

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001
WRAPPERS = {f"torch._utils._rebuild_{of}" for of in ("parameter", "parameter_with_state")}
WRAPPERS |= {f"torch._utils._rebuild_device_tensor_from_{of}" for of in ("numpy", "cpu_tensor")}
MAX_WRAPPERS = 8
QUANTIZED = "torch._utils._rebuild_qtensor"
INTEGERS = {"QInt8Storage": "CharStorage", "QUInt8Storage": "ByteStorage"}  # of quantized numbers
MAX_SCALE = 1e30
DTYPES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": "bfloat16",
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?", "ComplexFloatStorage": "c8", "ComplexDoubleStorage": "c16", "UntypedStorage": "u1",
    "torch.uint16": "u2", "torch.uint32": "u4", "torch.uint64": "u8",
}  # fmt: skip


@dataclass(eq=False)
class Storage:
    """The elements that tensors refer to: those of the storage `key`, from index `start` on."""

    kind: str
    key: str | int
    start: int = 0


class View(NamedTuple):
    """The elements of a storage that make a tensor; two tensors with equal views are the same."""

    key: str | int
    dtype: str  # one of DTYPES
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class Archive:
    """A file's pickled value, the bytes of its storages by key, and TorchScript's constants and code."""

    tree: Any
    content: Callable[[str | int], memoryview]
    byteorder: str = "<"
    constants: Any = ()
    code: Callable[[str], str] = field(default=lambda path: "")

    def array(self, value: Any) -> NDArray[Any] | None:
        """The read-only array of a pickled tensor or NumPy array; None for other values. Raises FileError."""
        value = _unwrapped(value)
        if (view := self.view(value)) is not None:
            return self.tensor(*view)
        match value:
            case PickledObject(
                "numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct",
                _,
                (_, shape, PickledObject("numpy.dtype") as dtype, fortran, data),
            ):
                return self._numpy(data, dtype, shape, "F" if fortran else "C")
            case PickledObject(
                "numpy.core.numeric._frombuffer" | "numpy._core.numeric._frombuffer",
                (data, PickledObject("numpy.dtype") as dtype, shape, order),
            ):
                return self._numpy(data, dtype, shape, order)
        return None

    def view(self, value: Any) -> View | None:
        """The place of a pickled tensor in the file; None for other values. Raises FileError."""
        match _unwrapped(value):
            case PickledObject(
                "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2",
                (Storage(kind) as storage, start, shape, strides, *rest),
            ):
                return _view(storage, kind, start, shape, strides, rest[2:])
            case PickledObject(
                "torch._utils._rebuild_tensor_v3",
                (Storage() as storage, start, shape, strides, _, _, Global(kind), *flags),
            ):
                return _view(storage, kind, start, shape, strides, flags)
            case PickledObject(path) if path == QUANTIZED:
                raise FileError("the weights are quantized: save the model before quantizing it in PyTorch")
            case PickledObject(path) if path.startswith("torch._utils._rebuild_"):
                raise FileError(f"{path} makes a kind of tensor that NumPy does not have")
        return None

    def tensor(
        self,
        key: str | int,
        code: str,
        start: Any,
        shape: Any,
        strides: Any,
        names: tuple[str, str] = ("the tensor", "its storage"),
    ) -> NDArray[Any]:
        """Return elements of a storage as an array; bfloat16 is widened. Raises FileError."""
        where, storage = names
        _check_place(where, start, shape, strides)
        dtype = _stored_dtype(code, self.byteorder)
        content = self.content(key)
        elements = math.prod(shape)
        last = start + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if elements and (last + 1) * dtype.itemsize > len(content):
            raise FileError(
                f"{where} needs {last + 1} elements of {dtype}, but {storage} has {len(content)} bytes"
            )
        budget.take(elements * max(dtype.itemsize, 4))  # once copied: as a view, it costs nothing
        # the stride of an axis of size 1 may be any number
        steps = [0 if n == 1 else stride * dtype.itemsize for n, stride in zip(shape, strides, strict=True)]
        view = (content, start * dtype.itemsize, steps) if elements else ()
        try:
            array: NDArray[Any] = np.ndarray(shape, dtype, *view)
        except (ValueError, OverflowError) as error:
            raise FileError(f"the shape {shape} is not possible: {error}") from error
        return widened(array) if code == "bfloat16" else native_byte_order(array)

    def dequantized(self, value: Any) -> NDArray[np.float32] | None:
        """Return a pickled tensor of 8-bit integers as floats; None for other values. Raises FileError.

        The tensor has one scale and zero point, or one of each for every index of an axis.
        """
        match value:
            case PickledObject(path, (Storage(kind) as storage, start, shape, strides, scheme, *_)) if (
                path == QUANTIZED and kind in INTEGERS
            ):
                integers = self.tensor(*_view(storage, INTEGERS[kind], start, shape, strides))
                scale, zero = self._scales(scheme, integers.shape)
                budget.take(8 * integers.size)
                return np.asarray((integers - zero) * scale, np.float32)
        return None

    def _scales(self, scheme: Any, shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the scales and zero points of a quantized tensor, shaped to broadcast against it."""
        numbers, sizes, apart = list[Any](), shape[:0], 0
        match scheme:
            case (Global("torch.per_tensor_affine"), scale, zero):
                numbers = [np.asarray(each) for each in (scale, zero) if isinstance(each, int | float)]
            case (Global("torch.per_channel_affine"), scales, zeros, int(axis)) if 0 <= axis < len(shape):
                numbers = [self.tensor(*view) for each in (scales, zeros) if (view := self.view(each))]
                sizes, apart = shape[axis : axis + 1], len(shape) - axis - 1
        is_usable = len(numbers) == 2 and all(
            each.shape == sizes and each.dtype.kind in "iuf" and (np.abs(each) < MAX_SCALE).all()
            for each in numbers
        )
        if not is_usable:
            raise FileError("a quantized tensor has scales or zero points that do not match its numbers")
        scale, zero = (each.astype(np.float64).reshape((*sizes, *[1] * apart)) for each in numbers)
        return scale, zero

    def _numpy(self, data: Any, dtype: PickledObject, shape: Any, order: Any) -> NDArray[Any]:
        known = number_dtype(dtype)
        if known is None:
            raise FileError("the NumPy array does not contain numbers")
        if isinstance(data, str):  # bytes, as Python 2 pickled them
            data = data.encode("latin-1")
        if not (order in ("C", "F") and isinstance(data, bytes) and _are_sizes(shape)):
            raise FileError("the NumPy array is damaged")
        budget.take(len(data))
        try:
            return native_byte_order(np.ndarray(shape, known, data, order=order))
        except (ValueError, TypeError, OverflowError) as error:
            raise FileError(f"the shape {shape} is not possible: {error}") from error


def _unwrapped(value: Any) -> Any:
    """Return what builds a pickled tensor, without the functions that wrap it."""
    for _ in range(MAX_WRAPPERS):
        match value:
            case PickledObject(path, (PickledObject() as inner, *_)) if path in WRAPPERS:
                value = inner
            case PickledObject("torch._tensor._rebuild_from_type_v2", (Global(path), _, tuple(args), *_)):
                value = PickledObject(path, args)
            case _:
                return value
    return None


def _view(
    storage: Storage, kind: str, start: Any, shape: Any, strides: Any, flags: Sequence[Any] = ()
) -> View:
    if kind not in DTYPES:
        raise FileError(f"the tensor has dtype {kind}; expected one of {', '.join(DTYPES)}")
    if any(flags):
        raise FileError(
            "the tensor is a lazy negative or conjugate view: call resolve_neg() or resolve_conj() "
            "before saving"
        )
    _check_place("the tensor", start, shape, strides)
    return View(storage.key, DTYPES[kind], storage.start + start, tuple(shape), tuple(strides))


def _check_place(where: str, start: Any, shape: Any, strides: Any) -> None:
    """Raise FileError unless the shape and strides of a tensor are integers that NumPy accepts."""
    if not (_are_sizes(shape) and _are_sizes(strides) and _are_sizes((start,))):
        raise FileError(
            f"{where} has a shape, strides or an offset that are not integers from 0 to 2^63: "
            f"they must each be up to {MAX_AXES} integers"
        )
    if len(shape) != len(strides):
        raise FileError(f"{where} has shape {shape}, but strides {strides}")


def _stored_dtype(code: str, byteorder: str = "<") -> np.dtype[Any]:
    return np.dtype(byteorder + ("u2" if code == "bfloat16" else code))


def _are_sizes(values: Any) -> bool:
    """Whether these are integers that NumPy accepts, so that their products are cheap to compute."""
    if not isinstance(values, tuple | list) or len(values) > MAX_AXES:
        return False
    return all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _persistent(pickled: Any, folder: str = "") -> Any:
    """The object that a persistent id refers to: a storage, in a folder of an archive, or a class."""
    match pickled:
        case ("storage", Global(path), str() | int() as key, _, _, *view):
            # in the legacy format, a view is (key, start, size)
            start = view[0][1] if view and view[0] else 0
            if type(start) is int and start >= 0:
                return Storage(path.rpartition(".")[2], f"{folder}{key}" if folder else key, start)
        case ("module", Global() as module, *_):
            return module
    raise ValueError("a persistent id does not refer to a storage")


def read(data: Data | ZipMembers) -> Archive:
    """Read a zip archive, or a file in the legacy format. Raises FileError."""
    if isinstance(data, ZipMembers) or data[:4] == SIGNATURE:
        return _read_zip(ZipMembers.of(data))
    return _read_legacy(bytes(data))


def _read_legacy(data: bytes) -> Archive:
    """Read five pickles (magic number, version, system, value, storage keys), then the storages in order."""
    kinds: dict[str | int, str] = {}

    def persistent(pickled: Any) -> Any:
        value = _persistent(pickled)
        if isinstance(value, Storage):
            kinds.setdefault(value.key, value.kind)
        return value

    magic, at = load(data, 0, persistent)
    if magic != LEGACY_MAGIC:
        raise FileError("the file is a pickle that torch.save did not write")
    version, at = load(data, at, persistent)
    if version != LEGACY_VERSION:
        raise FileError(f"the legacy format has version {version}; expected {LEGACY_VERSION}")
    _, at = load(data, at, persistent)
    tree, at = load(data, at, persistent)
    keys, at = load(data, at, persistent)
    if not isinstance(keys, list):
        raise FileError(f"the list of storages is missing at byte {at}")

    view = memoryview(data)
    contents = {}
    for key in keys:
        kind = DTYPES.get(kinds.get(key, "") if isinstance(key, str | int) else "")
        if kind is None:
            raise FileError(f"the storage at byte {at} has an unknown dtype, or no tensor uses it")
        size = int.from_bytes(view[at : at + 8], "little") * _stored_dtype(kind).itemsize
        at += 8
        if size > len(view) - at:
            raise FileError(f"the file ends before the {size} bytes of the storage at byte {at}")
        contents[key] = view[at : at + size]
        at += size

    def content(key: str | int) -> memoryview:
        if key not in contents:
            raise FileError("the storage is missing")
        return contents[key]

    return Archive(tree, content)


def byteorder_of(members: ZipMembers, folder: str) -> str:
    """Return the byte order of the storages in a folder. Raises FileError."""
    byteorder = bytes(members.get(folder + "byteorder") or b"little").strip()
    if byteorder not in (b"little", b"big"):
        raise FileError("the member byteorder contains neither little nor big")
    return "<" if byteorder == b"little" else ">"


def _read_zip(members: ZipMembers) -> Archive:
    pickles = [name for name in members.entries if re.fullmatch(r"([^/]+/)?data\.pkl", name)]
    if "policy.pth" in members.entries:
        raise FileError("stable-baselines3 wrote the file: open it with onward.recipes.Policy")
    if len(pickles) != 1:
        raise FileError("the zip archive has no data.pkl, so PyTorch did not write it")
    folder = pickles[0].removesuffix("data.pkl")

    def unpickled(name: str) -> Any:
        pickled = bytes(members[f"{folder}{name}.pkl"])
        return load(pickled, 0, lambda pickled_id: _persistent(pickled_id, f"{folder}{name}/"))[0]

    return Archive(
        unpickled("data"),
        lambda key: members[str(key)],
        byteorder_of(members, folder),
        unpickled("constants") if f"{folder}constants.pkl" in members.entries else (),
        lambda path: bytes(members.get(f"{folder}code/{path}") or b"").decode(errors="replace"),
    )
