"""Recurrent layers."""

from ..builder import Builder
from ..node import Node
from ..view import View
from .registry import Inputs, known, lowering, view


@lowering("RNN", "GRU", "LSTM")
def recurrent(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Map X (T, B, I) to Y (T, D, B, H), Y_h (D, B, H) and Y_c, or all of them with the batch first."""
    X, W, R, bias, lengths, h, c, P = (*inputs, *[None] * 8)[:8]
    x = view(b, X)
    weights = [known(value) for value in (W, R, bias, P)]
    if x is None or node.layer is None or any(v and not v.known for v in (W, R, bias, lengths, P)):
        return None
    found = node.layer(*weights)
    if found is None:
        return None
    layer, reverse, batch_first = found
    states = [view(b, value) for value in (h, c)]
    if any(value is not None and v is None for value, v in zip((h, c), states, strict=True)):
        return None
    if batch_first:
        x, states = x.permuted(1, 0, 2), [v and v.permuted(1, 0, 2) for v in states]
    T, B, _ = x.shape
    if lengths is not None and (lengths.array != T).any():
        return None
    D, H = 1 + layer.bidirectional, layer.hidden_size
    if x.strides[2] != 1 and x.shape[2] > 1:
        x = b.contiguous(x)
    y = b.new(T, B, D * H)
    h_n, *cells = (b.new(*shape) for shape in layer.state_shapes(B))
    c_n = cells[0] if cells else None
    states = [v and b.contiguous(v) for v in states]
    out = y
    if reverse:
        x, out = x.reversed(0), y.reversed(0)
    c0 = states[1] if cells else None
    b.add("recurrent", layer._kernel, x, states[0], c0, out, h_n, c_n)
    split = View(y.space, y.offset, (T, B, D, H), (B * D * H, D * H, H, 1))
    finals = [h_n, *cells]
    if batch_first:
        return [split.permuted(1, 0, 2, 3), *(v.permuted(1, 0, 2) for v in finals)]
    return [split.permuted(0, 2, 1, 3), *finals]
