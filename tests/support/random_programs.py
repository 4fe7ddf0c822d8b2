"""Random programs of PyTorch, a few expressions of tensors whose sizes are open, as sources of modules."""

from __future__ import annotations

import linecache
import re
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

DTYPES = (
    *[torch.float32] * 4, torch.float64, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool,
)  # fmt: skip
MOST_ELEMENTS = 4000
# Expressions of tensors x and y, axes d and e of x, a bool k, a small integer i, a size m and a number c.
# Results whose order PyTorch leaves open, such as the indices of equal elements in topk, are not among them.
OF_AXES = """
    x.narrow(d, 0, 1) | x.select(d, -1) | x.select(d, 0) | x[i:] | x[:i] | x[..., i:] | x[::m]
    x[..., None] | x[:, ::m] | x[None, ..., 0] | x[:, -1] | x[1:-1] | x.flip(d) | x.flip(d, e)
    x.roll(i, d) | x.roll(i) | x.transpose(d, e) | x.swapaxes(d, e) | x.swapdims(d, e)
    x.movedim(d, e) | x.mT | x.rot90(i, (0, 1)) | x.unsqueeze(d) | x.diagonal(i, d, e) | x.tril(i)
    x.triu(i) | x.unfold(d, m, 2) | x.sum(d, keepdim=k) | x.mean(d, keepdim=k)
    x.amax(d, keepdim=k) | x.amin(d, keepdim=k) | x.sum() | x.prod(d, keepdim=k)
    x.any(d, keepdim=k) | x.all(d) | x.logsumexp(d, keepdim=k) | x.nansum(d) | x.mean()
    x.var(d, keepdim=k, correction=m) | x.std(d) | torch.var_mean(x, d)[1] | x.norm(dim=d)
    x.norm(m, dim=d) | torch.count_nonzero(x, dim=d) | x.sum((d, e), keepdim=k)
    torch.quantile(x, 0.3, dim=d, keepdim=k) | x.argmax(d, keepdim=k) | x.argmin(d) | x.argmax()
    x.max(d)[0] | x.min(d, keepdim=k)[0] | x.aminmax(dim=d)[1]
    x.sort(d, descending=k, stable=True)[0] | x.argsort(d, stable=True) | x.topk(1, d, largest=k)[0]
    x.kthvalue(1, d)[0] | x.median(d)[0] | x.cumsum(d) | x.cumprod(d) | x.cummax(d)[0]
    x.logcumsumexp(d) | x.diff(dim=d) | x.diff(n=2, dim=d) | x.softmax(d) | x.log_softmax(d)
    F.normalize(x, dim=d) | F.glu(x, d) | x.chunk(2, d)[-1] | x.split(m, d)[0] | x.unbind(d)[0]
    x.split([1, x.shape[d] - 1], d)[1] | torch.cat([x, y], d) | torch.cat([x, x], d)
    torch.stack([x, x], d) | x.repeat_interleave(2, d) | x.tile(2)
    torch.stack([x, x], -1).flatten(-2) | x.expand(m, *x.shape) | x.repeat(m, *x.shape)
    x.expand_as(y) | x.flatten() | x.flatten(0, 1) | x.flatten(-2) | x.reshape(x.shape[0], -1)
    x.reshape(-1, x.shape[-1]) | x.unflatten(d, (1, -1)) | x.unflatten(d, (-1, 2))
    x.reshape(*x.shape[:-1], 1, x.shape[-1]) | x.view(-1) | x.reshape(x.shape[::-1])
    x.reshape(y.shape) | x + torch.arange(x.shape[-1]) | x + x.shape[d]
    x * torch.linspace(0, 1, x.shape[-1]) | x / x.shape[d] | x * (x.shape[d] // 2)
    torch.arange(x.shape[d]) | torch.arange(x.shape[d] - 1, -1, -1) | x.new_zeros(x.shape[d], m)
    torch.ones(x.shape[d], x.shape[e]) | F.pad(x, [i, m], value=c) | F.pad(x, [m, i, 1, 0])
    F.pad(x, [1, m], mode="reflect") | F.pad(x, [m, 1], mode="replicate")
    F.pad(x, [1, m], mode="circular") | x.gather(d, x.argsort(d, stable=True))
    x.index_select(d, torch.tensor([0, 0])) | x[torch.tensor([0, -1])]
    x.index_fill(d, torch.tensor([0]), 1) | x.scatter(d, x.argmax(d, keepdim=True), 1)
    x.masked_fill(x > 0, c) | x.select_scatter(y.select(d, 0), d, -1)
    x.slice_scatter(x.narrow(d, 0, 1), d, 0, 1) | x.take_along_dim(x.argmax(d, keepdim=True), d)
    x.index_add(d, torch.tensor([0]), x.narrow(d, 0, 1)) | F.one_hot(x.argmax(d), 9)
    torch.searchsorted(x.sort(-1)[0], x) | F.layer_norm(x, x.shape[-1:])
    torch.cumulative_trapezoid(x, dim=d) | x.diag_embed() | torch.tensordot(x, x, ([d], [d]))
    torch.cdist(x, x) | x @ x.mT | x.mT @ x | torch.einsum("...ij,...kj->...ik", x, x)
    F.cosine_similarity(x, x.roll(1, 0), d) | F.scaled_dot_product_attention(x, x, x, is_causal=k)
    torch.baddbmm(x @ x.mT, x, x.mT, beta=0.5) | F.max_pool1d(x, m, 2, ceil_mode=k)
    F.avg_pool1d(x, m, 2, m // 2, k, not k) | F.lp_pool1d(x, 2, m, 2, k)
    F.adaptive_avg_pool1d(x, m) | F.adaptive_max_pool1d(x, m) | F.interpolate(x, scale_factor=1.5)
    F.interpolate(x, scale_factor=0.5, mode="linear", align_corners=k)
    F.interpolate(x, m, mode="nearest-exact") | F.max_pool2d(x, m, 2, 0, 2, k)
    F.avg_pool2d(x, m, 2, m // 2, k, not k) | F.adaptive_avg_pool2d(x, m)
    F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=k) | F.unfold(x, m, 1, 1, 2)
    F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2) | F.instance_norm(x) | F.local_response_norm(x, m)
"""
OF_ELEMENTS = """
    -x | x.abs() | x.sign() | x.floor() | x.ceil() | x.round() | x.trunc() | x.frac() | x.exp()
    x.tanh() | x.sigmoid() | x.relu() | x.sin() | x.square() | x.abs().sqrt() | x.abs().log1p()
    x.expm1() | x.erf() | ~x | x.reciprocal() | x.isnan() | x.isfinite() | x.logical_not()
    x.signbit() | x.nan_to_num() | F.gelu(x) | F.silu(x) | F.softplus(x) | F.elu(x) | F.hardtanh(x)
    F.hardswish(x) | F.softshrink(x) | F.logsigmoid(x) | x + y | x - y | x * y | x / y
    torch.maximum(x, y) | torch.fmin(x, y) | x.remainder(y) | x.fmod(y) | x // y | torch.atan2(x, y)
    x.copysign(y) | x == y | x < y | x >= y | x.logical_and(y) | x.logical_xor(y) | x & y
    torch.xlogy(x, y) | torch.heaviside(x, y) | torch.hypot(x, y) | x.abs().pow(y) | x + c | c - x
    x * c | x / c | x % c | x // 2 | 2**x | x**2 | x >> 1 | x << 1 | -7 // x.abs().add(1)
    x.div(y, rounding_mode="floor") | x.div(3, rounding_mode="trunc") | x.clamp(-1, c)
    x.clamp(min=y) | torch.where(x > 0, x, y) | x.lerp(y, 0.3) | torch.where(x > 0, x, c)
    x.addcmul(y, y, value=2) | x.add(y, alpha=2) | torch.rsub(x, 2, alpha=3) | torch.logaddexp(x, y)
    x.masked_fill(y > 0, -1) | x.to(y.dtype) | x.float() | x.double() | x.half() | x.long()
    x.int() | x.bool() | x.to(torch.uint8) | x.type_as(y) | torch.full_like(x, c) | torch.isin(x, y)
    torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0]), right=k) | x.count_nonzero() | x.nonzero()
    x[x > 0]
"""


