"""ONNX operators that are layers of Onward, and run as these do: the same bits, whatever the batch."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference.op_run import OpRun

from ... import _core, layers
from ...errors import ArgumentError
from ...layers.activation import Activation
from ...layers.conv import Filters
from ...layers.norm import channels_of, standardized
from ...layers.pooling import AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d
from .activation_names import OPERATORS
from .operators import COMPUTE_DTYPES, AnyArray, Cached, floats


class Operator(OpRun):
    """An operator of Onward's in the place of the onnx package's, for the nodes that it takes."""

    op_domain = ""
    linked = False  # whether attributes may come with each call of the function around the node

    @classmethod
    def takes(cls, attributes: dict[str, Any], outputs: int, opset: int) -> bool:
        """Whether a node with these attributes is one that the operator runs."""
        return True


def product(dense: Cached[_core.Dense], x: AnyArray, W: AnyArray, b: AnyArray | None = None) -> AnyArray:
    """x W + b, with the core's product where W (I, O) is a matrix of floats, and b (O,) its bias."""
    precision = COMPUTE_DTYPES.get(W.dtype.name)
    affine = b is None or b.shape == W.shape[1:]
    if W.ndim != 2 or precision is None or x.dtype != W.dtype or not (x.ndim and affine):
        general: AnyArray = np.matmul(x, W).astype(x.dtype, copy=False)
        return general if b is None else general + b
    rows = np.ascontiguousarray(x.reshape(-1, W.shape[0]), precision)
    y = np.empty((len(rows), W.shape[1]), precision)
    dense(W, b).forward(rows, y)
    return y.reshape(*x.shape[:-1], W.shape[1]).astype(x.dtype, copy=False)


def _dense(W: AnyArray, b: AnyArray | None) -> _core.Dense:
    return _core.Dense(np.ascontiguousarray(floats("B", W).T), floats("C", b))


class MatMul(Operator):
    """A B; with the Add after it joined, A B + C, as a layer's sums begin with the bias."""

    def __init__(self, node: onnx.NodeProto, run_params: dict[str, Any]) -> None:
        super().__init__(node, run_params)
        self._dense = Cached(_dense)

    def _run(self, A: AnyArray, B: AnyArray, C: AnyArray | None = None) -> tuple[AnyArray]:
        return (product(self._dense, A, B, C),)


class Gemm(Operator):
    """alpha A B + beta C, A and B transposed if it says so."""

    def __init__(self, node: onnx.NodeProto, run_params: dict[str, Any]) -> None:
        super().__init__(node, run_params)
        self._dense, self._transposed = Cached(_dense), Cached(np.transpose)

    def _run(
        self,
        A: AnyArray,
        B: AnyArray,
        C: AnyArray | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        transA: int = 0,
        transB: int = 0,
        broadcast: int = 1,
    ) -> tuple[AnyArray]:
        """`broadcast` is of opset 6; later ones do so whatever C is."""
        A, B = A.T if transA else A, self._transposed(B) if transB else B
        if alpha == beta == 1:
            return (product(self._dense, A, B, C),)
        y = alpha * product(self._dense, A, B) + (0 if C is None else beta * C)
        return (y.astype(A.dtype, copy=False),)


def with_biases(nodes: Sequence[OpRun], outputs: Sequence[str]) -> list[OpRun]:
    """Nodes of a graph with these outputs, each MatMul that goes into nothing but an Add joined with it."""
    uses = Counter([*outputs, *(name for node in nodes for name in _used(node.onnx_node))])
    products = {
        node.output[0]: node for node in nodes if isinstance(node, MatMul) and uses[node.output[0]] == 1
    }
    joined: dict[str, OpRun] = {}
    for node in nodes:
        plain = node.op_type == "Add" and not hasattr(node, "axis")  # of opset 6
        mine = [name for name in node.input if name in products] if plain else []
        if mine:
            before, (C, *_) = products[mine[0]], [name for name in node.input if name != mine[0]]
            inputs = [*before.input, C]
            proto = onnx.helper.make_node("MatMul", inputs, node.output, node.onnx_node.name)
            joined[mine[0]] = joined[node.output[0]] = MatMul(proto, before.run_params)
    gone = joined.keys() & products.keys()
    return [joined.get(node.output[0], node) for node in nodes if node.output[0] not in gone]


