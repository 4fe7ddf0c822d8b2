"""Functions of tensors for exported programs, by the kind of their operators."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Case(NamedTuple):
    """A module, its inputs, and their dynamic axes (input to axes)."""

    module: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...]]
    dynamic: dict[int, tuple[int, ...]] = {}  # noqa: RUF012 - never changed


class Function(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Any:
        return _plain(self.function(*args))


def _plain(value: Any) -> Any:
    """Return named tuples as tuples: torch.export.save does not write them."""
    return tuple(map(_plain, value)) if isinstance(value, tuple | list) else value


def of(function: Callable[..., Any], *shapes: tuple[int, ...], dynamic: tuple[int, ...] = (0,)) -> Case:
    """A function of random tensors; `dynamic` are axes of the first."""
    return Case(
        lambda: Function(function), lambda: tuple(torch.randn(*shape) for shape in shapes), {0: dynamic}
    )


FUNCTIONS = {
    "arithmetic": of(
        lambda x, y: (
            x + 2 * y,
            x - y / 3,
            x * 1.5,
            2 - x,
            x / y,
            torch.add(x, y, alpha=3),
            x.abs() ** 1.5,
            x**2,
        ),
        (3, 4),
        (4,),
    ),
    "integer arithmetic": of(
        lambda x: (
            (i := (x * 10).to(torch.int64)) // 3,
            i % 3,
            i / 4,
            torch.div(i, 3, rounding_mode="trunc"),
            torch.div(x, 0.3, rounding_mode="floor"),
            torch.remainder(x, 0.7),
            torch.fmod(x, 0.7),
            i + 0.5,
            i * True,
        ),
        (3, 4),
    ),
    "comparisons": of(
        lambda x, y: (
            x > y,
            x <= 0,
            (x > 0) & (y < 1),
            ~(x > 0),
            x != y,
            torch.where(x > 0, x, 0.0),
            x.eq(x),
        ),
        (3, 4),
        (4,),
    ),
    "unary": of(
        lambda x: [
            f(x.abs() + 0.1)
            for f in (
                torch.log,
                torch.exp,
                torch.sqrt,
                torch.rsqrt,
                torch.sin,
                torch.cos,
                torch.floor,
                torch.ceil,
                torch.round,
                torch.trunc,
                torch.frac,
                torch.log1p,
                torch.expm1,
                torch.log2,
                torch.log10,
                torch.erf,
                torch.reciprocal,
                torch.sign,
                torch.square,
                torch.atan,
                torch.isnan,
                torch.neg,
                torch.exp2,
            )
        ],
        (3, 4),
    ),
    "clamp": of(
        lambda x: (x.clamp(-0.5, 0.5), x.clamp(min=0), torch.maximum(x, -x), x.clamp(max=x.mean())), (3, 4)
    ),
    "reductions": of(
        lambda x: (
            x.sum(),
            x.mean(1),
            x.amax((0, 2)),
            x.min(),
            x.max(1),
            x.argmax(-1),
            x.argmin(),
            x.prod(2),
            x.std(1),
            x.var((1, 2), correction=0),
            x.norm(dim=1),
            torch.logsumexp(x, 1),
            (x > 0).any(1),
            (x > 0).all(),
            x.norm(p=1, dim=(1, 2)),
            (x > 0).sum(1),
            torch.var_mean(x, 2),
            x.mean((0, 1), keepdim=True),
        ),
        (3, 4, 5),
    ),
    "cumulative extrema": of(
        lambda x: (
            x.cummax(1),
            x.cummin(0),
            x.logcumsumexp(1),
            x.round().cummax(0),
            torch.where(x > 0.5, torch.inf, x).logcumsumexp(0),
            torch.where(x > 0, x, -torch.inf).logcumsumexp(1),
        ),
        (5, 21),
    ),
    "orders and distances": of(
        lambda x, y: (
            torch.median(x),
            torch.median(x, 1),
            torch.kthvalue(x, 2, 1),
            torch.msort(x),
            torch.nanmean(x, 1),
            torch.cdist(x, y),
            torch.cdist(x, y, 1.0),
            torch.dist(x, x + 1, 3),
            F.pairwise_distance(x, x.roll(1)),
            F.smooth_l1_loss(x, x * 2, beta=0.5),
            F.huber_loss(x, x * 2, "sum", 0.5),
        ),
        (6, 4),
        (3, 4),
        dynamic=(),
    ),
    "rare arithmetic": of(
        lambda x: (
            torch.rad2deg(x),
            torch.deg2rad(x),
            torch.isneginf(x),
            torch.isposinf(x / 0),
            torch.isclose(x, x + 1e-6),
            torch.float_power(x.abs(), 2),
            torch.ldexp(x, torch.tensor(2)),
            torch.special.ndtr(x),
            torch.special.entr(x),
        ),
        (3, 4),
    ),
    "rare shapes": of(
        lambda x, v: (
            x.fliplr(),
            x.flipud(),
            torch.diag(v),
            torch.diag(x[:, :3]),
            torch.trace(x[:, :3]),
            torch.kron(x, v),
            torch.tensor_split(x, 3, 1),
            torch.hsplit(x, 2),
            torch.vsplit(x, 3),
            torch.column_stack([x, x[:, 0]]),
            torch.dstack([v, v]),
            torch.diff(x, prepend=x[:, :1]),
        ),
        (3, 4),
        (3,),
        dynamic=(),
    ),
    "rare images": of(
        lambda x, theta: (
            F.channel_shuffle(x, 2),
            F.affine_grid(theta, [1, 1, 4, 5], align_corners=False),
            F.interpolate(x[:, :, None], scale_factor=2, mode="trilinear"),
        ),
        (1, 4, 3, 5),
        (1, 2, 3),
        dynamic=(),
    ),
    "cumulative": of(lambda x: (x.cumsum(1), x.cumprod(0), (x > 0).cumsum(-1), x.flip(1).cumsum(1)), (3, 4)),
    "order": of(
        lambda x: (
            x.topk(3),
            x.sort(1, descending=True),
            x.argsort(0),
            x.topk(2, largest=False),
            x.kthvalue(2),
            x.median(1),
        ),
        (5, 7),
        dynamic=(0,),
    ),
    "softmax": of(
        lambda x: (x.softmax(0), x.log_softmax(-1), F.normalize(x, dim=1), F.cosine_similarity(x, -x + 1)),
        (3, 4),
    ),
    "views": of(
        lambda x: (
            x.view(-1),
            x.reshape(x.shape[0], -1, 2),
            x.transpose(0, 2),
            x.permute(2, 0, 1),
            x.unsqueeze(1),
            x[:, :1].squeeze(1),
            x.flatten(1),
            x.unflatten(2, (2, 3)),
            x.expand(2, *x.shape),
            x.movedim(0, 2),
            x.unfold(1, 3, 2),
            x.diagonal(0, 1, 2),
            x.t() if x.ndim < 3 else x.mT,
        ),
        (3, 5, 6),
    ),
    "splits": of(
        lambda x: (*x.chunk(3, 1), *x.split(2, 2), *x.split([1, 4], 1), *x.unbind(2), x.narrow(1, 1, 2)),
        (3, 5, 6),
    ),
    "joins": of(
        lambda x: (
            torch.cat([x, x * 2], 1),
            torch.stack([x, -x], -1),
            x.repeat(1, 2),
            x.repeat_interleave(3, 1),
            x.flip(1),
            x.roll(2, 1),
            x.tile(2, 1, 2),
            x.tril(),
            x.triu(1),
            torch.cat([x, (x * 3).long()], 0),
        ),
        (3, 4),
    ),
    "slices": of(
        lambda x: (x[:, 1:], x[:, -2:, ::2], x[:, :-1], x[-1], x[..., 1], x[:, 2:100], x[None, :, 0]),
        (3, 5, 6),
    ),
    "indices": of(
        lambda x: (
            x[[2, 0]],
            x[:, [1, -1]],
            x[[0, 1], [2, 3]],
            x[:, [0, 1], [2, 3]],
            x[[0, 1], :, [2, 3]],
            x.index_select(1, torch.tensor([1, 0])),
            x.gather(1, (x > 0).long()),
            x[:, torch.tensor([[0], [1]]), torch.tensor([1, 2])],
        ),
        (3, 5, 6),
        dynamic=(),
    ),
    "masks": of(
        lambda x: (
            x.masked_fill(x > 0, -1.0),
            torch.where(x > 0, x, torch.zeros_like(x)),
            F.one_hot((x > 0).long().sum(1), 9),
        ),
        (3, 5),
    ),
    "scatter": of(
        lambda x: (
            x.scatter(1, torch.tensor([[0, 2], [1, 3]]), 5.0),
            x.scatter_add(0, torch.zeros_like(x).long(), x),
            x.index_add(0, torch.tensor([0, 0]), x[:2]),
            x.index_fill(1, torch.tensor([1]), 3.0),
            x.index_copy(0, torch.tensor([1]), x[:1]),
            x.slice_scatter(x[:, :2] * 2, 1, 1, 3),
            x.select_scatter(x[0] * 3, 0, -1),
        ),
        (3, 4),
        dynamic=(),
    ),
    "padding": of(
        lambda x: (
            [F.pad(x, (2, 1), mode=m) for m in ("constant", "reflect", "replicate", "circular")]
            + [F.pad(x, (-1, 2, 0, 1), value=3.0)]
        ),
        (3, 4, 5),
    ),
    "products": of(
        lambda x, y, z: (
            torch.bmm(x, y),
            x @ y,
            torch.baddbmm(z, x, y, beta=0.5, alpha=2.0),
            torch.einsum("bij,bjk->bik", x, y),
            torch.einsum("bij,bij->bi", x, x),
            x[0] @ y[0, :, 0],
            torch.addmm(z[0], x[0], y[0]),
            torch.outer(x[0, 0], y[0, 0]),
        ),
        (3, 4, 5),
        (3, 5, 6),
        (3, 4, 6),
        dynamic=(),
    ),
    "attention": of(
        lambda q, k, v: (
            F.scaled_dot_product_attention(q, k, v),
            F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3),
            F.scaled_dot_product_attention(
                q, k, v, attn_mask=torch.tensor([[True, False, True, True, True]])
            ),
            F.scaled_dot_product_attention(q, k, v, attn_mask=q @ k.transpose(-1, -2)),
            F.scaled_dot_product_attention(q.double(), k.double(), v.double(), attn_mask=q @ k.mT),
        ),
        (3, 2, 4, 6),
        (3, 2, 5, 6),
        (3, 2, 5, 7),
        dynamic=(),
    ),
    "creation": of(
        lambda x: (
            torch.zeros_like(x),
            torch.ones(x.shape[0], 2),
            torch.full((x.shape[0],), 3.0),
            torch.arange(x.shape[0]),
            torch.arange(1, 7, 2.5),
            torch.linspace(0, 1, 5),
            torch.eye(3),
            x.new_zeros(2, 3),
            torch.full_like(x, 2),
        ),
        (3, 4),
    ),
    "promotion": of(
        lambda x: (
            (i := (x * 5).int()) + 1,
            i + 1.5,
            i * x,
            (x > 0) + i,
            x.double() * x,
            i.float() / 2,
            (x > 0).float() - 1,
            i + torch.tensor(2.5),
            x + torch.tensor(1, dtype=torch.float64),
            i.long() + i,
        ),
        (3, 4),
    ),
    "complex": of(
        lambda x: (
            torch.fft.rfft(x).abs(),
            torch.fft.irfft(torch.fft.rfft(x)),
            torch.view_as_real(torch.fft.fft(x)),
            torch.stft(x, 4, 2, window=torch.ones(4), return_complex=False),
        ),
        (3, 8),
    ),
    "composites": of(
        lambda x: (
            torch.bucketize(x, torch.tensor([-1.0, 0, 1])),
            torch.bucketize(x, torch.tensor([0.0]), right=True),
            *torch.meshgrid(x[0], x[1], indexing="xy"),
            torch.isin(x.long(), torch.tensor([0, 1])),
            x.diff(n=2),
            torch.hypot(x, x + 1),
            torch.xlogy(x.abs(), x.abs() + 1),
            torch.erfc(x),
            x.round(decimals=1),
            x.rot90(),
            (x * 8).int() << 1,
            torch.linalg.vecdot(x, x),
            torch.tensordot(x, x, 1),
            torch.hstack([x, x]),
            torch.linalg.multi_dot([x, x, x]),
            F.mse_loss(x, x + 1),
            F.l1_loss(x, x * 2),
            torch.diag_embed(x),
            torch.vstack([x, x[:1]]),
            F.softplus(x, 3, 1),
        ),
        (6, 6),
        dynamic=(),
    ),
    "images": of(
        lambda x: (
            F.unfold(x, (2, 3), padding=1),
            F.fold(F.unfold(x, 2), (6, 6), 2),
            F.pixel_unshuffle(x, 2),
            F.grid_sample(x, torch.tanh(x[:, :2].permute(0, 2, 3, 1)), align_corners=False),
            F.interpolate(x, scale_factor=2, mode="bicubic"),
            F.interpolate(x, size=4, mode="nearest-exact"),
            F.interpolate(x, size=(4, 9), mode="area"),
            F.interpolate(x, size=(9, 4)),
        ),
        (2, 3, 6, 6),
        dynamic=(),
    ),
}
