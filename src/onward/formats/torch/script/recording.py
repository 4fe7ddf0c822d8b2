"""A graph that knows the shape and dtype of each value while it is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import reduce
from itertools import chain, combinations, product
from typing import Any, NamedTuple

import numpy as np

from ....core import budget
from ....core.identity import Identity
from ....errors import ArgumentError, OnwardError
from ....graph import Graph, Input
from ....graph.node import AnyArray, Node, Signature
from ....graph.operations import OPERATIONS
from ....graph.operations.evaluation import evaluate

MAX_LEARNED = 12  # sizes that are tried for two axes at once
MAX_KEY = 256  # bytes of an array that is compared by its content
# what operations raise for arrays that they do not accept
REFUSALS = (OnwardError, TypeError, ValueError, LookupError, ArithmeticError, MemoryError)


class Open(NamedTuple):
    """The shape and dtype of a value; sizes that depend on the values of the inputs are None."""

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


class Examples(NamedTuple):
    """What a value is for two examples of the sizes that the inputs leave open: arrays, or signatures.

    An array may also depend on integers other than sizes, such as the number of an iteration. The second
    example then has others than the first, and `varied` has those of the second with the sizes of the first.
    """

    first: AnyArray | Signature
    second: AnyArray | Signature
    varied: AnyArray | None = None

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape, in which the sizes that depend on the open ones are None."""
        return common_shape(self.first.shape, self.second.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype, which is the same in both examples."""
        return self.first.dtype

    @property
    def is_known(self) -> bool:
        """Whether the value follows from the sizes of the inputs."""
        is_known = isinstance(self.first, np.ndarray) and isinstance(self.second, np.ndarray)
        return is_known and self.varied is None


Known = AnyArray | Signature | Open | Examples
Shape = Sequence[int | None]


class UnsuitableSizesError(ArgumentError):
    """The code does not accept one of the examples of the open sizes."""


class LearnedSizeError(ArgumentError):
    """The code needs a size, or the size of another axis, where an axis is open.

    Several guesses are alternatives.
    """

    def __init__(self, *guesses: tuple[str, int | str]) -> None:
        super().__init__(" or ".join(f"the axis {axis} must have size {size}" for axis, size in guesses))
        self.guesses = guesses


def common_shape(a: Shape, b: Shape) -> tuple[int | None, ...]:
    """Return the sizes that two shapes share, and None for the others. Raises ArgumentError."""
    if len(a) != len(b):
        raise ArgumentError("the number of axes of a tensor depends on the sizes of the inputs")
    return tuple(n if n == m else None for n, m in zip(a, b, strict=True))


def example(value: Any, place: int) -> Any:
    """Return what a value is in one of the two examples."""
    if not isinstance(value, Examples):
        return value
    return value.first if place == 2 and value.varied is None else value[place]


def varies(value: Any) -> bool:
    """Whether a value depends on other integers than sizes."""
    return isinstance(value, Examples) and value.varied is not None


def common(a: Known | None, b: Known | None) -> Known | None:
    """Return what is known about a value that is one of two; None if nothing is."""
    if a is None or b is None or a.dtype != b.dtype or len(a.shape) != len(b.shape):
        return None
    is_varied = varies(a) or varies(b)
    if is_varied and a.shape == ():
        return unknown(Signature((), a.dtype))
    shapes = [tuple(example(value, place).shape) for place in (0, 1) for value in (a, b)]
    if shapes[::2] == shapes[1::2] and not is_varied and not any(None in shape for shape in shapes):
        first, second = (Signature(shape, a.dtype) for shape in shapes[::2])
        return unknown(first) if first == second else Examples(first, second)
    return Open(reduce(common_shape, shapes), a.dtype)


def declaration(name: str, known: Known | None) -> Input:
    """Return the declaration of a value."""
    if known is None or known.dtype == object:
        return Input(name)
    return Input(name, known.dtype, tuple("" if size is None else size for size in known.shape))


def unvalued(value: Known | None) -> Known | None:
    """Return what is known about a value except for its elements."""
    return common(value, value)


def retyped(value: Known | None, dtype: np.dtype[Any]) -> Known | None:
    """Return what is known about a value of the shape of another one and of a dtype."""
    if isinstance(value, Examples):
        return Examples(Signature(value.first.shape, dtype), Signature(value.second.shape, dtype))
    if value is None:
        return None
    return Open(value.shape, dtype) if isinstance(value, Open) else Signature(value.shape, dtype)


def unknown(value: Known) -> Known:
    """Return what is known about a value of this shape and dtype; an integer gets two examples."""
    if isinstance(value, Signature) and not value.shape and value.dtype.kind in "iu":
        one, two = np.array(1, value.dtype), np.array(2, value.dtype)
        return Examples(one, two, two)
    return value


@dataclass
class Folded:
    """Arrays computed from the weights of a file, which every recording of its code shares."""

    lasting: set[Identity] = field(default_factory=set)  # the weights and these arrays
    results: dict[Any, list[AnyArray]] = field(default_factory=dict)

    def key(self, operation: str, arrays: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
        """Return the key of an operation on weights, or None if other large arrays are among its inputs."""
        parts: list[Any] = []
        for array in arrays:
            is_weight = array is None or Identity(array) in self.lasting
            if not is_weight and (array.nbytes > MAX_KEY or array.dtype == object):
                return None
            parts.append(Identity(array) if is_weight else (array.dtype.str, array.shape, array.tobytes()))
        uses_weights = any(isinstance(part, Identity) for part in parts)
        return (operation, *parts, repr(sorted(attributes.items()))) if uses_weights else None


class Recording(Graph):
    """A graph under construction: it infers what it can about each value, and computes known ones at once.

    The recording of a branch uses values of the recordings around it; they become its inputs.
    """

    def __init__(
        self,
        around: Recording | None = None,
        folded: Folded | None = None,
        open_sizes: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        super().__init__()
        self.around, self.folded = around, folded or Folded()
        self.captured: list[str] = []
        self.values: dict[str, Known | None] = {}  # None: the shape is unknown
        self.open_sizes = open_sizes or {}  # the examples of each open axis
        self.sizes_of: dict[tuple[str, int], str] = {}  # the sizes that are values
        if around is not None:
            self._names, self.folded, self.open_sizes = around._names, around.folded, around.open_sizes

    def declare(self, name: str, value: Known | None) -> str:
        """Add an input with a known shape and dtype, or a known value."""
        name = self.add_input(name)
        self.values[name] = None if value is None else unknown(value)
        if isinstance(value, np.ndarray):
            self.constants[name] = value
        return name

    def add_constant(self, array: AnyArray, name: str = "") -> str:
        """Add a constant and return its name."""
        name = super().add_constant(array, name)
        self.values[name] = array
        return name

    def known(self, name: str) -> Known | None:
        """Return the value, or its shape and dtype; None if they are unknown."""
        if name in self.values:
            return self.values[name]
        if self.around is None:
            raise ArgumentError(f"the value {name} belongs to another branch")
        return self.around.known(name)

    def has(self, name: str) -> bool:
        """Whether a value belongs to this recording or to one around it."""
        return name in self.values or (self.around is not None and self.around.has(name))

    def find(self, name: str) -> str:
        """Make a value of a recording around this one available, and return its name."""
        if not name or name in self.values:
            return name
        value = self.known(name)
        self.values[name] = value
        if isinstance(value, np.ndarray):
            self.constants[name] = value
        else:
            self.inputs.append(Input(name))
            self.captured.append(name)
        return name

    def axis_of(self, *sizes: int | None) -> str:
        """Return the open axis that has these sizes in the examples, or ""."""
        return next((name for name, pair in self.open_sizes.items() if pair == sizes), "")

    def open_axis(self, name: str, axis: int) -> str:
        """Return the open axis of an input that an axis of a value has the size of, or ""."""
        known = self.known(name)
        sizes = [each.shape[axis] for each in known[:2]] if isinstance(known, Examples) else []
        return self.axis_of(*sizes)

    def find_size(self, name: str, axis: int) -> str:
        """Return the size of an axis of a value; the same size is always the same value."""
        recording: Recording | None = self
        while recording is not None:
            if found := recording.sizes_of.get((name, axis)):
                return self.find(found)
            recording = recording.around
        size = self.add("Gather", self.add("Shape", name), self.add_constant(np.array(axis)))
        self.sizes_of[name, axis] = size
        return size

    def add_all(
        self,
        operation: str,
        inputs: Sequence[str],
        outputs: int | Sequence[str] = 1,
        *,
        name: str = "",
        source: str = "",
        **attributes: Any,
    ) -> tuple[str, ...]:
        """Add a node and infer its outputs. Raises ArgumentError, which names the node."""
        inputs = [self.find(value) for value in inputs]
        names = super().add_all(operation, inputs, outputs, name=name, source=source, **attributes)
        budget.spend(100 * budget.STEP)
        node = self.nodes[-1]
        known = [self.values[value] if value else None for value in inputs]
        is_complete = all(k is not None or not value for k, value in zip(known, inputs, strict=True))
        try:
            with np.errstate(all="ignore"):
                results = self._inferred(operation, known, attributes) if is_complete else None
        except (UnsuitableSizesError, LearnedSizeError):
            raise
        except OnwardError as error:
            raise type(error)(f"{node}: {error}") from error
        except REFUSALS as error:
            raise ArgumentError(f"{node}: {error}") from error
        self.values |= dict.fromkeys(names)
        self.values |= zip(names, map(unknown, results or ()), strict=False)
        if results and all(isinstance(result, np.ndarray) for result in results):
            self.nodes.pop()
            self.constants.update(zip(names, results, strict=False))  # type: ignore[arg-type]
        return names

    def _inferred(
        self, operation: str, known: Sequence[Any], attributes: Mapping[str, Any]
    ) -> Sequence[Known] | None:
        """Return the arrays that a node computes if they are known, otherwise their signatures."""
        if any(isinstance(value, Open) for value in known):
            return _opened(operation, known, attributes)
        if any(isinstance(value, Examples) for value in known):
            return self._inferred_twice(operation, known, attributes)
        is_known = OPERATIONS[operation].folds(known)
        key = self.folded.key(operation, known, attributes) if is_known else None
        if key in self.folded.results:
            return self.folded.results[key]
        found = evaluate(Node(operation, (), (), attributes, ""), known)
        if key is not None and found is not None:
            results = [result for result in found if isinstance(result, np.ndarray)]
            if len(results) == len(found):
                self.folded.results[key] = results
                self.folded.lasting.update(map(Identity, results))
        return _opened(operation, known, attributes) if found is None else found

    def _inferred_twice(
        self, operation: str, known: Sequence[Any], attributes: Mapping[str, Any]
    ) -> Sequence[Known] | None:
        """Infer the outputs of a node for both examples of the open sizes."""
        found: list[Sequence[Known] | None] = []
        problems: list[Exception] = []
        is_varied = any(map(varies, known))
        for place in range(3 if is_varied else 2):
            try:
                found.append(self._inferred(operation, [example(v, place) for v in known], attributes))
            except REFUSALS as error:
                problems.append(error)
        if problems and is_varied:
            unvaried = [_joined(*map(Signature.of, each)) if varies(each) else each for each in known]
            return self._inferred(operation, unvaried, attributes)
        if len(problems) == 2:
            self._learn(operation, known, attributes)
            raise problems[0]
        if problems:
            raise UnsuitableSizesError(str(problems[0])) from problems[0]
        return None if None in found else [_joined(*values) for values in zip(*found, strict=True)]

    def _learn(self, operation: str, known: Sequence[Any], attributes: Mapping[str, Any]) -> None:
        """Raise LearnedSizeError if the node accepts its inputs once an open axis has another size."""
        first = [example(value, 0) for value in known]
        numbers = [size for value in first if value is not None for size in _numbers(value)]
        numbers += [layer.input_size] if (layer := attributes.get("layer")) is not None else []
        numbers += [n * attributes.get("group", 1) for n in numbers]
        sizes = dict.fromkeys(sorted(numbers, key=lambda size: size < 2))  # 0 and 1 are the least likely
        others = [size for size, _ in self.open_sizes.values()]
        open_here = [size for size in others if size in sizes]
        fixed = [size for size in sizes if size not in others][:MAX_LEARNED]

        def accepts(tried: Mapping[int, int]) -> bool:
            inputs = [replaced(value, tried) for value in first]
            return self._inferred(operation, inputs, attributes) is not None

        one = ({old: new} for old in open_here for new in sizes if new != old)
        replacements = product(combinations(open_here, 2), product(fixed, repeat=2))
        two = (dict(zip(old, new, strict=True)) for old, new in replacements)
        self.learn(chain(one, two, _alignments(operation, first, set(others))), accepts)
        self.guess(
            (a, b, size)
            for value in known
            if isinstance(value, Examples)
            for a, b in zip(value.first.shape, value.second.shape, strict=False)
            if a != b and a not in others
            for size in fixed
            if _holds(accepts, {a: size})
        )

    def learn(self, tries: Iterable[dict[int, int]], accepts: Callable[[dict[int, int]], bool]) -> None:
        """Raise LearnedSizeError for the first replacement of open sizes that is accepted, if any."""
        axes = {size: axis for axis, (size, _) in self.open_sizes.items()}
        for sizes in tries:
            if _holds(accepts, sizes):
                old, new = next(iter(sizes.items()))
                raise LearnedSizeError((axes[old], axes.get(new, new)))

    def guess(self, wanted: Iterable[tuple[int, int, int]]) -> None:
        """Raise LearnedSizeError for the sizes of open axes that turn sizes into others, if any.

        A size is given by its two examples. It is taken to grow in proportion to one axis, as that after a
        convolution does.
        """
        guesses: dict[tuple[str, int], None] = {}
        for a, b, size in wanted:
            for axis, (first, second) in self.open_sizes.items():
                found = second + Fraction((size - b) * (first - second), a - b)
                if found > 0 and found.denominator == 1:
                    guesses[axis, int(found)] = None
        if guesses:
            raise LearnedSizeError(*guesses)


def _holds(condition: Callable[[dict[int, int]], bool], sizes: dict[int, int]) -> bool:
    try:
        return condition(sizes)
    except REFUSALS:
        return False


def _alignments(operation: str, inputs: Sequence[Any], open_here: set[int]) -> Iterator[dict[int, int]]:
    """Yield replacements of open sizes that let the axes of two inputs be broadcast, or multiplied."""
    for a, b in combinations([value for value in inputs if value is not None], 2):
        pairs = list(zip(a.shape[::-1], b.shape[::-1], strict=False))
        products = [(a.shape[-1], b.shape[-2]), *pairs[2:]] if min(len(a.shape), len(b.shape)) > 1 else []
        aligned = [pair for pair in (products if operation == "MatMul" else pairs) if pair[0] != pair[1]]
        found = {m if m in open_here else n: n if m in open_here else m for n, m in aligned}
        if found and found.keys() <= open_here:
            yield found


def _joined(a: Any, b: Any, varied: Any = None) -> Known:
    """Return what a value is, given what it is in each example, and for other integers of the first one."""
    shape = common_shape(a.shape, b.shape)
    others = a.shape if varied is None else varied.shape
    if others != a.shape or isinstance(a, Open) or isinstance(b, Open):
        return Open(common_shape(shape, others), a.dtype)
    if not all(isinstance(value, np.ndarray) for value in (a, b, varied) if value is not None):
        a, b, varied = Signature.of(a), Signature.of(b), None
    return a if isinstance(a, Signature) and a == b else Examples(a, b, varied)


def _numbers(value: AnyArray | Signature) -> Sequence[int]:
    """Return the sizes of a value, and its elements if they are a few integers."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.size <= 8:
        return [*value.shape, *map(int, value.ravel())]
    return value.shape


def replaced(value: Any, sizes: Mapping[int, int]) -> Any:
    """Return an array or signature in which sizes, or integers that equal them, are replaced in order."""
    for old, new in sizes.items():
        if isinstance(value, Signature):
            value = value._replace(shape=tuple(new if size == old else size for size in value.shape))
        elif isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.size <= 8:
            value = np.where(value == old, np.array(new, value.dtype), value)
    return value


def _opened(
    operation: str, known: Sequence[Known | None], attributes: Mapping[str, Any]
) -> Sequence[Known] | None:
    """Return the outputs with the sizes that two examples of the unknown sizes and values share, or None."""
    meaning = OPERATIONS[operation]
    found = []
    for place, (size, element) in enumerate(((4, 1), (3, 0))):
        inputs = [
            np.broadcast_to(np.full((), element, k.dtype), [size if n is None else n for n in k.shape])
            if isinstance(k, Signature | Open)
            else k
            for k in (example(k, place) for k in known)
        ]
        if not meaning.is_pure:
            return None
        try:
            made = meaning.run_if_affordable(inputs, attributes, keeps=False)
        except REFUSALS:  # the example does not fit; the error of the call names the node
            return None
        if made is None:
            return None
        found.append(made)
    return [Open(common_shape(a.shape, b.shape), a.dtype) for a, b in zip(*found, strict=True)]
