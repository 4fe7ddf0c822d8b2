"""Make values of the inputs of a program, with symbolic sizes and elements."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ..declared import UNNAMED
from ..graph import Input
from ..inference import UNKNOWN
from ..node import AnyArray, Signature
from ..operations.evaluation import check_shapes
from ..operations.value import Value
from ..size import is_symbolic
from ..sized import integers
from .builder import Builder
from .deciding import are_small
from .program import Program, Required
from .view import DTYPES, name_of


class Inputs:
    """The inputs of a program, for those of the first call.

    The sizes of their axes are symbolic unless the graph declares them, they are 1, or `fixed` names them;
    all are plain if that is None. Axes that the graph gives one name have one size. `elements` names the
    inputs whose elements are symbolic unless `fixed` names them; if the sizes are plain or an element is
    large, the program depends on their values.
    """

    def __init__(
        self, program: Program, builder: Builder, fixed: Collection[str] | None, elements: Collection[str]
    ) -> None:
        self._program, self._builder, self._fixed, self._elements = program, builder, fixed, elements
        self._axes: dict[Any, Any] = {}  # sizes by the names of axes

    def add(self, declared: Input, array: Any, is_parameter: bool) -> Value:
        """Add the next input, which is known if it is a parameter."""
        name = declared.name
        if not isinstance(array, np.ndarray):
            self._program.signature.append(None)
            self._program.inputs.append(name)
            return Value(UNKNOWN, name=name)
        check_shapes([Signature.of(array)])
        dtype, decides = name_of(array.dtype), name in self._elements and not is_parameter
        if decides and (self._fixed is None or not are_small(array)):
            is_parameter, decides = True, False
        first_element = len(self._program.axes.names) if decides else -1
        shape, places = self._shape(declared, array, is_parameter, decides)
        shape = tuple(map(int, shape)) if decides else shape  # which guards fix
        is_known = is_parameter or (array.size == 0 and not is_symbolic(shape))
        known = array.tobytes() if is_known else None
        self._program.signature.append(Required(dtype, places, known, first_element))
        value = Value(Signature(shape, array.dtype), name=name)
        is_in_space = not is_known and dtype in DTYPES
        self._program.inputs.append("" if is_in_space else name)
        if is_known:
            return value.with_array(array.copy())
        if not is_in_space:
            return value
        view = self._builder.new_argument(*shape, dtype=dtype)
        if not decides:
            return value.with_view(view)
        value = value.with_array(self._sizes_in(name, array))
        self._builder.locate(value.array, view)
        return value

    def _sizes_in(self, name: str, array: AnyArray) -> Any:
        """Return the elements of an input as sizes; those that are fixed are numbers."""
        sizes = []
        for place, number in enumerate(array.ravel().tolist()):
            shown = self._unique(f"{name}[{place}]")
            sizes.append(self._program.axes.element(shown, number, shown in (self._fixed or ())))
        return integers(np.array(sizes, object).reshape(array.shape), array.dtype)

    def _unique(self, shown: str) -> str:
        """Return a name that no axis has yet."""
        while shown in self._program.axes.names:
            shown += "'"
        return shown

    def _shape(
        self, declared: Input, array: AnyArray, is_known: bool, decides: bool
    ) -> tuple[Any, tuple[int, ...]]:
        """Return the shape of an input with symbolic sizes, and with the numbers of their axes.

        If its elements decide sizes, only axes that others may share are symbolic.
        """
        if is_known or self._fixed is None or name_of(array.dtype) not in DTYPES:
            return array.shape, array.shape
        names: Sequence[Any] = declared.axes or ()
        if len(names) != array.ndim:
            names = [None] * array.ndim
        shape, places, axes = list(array.shape), list(array.shape), self._program.axes
        for axis, (name, size) in enumerate(zip(names, array.shape, strict=True)):
            if isinstance(name, int) or size in (0, 1):
                continue
            is_shared = isinstance(name, str) and name not in UNNAMED
            key = (name, size) if is_shared else (declared.name, axis)
            shown = str(name) if is_shared else f"{declared.name}.shape[{axis}]"
            if shown in self._fixed or (decides and not is_shared):
                continue
            if key not in self._axes:
                self._axes[key] = len(axes.names), axes.add(self._unique(shown), size)
            number, shape[axis] = self._axes[key]
            places[axis] = -1 - number
        return tuple(shape), tuple(places)
