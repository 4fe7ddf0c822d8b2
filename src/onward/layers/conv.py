"""Convolution and pooling, as in torch.nn: layers whose window slides over one or two axes."""

from __future__ import annotations  # importing np.random is slow

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Never, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

import onward._core as _core

from ..core import arrays
from ..core.arrays import Array, Shape
from ..core.checks import Rng, flag, integer
from ..core.windows import Filters, Geometry, averaged, combined, geometry, spans, windows
from ..errors import ArgumentError, ShapeError
from .base import Layer
from .quantize import Quantizable, packed, uniform

if TYPE_CHECKING:
    from .graphs import GraphBuilder


class Spatial(Layer):
    """A layer whose window slides over the last one or two axes."""

    takes_vectors = False
    axes: ClassVar[int]
    kernel_size: Any
    stride: Any
    padding: Any

    def _per_axis(self, name: str, value: Any, low: int) -> Any:
        """`value` as a tuple of one integer per axis, or as one integer if they are equal."""
        given = list(value) if isinstance(value, tuple | list) else [value] * self.axes
        if len(given) != self.axes:
            raise ArgumentError(f"{name}={value!r}; expected an integer or {self.axes} of them")
        sizes = tuple(integer(name, size, low) for size in given)
        return sizes[0] if len(set(sizes)) == 1 else sizes

    def per_axis(self, value: Any) -> Shape:
        """One integer per axis."""
        return value if isinstance(value, tuple) else (value,) * self.axes

    @property
    def window(self) -> dict[str, Any]:
        """The window as attributes of ONNX, which tell its size, its steps and the padding of x."""
        pads = self.per_axis(0 if isinstance(self.padding, str) else self.padding) * 2
        shape, strides = self.per_axis(self.kernel_size), self.per_axis(self.stride)
        return {"kernel_shape": list(shape), "strides": list(strides), "pads": list(pads)}

    def __call__(self, x: ArrayLike, **unknown: Never) -> Array:
        """Map x (N, C, *sizes), or (C, *sizes) unbatched, to y (N, O, *out); pooling keeps the channels.

        Each row gives bitwise the same result in any batch. Raises ShapeError, DtypeError, SignatureError.
        """
        x, C = self._floats(x, unknown), getattr(self, "in_channels", None)
        batched = x.ndim == self.axes + 2
        if not (batched or x.ndim == self.axes + 1) or C not in (None, x.shape[-self.axes - 1]):
            layout = f"{C or 'C'}, {'L' if self.axes == 1 else 'H, W'}"
            takes = f"this {type(self).__name__} takes (N, {layout}), or ({layout}) unbatched"
            raise ShapeError(f"x has shape {x.shape}, but {takes}")
        x = x if batched else x[None]
        window = self.window
        g = geometry(x.shape[2:], window["kernel_shape"], window, f"the window of this {type(self).__name__}")
        with np.errstate(all="ignore"), _core.Flushing():
            y = self._slide(x, g)
        return y if batched else y[0]

    def _slide(self, x: Array, g: Geometry) -> Array:
        """y (N, O, *out) from x (N, C, *sizes)."""
        raise NotImplementedError

    def _backward(self, dy: ArrayLike, cache: Any) -> tuple[Array, dict[str, Array]]:
        x, shape = cache if isinstance(cache, tuple) and len(cache) == 2 else (None, ())
        if not isinstance(x, np.ndarray) or x.ndim == self.axes + 2:
            return super()._backward(dy, cache)
        dx, gradients = super()._backward(arrays.as_array(dy, "dy")[None], (x[None], (1, *shape)))
        return dx[0], gradients


