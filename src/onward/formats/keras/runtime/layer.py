"""What the layers of Keras share: arrays that carry their masks, batch first, and layers inside layers."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ....core import arrays
from ....core.arrays import Array, Shape
from ....errors import ArgumentError
from ....layers.base import Layer, RunRecurrent, call

AnyArray: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_]


class Masked(NamedTuple):
    """An array and its mask (B, T): False where a time step does not count; None where all do."""

    array: AnyArray
    mask: Mask | None = None


def within(run_recurrent: RunRecurrent, part: str) -> RunRecurrent:
    """The same for a layer's part, whose own leaves are named `part.name` from outside."""
    return lambda name, *arguments: run_recurrent(f"{part}.{name}", *arguments)


class KerasLayer(Layer):
    """A layer with Keras' arguments, layout and treatment of masks.

    Layers among the arguments, alone or in a list or dict, are its parts: their weights are its weights,
    under the argument's name.
    """

    keeps_mask = True
    # what a call in a model may say beside the inputs, in the order of Keras; None if anything
    arguments: tuple[str, ...] | None = ()

    def compute(self, x: AnyArray) -> AnyArray:
        """The output for one input, in a layer that neither reads masks nor makes them."""
        raise NotImplementedError

    def run(self, inputs: Sequence[Masked], run_recurrent: RunRecurrent, **options: Any) -> list[Masked]:
        """All outputs for all inputs. `options` is what the call in the model says beside them."""
        x, mask = self.only(inputs, options)
        return [Masked(self.compute(x), mask if self.keeps_mask else None)]

    def only(self, inputs: Sequence[Masked], options: Mapping[str, Any]) -> Masked:
        """The one input, or ArgumentError if there is anything else."""
        if len(inputs) != 1 or options:
            given = f"{len(inputs)} inputs" + "".join(f", {name}" for name in options)
            raise ArgumentError(f"{type(self).__name__} takes one input and nothing else, not {given}")
        return inputs[0]

    def __call__(self, x: Any, /) -> Any:
        """The output for x, or for a list of inputs; several outputs are a list. No time step is masked."""
        given = x if isinstance(x, list | tuple) else [x]
        outputs = self.run([Masked(arrays.as_array(each, "x")) for each in given], call)
        return outputs[0].array if len(outputs) == 1 else [output.array for output in outputs]

    def sublayers(self) -> dict[str, Layer]:
        parts = dict(self.parts())
        if not parts:
            return {"": self}
        return {
            f"{part}.{prefix}": leaf
            for part, layer in parts.items()
            for prefix, leaf in layer.sublayers().items()
        }

    def with_sublayers(self, leaves: Mapping[str, Layer]) -> Layer:
        if not dict(self.parts()):
            return leaves.get("", self)
        return type(self)(**{name: _swapped(name, value, leaves) for name, value in super().config().items()})

    def parts(self) -> Iterator[tuple[str, Layer]]:
        """The layers among the arguments, by name."""
        for name, value in super().config().items():
            yield from _layers(name, value)

    def config(self) -> dict[str, Any]:
        return {name: _described(value) for name, value in super().config().items()}

    def __repr__(self) -> str:
        parameters = inspect.signature(type(self)).parameters
        arguments = [
            f"{name}={value!r}"
            for name, value in super().config().items()
            if name in parameters and value != parameters[name].default
        ]
        return f"{type(self).__name__}({', '.join(arguments)})"

    def description(self) -> dict[str, Any]:
        return super().description() | {"type": f"keras.{type(self).__name__}"}

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        for part, layer in self.parts():
            for name, shape in layer.shapes():
                yield f"{part}.{name}", shape

    def _weights_by_name(self) -> dict[str, Array]:
        return {
            f"{part}.{name}": weight
            for part, layer in self.parts()
            for name, weight in layer._weights_by_name().items()
        }

    def _take(self, weights: dict[str, Array]) -> None:
        for part, layer in self.parts():
            prefix = f"{part}."
            layer._take({name[len(prefix) :]: w for name, w in weights.items() if name.startswith(prefix)})


def _layers(name: str, value: Any) -> Iterator[tuple[str, Layer]]:
    if isinstance(value, Layer):
        yield name, value
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from _layers(f"{name}.{index}", each)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _layers(f"{name}.{key}", each)


def _swapped(name: str, value: Any, leaves: Mapping[str, Layer]) -> Any:
    """An argument with the leaves replaced that are named from outside."""
    if isinstance(value, Layer):
        prefix = f"{name}."
        return value.with_sublayers(
            {key[len(prefix) :]: leaves[key] for key in leaves if key.startswith(prefix)}
        )
    if isinstance(value, list | tuple):
        return [_swapped(f"{name}.{index}", each, leaves) for index, each in enumerate(value)]
    if isinstance(value, dict):
        return {key: _swapped(f"{name}.{key}", each, leaves) for key, each in value.items()}
    return value


def _described(value: Any) -> Any:
    """An argument as JSON can hold it."""
    if isinstance(value, Layer):
        return value.description()
    if isinstance(value, list | tuple):
        return [_described(each) for each in value]
    if isinstance(value, dict):
        return {key: _described(each) for key, each in value.items()}
    return value


def as_floats(x: AnyArray) -> Array:
    """x in the precision that layers without weights work in."""
    return arrays.as_floats(x, arrays.working_dtype(x), "x")
