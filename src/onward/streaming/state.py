"""What streams of every kind have in common: a state that can be read, set, copied and saved."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..core import arrays, storage
from ..core.arrays import Shape
from ..core.calls import CallLock
from ..errors import ArgumentError, DtypeError, FileError, OnwardError, ShapeError

# How errors describe a file whose metadata differs.
OTHER_MODELS = {
    "precision": "a model in {!r}, but this one is in {!r}",
    "model": "another model",
    "weights": "this model with other weights",
}

Ids: TypeAlias = NDArray[np.integer[Any]]
Restored = TypeVar("Restored")


class Continuing:
    """A sequence, or a batch of them, whose state a call passes to the next one.

    The format of the model tells how states are shown to users and written to files.
    """

    _model: Any

    def __init__(self, model: Any, batch: int | None) -> None:
        self._model, self._batch, self._lock = model, batch, CallLock()
        self._format = model.format

    if TYPE_CHECKING:

        def _states(self) -> Any:
            """Return copies of the present states."""

        def _set_state(self, states: Any, /) -> None:
            """Replace the states."""

    @property
    def state(self) -> Any:
        """A copy of the state, in the form that a call of the model returns; assign to set the state."""
        return self._format.join(self._states(), self._batch is not None)

    @state.setter
    def state(self, state: Any) -> None:
        self._replace(self._format.check_state(state, self._batch or 1, self._batch is not None))

    def reset(self) -> None:
        """Set the state to that at the start of a sequence."""
        self._replace(self._format.zeros(self._batch or 1))

    def copy(self) -> Self:
        """Return a new stream with a copy of the state."""
        branch = type(self)(self._model, self._batch)
        with self._lock.reading():
            self._copy_into(branch)
        return branch

    def _copy_into(self, branch: Self) -> None:
        branch._set_state(self._states())

    def __copy__(self, memo: Any = None) -> Self:
        return self.copy()

    __deepcopy__ = __copy__

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a safetensors file. Raises FileError."""
        write_state(path, "stream", self._format, self._format.tensors(self._states()))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace the state with one that a stream of the same model saved.

        Raises FileError, and leaves the state unchanged, if the file is damaged or has another type, version,
        model or batch size.
        """
        restored, rows = self._format.restored, self._batch or 1
        self._replace(read_state(path, "stream", self._format, lambda tensors: restored(tensors, rows)))

    def _replace(self, states: Any) -> None:
        with self._lock:
            self._set_state(states)


def write_state(path: str | os.PathLike[str], kind: str, model: Any, tensors: Mapping[str, Any]) -> None:
    """Write the state of a stream or pool, which `kind` says, of a model. Raises FileError."""
    storage.write(path, tensors, {"type": f"{kind} of {model.owner}", **model.fingerprint()})


def read_state(
    path: str | os.PathLike[str],
    kind: str,
    model: Any,
    convert: Callable[[dict[str, NDArray[Any]]], Restored],
) -> Restored:
    """Convert the tensors that `write_state` wrote for the same model.

    Raises FileError for another kind, version, precision or model, for other weights, and instead of the
    errors that `convert` raises.
    """
    expected = f"a file that {kind}.save wrote"
    tensors, metadata = storage.read(path, expected=expected)
    file_type = f"{kind} of {model.owner}"
    if metadata is None or metadata.get("type") != file_type:
        what = file_type.removesuffix(" of Onward")
        raise FileError(f"{path} is not the state of a {what}: expected {expected}")
    for key, own in model.fingerprint().items():
        if metadata.get(key) != own:
            raise FileError(f"{path} is the state of {OTHER_MODELS[key].format(metadata.get(key), own)}")
    try:
        return convert(tensors)
    except KeyError as error:
        raise FileError(f"{path} has no {error.args[0]}") from error
    except OnwardError as error:
        raise FileError(f"{path}: {error}") from error


def check_out(out: Any, inputs: Iterable[Any], shape: Shape, dtype: Any) -> None:
    """Raise ShapeError, DtypeError or ArgumentError unless y can be written into `out`, away from inputs."""
    if not isinstance(out, np.ndarray) or out.dtype != dtype:
        actual = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
        raise DtypeError(f"out is {actual}, but must be an array of {dtype}")
    if out.shape != shape:
        raise ShapeError(f"out has shape {out.shape}, but y has shape {shape}")
    if not out.flags.writeable:
        raise ArgumentError("out is read-only: pass an array that can be written to")
    arrays.check_separate((out,), inputs)
