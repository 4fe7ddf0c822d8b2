"""PyTorch's own samples of its functions (OpInfo), and variations: in place, strided, and without elements.

Complex tensors become pairs of real numbers at both ends of a call.
"""

import copy
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_utils import noncontiguous_like
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten

DTYPES = {
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
    torch.int8, torch.uint8, torch.bool, torch.complex64,
}  # fmt: skip
FLOATS = {torch.float32, torch.float64}
HALVES = {torch.float16, torch.bfloat16}
OPERATORS = {op.formatted_name if op.variant_test_name else op.name: op for op in op_db}
ALL = 1000  # as a number of samples: all of them
VARIATIONS = "plain", "in place", "strided", "empty"
MOST = 1 << 16  # elements of the tensors of a sample
# They return memory that nobody wrote, end the process, have results that are not unique, or read
# memory around the input.
IGNORED = {
    "empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided", "lu_unpack",
    "_segment_reduce_lengths", "_segment_reduce_offsets", "svd", "linalg.svd", "linalg.eigh", "linalg.eig",
    "linalg_pinv_singular", "as_strided_partial_views", "svd_lowrank", "pca_lowrank",
}  # fmt: skip
# Their indices of equal elements are not unique: only samples of random floats.
WITHOUT_TIES = {"topk", "kthvalue", "sort", "argsort", "msort", "median", "nanmedian", "mode"}
# Samples that differ, by the function and what their label has in common, with the reason.
KNOWN = {
    "as_strided": ("strided", "it reads the memory of its input, whose order only PyTorch knows"),
    "as_strided_copy": ("strided", "as as_strided"),
    "as_strided_scatter": ("strided", "as as_strided"),
    "abs": ("complex64", "the squares of numbers above 1e19 are infinite in float32"),
    "nn.functional.softsign": ("complex64", "as abs"),
    "grid_sampler_2d": ("bfloat16", "the nearest pixel depends on the rounding of the coordinates"),
    "matrix_exp": ("float16", "its intermediate powers are infinite in PyTorch"),
    "nn.functional.multi_head_attention_forward": ("float32", "sums of numbers above 1000 in another order"),
    "nn.functional.pixel_unshuffle": ("empty", "PyTorch returns its empty input unchanged"),
}
# Infinities saturate: 0 for -infinity, where PyTorch multiplies infinity by 0.
SATURATING = {"nn.functional.silu", "nn.functional.mish", "nn.functional.gelu"}
# Onward computes the coordinates of an image in float32, as onnxruntime does.
IMAGES = ("interpolate", "upsample", "grid_sample")
# relative to the number, and to the largest one
TOLERANCES = {
    torch.float64: (1e-7, 1e-10), torch.float32: (2e-5, 2e-6), torch.float16: (4e-3, 1e-3),
    torch.bfloat16: (3e-2, 1e-2),
}  # fmt: skip


class Sample(NamedTuple):
    """A call of a function: of which tensors, and what PyTorch returns."""

    operator: str
    label: str  # how it was made
    function: Callable[..., Any]  # of the tensors
    tensors: tuple[torch.Tensor, ...]
    expected: list[Any]  # tensors and numbers
    wide: list[Any] | None  # the same from float32, for inputs of half precision


def plain(value: Any) -> Any:
    """Return named tuples as tuples, which torch.export.save writes, and complex numbers as pairs."""
    if isinstance(value, torch.Tensor) and value.is_complex():
        return torch.view_as_real(value.resolve_conj())
    return tuple(map(plain, value)) if isinstance(value, tuple | list) else value


def samples(operator: str, count: int = ALL) -> Iterator[Sample]:
    """Yield a number of samples of an operator, of random dtypes and variations, or all of them."""
    info, order = OPERATORS[operator], random.Random(operator)
    allowed = FLOATS if operator in WITHOUT_TIES else DTYPES
    dtypes = sorted(info.dtypes & allowed, key=str)
    if operator in IGNORED or not dtypes:
        return
    if count >= ALL:
        for dtype in dtypes:
            for place, each in enumerate(_inputs(info, dtype)):
                for variation in VARIATIONS:
                    yield from _made(operator, variation, dtype, place, each)
        return
    taken: dict[torch.dtype, list[Any]] = {}
    for _ in range(count):
        dtype, variation = order.choice(dtypes), order.choice(VARIATIONS)
        if dtype not in taken:
            taken[dtype] = list(itertools.islice(_inputs(info, dtype), 4 * count))
        if taken[dtype]:
            place = order.randrange(len(taken[dtype]))
            yield from _made(operator, variation, dtype, place, taken[dtype][place])


def labelled(operator: str, label: str) -> Sample:
    """Return the sample of an operator that a label describes."""
    variation, name, place = label.rsplit(" ", 2)
    dtype = getattr(torch, name)
    found = next(itertools.islice(_inputs(OPERATORS[operator], dtype), int(place), None))
    return next(_made(operator, variation, dtype, int(place), found))


def _inputs(info: Any, dtype: torch.dtype) -> Iterator[Any]:
    """Yield PyTorch's samples, the same in each run."""
    torch.manual_seed(0)
    try:
        found = info.reference_inputs if hasattr(info, "reference_numerics_filter") else info.sample_inputs
        yield from found("cpu", dtype)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):  # a sample that PyTorch does not have
        return


