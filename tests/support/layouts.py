"""The values of an array in other layouts in memory, and as other objects that NumPy reads."""

from collections.abc import Callable
from typing import Any

import numpy as np


def read_only(array: Any) -> Any:
    array = array.copy()
    array.flags.writeable = False
    return array


def unaligned(array: Any) -> Any:
    """A copy of the array that starts one byte past an aligned address, as in a packed record."""
    memory = np.empty(array.nbytes + 1, np.uint8)[1:]
    memory[:] = np.frombuffer(array.tobytes(), np.uint8)
    return memory.view(array.dtype).reshape(array.shape)


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "read-only": read_only,
    "Fortran": np.asfortranarray,
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "every second step": lambda a: np.repeat(a, 2, axis=0)[::2],
    "backwards": lambda a: np.flip(np.flip(a).copy()),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "unaligned": unaligned,
    "record": lambda a: np.rec.fromarrays([a, a.astype(np.int8)]).f0,
    "list": lambda a: a.tolist(),
    "longdouble": lambda a: a.astype(np.longdouble),
}
