"""ATen's operators that create tensors from sizes and numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .promotion import dtype_of
from .registry import FLOAT32, INT64, Operand, Symbol, Tensor, Translator, aten, bounded

Sizes = Sequence[int | Symbol]


def filled(t: Translator, size: Sizes, value: Operand, dtype: Any) -> str:
    """Return a tensor of one number."""
    if isinstance(value, Tensor | Symbol):
        return t.add("Expand", t.cast(value, dtype), t.vector(size))
    return t.add("ConstantOfShape", t.vector(size), value=np.array([value]).astype(dtype))


@aten("zeros", "empty.memory_format", "empty_permuted", "empty_strided", "new_zeros", "new_empty")
def zeros(
    t: Translator,
    self: Tensor | None = None,
    size: Sizes = (),
    dtype: Any = None,
    physical_layout: Any = None,
    stride: Any = None,
) -> str:
    """Tensors without initial values hold zeros."""
    return filled(t, size, 0, _dtype(self, dtype))


def _dtype(like: Tensor | None, dtype: Any) -> Any:
    return dtype if dtype is not None else FLOAT32 if like is None else like.dtype


@aten("ones", "new_ones")
def ones(t: Translator, self: Tensor | None = None, size: Sizes = (), dtype: Any = None) -> str:
    return filled(t, size, 1, _dtype(self, dtype))


@aten("full")
def full(t: Translator, size: Sizes, fill_value: Operand, dtype: Any = None) -> str:
    return filled(t, size, fill_value, dtype_of(fill_value) if dtype is None else dtype)


@aten("new_full")
def new_full(t: Translator, self: Tensor, size: Sizes, fill_value: Operand, dtype: Any = None) -> str:
    return filled(t, size, fill_value, _dtype(self, dtype))


@aten("full_like")
def full_like(t: Translator, self: Tensor, fill_value: Operand, dtype: Any = None) -> str:
    return filled(t, t.sizes(self), fill_value, _dtype(self, dtype))


@aten("zeros_like", "empty_like")
def zeros_like(t: Translator, self: Tensor, dtype: Any = None) -> str:
    return full_like(t, self, 0, dtype)


@aten("ones_like")
def ones_like(t: Translator, self: Tensor, dtype: Any = None) -> str:
    return full_like(t, self, 1, dtype)


@aten("scalar_tensor")
def scalar_tensor(t: Translator, s: Operand, dtype: Any = None) -> str:
    return t.cast(s, dtype_of(s) if dtype is None else dtype)


@aten("arange", "arange.start", "arange.start_step")
def arange(t: Translator, start: Any = 0, end: Any = None, step: Any = 1, dtype: Any = None) -> str:
    if end is None:
        start, end = 0, start
    is_float = any(dtype_of(value).kind == "f" for value in (start, end, step))
    dtype = dtype if dtype is not None else FLOAT32 if is_float else INT64
    if not any(isinstance(value, Symbol) for value in (start, end, step)):
        bounded(abs((end - start) / step) if step else -1)
        return t.constant(np.arange(start, end, step).astype(dtype))
    counted = t.add(
        "Range", *(t.cast(value, np.float64 if is_float else INT64) for value in (start, end, step))
    )
    return t.add("Cast", counted, to=np.dtype(dtype))


@aten("range", "range.step")
def inclusive_range(t: Translator, start: Any, end: Any, step: Any = 1, dtype: Any = None) -> str:
    return arange(t, start, start + step * (int((end - start) / step) + 0.5), step, dtype or FLOAT32)


@aten("linspace", "linspace.Tensor_Tensor", "linspace.Tensor_Scalar", "linspace.Scalar_Tensor")
def linspace(t: Translator, start: Any, end: Any, steps: Any, dtype: Any = None) -> str:
    bounded(steps)
    wanted = np.dtype(FLOAT32 if dtype is None else dtype)
    if not any(isinstance(value, Tensor | Symbol) for value in (start, end)):
        return t.constant(np.linspace(start, end, steps).astype(wanted))
    a, b = (t.cast(value, wanted) for value in (start, end))
    return t.add("Add", a, t.add("Mul", t.constant(np.linspace(0, 1, steps), wanted), t.add("Sub", b, a)))


@aten("logspace")
def logspace(t: Translator, start: Any, end: Any, steps: Any, base: float = 10.0, dtype: Any = None) -> str:
    bounded(steps)
    return t.constant(np.logspace(start, end, steps, base=base).astype(FLOAT32 if dtype is None else dtype))


@aten("eye", "eye.m")
def eye(t: Translator, n: int, m: int | None = None, dtype: Any = None) -> str:
    bounded(n * (n if m is None else m))
    return t.constant(np.eye(n, m).astype(FLOAT32 if dtype is None else dtype))


@aten("tril_indices", "triu_indices")
def triangle_indices(t: Translator, row: int, col: int, offset: int = 0, dtype: Any = None) -> str:
    bounded(row * col)
    places = (np.tril_indices if "tril" in t.node.target else np.triu_indices)(row, offset, col)
    return t.constant(np.stack(places).astype(INT64 if dtype is None else dtype))


def _define_window(name: str, window: Any) -> None:
    @aten(name, f"{name}.periodic")
    def function(t: Translator, window_length: int, periodic: bool = True, dtype: Any = None) -> str:
        bounded(window_length)
        values = window(window_length + 1)[:-1] if periodic else window(window_length)
        return t.constant(values.astype(FLOAT32 if dtype is None else dtype))


for _name, _window in {
    "hann_window": np.hanning, "hamming_window": np.hamming, "blackman_window": np.blackman,
    "bartlett_window": np.bartlett, "kaiser_window": lambda n: np.kaiser(n, 12.0),
}.items():  # fmt: skip
    _define_window(_name, _window)


@aten("kaiser_window.beta")
def kaiser_window(
    t: Translator, window_length: int, periodic: bool = True, beta: float = 12.0, dtype: Any = None
) -> str:
    bounded(window_length)
    values = np.kaiser(window_length + periodic, beta)[:window_length]
    return t.constant(values.astype(FLOAT32 if dtype is None else dtype))


# Random numbers, which differ in every call.


def _random(t: Translator, like: Any, dtype: Any, is_normal: bool = False) -> str:
    """Return uniform numbers between 0 and 1, or normal ones."""
    operation = "RandomNormalLike" if is_normal else "RandomUniformLike"
    return t.add(operation, like, dtype=np.dtype(dtype))


def _affine(t: Translator, y: str, scale: Operand, shift: Operand, dtype: Any) -> str:
    return t.add("Add", t.add("Mul", y, t.cast(scale, dtype)), t.cast(shift, dtype))


@aten("rand", "randn", "rand_like", "randn_like")
def random(t: Translator, self: Tensor | None = None, size: Sizes = (), dtype: Any = None) -> str:
    wanted = _dtype(self, dtype)
    like = filled(t, size, 0, wanted) if self is None else self
    return _random(t, like, wanted, "randn" in t.node.target)


@aten("uniform")
def uniform(t: Translator, self: Tensor, **bounds: float) -> str:
    low, high = bounds.get("from", 0.0), bounds.get("to", 1.0)
    return _affine(t, _random(t, self, self.dtype), high - low, low, self.dtype)


@aten("normal_functional", "normal")
def normal(t: Translator, self: Tensor, mean: float = 0.0, std: float = 1.0) -> str:
    return _affine(t, _random(t, self, self.dtype, True), std, mean, self.dtype)


@aten(*(f"normal.{kind}" for kind in ("Tensor_Tensor", "Tensor_float", "float_Tensor")))
def normal_around(t: Translator, mean: Any, std: Any = 1.0) -> str:
    like = mean if isinstance(mean, Tensor) else std
    return _affine(t, _random(t, like, like.dtype, True), std, mean, like.dtype)


@aten("bernoulli", "bernoulli.p", "bernoulli.float")
def bernoulli(t: Translator, self: Tensor, p: float | None = None) -> str:
    drawn = _random(t, self, FLOAT32)
    return t.add("Cast", t.add("Less", drawn, t.cast(self if p is None else p, FLOAT32)), to=self.dtype)


@aten("randint", "randint.low")
def randint(t: Translator, high: int, size: Sizes, low: int = 0, dtype: Any = None) -> str:
    drawn = _random(t, filled(t, size, 0, np.float64), np.float64)
    number = t.add("Floor", _affine(t, drawn, high - low, low, np.float64))
    return t.add("Cast", number, to=np.dtype(INT64 if dtype is None else dtype))


@aten("randperm")
def randperm(t: Translator, n: int | Symbol, dtype: Any = None) -> str:
    drawn = _random(t, filled(t, [n], 0, FLOAT32), FLOAT32)
    places = t.add_all("TopK", (drawn, t.vector([n])), 2, axis=0)[1]
    return t.add("Cast", places, to=np.dtype(INT64 if dtype is None else dtype))
