"""Linear attention, and the causal convolution in front of it: the recurrences of ONNX's opset 27."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError, ShapeError
from ..node import AnyArray, Node, Operand, Signature
from ..plan.builder import Builder
from ..plan.view import View
from ..size import are_same
from ..sized import dtype_of
from .compositions import composed
from .recurrent import carry_states, keep_states
from .registry import operation

RULES = ("linear", "gated", "delta", "gated_delta")


def _check(
    q: Any, k: Any, v: Any, state: Any, decay: Any, beta: Any, heads: int, queries: int, rule: str
) -> tuple[Any, Any]:
    """Return the sizes of keys and values; raise an error unless the arrays and attributes fit each other."""
    if rule not in RULES:
        raise ArgumentError(f"update_rule={rule!r}; expected one of {', '.join(RULES)}")
    for name, x, needed in (("decay", decay, "gated" in rule), ("beta", beta, "delta" in rule)):
        if (x is not None) != needed:
            raise ArgumentError(f"update_rule={rule!r} {'needs' if needed else 'does not take'} {name}")
    if heads < 1 or queries < 1 or queries % heads:
        raise ArgumentError(f"q_num_heads={queries}; expected a multiple of kv_num_heads={heads}")
    (B, T, _), keys, values = q.shape, q.shape[-1] // queries, v.shape[-1] // heads
    expected: dict[str, tuple[Any, list[Any]]] = {
        "query": (q, [(B, T, queries * keys)]),
        "key": (k, [(B, T, heads * keys)]),
        "value": (v, [(B, T, heads * values)]),
        "past_state": (state, [(B, heads, keys, values)]),
        "decay": (decay, [(B, T, heads), (B, T, heads * keys)]),
        "beta": (beta, [(B, T, heads), (B, T, 1)]),
    }
    for name, (x, shapes) in expected.items():
        if x is not None and tuple(x.shape) not in shapes:
            raise ShapeError(f"{name} has shape {tuple(x.shape)}; expected {' or '.join(map(str, shapes))}")
    return keys, values


def _signature(
    q: Operand, k: Operand, v: Operand, state: Any = None, decay: Any = None, beta: Any = None, *,
    kv_num_heads: int, q_num_heads: int, update_rule: str = "gated_delta", **others: Any,
) -> list[Signature]:  # fmt: skip
    for name, x in (("query", q), ("key", k), ("value", v)):
        if len(x.shape) != 3:
            raise ShapeError(f"{name} has shape {x.shape}; expected (B, T, heads * size)")
    options = kv_num_heads, q_num_heads, update_rule
    keys, values = _check(q, k, v, state, decay, beta, *options)
    B, T, _ = q.shape
    return [
        Signature((B, T, q_num_heads * values), dtype_of(q)),
        Signature((B, kv_num_heads, keys, values), dtype_of(q if state is None else state)),
    ]


@operation(
    "LinearAttention",
    signature=_signature,
    combines=lambda node, inputs: [(1, 2), (1, 2), (1, 2), (1, 2, 3), (1, 2), (1, 2)],
)
def linear_attention(
    q: AnyArray, k: AnyArray, v: AnyArray, state: AnyArray | None = None, decay: AnyArray | None = None,
    beta: AnyArray | None = None, *, kv_num_heads: int, q_num_heads: int, scale: float = 0.0,
    update_rule: str = "gated_delta", chunk_size: int = 64,
) -> tuple[AnyArray, AnyArray]:  # fmt: skip
    """S_t = exp(g_t) S_t-1 + k_t u_t^T, y_t = scale S_t^T q_t for each head, and the last S.

    u_t is v_t, or with a delta rule beta_t (v_t - exp(g_t) S_t-1^T k_t). q, k and v are (B, T, heads * size),
    S (B, heads, keys, values), g (`decay`) one number for each head or for each key, and beta one for each
    head or for all. Several heads of q may share one S. Without a scale, it is the inverse of the root of the
    size of a key. Sources: Katharopoulos et al. 2020; Yang et al. 2024; Yang et al. 2025.
    """
    H, queries = kv_num_heads, q_num_heads // kv_num_heads
    (B, T, _), wanted = q.shape, (q.dtype, (q if state is None else state).dtype)
    q, k, v = (x.astype(np.float32) for x in (q, k, v))
    q, k, v = q.reshape(B, T, H, queries, -1), k.reshape(B, T, H, -1, 1), v.reshape(B, T, H, 1, -1)
    keys, values = k.shape[3], v.shape[4]
    S = np.zeros((B, H, keys, values), np.float32) if state is None else state.astype(np.float32)
    factors = None if decay is None else np.exp(decay.astype(np.float32)).reshape(B, T, H, -1, 1)
    rates = None if beta is None else beta.astype(np.float32).reshape(B, T, -1, 1, 1)
    y = np.empty((B, T, H, queries, values), np.float32)
    for t in range(T):
        S = S if factors is None else factors[:, t] * S
        added = v[:, t]
        if rates is not None:
            added = rates[:, t] * (added - (S * k[:, t]).sum(2, keepdims=True))
        S = S + k[:, t] * added
        y[:, t] = _scale(scale, keys) * (q[:, t] @ S)
    return y.reshape(B, T, -1).astype(wanted[0]), S.astype(wanted[1])


def _scale(scale: float, keys: int) -> float:
    return scale or 1 / math.sqrt(keys)


@linear_attention.steps()
def _(
    b: Builder, q: View, k: View, v: View, state: View | None = None, decay: View | None = None, beta: View |
    None = None, *, kv_num_heads: int, q_num_heads: int, scale: float = 0.0, **options: Any,
) -> list[View]:  # fmt: skip
    (B, T, _), heads, queries = q.shape, kv_num_heads, q_num_heads
    keys, values = q.shape[2] // queries, v.shape[2] // heads

    def vectors(x: View | None, count: int) -> View | None:
        """Return the view of vectors (B, T, count, size) whose numbers are adjacent."""
        if x is None:
            return None
        if not are_same(x.strides[2], 1):
            x = b.contiguous(x)
        return b.reshaped(x, *x.shape[:2], count, x.shape[2] // count)

    if decay is not None:
        decay = vectors(b.map("activate", ("exponential", 0.0, 0.0), decay), heads)
    if beta is not None:
        beta = b.reshaped(beta, *beta.shape, 1).broadcast(*beta.shape[:2], heads, 1)
    state = None if state is None else b.contiguous(state)
    y, after = b.new(B, T, queries * values), b.new(B, heads, keys, values)
    rows = y.reshaped(B, T, queries, values)
    arrays = vectors(q, queries), vectors(k, heads), vectors(v, heads), state, decay, beta
    b.add("linear_attention", np.float32(_scale(scale, keys)), *arrays, rows, after)
    return [y, after]


@linear_attention.reading
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """The keys that each number of the output is a sum over, a few times."""
    return 3 * (inputs[0].shape[-1] // max(1, attributes["q_num_heads"]))


@linear_attention.over_time
def _(time: Any, node: Node) -> None:
    """Carry the state."""
    q, k, v, state, *gates = (*node.inputs, "", "", "")[:6]
    sequences = [q, k, v, *filter(None, gates)]
    if all(time.axis(x) in (None, 0) for x in sequences):  # blocks of rows
        time.unchanged(node)
        return
    if any(time.axis(x) != 1 for x in sequences):
        time.refuse(node, "its steps are not those of the time axis")
    attributes = node.attributes
    heads, keys = attributes["kv_num_heads"], time.shape(q)[2] // attributes["q_num_heads"]
    shape = time.shape(q)[0], heads, keys, time.shape(v)[2] // heads
    (carried,) = carry_states(time, node, ["state"], [state], [shape], time.dtype(state or q))
    y, after = time.add_all("LinearAttention", (q, k, v, carried, *gates), 2, **attributes)
    time.define(node.outputs[0], y, time.timing(q))
    keep_states(time, node, [carried], [after])


@composed("CausalConvWithState", widens=True)
def causal_conv_with_state(
    x: Any, W: Any, b: Any = None, past: Any = None, *, activation: str = "none"
) -> Iterator[Any]:
    """f(b + the sum of W_i x_t-k+1+i) for each channel; also the last k - 1 steps of x, for the next block.

    x (N, channels, T), W (channels, 1, k), b (channels) and the steps before x, by default zeros, (N,
    channels, k - 1). f is the identity or SiLU.
    """
    if activation not in ("none", "silu", "swish"):
        raise ArgumentError(f"activation={activation!r}; expected none, silu or swish")
    if x.rank != 3 or W.rank != 3:
        raise ShapeError(f"input has {x.rank} axes and weight {W.rank}; expected 3 each")
    channels, before = W.shape[0], W.shape[2] - 1
    extended = x.apply("Pad", [0, 0, before, 0, 0, 0]) if past is None else past.apply("Concat", x, axis=2)
    y = extended.apply("Conv", W, b, group=channels)
    yield y if activation == "none" else y.apply("Swish")
    end = np.iinfo(np.int64).max
    yield extended.apply("Slice", [-before or end], [end], [2])