class Convolution(Spatial, Quantizable):
    """The base class of Conv1d and Conv2d."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        self.in_channels = integer("in_channels", in_channels, 1)
        self.out_channels = integer("out_channels", out_channels, 1)
        self.kernel_size = self._per_axis("kernel_size", kernel_size, 1)
        self.stride = self._per_axis("stride", stride, 1)
        self.padding = self._padding(padding)
        self.dilation = self._per_axis("dilation", dilation, 1)
        self.groups = integer("groups", groups, 1)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ArgumentError(
                f"groups={groups}, but must divide in_channels={in_channels} and out_channels={out_channels}"
            )
        self.bias = flag("bias", bias)
        if not isinstance(padding_mode, str) or padding_mode != "zeros":
            raise ArgumentError(f"padding_mode={padding_mode!r}, but only 'zeros' is supported")
        self.padding_mode = padding_mode
        inputs = (self.in_channels // self.groups, *self.per_axis(self.kernel_size))
        bias_shape = (self.out_channels,) if self.bias else None
        draw = uniform(math.prod(inputs) ** -0.5)
        self._draw(dtype, rng, draw, weight=(self.out_channels, *inputs), bias=bias_shape)

    def _padding(self, padding: Any) -> Any:
        if not isinstance(padding, str):
            return self._per_axis("padding", padding, 0)
        if padding not in ("same", "valid"):
            raise ArgumentError(f"padding={padding!r}, but must be 'same', 'valid' or integers")
        if padding == "same" and self.stride != 1:
            raise ArgumentError(f"padding='same' requires stride=1, not {self.stride}")
        return padding

    @packed
    def _filters(self, weights: dict[str, Array]) -> Filters:
        return Filters(weights["weight"], weights.get("bias"), self.groups, weights.get("weight_scale"))

    def compressed(self, precision: str) -> Self:
        if 1 < self.groups == self.in_channels == self.out_channels:  # filters of a few weights
            return self
        return super().compressed(precision)

    @property
    def window(self) -> dict[str, Any]:
        shape, dilations = self.per_axis(self.kernel_size), self.per_axis(self.dilation)
        found = super().window | {"dilations": list(dilations)}
        if self.padding == "same":  # an odd padding is longer after x
            sides = [((span - 1) // 2, span // 2) for span in spans(shape, dilations)]
            found["pads"] = [number for column in zip(*sides, strict=True) for number in column]
        return found

    def _slide(self, x: Array, g: Geometry) -> Array:
        return self._filters(x, g)

    def add_nodes(self, b: GraphBuilder, x: str) -> str:
        weights = self.weights_by_name()
        matrix = b.quantized(weights) if self.precision else (b.constant(weights["weight"], "weight"),)
        bias = [b.constant(weights["bias"], "bias")] if self.bias else []
        operation = "QuantizedConv" if self.precision else "Conv"
        return b.add(operation, x, *matrix, *bias, group=self.groups, **self.window)


class Conv1d(Convolution):
    """A convolution, as torch.nn.Conv1d: y[o, t] = b[o] + sum over c, k of W[o, c, k] x[c, s t + d k].

    s is the stride and d the dilation; each group of channels is convolved separately.

    Weights: weight W (O, C/groups, K) and bias b (O,), drawn from U(-1/sqrt(n), 1/sqrt(n)), n = K C/groups,
    with `rng`, a NumPy Generator or a seed. padding is the number of zeros on both sides, "valid" for none,
    or "same" for a y as long as x. Raises ArgumentError, DtypeError, SignatureError.

    >>> import numpy as np
    >>> Conv1d(3, 8, kernel_size=5, stride=2, padding=2)(np.zeros((4, 3, 100))).shape
    (4, 8, 50)
    """

    axes = 1


class Conv2d(Convolution):
    """A convolution, as torch.nn.Conv2d: Conv1d with pairs for t and k.

    Weights: weight W (O, C/groups, K, K') and bias b (O,), drawn as in Conv1d. kernel_size, stride, padding
    and dilation are one integer or two. Raises ArgumentError, DtypeError, SignatureError.

    >>> import numpy as np
    >>> Conv2d(1, 8, kernel_size=(3, 5), padding="same")(np.zeros((4, 1, 20, 30))).shape
    (4, 8, 20, 30)
    """

    axes = 2


class Pooling(Spatial):
    """The base class of pooling layers.

    The numbers of a window are combined position by position, in an order that does not depend on the batch.
    """

    operation: ClassVar[str]  # its name in graphs

    def _configure(self, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool) -> None:
        self.kernel_size = self._per_axis("kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else self._per_axis("stride", stride, 1)
        self.padding = self._per_axis("padding", padding, 0)
        sizes = zip(self.per_axis(self.padding), self.per_axis(self.kernel_size), strict=True)
        if any(n > k // 2 for n, k in sizes):
            raise ArgumentError(f"padding={padding!r}; expected at most half of kernel_size={kernel_size!r}")
        self.ceil_mode = flag("ceil_mode", ceil_mode)

    @property
    def window(self) -> dict[str, Any]:
        return super().window | {"ceil_mode": int(self.ceil_mode)}

    def add_nodes(self, b: GraphBuilder, x: str) -> str:
        return b.add(self.operation, x, **self.window)


class MaxPool(Pooling):
    """The base class of MaxPool1d and MaxPool2d."""

    operation = "MaxPool"

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        *,
        ceil_mode: bool = False,
    ) -> None:
        self._configure(kernel_size, stride, padding, ceil_mode)
        self.dilation = self._per_axis("dilation", dilation, 1)

    @property
    def window(self) -> dict[str, Any]:
        return super().window | {"dilations": list(self.per_axis(self.dilation))}

    def _slide(self, x: Array, g: Geometry) -> Array:
        y = combined(np.maximum, windows(x, g, -np.inf), -np.inf)
        return y + 0  # np.maximum may return either -0 or 0: return 0


class MaxPool1d(MaxPool):
    """The maximum of each window, as torch.nn.MaxPool1d: y[c, t] = max over k of x[c, stride t + dilation k].

    stride defaults to kernel_size; the padding is -inf. float64 stays float64; other dtypes become float32.
    Raises ArgumentError, SignatureError.

    >>> MaxPool1d(2)([[1.0, 5.0, 2.0, 3.0]])
    array([[5., 3.]])
    """

    axes = 1


class MaxPool2d(MaxPool):
    """The maximum of each window, as torch.nn.MaxPool2d: MaxPool1d over two axes.

    kernel_size, stride, padding and dilation are one integer or two. Raises ArgumentError.

    >>> import numpy as np
    >>> MaxPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4)).tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """

    axes = 2


class AvgPool(Pooling):
    """The base class of AvgPool1d and AvgPool2d."""

    operation = "AveragePool"

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self._configure(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = flag("count_include_pad", count_include_pad)

    @property
    def window(self) -> dict[str, Any]:
        return super().window | {"count_include_pad": int(self.count_include_pad)}

    def _slide(self, x: Array, g: Geometry) -> Array:
        return averaged(x, g, self.count_include_pad)


class AvgPool1d(AvgPool):
    """The average of each window, as torch.nn.AvgPool1d: y[c, t] = 1/K sum over k of x[c, stride t + k].

    stride defaults to kernel_size; the padding is zeros, which count unless count_include_pad is False.
    float64 stays float64; other dtypes become float32. Raises ArgumentError, SignatureError.

    >>> AvgPool1d(2)([[1.0, 5.0, 2.0, 3.0]])
    array([[3. , 2.5]])
    """

    axes = 1


class AvgPool2d(AvgPool):
    """The average of each window, as torch.nn.AvgPool2d: AvgPool1d over two axes.

    kernel_size, stride and padding are one integer or two. Raises ArgumentError.

    >>> import numpy as np
    >>> AvgPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4)).tolist()
    [[[[2.5, 4.5], [10.5, 12.5]]]]
    """

    axes = 2
