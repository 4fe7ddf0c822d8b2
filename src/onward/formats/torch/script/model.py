"""The model of a TorchScript file, which reads most of the code when something first needs its graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from ....core.checks import Rng
from ....core.recent import Recent
from ....errors import ArgumentError, OnwardError
from ....model import Model
from .nesting import ResultsChangedError
from .program import Program

OWN = {"_last", "_opened", "_program", "_taken"}  # the attributes that are not those of the model of a graph


class ScriptModel(Model):
    """A model whose attributes are those of the model of a program's graph, which is made at their first use.

    Loading a file makes no graph: that needs all code, to find the attributes that a call changes.
    """

    def __init__(self, program: Program) -> None:
        self._program = self._last = program
        self._opened: Recent[Model] = Recent()  # for the containers of calls; empty until the first use
        self._taken: dict[str, Any] = {}  # the weights that replace those of the file

    def __call__(self, /, *args: ArrayLike, **inputs: ArrayLike) -> Any:
        program = self._program.sized(args, inputs)
        if program is not self._last:
            self._forget()
            self._last = program
        try:
            return self.opened(program, args, inputs)(*args, **inputs)
        except ResultsChangedError:
            if self._program.is_sized:
                raise
        self._program.is_sized = True
        return self(*args, **inputs)

    def opened(self, program: Program | None = None, /, *call: Any) -> Model:
        """Return the model of the graph for a call, by default for containers as those of the last call.

        A property would hide its AttributeErrors behind `__getattr__`.
        """
        program = program or self._last

        def make() -> Model:
            if call:
                program.complete(*call)
            model = Model(program.graph())
            if self._taken and self._taken.keys() != model.trained_weights().keys():
                raise ArgumentError("its new weights are those of a call with other lists or dicts")
            model.take_weights(self._taken)
            return model

        return self._opened.get(make, repr(program.given))

    def trained_weights(self) -> Mapping[str, Any]:
        return self.opened().trained_weights()

    def take_weights(self, weights: Mapping[str, Any]) -> None:
        model = self.opened()
        model.take_weights(weights)
        self._taken = {**model.trained_weights()}
        self._opened = Recent()  # other models have the old weights
        self._opened.get(lambda: model, repr(self._last.given))
        self._forget()

    def forward(
        self, x: Any, state: Any = None, *, lengths: ArrayLike | None = None, rng: Rng = None
    ) -> tuple[Any, None, Any]:
        return self.opened().forward(x, state, lengths=lengths, rng=rng)

    def backward(self, dy: Any, dstate: Any, cache: Any) -> tuple[Any, None, dict[str, Any]]:
        return self.opened().backward(dy, dstate, cache)

    def _forget(self) -> None:
        """Discard the attributes of the model that was opened last."""
        for name in vars(self).keys() - OWN:
            vars(self).pop(name, None)

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
        return self.opened().__reduce__() if self._taken else (type(self), (self._program,))
