"""Arrays of strings, of dtype object. Their memory counts before they are made: the shapes do not tell it."""

import numpy as np

from ...core import budget
from ...errors import DtypeError
from ..node import AnyArray, Operand, Signature
from ..sized import broadcast_shape
from .registry import EVERY_INPUT, operation


def _strings(x: AnyArray) -> AnyArray:
    if x.dtype.kind not in "OU":
        raise DtypeError(f"got an array of dtype {x.dtype}; expected strings")
    return x.astype(object)


def _joined_signature(x: Operand, y: Operand) -> Signature:
    return Signature(broadcast_shape(x.shape, y.shape), np.dtype(object))


@operation("StringConcat", signature=_joined_signature)
def string_concat(x: AnyArray, y: AnyArray) -> AnyArray:
    """Each string of x followed by that of y."""
    pairs = np.broadcast(_strings(x), _strings(y))
    for a, b in pairs:
        width = 1 if a.isascii() and b.isascii() else 4
        budget.charge(budget.STEP + len(a) + len(b), budget.OBJECT + width * (len(a) + len(b)))
    return np.asarray(np.add(_strings(x), _strings(y), dtype=object), object)


@operation("StringSplit", shape_inputs=EVERY_INPUT, is_pure=False)
def string_split(
    x: AnyArray, *, delimiter: str | None = None, maxsplit: int | None = None
) -> tuple[AnyArray, AnyArray]:
    """The parts of each string between delimiters or spaces, padded with "", and how many it has."""
    most, texts = -1 if maxsplit is None else maxsplit, list(_strings(x).flat)
    budget.charge(sum(budget.STEP + len(text) for text in texts), 0)
    counts = [len(text.split(delimiter or None, most)) for text in texts]
    longest = max(counts, default=0)
    size = budget.OBJECT * sum(counts) + 8 * longest * len(texts) + 4 * sum(map(len, texts))
    budget.charge(budget.STEP * longest * len(texts), size)
    parts = np.full((len(texts), longest), "", object)
    for row, text, count in zip(parts, texts, counts, strict=True):
        row[:count] = text.split(delimiter or None, most)
    return parts.reshape(*x.shape, longest), np.array(counts, np.int64).reshape(x.shape)