def _made(operator: str, variation: str, dtype: torch.dtype, place: int, sample: Any) -> Iterator[Sample]:
    """Yield a variation of a sample, unless PyTorch refuses or draws it."""
    info = OPERATORS[operator]
    call = info.inplace_variant if variation == "in place" else info.op
    leaves, tree = tree_flatten((sample.input, tuple(sample.args), dict(sample.kwargs)))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    tensors = [leaves[i].detach() for i in places]
    known = [_is_known(tensor) for tensor in tensors]
    if call is None or not places or not all(known) or sum(tensor.numel() for tensor in tensors) > MOST:
        return
    tensors = [copy.deepcopy(tensor) for tensor in tensors]  # later samples may change them
    tensors = [torch.view_as_real(x.resolve_conj()) if x.is_complex() else x for x in tensors]
    if variation == "strided":
        tensors = [noncontiguous_like(tensor) for tensor in tensors]
    if variation == "empty":
        tensors = _without_elements(tensors)
    if variation in ("in place", "empty") and tensors == []:
        return

    def function(*values: torch.Tensor) -> Any:
        filled = list(leaves)
        for i, value in zip(places, values, strict=True):
            filled[i] = torch.view_as_complex(value) if leaves[i].is_complex() else value
        first, args, kwargs = tree_unflatten(filled, tree)
        if variation == "in place":
            first = first.clone()
        return plain(call(first, *args, **kwargs))

    halves = dtype in HALVES
    try:
        with torch.no_grad(), _Draws() as draws:
            expected = tree_flatten(function(*tensors))[0]
            widened = [x.float() if x.dtype in HALVES else x for x in tensors]
            wide = tree_flatten(function(*widened))[0] if halves else None
    except Exception:  # whatever PyTorch raises: the variation is not a call that it accepts
        return
    if not draws.found:
        label = f"{variation} {str(dtype).removeprefix('torch.')} {place}"
        yield Sample(operator, label, function, tuple(tensors), expected, wide)


class _Draws(TorchDispatchMode):
    """Notes whether random numbers are drawn."""

    found = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found |= torch.Tag.nondeterministic_seeded in func.tags
        return func(*args, **(kwargs or {}))


def _is_known(tensor: torch.Tensor) -> bool:
    return tensor.layout == torch.strided and tensor.dtype in DTYPES and not tensor.is_quantized


def _without_elements(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the tensors without elements along the first axis, where it has the size of the first one's."""
    first = tensors[0]
    if not first.ndim or not first.shape[0]:
        return []
    size = first.shape[0]
    return [x[:0].clone() if x.ndim == first.ndim and x.shape[0] == size else x for x in tensors]


def array(tensor: Any) -> NDArray[Any]:
    """Return a tensor or number as an array; bfloat16 becomes float32."""
    if isinstance(tensor, torch.Tensor):
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
    return np.asarray(tensor)


def difference(results: Any, sample: Sample) -> str:
    """Describe how results differ from those of a sample; empty if they do not, or for a known reason."""
    kind, _ = KNOWN.get(sample.operator, (None, ""))
    if kind is not None and kind in sample.label:
        return ""
    got = tree_flatten(results)[0]
    if len(got) != len(sample.expected):
        return f"{len(got)} results for {len(sample.expected)}"
    is_image = any(part in sample.operator for part in IMAGES)
    least = torch.float16 if is_image else torch.float64  # the precision that is enough
    if sample.operator in SATURATING:
        got = [_unless_saturated(np.asarray(y), array(z)) for y, z in zip(got, sample.expected, strict=True)]
    columns = [got, sample.expected, sample.wide or sample.expected]
    found = (_difference(*each, least) for each in zip(*columns, strict=True))
    return next(filter(None, found), "")


def _difference(result: Any, expected: Any, alternative: Any, least: torch.dtype) -> str:
    y, z = np.asarray(result), array(expected)
    if y.shape != z.shape:
        return f"shape {y.shape} for {z.shape}"
    if isinstance(expected, torch.Tensor) and y.dtype != z.dtype:
        return f"dtype {y.dtype} for {z.dtype}"
    kind = expected.dtype if isinstance(expected, torch.Tensor) else torch.float64
    kind = least if least == torch.float16 and kind in FLOATS else kind
    near = _near(y, z, kind) | _near(y, array(alternative), kind)
    if near.all():
        return ""
    place = tuple(int(i) for i in np.argwhere(~near)[0])
    return f"{y[place]!r} for {z[place]!r} at {place}, {np.count_nonzero(~near)} of {near.size} wrong"


def _unless_saturated(y: NDArray[Any], z: NDArray[Any]) -> NDArray[Any]:
    """Return results in which NaN takes the place of 0 where NaN is expected."""
    return np.where((y == 0) & np.isnan(z), z, y).astype(y.dtype) if y.shape == z.shape else y


def _near(y: NDArray[Any], z: NDArray[Any], kind: Any) -> NDArray[Any]:
    """Compare floats within the tolerance of their dtype, and other numbers exactly."""
    if z.dtype.kind != "f" or y.shape != z.shape:
        return np.asarray(y == z) if y.shape == z.shape else np.zeros(y.shape, bool)
    relative, absolute = TOLERANCES.get(kind, TOLERANCES[torch.float32])
    with np.errstate(all="ignore"):
        scale = np.abs(np.where(np.isfinite(z), z, 0)).max(initial=0)
        smallest = 1e-6 if kind == torch.float16 else 1e-30
        limit = relative * np.abs(z) + absolute * scale + smallest
        return np.asarray((np.abs(y - z) <= limit) | (y == z) | (np.isnan(y) & np.isnan(z)))
