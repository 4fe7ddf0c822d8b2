"""Programs of samples of PyTorch's functions, as .pt2 and as TorchScript, and their results in Onward."""

import itertools
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.export import Dim
from torch.utils._pytree import tree_flatten

import onward
from onward.errors import OnwardError

from .op_samples import Sample, array, difference

BATCH = 16  # samples in one program


class Outcome(NamedTuple):
    """What became of a sample: "equal", "refused" or "wrong" with the details, or "skipped" by PyTorch."""

    sample: Sample
    kind: str
    details: str = ""


class Calls(nn.Module):
    """All calls of some samples, whose tensors are the arguments `x0`, `x1`, ..."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        super().__init__()
        self.samples = samples
        names = ", ".join(f"x{i}" for i in range(sum(len(sample.tensors) for sample in samples)))
        scope: dict[str, Any] = {}
        exec(f"def forward(self, {names}):\n    return self.results({names})", scope)
        self.forward = scope["forward"].__get__(self)

    def results(self, *tensors: torch.Tensor) -> Any:
        rest = iter(tensors)
        return tuple(s.function(*(next(rest) for _ in s.tensors)) for s in self.samples)


def _inputs(samples: Sequence[Sample]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor for sample in samples for tensor in sample.tensors)


def _saved(samples: Sequence[Sample], how: str, path: Path) -> None:
    module, inputs = Calls(samples).eval(), _inputs(samples)
    with torch.no_grad():
        if how == "traced":
            torch.jit.save(torch.jit.trace(module, inputs, check_trace=False, strict=False), path)
            return
        dynamic = None
        if how == "dynamic":
            dynamic = tuple(dict.fromkeys(range(x.ndim), Dim.AUTO) or None for x in inputs)
        program = torch.export.export(module, inputs, dynamic_shapes=dynamic)
        torch.export.save(program.run_decompositions() if how == "decomposed" else program, path)


def outcomes(samples: Sequence[Sample], how: str, path: Path) -> Iterator[Outcome]:
    """Yield the outcome of each sample; those of a program that fails are tried one by one."""
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        found = _run(batch, how, path)
        yield from found if found is not None else (_run([each], how, path)[0] for each in batch)


def _run(samples: Sequence[Sample], how: str, path: Path) -> list[Outcome] | None:
    """Return the outcomes of samples in one program, or None if it fails and has several samples."""
    is_one = len(samples) == 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _saved(samples, how, path)
    except Exception as error:  # whatever PyTorch raises for what it cannot export
        return [Outcome(samples[0], "skipped", str(error)[:200])] if is_one else None
    inputs = [array(x) for x in _inputs(samples)]
    try:
        results = _called(path, inputs, how)
    except OnwardError as error:
        kind = "refused" if re.search(r"aten|operator|input|output|tensor", str(error)) else "wrong"
        return [Outcome(samples[0], kind, f"{type(error).__name__}: {error}")] if is_one else None
    except Exception as error:  # any other error is a bug
        return [Outcome(samples[0], "wrong", f"{type(error).__name__}: {error}")] if is_one else None
    leaves, answers = iter(tree_flatten(results)[0]), []
    for sample in samples:
        text = difference(list(itertools.islice(leaves, len(sample.expected))), sample)
        answers.append(Outcome(sample, "wrong" if text else "equal", text))
    return answers


def _called(path: Path, inputs: Sequence[Any], how: str) -> Any:
    if how != "traced":
        return onward.load(path)(*inputs)
    declared = {f"x{i}": (x.dtype, x.shape) for i, x in enumerate(inputs)}
    return onward.load(path, inputs=declared)(*inputs)
