"""Passes over the steps of a program, so that it has fewer of them and less to compute."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import onward._core as _core

from ..size import are_same, is_symbolic
from ..sized import have_same_sizes
from .steps import Step, views_of, with_views
from .view import CONSTANTS, DTYPES, FIRST_OF_LOOPS, View

REMOVED: Step = "", ()  # keeps the place of a step, so that the others keep their numbers
MOST_INPUTS, MOST_OPERATIONS = 7, 16  # limits of a fused step
ELEMENTWISE = frozenset(("unary", "activate", "binary", "fused"))  # steps that may be fused
# Steps that write only their last argument.
ONE_OUTPUT = frozenset("activate binary cast compare copy dense fused matmul product reduce unary".split())
# Others that do, and read windows.
WINDOWED = frozenset("filter integer_product integer_window pooled_product window".split())
# Steps of which the second and third argument are their rows and the number of axes of the rows.
PRODUCTS = frozenset("filter integer_product integer_window product".split())
PARTIAL = ELEMENTWISE | {"copy", "filter", "window"}  # steps that write exactly their last argument
# Steps whose output, the last argument, may have any strides.
STRIDED = frozenset(
    "activate binary cast compare copy dequantize fused lookup pooled_product quantize rescale rescale_once "
    "unary where window".split()
)


def optimized(steps: list[Step], sizes: Mapping[int, Any], lanes: int) -> list[Step]:
    """Return fewer steps that compute the same.

    `sizes` holds those of the arrays of the arena in bytes, `lanes` is the number of floats in a vector.
    """
    users = _core.users_of(steps, View)
    found = fused(without_unread_rows(in_place(steps, users, sizes), users), users)
    found = with_shared_borders(without_copies(found, users, lanes))
    return [step for step in found if step is not REMOVED]


def in_place(steps: list[Step], users: dict[int, list[int]], sizes: Mapping[int, Any]) -> list[Step]:
    """Remove the copies of arrays that nothing reads any more.

    What follows changes the array itself, or several steps compute the parts of an output where it belongs.
    `sizes` holds those of the arrays of the arena in bytes. The users become those of the result.
    """
    arrays: dict[int, int] = {}

    def moved(view: View) -> View:
        while view.space in arrays:
            view = view.in_space(arrays[view.space])
        return view

    removed, changed = set(), set[int]()
    for number, (name, arguments) in enumerate(steps):
        if name != "copy":
            continue
        x, y = map(moved, arguments)
        if y.space >= FIRST_OF_LOOPS or not _is_last(x, y, number, users, sizes):
            continue
        old, new = (y.space, x.space) if y.space < 0 else (x.space, y.space)
        if y.space < 0 or _is_in_parts(steps, users[x.space][:-1], x.space):
            arrays[old] = new
            changed.update(users[old])
            users[new] = users[x.space] + users[y.space]
            removed.add(number)
    for old in arrays:
        del users[old]
    for new in {*arrays.values()} & users.keys():
        users[new] = [number for number in users[new] if number not in removed]
    return _without(steps, removed, changed, moved)


def _without(
    steps: list[Step], removed: Collection[int], changed: Collection[int], moved: Callable[[View], View]
) -> list[Step]:
    """Return the steps, some of them removed, with what `moved` makes of the views of those changed."""
    found = list(steps)
    for number in changed:
        found[number] = with_views(steps[number], moved)
    for number in removed:
        found[number] = REMOVED
    return found


def _is_last(x: View, y: View, number: int, users: Mapping[int, list[int]], sizes: Mapping[int, Any]) -> bool:
    """Whether a step copies a whole array to a whole array, which are not used after and before it."""
    if x.space >= 0 or users[x.space][-1] != number or users[y.space][0] != number:
        return False
    size = sizes[y.space] if y.space < 0 else math.prod(y.shape) * DTYPES[y.dtype]
    numbers = zip((x.offset, sizes[x.space], *x.shape), (y.offset, size, *y.shape), strict=False)
    is_whole = x.is_contiguous() and y.is_contiguous() and are_same(y.offset, 0)
    return is_whole and len(x.shape) == len(y.shape) and all(are_same(*pair) for pair in numbers)


def _is_in_parts(steps: list[Step], users: list[int], space: int) -> bool:
    """Whether these steps are several, and write to an array nothing but the parts that are their outputs."""
    names = [name for name, (*_, y) in map(steps.__getitem__, users) if type(y) is View and y.space == space]
    return 1 < len(users) == len(names) and PARTIAL.issuperset(names)


def without_unread_rows(steps: list[Step], users: Mapping[int, list[int]]) -> list[Step]:
    """Return the steps with products that compute only the rows that other steps use.

    For example, a model may drop the first frame of a spectrum.
    """
    result = list(steps)
    for number, (step, arguments) in enumerate(steps):
        if step != "product" or arguments[-1].space >= 0:
            continue
        *weights, x, row_axes, function, y = arguments
        others = [steps[user] for user in users[y.space] if user != number]
        readers = [view for other in others for view in views_of(other) if view.space == y.space]
        if y in readers:  # all rows, for all sizes
            continue
        long_axes = [axis for axis in range(row_axes) if x.shape[axis] > 1]
        if len(y.shape) == 2:  # its rows are those of one axis of x
            places = [(axis, 0) for axis in long_axes if len(long_axes) == 1]
        else:
            places = [(axis, axis) for axis in long_axes]
        for axis, place in places:
            found = [extent for view in readers if (extent := view.along(y, place))]
            if not found or len(found) < len(readers):
                continue
            first, last = min(low for low, _ in found), max(high for _, high in found) + 1
            if len(long_axes) > 1 and 8 * (last - first) > 7 * y.shape[place]:
                continue  # a product of all rows has fewer tiles that are not full
            if 0 <= first < last <= y.shape[place] and (first, last) != (0, y.shape[place]):
                x, y = x.sliced(axis, first, last), y.sliced(place, first, last)
        result[number] = step, (*weights, x, row_axes, function, y)
    return result


class Fusion(NamedTuple):
    """Elementwise operations (kind, function, operands) in one step; the last of them computes y.

    An operand is the place of an input, or -1 - n for the result of operation n.
    """

    inputs: list[View]  # distinct
    operations: list[tuple[str, Any, tuple[int, ...]]]
    y: View

    @classmethod
    def of(cls, step: Step) -> Fusion | None:
        """Return an elementwise step on float32 alone, or None for any other step."""
        name, arguments = step
        if name not in ELEMENTWISE:
            return None
        function, *operands, y = arguments
        for view in arguments[1:]:
            if view.dtype != "float32":
                return None
        if name == "fused":
            count = len(operands)
            places = [*range(count), *range(-1, -1 - len(function), -1)]
            return cls(operands, [(kind, f, (places[a], places[b])) for kind, f, a, b in function], y)
        if len(operands) == 2 and (operands[0].space != operands[1].space or len({*operands}) == 2):
            return cls(operands, [(name, function, (0, 1))], y)
        return cls(operands[:1], [(name, function, (0,) * len(operands))], y)

    def step(self) -> Step:
        """Return the step that computes y; it numbers the inputs before the results."""
        if len(self.operations) == 1:
            ((kind, function, operands),) = self.operations
            return kind, (function, *(self.inputs[operand] for operand in operands), self.y)
        count = len(self.inputs)
        numbers = [[o if o >= 0 else count - 1 - o for o in operands] for *_, operands in self.operations]
        pairs = zip(self.operations, numbers, strict=True)
        return "fused", ([(kind, f, o[0], o[-1]) for (kind, f, _), o in pairs], *self.inputs, self.y)

    def with_input(self, view: View, other: Fusion) -> Fusion | None:
        """Return the fusion with the one that computes an input, or None if that has too many parts."""
        count = len(other.operations)
        if count + len(self.operations) > MOST_OPERATIONS:
            return None
        shape = other.y.shape
        moved: list[Any] = [x if x.shape is shape else x.broadcast(*shape) for x in other.inputs]
        if view is not other.y:
            moved = [view.like(other.y, x) for x in moved]
        is_same = view.shape is self.y.shape or math.prod(view.shape) == math.prod(self.y.shape)
        if None in moved or not is_same:
            return None
        places: dict[Any, int] = {}
        inner = [places.setdefault(x, len(places)) for x in moved]
        outer = [-count if x == view else places.setdefault(x, len(places)) for x in self.inputs]
        if len(places) > MOST_INPUTS:
            return None
        first, second = other.operations, self.operations
        if inner != [*range(len(inner))]:
            first = [(kind, f, tuple([inner[o] if o >= 0 else o for o in each])) for kind, f, each in first]
        second = [
            (kind, f, tuple([outer[o] if o >= 0 else o - count for o in each])) for kind, f, each in second
        ]
        return Fusion([*places], first + second, self.y)


def fused(steps: list[Step], users: dict[int, list[int]]) -> list[Step]:
    """Merge each elementwise step into the one that alone reads its result.

    The users become those of the result.
    """

    def is_unchanged(fusion: Fusion, first: int, last: int) -> bool:
        """Whether no step between two numbers may write to the inputs of a fusion."""
        for array in _arrays(fusion.inputs):
            between = users[array][bisect_right(users[array], first) : bisect_left(users[array], last)]
            for name, (*_, y) in (steps[user] for user in between):
                if name not in ONE_OUTPUT or not isinstance(y, View) or y.space == array:
                    return False
        return True

    fusions = [Fusion.of(step) for step in steps]
    found, changed = list(steps), set[int]()
    for number, fusion in enumerate(fusions):
        if fusion is None:
            continue
        for view in fusion.inputs:
            if view.space >= 0 or len(users[view.space]) != 2:
                continue
            producer = users[view.space][0]
            other = fusions[producer]
            views = [u for u in fusion.inputs if u.space == view.space]
            if other is None or views != [view] or not is_unchanged(other, producer, number):
                continue
            merged = fusion.with_input(view, other)
            if merged is not None:
                fusion = fusions[number] = merged
                found[producer] = REMOVED
                changed.discard(producer)
                changed.add(number)
                del users[view.space]
                for array in {each.space for each in other.inputs}:
                    uses = users[array]
                    del uses[bisect_left(uses, producer)]
                    place = bisect_left(uses, number)
                    if uses[place : place + 1] != [number]:
                        uses.insert(place, number)
    for number in changed:
        if (fusion := fusions[number]) is not None:
            found[number] = fusion.step()
    return found


def _arrays(views: Iterable[View]) -> set[int]:
    return {view.space for view in views if view.space < 0}


def without_copies(steps: list[Step], users: dict[int, list[int]], lanes: int) -> list[Step]:
    """Return the steps without the copies of results that nothing else reads.

    The step that computes the result writes it where the copy would put it. `lanes` is the number of floats
    in a vector.
    """
    replaced: dict[int, list[Step]] = {}  # the steps in the place of each step
    for number, (name, arguments) in enumerate(steps):
        if name != "copy" or arguments[0].space >= 0:
            continue
        x, y = arguments
        writers, target = users[x.space], users[y.space]
        producer = writers[0]
        first, last = bisect_left(target, producer), bisect_left(target, number)
        present = replaced.get(producer, [steps[producer]])
        if len(writers) != 2 or target[first] == producer or not present:
            continue
        # Nothing may use the target between the producer and the copy, except a fill that can precede both.
        others = target[first:last]
        if others and (others != target[:1] or others[0] in replaced):
            continue
        redirected = _redirected(present[-1], x, y, lanes)
        if redirected is None or not all(_can_precede(producer, other, steps, users) for other in others):
            continue
        replaced[producer] = [*present[:-1], *(steps[other] for other in others), redirected]
        for place, moved in enumerate((*others, number), start=first):
            replaced[moved], target[place] = [], producer
    if not replaced:
        return steps
    return [new for number, step in enumerate(steps) for new in replaced.get(number, (step,))]


def with_shared_borders(steps: list[Step]) -> list[Step]:
    """Return the steps without the fills of borders that an array has which nothing reads any more.

    What pads another array equally then uses that array.
    """
    borders = {
        number: (value, *padded[1:], *low, *high)
        for number, (name, arguments) in enumerate(steps)
        if name == "fill_border"
        for value, padded, low, high in [arguments]
    }
    if len({*borders.values()}) == len(borders):
        return steps
    users, arrays = _core.users_of(steps, View), dict[int, int]()
    lenders: dict[Any, list[tuple[int, int]]] = {}  # arrays with a border, and the last step that uses each
    removed = set()
    for number, border in borders.items():
        _, padded, low, high = steps[number][1]
        uses = users[padded.space]
        known, space = lenders.setdefault(border, []), padded.space
        unread = [lender for lender in known if lender[1] < number]
        if unread:
            known.remove(unread[0])
            space = arrays[padded.space] = unread[0][0]
            removed.add(number)
        inner = padded.within(low, high)
        if padded.space < 0 and all(_keeps_border(steps[user], inner) for user in uses if user != number):
            known.append((space, uses[-1]))

    def moved(view: View) -> View:
        return view.in_space(arrays.get(view.space, view.space))

    return _without(steps, removed, {user for space in arrays for user in users[space]}, moved)


def _keeps_border(step: Step, inner: View) -> bool:
    """Whether a step writes nothing to an array, or only what is within its border."""
    name, (*_, y) = step
    if name not in ONE_OUTPUT | STRIDED | WINDOWED or type(y) is not View:
        return False
    return y.space != inner.space or (are_same(y.offset, inner.offset) and _axes(y) == _axes(inner))


def _axes(view: View) -> set[tuple[Any, Any]]:
    axes = zip(view.shape, view.strides, strict=True)
    return {axis for axis in axes if is_symbolic(axis[:1]) or axis[0] != 1}


def _can_precede(producer: int, number: int, steps: list[Step], users: Mapping[int, list[int]]) -> bool:
    """Whether a step fills a part of its array with values that exist before the producer runs."""
    name, (x, *_) = steps[number]
    if name == "copy" and x.space != CONSTANTS:
        uses, reads = users[x.space], steps[producer][0] in ONE_OUTPUT  # which is another array
        return (bisect_right if reads else bisect_left)(uses, producer) == bisect_left(uses, number)
    return name in ("copy", "fill_border")


def _redirected(step: Step, x: View, y: View, lanes: int) -> Step | None:
    """Return the step that writes its output x to y instead, or None if it cannot."""
    name, arguments = step
    places = [i for i, view in enumerate(arguments) if isinstance(view, View) and view[:2] == x[:2]]
    if len(places) != 1:
        return None
    (place,) = places
    splits = name in PRODUCTS and _splits_rows(x, arguments)
    target = y if splits else arguments[place].like(x, y)
    if target is None:
        return None
    is_output = place == len(arguments) - 1
    if name in PRODUCTS:
        has_rows = target.shape[-1] == 1 or are_same(target.strides[-1], 1)
        if name == "product" and not has_rows:
            name = "filter"
        fits = has_rows and (name != "product" or _has_whole_vectors(target, lanes))
        allowed = is_output and (name == "filter" or fits)
    elif name == "recurrent":
        allowed = (place == 4 and target.strides[2] == 1) or (place > 4 and target.is_contiguous())
    else:
        # With another innermost axis, the loop of an elementwise function would be slower than the copy.
        same_order = name == "copy" or _innermost(target) == _innermost(arguments[place])
        is_output = is_output if name in STRIDED else name == "take" and place == 2
        allowed = is_output and same_order
    return (name, (*arguments[:place], target, *arguments[place + 1 :])) if allowed else None


def _has_whole_vectors(y: View, lanes: int) -> bool:
    """Whether the rows of y consist of whole vectors, which a product of floats writes."""
    axes = zip(y.shape[:-1], y.strides, strict=False)
    strides = [stride for size, stride in axes if is_symbolic([size]) or size != 1]
    parts = [number % lanes for number in (y.offset, *strides, y.shape[-1])]
    return not is_symbolic(parts) and not any(parts)


def _splits_rows(x: View, arguments: tuple[Any, ...]) -> bool:
    """Whether x has the rows of a product in order, split into the axes of the rows that it reads."""
    _, source, row_axes, *_, y = arguments
    if len(y.shape) != 2 or len(x.shape) != row_axes + 1:
        return False
    rows = View.contiguous(0, 0, source.shape[:row_axes])
    strides = (*(stride * y.strides[0] for stride in rows.strides), y.strides[1])
    return have_same_sizes((*x.shape, *x.strides), (*rows.shape, y.shape[1], *strides))


def _innermost(view: View) -> list[int]:
    """Return the axis whose elements are adjacent, if there is one."""
    return [axis for axis, size in enumerate(view.shape) if size > 1 and view.strides[axis] == 1]
