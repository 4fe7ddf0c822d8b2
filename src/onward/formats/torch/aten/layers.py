"""ATen's matrix products and norms of layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .registry import FLOAT32, Number, Tensor, Translator, aten
from .shapes import reshaped

Sizes = Sequence[int]


@aten("linear")
def linear(t: Translator, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> str:
    order = [1, 0] if weight.rank == 2 else [0]
    product = t.add("MatMul", input, t.add("Transpose", weight, perm=order))
    return product if bias is None else t.add("Add", product, bias)


@aten("mm", "bmm", "matmul", "mv", "dot", "vdot", "linalg_matmul")
def matmul(t: Translator, self: Tensor, **others: Tensor) -> str:
    (other,) = others.values()
    return t.add("MatMul", self, other)


def _scaled(t: Translator, x: Any, factor: Number, dtype: Any) -> Any:
    return x if factor == 1 else t.add("Mul", x, t.cast(factor, dtype))


@aten("addmm", "addmv", "baddbmm")
def addmm(t: Translator, self: Tensor, beta: Number = 1, alpha: Number = 1, **factors: Tensor) -> str:
    """beta self + alpha A B"""
    product = _scaled(t, t.add("MatMul", *factors.values()), alpha, self.dtype)
    return product if beta == 0 else t.add("Add", product, _scaled(t, self, beta, self.dtype))


@aten("addbmm")
def addbmm(
    t: Translator, self: Tensor, batch1: Tensor, batch2: Tensor, beta: Number = 1, alpha: Number = 1
) -> str:
    product = t.add("ReduceSum", t.add("MatMul", batch1, batch2), t.constant([0]), keepdims=0)
    return t.add("Add", _scaled(t, self, beta, self.dtype), _scaled(t, product, alpha, self.dtype))


@aten("addr")
def addr(t: Translator, self: Tensor, vec1: Tensor, vec2: Tensor, beta: Number = 1, alpha: Number = 1) -> str:
    product = _scaled(t, outer(t, vec1, vec2), alpha, self.dtype)
    return product if beta == 0 else t.add("Add", product, _scaled(t, self, beta, self.dtype))


@aten("outer")
def outer(t: Translator, self: Tensor, vec2: Tensor) -> str:
    return t.add("Mul", t.add("Unsqueeze", self, t.constant([1])), vec2)


@aten("einsum")
def einsum(t: Translator, equation: str, tensors: list[Tensor], path: Any = None) -> str:
    return t.add("Einsum", *tensors, equation=equation.replace(" ", ""))


@aten("bilinear")
def bilinear(
    t: Translator, input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None
) -> str:
    y = t.add("Einsum", input1, weight, input2, equation="...i,oij,...j->...o")
    return y if bias is None else t.add("Add", y, bias)


@aten("_trilinear")
def trilinear(
    t: Translator,
    i1: Tensor,
    i2: Tensor,
    i3: Tensor,
    expand1: Sizes,
    expand2: Sizes,
    expand3: Sizes,
    sumdim: Sizes,
    unroll_dim: int = 1,
) -> str:
    """The sum over axes of a product of three tensors with additional axes."""
    factors = [
        t.add("Unsqueeze", x, t.constant(list(axes), np.int64)) if axes else x
        for x, axes in ((i1, expand1), (i2, expand2), (i3, expand3))
    ]
    product = t.add("Mul", t.add("Mul", factors[0], factors[1]), factors[2])
    return t.add("ReduceSum", product, t.constant(list(sumdim)), keepdims=0)


# Norms.


@aten("batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm", "_native_batch_norm_legit")
def batch_norm(
    t: Translator,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = False,
) -> Any:
    if training or running_mean is None or running_var is None:
        return _batch_statistics(t, input, weight, bias, eps)
    size = running_mean.shape[0]
    scale = weight if weight is not None else t.constant(np.ones(size or 0), input.dtype)
    shift = bias if bias is not None else t.constant(np.zeros(size or 0), input.dtype)
    return t.add("BatchNormalization", input, scale, shift, running_mean, running_var, epsilon=eps)


def _batch_statistics(t: Translator, x: Tensor, weight: Any, bias: Any, eps: float) -> Any:
    """Normalize with the statistics of the batch."""
    axes = [axis for axis in range(x.rank) if axis != 1]
    y = _normalized(t, x, axes, eps)
    return _affine(t, y, weight, bias, [1, -1] + [1] * (x.rank - 2))


def _normalized(t: Translator, x: Any, axes: Sequence[int], eps: float, dtype: Any = FLOAT32) -> str:
    places = t.constant(list(axes))
    difference = t.add("Sub", x, t.add("ReduceMean", x, places, keepdims=1))
    variance = t.add("ReduceMean", t.add("Mul", difference, difference), places, keepdims=1)
    return t.add("Div", difference, t.add("Sqrt", t.add("Add", variance, t.cast(eps, dtype))))


def _affine(t: Translator, y: str, weight: Any, bias: Any, sizes: Sequence[int]) -> str:
    for operation, value in (("Mul", weight), ("Add", bias)):
        if value is not None:
            y = t.add(operation, y, t.add("Reshape", value, t.constant(list(sizes))))
    return y


@aten("_native_batch_norm_legit.no_stats")
def batch_norm_without_statistics(
    t: Translator,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    return _batch_statistics(t, input, weight, bias, eps)


@aten("layer_norm", "native_layer_norm")
def layer_norm(
    t: Translator,
    input: Tensor,
    normalized_shape: Sequence[Any],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = False,
) -> Any:
    axis = input.rank - len(normalized_shape)
    scale: Any = weight
    if weight is None:
        scale = t.add("ConstantOfShape", t.vector(normalized_shape), value=np.ones(1, input.dtype))
    y, *statistics = t.add_all("LayerNormalization", (input, scale, bias), 3, axis=axis, epsilon=eps)
    return (y, *statistics) if "native" in t.node.target else y


@aten("rms_norm", "_fused_rms_norm")
def rms_norm(
    t: Translator,
    input: Tensor,
    normalized_shape: Sequence[Any],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Any:
    axes = t.constant(list(range(input.rank - len(normalized_shape), input.rank)))
    mean = t.add("ReduceMean", t.add("Mul", input, input), axes, keepdims=1)
    added = float(np.finfo(input.dtype).eps) if eps is None else eps
    scale = t.add("Reciprocal", t.add("Sqrt", t.add("Add", mean, t.cast(added, input.dtype))))
    y = t.add("Mul", input, scale)
    y = y if weight is None else t.add("Mul", y, weight)
    return (y, scale) if "_fused" in t.node.target else y


@aten("group_norm")
def group_norm(
    t: Translator,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = False,
) -> str:
    if weight is not None:
        t.expect_size(input, 1, weight.shape[0] or 0)
    sizes = t.sizes(input)
    grouped = t.add("Reshape", input, t.vector([sizes[0], num_groups, -1]))
    y = reshaped(t, _normalized(t, grouped, [2], eps, input.dtype), sizes)
    return _affine(t, y, weight, bias, [1, -1] + [1] * (input.rank - 2))


@aten("native_group_norm")
def native_group_norm(
    t: Translator,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    N: Any,
    C: Any,
    HxW: Any,
    group: int,
    eps: float,
) -> Any:
    return group_norm(t, input, group, weight, bias, eps)


@aten("instance_norm")
def instance_norm(
    t: Translator,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Any:
    if weight is not None:
        t.expect_size(input, 1, weight.shape[0] or 0)
    if input.rank < 3:
        raise ArgumentError(f"instance_norm takes 3 axes or more, got {input.rank}")
    if not use_input_stats:
        return batch_norm(t, input, weight, bias, running_mean, running_var, False, momentum, eps)
    y = _normalized(t, input, range(2, input.rank), eps, input.dtype)
    return _affine(t, y, weight, bias, [1, -1] + [1] * (input.rank - 2))


@aten("_weight_norm", "_weight_norm_interface")
def weight_norm(t: Translator, v: Tensor, g: Tensor, dim: int = 0) -> Any:
    """g v / |v|, with the norm over all axes but one, or over all if it is -1."""
    axes = [axis for axis in range(v.rank) if dim == -1 or axis != v.axis(dim)]
    norm = t.add("ReduceL2", v, t.constant(axes), keepdims=1)
    y = t.add("Mul", v, t.add("Div", g, norm))
    return y
