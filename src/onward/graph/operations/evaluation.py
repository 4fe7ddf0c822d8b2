"""Evaluate a node as far as its inputs are known, for simplification, compilation and recordings."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from ...errors import ShapeError
from ..node import MAX_AXES, Node, Operand, Signature
from ..polynomial import UnsureError
from ..size import Size, is_symbolic
from ..sized import as_numbers, has_sizes
from .registry import OPERATIONS


def evaluate(node: Node, inputs: Sequence[Operand | None]) -> Sequence[Operand] | None:
    """Return what is known about the outputs of a node: arrays, or else signatures.

    The outputs are arrays if all inputs are arrays and the operation is pure, or if it reads only the
    signatures of its inputs. Otherwise, they are signatures, as they are if their shapes have symbolic sizes,
    if the operation does not take arrays of sizes, or if computing them takes much of the current budget.
    Returns None if the shapes depend on the values of unknown inputs.

    Raises ShapeError for negative sizes and for too many axes, LimitError, and what the operation raises.
    """
    operation, attributes = OPERATIONS[node.operation], node.attributes
    if operation.infer is not None:
        return operation.infer(node, inputs)
    has_any = any([type(x) is not Signature and has_sizes(x) for x in inputs])
    takes_sizes = operation.computes_sizes(attributes)
    if has_any and not operation.has_rule and not takes_sizes:
        inputs, has_any = list(map(as_numbers, inputs)), False
    if operation.composition is not None and not has_any and operation.folds(inputs):
        found = operation.composition(inputs, attributes)
        if found is not None and Signature not in map(type, found):
            return found
    signatures = made = None
    if operation.has_rule:
        signatures = operation.signatures(inputs, attributes)
        check_shapes(signatures or ())
    if not operation.reads_values or operation.folds(inputs):
        is_open = any(is_symbolic(signature.shape) for signature in signatures or ())
        if not is_open and (takes_sizes or not has_any):
            if has_any and operation.is_predicate:
                with _surely(inputs), suppress(UnsureError):
                    made = operation.run_if_affordable(inputs, attributes, signatures)
            else:
                made = operation.run_if_affordable(inputs, attributes, signatures)
            if made is not None:
                return made
    if signatures is None and not operation.has_rule:
        signatures = operation.signatures(inputs, attributes)
        check_shapes(signatures or ())
    return signatures


def check_shapes(signatures: Sequence[Signature]) -> None:
    """Raise ShapeError for negative sizes, and for more axes than the core supports."""
    for shape, _ in signatures:
        if len(shape) > MAX_AXES:
            raise ShapeError(f"a value has {len(shape)} axes; expected at most {MAX_AXES}")
        plain = [size for size in shape if type(size) is int] if is_symbolic(shape) else shape
        if min(plain, default=0) < 0:
            raise ShapeError(f"a value has the shape {shape}; expected no negative size")


@contextmanager
def _surely(arrays: Iterable[Any]) -> Iterator[None]:
    """Let comparisons of the sizes in arrays raise UnsureError, if that is what their axes want."""
    sizes = (size for array in arrays if has_sizes(array) for size in array.flat if type(size) is Size)
    axes = next((size.axes for size in sizes), None)
    if axes is None:
        yield
        return
    axes.is_sure = axes.is_strict
    try:
        yield
    finally:
        axes.is_sure = False
