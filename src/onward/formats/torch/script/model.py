"""The model of a TorchScript file, which reads most of the code when something first needs its graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from ....errors import OnwardError
from ....model import Model
from .program import Program


class ScriptModel(Model):
    """A model whose attributes are those of the model of a program's graph, which is made at their first use.

    Loading a file makes no graph: that needs all code, to find the attributes that a call changes.
    """

    def __init__(self, program: Program) -> None:
        self._opened: dict[str, Model] = {}  # empty until the first use
        self._program = program

    def __call__(self, /, *args: ArrayLike, **inputs: ArrayLike) -> Any:
        return self.opened()(*args, **inputs)

    def opened(self) -> Model:
        """Return the model of the graph; a property would hide its AttributeErrors behind `__getattr__`."""
        if not self._opened:  # if another thread opens it at the same time, both take what the first made
            self._opened.setdefault("model", Model(self._program.graph()))
        return self._opened["model"]

    if not TYPE_CHECKING:  # type checkers should still report unknown attributes

        def __getattr__(self, name: str) -> Any:
            vars(self).update(vars(self.opened()))
            return vars(self)[name] if name in vars(self) else super().__getattr__(name)

    def __repr__(self) -> str:
        try:
            return super().__repr__()
        except OnwardError as error:  # debuggers and loggers expect no error
            return f"Model(the code of the file is invalid: {error})"

    def __str__(self) -> str:
        try:
            return super().__str__()
        except OnwardError as error:  # of a model without a call so far, which would tell the axes
            return f"{self!r}\nThe layers are not known: {error}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._program,)
