"""The model of a TorchScript file, which reads most of the code when something first needs its graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ....graph import Graph
from ....model import Model
from .general import declared_layout
from .program import Program


class ScriptModel(Model):
    """A model whose attributes are those of the model of a program's graph, which is made at their first use.

    Loading a file makes no graph: that needs all code, to find the attributes that a call changes. `declared`
    are the axes and values of inputs, as `general_graph` takes them; then the graph is that for all sizes.
    Raises ArgumentError if they are not those of the program.
    """

    def __init__(self, program: Program, declared: Mapping[str, Any] | None = None) -> None:
        self._opened: dict[str, Model] = {}  # empty until the first use
        self._program, self._declared = program, None if declared is None else dict(declared)
        if declared is not None:
            declared_layout(program, declared)

    if not TYPE_CHECKING:  # type checkers should still report unknown attributes

        def __getattr__(self, name: str) -> Any:
            if not self._opened:  # if another thread opens it at the same time, both take what the first made
                self._opened.setdefault("model", Model(self._made()))
            vars(self).update(vars(self._opened["model"]))
            return vars(self)[name] if name in vars(self) else super().__getattr__(name)

    def _made(self) -> Graph:
        return self._program.graph() if self._declared is None else self._program.general(self._declared)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._program, self._declared)