def _split(table: str) -> list[str]:
    return [each.strip() for line in table.splitlines() for each in line.split(" | ") if each.strip()]


EXPRESSIONS = _split(OF_AXES) + _split(OF_ELEMENTS)


class Sizes(NamedTuple):
    """The dtype and the sizes of the input; those of the open axes are examples."""

    dtype: torch.dtype
    shape: list[int]
    is_open: list[bool]


class RandomProgram:
    """The source of a module of one input; `module` runs it, `inputs` draws inputs of other sizes."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        rank = int(rng.integers(1, 5))
        is_open = [True, *(rng.random(rank - 1) < 0.6).tolist()]
        rng.shuffle(is_open)
        self.sizes = Sizes(self._pick(DTYPES), rng.integers(3, 7, rank).tolist(), is_open)
        self.first = self._drawn(self.sizes.shape)
        self._values = [self.first]
        self.lines: list[str] = []
        count = 1 + rng.integers(1, 6)
        while len(self._values) < count:
            self._grow()
        last = len(self._values) - 1
        outputs = [n for n in range(1, last) if rng.random() < 0.3]
        self.lines.append(f"return {', '.join(f'v{n}' for n in [*outputs, last])},")

    def __str__(self) -> str:
        return f"{self.sizes}\n" + "\n".join(self.lines)

    def module(self) -> nn.Module:
        """Return the module, whose source TorchScript finds, too."""
        source = "def forward(self, v0: Tensor):\n" + "".join(f"    {line}\n" for line in self.lines)
        name = f"<random program {id(self)}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        space: dict[str, Any] = {"torch": torch, "F": nn.functional, "Tensor": Tensor}
        exec(compile(source, name, "exec"), space)
        return type("Random", (nn.Module,), {"forward": space["forward"]})()

    def inputs(self, count: int) -> list[Tensor]:
        """Return the first input and others of random sizes."""
        shapes = [
            [
                int(self.rng.choice([0, 1, 2, 3, 4, 9, size])) if is_open else size
                for size, is_open in zip(self.sizes.shape, self.sizes.is_open, strict=True)
            ]
            for _ in range(count - 1)
        ]
        return [self.first, *map(self._drawn, shapes)]

    def _pick(self, choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def _drawn(self, shape: list[int]) -> Tensor:
        """Random numbers; whole ones are often equal."""
        numbers = self.rng.integers(-5, 6, shape)
        if self.sizes.dtype in (torch.uint8, torch.bool):
            numbers = np.maximum(numbers, 0)
        if self.sizes.dtype.is_floating_point and self.rng.random() < 0.7:
            return torch.tensor(self.rng.normal(0, 1.5, shape)).to(self.sizes.dtype)
        return torch.tensor(numbers).to(self.sizes.dtype)

    def _grow(self) -> None:
        """Add an expression, unless PyTorch refuses it for these values."""
        last = len(self._values) - 1
        place = last if self.rng.random() < 0.7 else int(self.rng.integers(last + 1))
        other, x = int(self.rng.integers(last + 1)), self._values[place]
        axes = range(-x.dim(), x.dim()) if x.dim() else [0]
        words = {
            "d": str(self._pick(axes)), "e": str(self._pick(axes)), "k": str(bool(self.rng.integers(2))),
            "i": str(self.rng.integers(-3, 4)), "m": str(self.rng.integers(1, 4)),
            "c": str(self._pick([0.5, 2, -1, 3, 1.5, 0])), "x": f"v{place}", "y": f"v{other}",
        }  # fmt: skip
        text = _with_words(self._pick(EXPRESSIONS), words)
        names = {f"v{n}": value for n, value in enumerate(self._values)}
        try:
            y = eval(text, {"torch": torch, "F": nn.functional, **names})
        except Exception:  # shapes or dtypes that do not go together, of which PyTorch has many errors
            return
        if y.numel() <= MOST_ELEMENTS and y.dim() < 6:
            self.lines.append(f"v{last + 1} = {text}")
            self._values.append(y)


def _with_words(expression: str, words: dict[str, str]) -> str:
    """Replace the single letters of an expression that are words of their own."""
    parts = re.split(r"(?<![\w.\"])([a-z])(?![\w\"=])", expression)
    return "".join(words.get(part, part) if place % 2 else part for place, part in enumerate(parts))
