"""ATen's matrix products, norms of layers, attention, the layers of transformers, gates and dropout."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .elementwise import mul
from .registry import FLOAT32, INT64, Number, Operand, Symbol, Tensor, aten, define
from .shapes import reshaped, transposed
from .translator import Translator

Sizes = Sequence[int]
FLOATS = {np.dtype(name) for name in ("float16", "float32", "float64")}
Affine = Tensor | None  # the scale or the shift of a norm


@aten("linear")
def linear(t: Translator, input: Tensor | str, weight: Tensor | str, bias: Any = None) -> str:
    is_vector = isinstance(weight, Tensor) and weight.rank == 1
    product = t.add("MatMul", input, t.add("Transpose", weight, perm=[0] if is_vector else [1, 0]))
    return product if bias is None else t.add("Add", product, bias)


aten("matmul linalg_matmul")(lambda t, self, other: t.add("MatMul", self, other))


def _product(t: Translator, a: Tensor, b: Tensor, *ranks: int) -> str:
    """The product of two tensors with these numbers of axes, whose batches have the same size."""
    if (a.rank, b.rank) != ranks:
        raise ArgumentError(
            f"the factors have {a.rank} and {b.rank} axes; expected {ranks[0]} and {ranks[1]}"
        )
    if ranks == (3, 3):
        message = "the batches of the factors have different sizes"
        t.require("Equal", t.size(a, 0), t.size(b, 0), message)
    return t.add("MatMul", a, b)


def _require_expands(t: Translator, x: Tensor, shape: Sequence[Any]) -> None:
    """Raise ArgumentError, now or in a call, unless a tensor can be expanded to a shape."""
    if x.rank > len(shape):
        raise ArgumentError(f"a tensor with {x.rank} axes is added to a product with {len(shape)}")
    for axis, size in enumerate(shape[len(shape) - x.rank :]):
        if x.shape[axis] != 1:
            message = f"axis {axis} of a tensor that is added to a product is longer than the product"
            t.require("LessOrEqual", t.size(x, axis), size, message)


def _added(t: Translator, x: Tensor, product: str, shape: Sequence[Any], beta: Number, alpha: Number) -> str:
    """beta x + alpha product, where `shape` is that of the product"""
    _require_expands(t, x, shape)
    terms = [(product, alpha)] if beta == 0 else [(product, alpha), (x, beta)]
    scaled = [y if n == 1 else t.add("Mul", y, t.cast(n, x.dtype)) for y, n in terms]
    return t.add("Add", *scaled) if len(scaled) > 1 else str(scaled[0])


def _of_ranks(*ranks: int) -> Any:
    return lambda t, self, **others: _product(t, self, *others.values(), *ranks)


def _added_to(*ranks: int) -> Any:
    def function(t: Translator, self: Tensor, beta: Number = 1, alpha: Number = 1, **factors: Tensor) -> str:
        a, b = factors.values()
        product = _product(t, a, b, *ranks)
        shape = [*t.sizes(a)[:-1], *t.sizes(b)[ranks[0] - 1 :]]
        return _added(t, self, product, shape, beta, alpha)

    return function


define({
    "mm": _of_ranks(2, 2), "bmm": _of_ranks(3, 3), "mv": _of_ranks(2, 1), "dot vdot": _of_ranks(1, 1),
    "addmm": _added_to(2, 2), "baddbmm": _added_to(3, 3), "addmv": _added_to(2, 1),
})  # fmt: skip


@aten("_grouped_mm")
def grouped_mm(t: Translator, self: Tensor, mat2: Tensor, offs: Tensor | None = None) -> str:
    """The products of groups of rows, or of columns, and a matrix for each group."""
    if offs is None:
        return _product(t, self, mat2, 3, 3)
    if (self.rank, mat2.rank) == (2, 3):
        return t.add("GroupedMatMul", self, mat2, offs)
    if (self.rank, mat2.rank) == (3, 2):
        y = t.add("GroupedMatMul", transposed(t, mat2, mat2), transposed(t, self, self), offs)
        return t.add("Transpose", y, perm=[1, 0])
    raise ArgumentError(
        f"the factors of groups have {self.rank} and {mat2.rank} axes; expected 2 and 3, or 3 and 2"
    )


# transformers exports it for dtypes in which older versions of PyTorch lack _grouped_mm.
aten("transformers.grouped_mm_fallback.default")(grouped_mm)


@aten("addbmm")
def addbmm(
    t: Translator, self: Tensor, batch1: Tensor, batch2: Tensor, beta: Number = 1, alpha: Number = 1
) -> str:
    product = t.add("ReduceSum", _product(t, batch1, batch2, 3, 3), [0], keepdims=0)
    return _added(t, self, product, [t.size(batch1, 1), t.size(batch2, 2)], beta, alpha)


def outer(t: Translator, self: Tensor, vec2: Tensor) -> str:
    """The products of the elements of two vectors."""
    column = Tensor(t.add("Unsqueeze", self, [1]), self.dtype, (*self.shape, 1))
    return mul(t, column, vec2)


@aten("bilinear")
def bilinear(
    t: Translator, input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None
) -> str:
    y = t.add("Einsum", input1, weight, input2, equation="...i,oij,...j->...o")
    return y if bias is None else t.add("Add", y, bias)


@aten("_trilinear")
def trilinear(
    t: Translator, i1: Tensor, i2: Tensor, i3: Tensor, expand1: Sizes, expand2: Sizes, expand3: Sizes,
    sumdim: Sizes, unroll_dim: int = 1,
) -> str:  # fmt: skip
    """The sum over axes of a product of three tensors with additional axes."""
    pairs = ((i1, expand1), (i2, expand2), (i3, expand3))
    a, b, c = (t.add("Unsqueeze", x, axes) if axes else x for x, axes in pairs)
    return t.add("ReduceSum", t.add("Mul", t.add("Mul", a, b), c), sumdim, keepdims=0)


# Norms.


def _affine(t: Translator, x: Tensor, weight: Affine, bias: Affine) -> list[Any]:
    """Return the scale and the shift of each channel, by default 1 and 0."""
    defaults = (
        t.add("ConstantOfShape", [t.size(x, 1)], value=np.full(1, n, x.dtype)) if given is None else given
        for n, given in ((1, weight), (0, bias))
    )
    return list(defaults)


@aten("batch_norm _native_batch_norm_legit_no_training native_batch_norm _native_batch_norm_legit")
def batch_norm(
    t: Translator, input: Tensor, weight: Affine, bias: Affine, running_mean: Tensor | None,
    running_var: Tensor | None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
    cudnn_enabled: bool = False,
) -> str:  # fmt: skip
    scale, shift = _affine(t, input, weight, bias)
    if training or running_mean is None or running_var is None:  # the statistics of the batch
        return t.add("BatchNormalization", input, scale, shift, shift, scale, epsilon=eps, training_mode=1)
    return t.add("BatchNormalization", input, scale, shift, running_mean, running_var, epsilon=eps)


@aten("layer_norm native_layer_norm")
def layer_norm(
    t: Translator, input: Tensor, normalized_shape: Sequence[Any], weight: Affine = None,
    bias: Affine = None, eps: float = 1e-5, cudnn_enable: bool = False,
) -> Any:  # fmt: skip
    axis = input.rank - len(normalized_shape)
    for place, size in enumerate(normalized_shape, axis):
        message = f"axis {place} does not have the {size} elements that are normalized"
        t.require("Equal", t.size(input, place), size, message)
    scale: Any = weight
    if weight is None:
        scale = t.add("ConstantOfShape", normalized_shape, value=np.ones(1, input.dtype))
    y, *statistics = t.add_all("LayerNormalization", (input, scale, bias), 3, axis=axis, epsilon=eps)
    if input.dtype == np.float16:
        statistics = [t.add("Cast", each, to=input.dtype) for each in statistics]
    return y, *statistics


@aten("rms_norm _fused_rms_norm")
def rms_norm(
    t: Translator, input: Tensor, normalized_shape: Sequence[Any], weight: Affine = None,
    eps: float | None = None,
) -> Any:  # fmt: skip
    axes = range(input.rank - len(normalized_shape), input.rank)
    dtype = FLOAT32 if input.dtype == np.float16 else input.dtype
    x = t.cast(input, dtype)
    mean = t.add("ReduceMean", t.add("Mul", x, x), axes, keepdims=1)
    added = float(np.finfo(dtype).eps) if eps is None else eps
    scale = t.add("Reciprocal", t.add("Sqrt", t.add("Add", mean, t.cast(added, dtype))))
    y = t.add("Mul", x, scale)
    y = y if weight is None else t.add("Mul", y, t.cast(weight, dtype))
    y = y if dtype == input.dtype else t.add("Cast", y, to=input.dtype)
    return y, scale


@aten("group_norm")
def group_norm(
    t: Translator, input: Tensor, num_groups: int, weight: Affine = None, bias: Affine = None,
    eps: float = 1e-5, cudnn_enabled: bool = False,
) -> str:  # fmt: skip
    message = f"the number of channels is not a multiple of {num_groups}, the number of groups"
    t.require_multiple(input, 1, num_groups, message)
    parameters = _affine(t, input, weight, bias)
    return t.add("GroupNormalization", input, *parameters, num_groups=num_groups, epsilon=eps)


@aten("instance_norm")
def instance_norm(
    t: Translator, input: Tensor, weight: Affine, bias: Affine, running_mean: Tensor | None,
    running_var: Tensor | None, use_input_stats: bool, momentum: float, eps: float, cudnn_enabled: bool,
) -> str:  # fmt: skip
    if input.rank < 3:
        raise ArgumentError(f"instance_norm takes 3 axes or more, got {input.rank}")
    if not use_input_stats:
        return batch_norm(t, input, weight, bias, running_mean, running_var, False, momentum, eps)
    return t.add("InstanceNormalization", input, *_affine(t, input, weight, bias), epsilon=eps)


@aten("_weight_norm _weight_norm_interface")
def weight_norm(t: Translator, v: Tensor, g: Tensor, dim: int = 0) -> str:
    """g v / |v|, with the norm over all axes but one, or over all if it is -1."""
    axes = [axis for axis in range(v.rank) if dim == -1 or axis != v.axis(dim)]
    return t.add("Mul", v, t.add("Div", g, t.add("ReduceL2", v, axes, keepdims=1)))


@aten("einsum")
def einsum(t: Translator, equation: str, tensors: Sequence[Tensor], path: Any = None) -> str:
    dtypes, equation = {x.dtype for x in tensors}, equation.replace(" ", "")
    if dtypes <= {*FLOATS, INT64}:
        return t.add("Einsum", *tensors, equation=equation)
    if len(dtypes) > 1 or len(tensors) == 1 or (dtype := dtypes.pop()).kind not in "iu":
        raise ArgumentError(
            f"einsum of {', '.join(str(x.dtype) for x in tensors)} is not supported; expected floats, int64, "
            "or several tensors of the same integers"
        )
    wide = t.add("Einsum", *(t.cast(x, INT64) for x in tensors), equation=equation)
    return t.add("Cast", wide, to=dtype)  # which wraps as products and sums of this dtype do


define({
    "outer": outer,
    "addr": lambda t, self, vec1, vec2, beta=1, alpha=1: (
        _added(t, self, outer(t, vec1, vec2), [t.size(vec1, 0), t.size(vec2, 0)], beta, alpha)),
    "_native_batch_norm_legit.no_stats": lambda t, input, weight, bias, training, momentum, eps: (
        batch_norm(t, input, weight, bias, None, None, True, momentum, eps)),
    "native_group_norm": lambda t, input, weight, bias, N, C, HxW, group, eps: (
        group_norm(t, input, group, weight, bias, eps)),
})  # fmt: skip


# Attention, and the layers of transformers that consist of it.


@aten("scaled_dot_product_attention _scaled_dot_product_attention_math")
def attention(
    t: Translator, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> tuple[str, str, str]:  # fmt: skip
    """softmax(scale Q K^T + mask) V, the softmax and the scores; rows without any allowed key are 0."""
    if query.dtype == np.float16:  # as in torch: its scores would lose most digits
        q, k, v, mask = (as_float32(t, x) for x in (query, key, value, attn_mask))
        found = attention(t, q, k, v, mask, dropout_p, is_causal, scale, enable_gqa)
        y, weights, scores = (t.add("Cast", each, to=query.dtype) for each in found)
        return y, weights, scores
    depth = t.size(query, -1)
    heads = (query.shape[-3], key.shape[-3]) if enable_gqa else (1, 1)
    keys, values = (_grouped(t, x, heads) for x in (key, value))
    factor: Any = scale
    if scale is None and isinstance(depth, int):
        factor = 1 / math.sqrt(max(depth, 1))  # the scores of vectors without elements are 0
    elif scale is None:
        root = t.add("Sqrt", t.cast(depth, np.float64))
        factor = Symbol(t.add("Reciprocal", root), np.dtype(np.float64))
    scores = t.add("MatMul", query, transposed(t, key, keys))
    scores = t.add("Mul", scores, t.cast(factor, query.dtype))
    allowed: Any = None
    if is_causal:
        ones = t.add("ConstantOfShape", [t.size(x, -2) for x in (query, key)], value=np.ones(1, np.int32))
        allowed = t.add("Cast", t.add("Trilu", ones, 0, upper=0), to=np.dtype(bool))
    elif attn_mask is not None and attn_mask.dtype == np.bool_:
        allowed = attn_mask
    elif attn_mask is not None:
        scores = t.add("Add", scores, t.cast(attn_mask, query.dtype))
    if allowed is not None:
        scores = t.add("Where", allowed, scores, t.cast(-math.inf, query.dtype))
    weights = t.add("Softmax", scores, axis=-1)
    if allowed is not None and not is_causal:
        largest = t.add("ReduceMax", scores, [-1], keepdims=1)
        none = t.add("Equal", largest, t.cast(-math.inf, query.dtype))
        weights = t.add("Where", none, t.cast(0, query.dtype), weights)
    return t.add("MatMul", weights, values), weights, scores


@aten("_scaled_dot_product_flash_attention_for_cpu")
def flash_attention(
    t: Translator, query: Tensor, key: Tensor, value: Tensor, dropout_p: float = 0.0, is_causal: bool = False,
    attn_mask: Tensor | None = None, scale: float | None = None,
) -> tuple[str, str]:  # fmt: skip
    y, _, scores = attention(t, query, key, value, attn_mask, dropout_p, is_causal, scale)
    return y, t.add("ReduceLogSumExp", scores, [-1], keepdims=0)


def as_float32(t: Translator, x: Tensor | None) -> Any:
    """Return a tensor of half precision in float32, and any other one unchanged."""
    if x is None or x.dtype != np.float16:
        return x
    return dataclasses.replace(x, name=t.cast(x, FLOAT32), dtype=FLOAT32, base=None)


def _grouped(t: Translator, x: Tensor, heads: Any) -> Any:
    """Repeat the heads of keys or values for groups of queries."""
    many, few = heads
    if many == few or not many or not few:
        return x
    axis, sizes = x.rank - 3, t.sizes(x)
    tiled = t.add("Tile", t.add("Unsqueeze", x, [axis + 1]), [*[1] * (axis + 1), many // few, 1, 1])
    return reshaped(t, tiled, [*sizes[:axis], many, *sizes[axis + 1 :]])


@aten("_native_multi_head_attention")
def multi_head_attention(
    t: Translator, query: Tensor, key: Tensor, value: Tensor, embed_dim: int, num_head: int,
    qkv_weight: Tensor, qkv_bias: Tensor, proj_weight: Tensor, proj_bias: Tensor, mask: Tensor | None = None,
    need_weights: bool = True, average_attn_weights: bool = True, mask_type: int | None = None,
) -> tuple[str, str]:  # fmt: skip
    """Attention in several heads, batch first; returns the output and the weights."""
    E, d = embed_dim, embed_dim // num_head

    def heads(x: Tensor, place: int) -> str:
        weight, bias = (
            t.add("Slice", part, [place * E], [place * E + E], [0]) for part in (qkv_weight, qkv_bias)
        )
        split = t.add("Reshape", linear(t, x, weight, bias), [0, 0, num_head, d])
        return t.add("Transpose", split, perm=(0, 2, 1, 3))

    q, k, v = (heads(x, place) for place, x in enumerate((query, key, value)))
    scale = t.cast(d**-0.5, query.dtype)
    scores = t.add("MatMul", t.add("Mul", q, scale), t.add("Transpose", k, perm=(0, 1, 3, 2)))
    if mask is not None:
        # a mask of keys (1) has one row for each sequence
        shaped = t.add("Unsqueeze", mask, [1, 2]) if mask_type == 1 else mask
        if mask.dtype == np.bool_:
            scores = t.add("Where", shaped, t.cast(-np.inf, query.dtype), scores)
        else:
            scores = t.add("Add", scores, shaped)
    weights = t.add("Softmax", scores, axis=-1)
    joined = t.add("Transpose", t.add("MatMul", weights, v), perm=(0, 2, 1, 3))
    y = linear(t, t.add("Reshape", joined, [0, 0, E]), proj_weight, proj_bias)
    return y, t.add("ReduceMean", weights, [1], keepdims=0) if average_attn_weights else weights


@aten("_transformer_encoder_layer_fwd")
def transformer_encoder_layer(
    t: Translator, src: Tensor, embed_dim: int, num_heads: int, qkv_weight: Tensor, qkv_bias: Tensor,
    proj_weight: Tensor, proj_bias: Tensor, use_gelu: bool, norm_first: bool, eps: float,
    norm_weight_1: Tensor, norm_bias_1: Tensor, norm_weight_2: Tensor, norm_bias_2: Tensor,
    ffn_weight_1: Tensor, ffn_bias_1: Tensor, ffn_weight_2: Tensor, ffn_bias_2: Tensor,
    mask: Tensor | None = None, mask_type: int | None = None,
) -> str:  # fmt: skip
    """A layer of a transformer's encoder, batch first."""

    def norm(x: Any, weight: Tensor, bias: Tensor) -> str:
        return t.add("LayerNormalization", x, weight, bias, axis=-1, epsilon=eps)

    def attention(x: Any) -> str:
        tensor = dataclasses.replace(src, name=t.add("Identity", x), base=None)
        weights = (qkv_weight, qkv_bias, proj_weight, proj_bias)
        sizes = embed_dim, num_heads
        y, _ = multi_head_attention(t, tensor, tensor, tensor, *sizes, *weights, mask, mask_type=mask_type)
        return y

    def feed_forward(x: Any) -> str:
        inner = t.add("Gelu" if use_gelu else "Relu", linear(t, x, ffn_weight_1, ffn_bias_1))
        return linear(t, inner, ffn_weight_2, ffn_bias_2)

    first, second = (norm_weight_1, norm_bias_1), (norm_weight_2, norm_bias_2)
    if norm_first:
        x = t.add("Add", src, attention(norm(src, *first)))
        return t.add("Add", x, feed_forward(norm(x, *second)))
    x = norm(t.add("Add", src, attention(src)), *first)
    return norm(t.add("Add", x, feed_forward(x)), *second)


@aten("prelu _prelu_kernel")
def prelu(t: Translator, self: Tensor, weight: Tensor) -> str:
    is_by_channel = weight.rank == 1 and self.rank > 1
    slope = t.add("Reshape", weight, [-1] + [1] * (self.rank - 2)) if is_by_channel else weight
    return t.add("PRelu", self, slope)


@aten("glu")
def glu(t: Translator, self: Tensor, dim: int = -1) -> str:
    t.require_multiple(self, dim, 2, "glu halves an axis, whose size is odd")
    a, b = t.add_all("Split", (self,), 2, axis=self.axis(dim), num_outputs=2)
    return t.add("Mul", a, t.add("Sigmoid", b))


@aten("dropout feature_dropout alpha_dropout feature_alpha_dropout native_dropout")
def dropout(t: Translator, input: Operand, p: float = 0.5, train: bool = False) -> Any:
    if train and p > 0:
        raise ArgumentError("dropout in training mode is not supported: export the module after eval()")
    return t.add("Identity", input)
