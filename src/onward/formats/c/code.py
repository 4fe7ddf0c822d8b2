"""A file of C under construction: its constants, its functions, and the bodies that call them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...graph.plan.view import CONSTANTS, FIRST_OF_LOOPS, View
from ...graph.plan.words import RecordedWeights
from .library import TYPES, field_of, filled, initializer, literal
from .program import FixedProgram

INDICES = "ijklmnpqrst"
PLACE = re.compile(r"<(-?\d+)>")  # where an array is, which is known at the end


class Module:
    """The constants and the functions of a file; those that are equal are there once."""

    def __init__(self) -> None:
        self.constants: dict[str, str] = {}  # declarations by name
        self.functions: dict[str, str] = {}  # made from templates, by name
        self.flash = 0  # bytes of the constants
        self._names: dict[Any, str] = {}

    def constant(self, array: NDArray[Any], name: str = "numbers") -> str:
        """Return the name of a constant array."""
        array = np.ascontiguousarray(array)
        kind = TYPES[array.dtype.name]
        key = kind, array.tobytes()
        if key not in self._names:
            self._names[key] = unique = f"{name}_{len(self.constants)}"
            lines = "\n".join(initializer(array))
            self.constants[unique] = f"static const {kind} {unique}[{max(array.size, 1)}] = {{\n{lines}\n}};"
            self.flash += array.nbytes
        return self._names[key]

    def function(self, file: str, place: int, name: str, **parts: str) -> str:
        """Return the name of a function of a template with some parts."""
        key = file, place, tuple(sorted(parts.items()))
        if key not in self._names:
            count = sum(known == name or known.startswith(f"{name}_") for known in self.functions)
            self._names[key] = unique = f"{name}_{count + 1}" if count else name
            self.functions[unique] = filled(file, place, unique, **parts)
        return self._names[key]


class Body:
    """The body of a function that runs the steps of one program.

    A place such as <-3> stands for the array of a space until `placed` replaces it.
    """

    def __init__(self, module: Module, program: FixedProgram, made: Sequence[tuple[Any, ...]]) -> None:
        self.module = module
        self.lines: list[str] = []
        self.arrays: dict[int, list[int]] = {}  # the number of elements, and the first and the last step
        self.fields: dict[int, str] = {}  # of the arena, by space
        self.multiply_adds = 0
        self.step = 0  # its number, with those of the bodies of loops
        self.first_uses: dict[int, int] = {}  # the first step that uses a space
        self.loop_spaces = FIRST_OF_LOOPS  # the first space of the next loop
        self.read_only = {CONSTANTS, *(x.space for x in program.inputs if x is not None)}
        self._constants, self._made = program.constants, made

    def weights(self, number: RecordedWeights) -> tuple[Any, ...]:
        """Return the arguments with which the weights of a step were made."""
        return self._made[number.number]

    def scratch(self, n: int, dtype: str = "float32") -> str:
        """Return the address of memory for n numbers during this step."""
        space = -1_000_000 - len(self.arrays)
        self.fields[space] = field_of(dtype)
        self.arrays[space] = [n, self.step, self.step]
        return f"<{space}>"

    def name(self, space: int) -> str:
        """Return the name of a space."""
        return f"loop_{space - FIRST_OF_LOOPS}" if space >= FIRST_OF_LOOPS else f"<{space}>"

    def at(self, view: View) -> str:
        """Return the address of the first element of a view."""
        offset = int(view.offset)
        self.first_uses.setdefault(view.space, self.step)
        if view.space == CONSTANTS:
            array, offset = self._constants.at(view)
            place = self.module.constant(array)
        else:
            place = self.name(view.space)
            if view.space < 0:
                self.fields.setdefault(view.space, field_of(view.dtype))
        if view.dtype == "int8" and view.space < 0:
            place = f"(int8_t *){place}"
        return plus(place, offset)

    def known(self, view: View) -> NDArray[Any] | None:
        """Return the elements of an array that is constant and contiguous, or None."""
        if view.space != CONSTANTS or not view.is_contiguous():
            return None
        array, offset = self._constants.at(view)
        return array[offset : offset + math.prod(map(int, view.shape))]

    def narrowed(self, view: View) -> tuple[str, str]:
        """Return the address and the type of integers (n), the narrowest one if they are constant."""
        array = self.known(view)
        if array is None:
            return self.at(view), TYPES[view.dtype]
        kinds = (np.dtype(kind) for kind in ("int8", "int16"))
        fits = [
            kind for kind in kinds if array.min() >= np.iinfo(kind).min and array.max() <= np.iinfo(kind).max
        ]
        kind = min([*fits, array.dtype], key=lambda dtype: dtype.itemsize)
        return self.module.constant(array.astype(kind), "table"), TYPES[kind.name]

    def number(self, view: View) -> str | None:
        """Return the literal of a view that repeats one constant number, or None."""
        if view.space != CONSTANTS or any(
            stride and size != 1 for size, stride in zip(view.shape, view.strides, strict=True)
        ):
            return None
        array, offset = self._constants.at(view)
        return literal(array[offset], array.dtype.name if view.dtype != "bool" else "uint8")

    def loops(
        self,
        views: Sequence[View],
        statement: Callable[..., str | Sequence[str]],
        in_order: bool = False,
        written: int = 1,
    ) -> None:
        """Add loops over the elements of views, broadcast to the last one; `statement` gets each element.

        It writes to the last views, of which `written` tells the number.
        """
        shape = tuple(map(int, views[-1].shape))
        if 0 in shape:
            return
        declared, elements = [], []
        sizes, indices = nest(shape, *(steps_of(view, len(shape)) for view in views), in_order=in_order)
        for place, view in enumerate(views):
            is_written = place >= len(views) - written
            number = None if is_written else self.number(view)
            if number is not None:
                elements.append(number)
                continue
            name = "y" if place == len(views) - 1 else "abcdefgh"[place]
            constant = "" if is_written else "const "
            declared.append(f"{constant}{TYPES[view.dtype]} *const {name} = {self.at(view)};")
            elements.append(f"{name}[{indices[place]}]")
        self.add(*declared, *nested(sizes, statement(*elements)))

    def add(self, *lines: str) -> None:
        """Add lines to the block of the present step."""
        self.lines += [f"        {line}" for line in lines]


def steps_of(view: View, axes: int, last: int | None = None) -> list[int]:
    """Return the strides of a view, up to its last axes, that is broadcast to so many axes."""
    strides = [
        0 if size == 1 else int(stride)
        for size, stride in zip(view.shape[:last], view.strides[:last], strict=True)
    ]
    return [0] * (axes - len(strides)) + strides


def nest(
    shape: Sequence[Any], *steps: Sequence[Any], first: int = 0, in_order: bool = True
) -> tuple[list[int], list[str]]:
    """Return the sizes of the fewest loops over some axes, and in these loops the index in each view.

    `steps` has the steps of each view along the axes. Unless `in_order`, the loops have the memory order of
    the last view. The variables are those from `first` on.
    """
    axes = [(int(size), [int(each[axis]) for each in steps]) for axis, size in enumerate(shape) if size != 1]
    if not in_order:
        axes.sort(key=lambda axis: -abs(axis[1][-1]))
    found: list[tuple[int, list[int]]] = []
    for size, own in axes:
        if found and all(before == size * step for before, step in zip(found[-1][1], own, strict=True)):
            found[-1] = found[-1][0] * size, own
        else:
            found.append((size, own))
    indices = [indexed([own[place] for _, own in found], first) for place in range(len(steps))]
    return [size for size, _ in found], indices


def set_state(c: Body, name: str, state: View, initial: View | None) -> list[str]:
    """Return the lines that set a state to its initial value, or to 0."""
    n = math.prod(map(int, state.shape))
    if initial is None:
        return [f"memset({name}, 0, {n} * sizeof(float));"]
    return [f"memmove({c.at(state)}, {c.at(initial)}, {n} * sizeof(float));"]


def plus(address: str, *offsets: str | int) -> str:
    """Return an address plus some offsets."""
    return " + ".join([address, *(str(offset) for offset in offsets if str(offset) != "0")])


def indexed(steps: Sequence[int], first: int = 0) -> str:
    """Return the index of an element of a view: the sum of its steps times the variables of the loops."""
    terms = [
        name if step == 1 else f"{step} * {name}"
        for name, step in zip(INDICES[first:], steps, strict=False)
        if step
    ]
    return " + ".join(terms).replace("+ -", "- ") or "0"


def nested(sizes: Sequence[int], statement: str | Sequence[str], first: int = 0) -> list[str]:
    """Return a statement, or several, in nested loops."""
    statements = [statement] if isinstance(statement, str) else list(statement)
    names = INDICES[first : first + len(sizes)]
    lines = [f"int {', '.join(names)};"] if sizes else []
    for depth, (name, size) in enumerate(zip(names, sizes, strict=True)):
        brace = " {" if depth == len(sizes) - 1 and len(statements) > 1 else ""
        lines.append("    " * depth + f"for ({name} = 0; {name} < {size}; {name}++){brace}")
    lines += ["    " * len(sizes) + each for each in statements]
    if sizes and len(statements) > 1:
        lines.append("    " * (len(sizes) - 1) + "}")
    return lines


def placed(
    arrays: Mapping[int, Sequence[int]], fields: Mapping[int, str]
) -> tuple[dict[int, int], dict[str, int]]:
    """Give each array an offset in its field, so that arrays that are needed at one time do not overlap.

    Returns the offsets, and the elements of each field.
    """
    offsets: dict[int, int] = {}
    sizes: dict[str, int] = {}
    for space, (size, first, last) in sorted(arrays.items(), key=lambda item: -item[1][0]):
        field, start = fields[space], 0
        others = sorted(
            (offsets[other], offsets[other] + arrays[other][0])
            for other in offsets
            if fields[other] == field and arrays[other][1] <= last and first <= arrays[other][2]
        )
        for low, high in others:
            if start + size <= low:
                break
            start = max(start, high)
        offsets[space] = start
        sizes[field] = max(sizes.get(field, 0), start + size)
    return offsets, sizes
