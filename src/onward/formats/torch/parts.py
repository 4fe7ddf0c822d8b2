"""The layers of a PyTorch file that contains no forward()."""

from collections.abc import Iterator
from typing import Any, ClassVar, NoReturn

from ...core.summary import Row
from ...errors import ArgumentError
from ...layers.base import Layer
from ...layers.base_model import FamiliarNames
from ...layers.sequential import Sequential
from ...layers.summary import rows

# How users who have the module save its forward() too.
WHOLE_MODEL = (
    "To save the whole model, run in PyTorch:\n"
    "    program = torch.export.export(module.eval(), (x,))\n"
    '    torch.export.save(program, "model.pt2")'
)
NO_EFFECT = "which has no effect at inference"


class Parts(FamiliarNames, dict[str, Layer]):
    """The layers of a PyTorch file by name; "" is the name of a layer that the file contains without one.

    A PyTorch file contains weights but no forward(), the Python code that connects the layers; `sequential`
    connects them. `leftover` names the tensors that belong to no layer, and `reasons` explains why a module
    is not among the layers.
    """

    _conversion: ClassVar[tuple[str, type]] = "model.sequential(...)", Layer

    def __init__(self) -> None:
        super().__init__()
        self.leftover: list[str] = []
        self.reasons: dict[str, str] = {}
        self.containers: dict[str, list[str]] = {}  # the modules of each nn.Sequential, in order

    def summary_rows(self) -> list[Row]:
        return rows(self)

    def sequential(self, *names: str) -> Sequential:
        """An onward.Sequential of these layers, in this order.

        A name may also be that of an nn.Sequential in the file, which contributes all its layers, activations
        included. Without names, the whole file must be a pickled nn.Sequential, which records its order;
        modules that have no effect at inference, such as Dropout, are left out.

        Raises ArgumentError for an unknown name, for a module in an nn.Sequential that Onward does not
        support, and without names if the file records no order.
        """
        if not names and "" not in self.containers:
            raise self._without_forward()
        return Sequential(*(layer for name in names or ("",) for layer in self._flatten(name)))

    def __call__(self, *args: Any, **inputs: Any) -> NoReturn:
        """Raise ArgumentError, which tells how to get a model."""
        raise self._without_forward("Parts are layers by name and cannot be called: ")

    def _without_forward(self, problem: str = "") -> ArgumentError:
        return ArgumentError(
            f"{problem}the file contains no forward(): it records neither the order of its layers nor what "
            "happens between them, such as activations and transposes. Name the layers in order, as in "
            f"parts.sequential({', '.join(map(repr, self))}), and compare the outputs with the original's"
        )

    def _flatten(self, name: str) -> Iterator[Layer]:
        """The layers that a module consists of, in order."""
        if name in self.containers:
            for child in self.containers[name]:
                if not self.reasons.get(child, "").endswith(NO_EFFECT):
                    yield from self._flatten(child)
        elif name in self:
            if unused := [tensor for tensor in self.leftover if tensor.rpartition(".")[0] == name]:
                raise ArgumentError(f"{name} also has {', '.join(unused)}, which its layer does not use")
            yield self[name]
        else:
            reason = self.reasons.get(name, f"not one of the layers: {', '.join(self)}")
            raise ArgumentError(f"{name!r} cannot be part of a Sequential: it is {reason}")

    @property
    def model(self) -> Sequential | None:
        """The model of a file that is a pickled nn.Sequential, if Onward supports all its modules."""
        try:
            return self.sequential() if "" in self.containers else None
        except ArgumentError:
            return None

    @property
    def only_layer(self) -> Layer | None:
        """The layer of a file that consists of a single layer, else None."""
        return next(iter(self.values())) if len(self) == 1 and not (self.leftover or self.missing) else None

    @property
    def missing(self) -> dict[str, str]:
        """The reasons of the modules that affect the output but are not among the layers."""
        return {name: reason for name, reason in self.reasons.items() if not reason.endswith(NO_EFFECT)}

    def __repr__(self) -> str:
        names = ", ".join(map(repr, self))
        if "" in self and self.only_layer is not None:
            return f"<Parts {super().__repr__()} of a file that contains a single layer, parts['']>"
        return (
            f"<Parts {super().__repr__()} of a file that contains no forward(). Connect its layers with "
            f"parts.sequential({names}), in the order of the model. {WHOLE_MODEL}>"
        )
