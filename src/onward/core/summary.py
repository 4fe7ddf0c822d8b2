"""A summary of a model: one row per layer, or per node of a graph, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

WIDEST = 60  # characters of a name in a table: converters join the names of all layers that they fuse
# Sizes that depend on the input are letters: T time steps, B sequences, and L, H and W as in PyTorch.
NamedShape: TypeAlias = "tuple[int | str, ...]"


class Row(NamedTuple):
    """One layer of a model. `output_shape` is None if it depends on an unknown input shape."""

    name: str
    kind: str
    output_shape: NamedShape | None
    parameters: int
    bytes: int


def shape_text(shape: NamedShape | None) -> str:
    """Format a shape: "(T, B, 64)", or "" if it is unknown."""
    return "" if shape is None else f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"


def table(rows: Sequence[Row]) -> str:
    """The rows as plain text, with a header and the total below. Long names are shortened in the middle.

    >>> print(table([Row("0", "LSTM", ("T", "B", 4), 144, 576), Row("1", "Linear", ("T", "B", 2), 10, 40)]))
    layer  kind    output shape  parameters
    0      LSTM    (T, B, 4)            144
    1      Linear  (T, B, 2)             10
    total                               154  616 bytes
    """
    cells = [("layer", "kind", "output shape", "parameters")]
    cells += [(_shortened(r.name), r.kind, shape_text(r.output_shape), f"{r.parameters:,}") for r in rows]
    cells += [("total", "", "", f"{sum(r.parameters for r in rows):,}")]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join([*map(str.ljust, line[:3], widths), line[3].rjust(widths[3])]) for line in cells]
    return "\n".join(lines) + f"  {sum(r.bytes for r in rows):,} bytes"


def _shortened(name: str) -> str:
    if len(name) <= WIDEST:
        return name
    half = WIDEST // 2
    return f"{name[: WIDEST - half - 1]}…{name[-half:]}"