def _used(node: onnx.NodeProto) -> Iterator[str]:
    """The names of what a node takes, its subgraphs included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (output.name for output in graph.output)
            for inner in graph.node:
                yield from _used(inner)


class Conv(Operator):
    """As onward.Conv1d and Conv2d, over any number of axes."""

    def __init__(self, node: onnx.NodeProto, run_params: dict[str, Any]) -> None:
        super().__init__(node, run_params)
        group = getattr(self, "group", 1)
        self._filters = Cached(
            lambda W, B: Filters(np.ascontiguousarray(floats("W", W)), floats("B", B), group)
        )

    def _run(
        self,
        X: AnyArray,
        W: AnyArray,
        B: AnyArray | None = None,
        auto_pad: str = "NOTSET",
        dilations: Sequence[int] | None = None,
        group: int = 1,
        kernel_shape: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
    ) -> tuple[AnyArray]:
        """X (N, C, *in), W (M, C / group, *kernel), B (M,) to Y (N, M, *out)."""
        kernel = W.shape[2:]
        if X.ndim < 3 or X.ndim != W.ndim or X.shape[1] != W.shape[1] * group or W.shape[0] % group:
            raise ArgumentError(f"X has shape {X.shape}, W {W.shape}, which group={group} does not join")
        strides, dilations = tuple(strides or [1] * len(kernel)), tuple(dilations or [1] * len(kernel))
        extent = [(k - 1) * dilation + 1 for k, dilation in zip(kernel, dilations, strict=True)]
        sides = _sides(auto_pad, pads, X.shape[2:], extent, strides)
        y = self._filters(W, B)(floats("X", X), strides, sides, dilations)
        return (y.astype(X.dtype, copy=False),)


def _sides(
    auto_pad: str,
    pads: Sequence[int] | None,
    sizes: Sequence[int],
    extent: Sequence[int],
    strides: Sequence[int],
) -> list[tuple[int, int]]:
    """Zeros before and after each axis."""
    if auto_pad == "NOTSET":
        pads = pads or [0] * 2 * len(sizes)
        return list(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))
    if auto_pad == "VALID":
        return [(0, 0)] * len(sizes)
    if auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        raise ArgumentError(f"auto_pad={auto_pad!r} is not known")
    total = [
        max(0, (-(-size // stride) - 1) * stride + n - size)
        for size, n, stride in zip(sizes, extent, strides, strict=True)
    ]
    more, less = [n - n // 2 for n in total], [n // 2 for n in total]
    before, after = (less, more) if auto_pad == "SAME_UPPER" else (more, less)
    return list(zip(before, after, strict=True))


class Unary(Operator):
    """An operator that is a layer without weights."""

    def __init__(self, node: onnx.NodeProto, run_params: dict[str, Any]) -> None:
        super().__init__(node, run_params)
        self.layer = self._layer({name: getattr(self, name) for name in self.attributes_names_})

    def _layer(self, attributes: dict[str, Any]) -> Any:
        raise NotImplementedError

    def _run(self, X: AnyArray, **attributes: Any) -> tuple[AnyArray]:
        return (self.layer(floats("X", X)).astype(X.dtype, copy=False),)


class Elementwise(Unary):
    """One of the activation functions, by the name of the class."""

    @classmethod
    def takes(cls, attributes: dict[str, Any], outputs: int, opset: int) -> bool:
        return attributes.keys() <= OPERATORS[cls.__name__].parameters.keys()

    def _layer(self, attributes: dict[str, Any]) -> Activation:
        function, defaults = OPERATORS[type(self).__name__]
        return Activation(function, *(attributes.get(name, value) for name, value in defaults.items()))


class OfRows(Operator):
    """Softmax and its kin: along an axis; before opset 13, along that and all after it as one."""

    op_schema = None  # today's has another default for `axis`
    linked = True

    def __init__(self, node: onnx.NodeProto, run_params: dict[str, Any]) -> None:
        super().__init__(node, run_params)
        self._joins = run_params["opsets"][""] < 13
        if not hasattr(self, "axis"):
            self.axis = 1 if self._joins else -1

    def _of_rows(self, X: AnyArray) -> AnyArray:
        """Of X along its last axis."""
        raise NotImplementedError

    def _run(self, X: AnyArray, axis: int | None = None) -> tuple[AnyArray]:
        axis = self.axis if axis is None else axis
        if X.size == 0:
            return (X,)
        if not self._joins:
            return (np.moveaxis(self._of_rows(np.moveaxis(X, axis, -1)), -1, axis),)
        rows = X.reshape(math.prod(X.shape[: axis if axis >= 0 else axis + X.ndim]), -1)
        return (self._of_rows(rows).reshape(X.shape),)


class Softmax(OfRows):
    """As onward.Softmax."""

    def _of_rows(self, X: AnyArray) -> AnyArray:
        if X.dtype in (np.float32, np.float64):
            return layers.Softmax()(X)
        # of halves, ONNX's tests expect that each step is rounded
        powers: AnyArray = np.exp(X - X.max(-1, keepdims=True))
        powers /= powers.sum(-1, keepdims=True)
        return powers


class LogSoftmax(OfRows):
    """The onnx package's is the logarithm of Softmax, and so -inf where that is 0 in the precision of X."""

    def _of_rows(self, X: AnyArray) -> AnyArray:
        shifted = X - X.max(-1, keepdims=True)
        y: AnyArray = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        return y


class Hardmax(OfRows):
    """1 where a row is largest for the first time, 0 elsewhere."""

    def _of_rows(self, X: AnyArray) -> AnyArray:
        y = np.zeros_like(X)
        np.put_along_axis(y, X.argmax(-1, keepdims=True), 1, -1)
        return y


class Pool(Unary):
    """As onward's pooling of one or two axes."""

    @classmethod
    def takes(cls, attributes: dict[str, Any], outputs: int, opset: int) -> bool:
        kernel = attributes["kernel_shape"]
        pads = attributes.get("pads") or [0] * 2 * len(kernel)
        alike = pads[: len(kernel)] == pads[len(kernel) :]
        narrow = all(n <= k // 2 for n, k in zip(pads, kernel, strict=False))
        return outputs == 1 and len(kernel) <= 2 and alike and narrow and "auto_pad" not in attributes

    def _options(self, attributes: dict[str, Any]) -> dict[str, Any]:
        kernel = attributes["kernel_shape"]
        return {
            "kernel_size": kernel,
            "stride": attributes.get("strides") or 1,
            "padding": (attributes.get("pads") or [0] * len(kernel))[: len(kernel)],
            "ceil_mode": bool(attributes.get("ceil_mode")),
        }


class AveragePool(Pool):
    """As onward.AvgPool1d and AvgPool2d."""

    @classmethod
    def takes(cls, attributes: dict[str, Any], outputs: int, opset: int) -> bool:
        return super().takes(attributes, outputs, opset) and "dilations" not in attributes

    def _layer(self, attributes: dict[str, Any]) -> AvgPool1d | AvgPool2d:
        kind = (AvgPool1d, AvgPool2d)[len(attributes["kernel_shape"]) - 1]
        counted = bool(attributes.get("count_include_pad"))
        return kind(**self._options(attributes), count_include_pad=counted)


class MaxPool(Pool):
    """As onward.MaxPool1d and MaxPool2d; bytes are whole numbers in float32, too."""

    def _layer(self, attributes: dict[str, Any]) -> MaxPool1d | MaxPool2d:
        kind = (MaxPool1d, MaxPool2d)[len(attributes["kernel_shape"]) - 1]
        return kind(**self._options(attributes), dilation=attributes.get("dilations") or 1)

    def _run(self, X: AnyArray, **attributes: Any) -> tuple[AnyArray]:
        (y,) = super()._run(X.astype(np.float32) if X.dtype.itemsize == 1 else X)
        return (y.astype(X.dtype, copy=False),)


class BatchNormalization(Operator):
    """As onward.BatchNorm1d and BatchNorm2d."""

    @classmethod
    def takes(cls, attributes: dict[str, Any], outputs: int, opset: int) -> bool:
        plain = attributes.get("spatial", 1) and not attributes.get("training_mode")
        return outputs == 1 and opset >= 7 and bool(plain)

    def _run(
        self,
        X: AnyArray,
        scale: AnyArray,
        B: AnyArray,
        input_mean: AnyArray,
        input_var: AnyArray,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        training_mode: int = 0,
        spatial: int = 1,
    ) -> tuple[AnyArray]:
        """`spatial` is of opset 8 and before."""
        x = floats("X", X)
        weights = {"scale": scale, "B": B, "input_mean": input_mean, "input_var": input_var}
        scale, B, mean, variance = (floats(name, w).reshape(channels_of(x)) for name, w in weights.items())
        y = (x - mean) / np.sqrt(variance + x.dtype.type(epsilon)) * scale + B
        return (y.astype(X.dtype, copy=False),)


class LayerNormalization(Operator):
    """As onward.LayerNorm."""

    @classmethod
    def takes(cls, attributes: dict[str, Any], outputs: int, opset: int) -> bool:
        return outputs == 1

    def _run(
        self,
        X: AnyArray,
        Scale: AnyArray,
        B: AnyArray | None = None,
        axis: int = -1,
        epsilon: float = 1e-5,
        stash_type: int = 1,
    ) -> tuple[AnyArray]:
        x = floats("X", X)
        y = standardized(x.reshape(*x.shape[:axis], -1), epsilon).reshape(x.shape) * floats("Scale", Scale)
        return ((y if B is None else y + floats("B", B)).astype(X.dtype, copy=False),)


class GroupNormalization(Operator):
    """As onward.GroupNorm; before opset 21, weights were of groups."""

    @classmethod
    def takes(cls, attributes: dict[str, Any], outputs: int, opset: int) -> bool:
        return opset >= 21

    def _run(
        self,
        X: AnyArray,
        scale: AnyArray,
        bias: AnyArray,
        num_groups: int = 1,
        epsilon: float = 1e-5,
        stash_type: int = 1,
    ) -> tuple[AnyArray]:
        x, shape = floats("X", X), channels_of(X)
        members = math.prod(x.shape[1:]) // num_groups
        y = standardized(x.reshape(len(x), num_groups, members), epsilon).reshape(x.shape)
        y = y * floats("scale", scale).reshape(shape) + floats("bias", bias).reshape(shape)
        return (y.astype(X.dtype, copy=False),)


LAYERS: dict[str, type[Operator]] = {
    own.__name__: own
    for own in (
        *(MatMul, Gemm, Conv, Softmax, LogSoftmax, Hardmax, AveragePool, MaxPool),
        *(BatchNormalization, LayerNormalization, GroupNormalization),
        *(type(name, (Elementwise,), {}) for name in OPERATORS),
    )
}
