"""A model of Keras: layers connected in a graph, called on arrays that have the batch first."""

from collections.abc import Mapping, Sequence
from typing import Any, Never, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ....core import arrays
from ....core.arrays import Shape
from ....errors import ArgumentError, ShapeError
from ....layers.base import RunRecurrent, call, unknown_arguments
from ....layers.summary import Row
from .layer import AnyArray, KerasLayer, Mask, Masked, within

# [node, output], where nodes count from 1 and node 0 is the inputs of the model; or {"constant": numbers}
Reference: TypeAlias = list[int] | dict[str, Any]


class Model(KerasLayer):
    """Layers connected in a graph, as Keras' Sequential and Functional.

    layers: by name. nodes: the calls of these layers, in an order in which each finds its inputs computed:
    {"layer": name, "inputs": [[node, output], ...], "options": {name: value or reference}}, where a layer may
    be called more than once. inputs: dtype by name. outputs: references. structure: the dicts and lists that
    a call gives them in, with their numbers, where that is not a list of all.
    """

    batch_first = True

    def __init__(
        self,
        layers: Mapping[str, KerasLayer],
        nodes: Sequence[Mapping[str, Any]],
        inputs: Mapping[str, str],
        outputs: Sequence[Reference],
        structure: Any = None,
    ) -> None:
        self.layers = layers
        self.nodes = nodes
        self.inputs = inputs
        self.outputs = outputs
        self.structure = structure
        self.dtype = next((layer.dtype for layer in layers.values() if any(layer.shapes())), self.dtype)

    def __call__(
        self,
        x: ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike],
        state: Sequence[Any] | None = None,
        *,
        lengths: ArrayLike | None = None,
        return_state: bool = False,
        **unknown: Never,
    ) -> Any:
        """The output, or the list or dict of outputs; with `return_state`, also the recurrent layers' states.

        x (B, ...) is one array, or for several inputs a list, or a dict by name; a list of what Keras has in
        a dict is in the order of the sorted names, as `inputs`. state: as returned, or None
        for zeros. lengths (B,): the time steps of each row that count; those after are masked, as Keras does
        with `mask`. Raises what the layers raise, and ArgumentError for inputs or states that are too few or
        too many.
        """
        if unknown:
            raise unknown_arguments(self, unknown, "x, state=None, *, lengths=None, return_state=False")
        y, after = self._run(x, state, lengths, call)
        if self.structure is not None:
            y = _structured(self.structure, y if isinstance(y, list) else [y])
        return (y, after) if return_state else y

    def _run(self, x: Any, state: Any, lengths: Any, run_recurrent: RunRecurrent) -> tuple[Any, list[Any]]:
        given = self._given(x)
        mask = None if lengths is None else _mask(given, lengths)
        before = None if state is None else iter(state)
        after: list[Any] = []

        def stateful(name: str, layer: Any, x: Any, initial: Any, lengths: Any) -> Any:
            if before is not None:
                try:
                    initial = next(before)
                except StopIteration:
                    raise ArgumentError(f"state has {len(after)} entries, but {name} needs one too") from None
            y, last = run_recurrent(name, layer, x, initial, lengths)
            after.append(last)
            return y, last

        outputs = [y.array for y in self.run([Masked(each, mask) for each in given], stateful)]
        if state is not None and len(state) != len(after):
            raise ArgumentError(f"state has {len(state)} entries, but the model has {len(after)} states")
        return outputs[0] if len(outputs) == 1 else outputs, after

    @property
    def causal(self) -> bool:
        return all(layer.causal for layer in self.layers.values())

    @property
    def step_shape(self) -> Shape | None:
        """That of the layer which comes first, in a model of one input."""
        return (
            self.layers[self.nodes[0]["layer"]].step_shape if len(self.inputs) == 1 and self.nodes else None
        )

    def run(self, inputs: Sequence[Masked], run_recurrent: RunRecurrent, **options: Any) -> list[Masked]:
        if options or len(inputs) != len(self.inputs):
            names = ", ".join(self.inputs)
            given = f"{len(inputs)} inputs" + "".join(f" and {name}" for name in options)
            raise ArgumentError(f"the model takes its inputs ({names}) and nothing else, not {given}")
        typed = [
            Masked(_cast(x.array, dtype, name), x.mask)
            for x, (name, dtype) in zip(inputs, self.inputs.items(), strict=True)
        ]
        values = self._values(typed, run_recurrent)
        return [_value(values, reference) for reference in self.outputs]

    def _values(self, inputs: list[Masked], run_recurrent: RunRecurrent) -> list[list[Masked]]:
        """The inputs, and the outputs of each node."""
        values: list[list[Masked]] = [inputs]
        for node in self.nodes:
            name = node["layer"]
            x = [_value(values, reference) for reference in node["inputs"]]
            options = {key: _option(values, value) for key, value in node.get("options", {}).items()}
            given, inside = options.pop("mask", []), options.pop("mask_inside", [])
            taken = [*map(_with_mask, x, given or inside), *x[len(given or inside) :]]
            y = self.layers[name].run(taken, within(run_recurrent, f"layers.{name}"), **options)
            if inside:
                y = [Masked(each.array, None if each.mask is None else x[0].mask) for each in y]
            values.append(y)
        return values

    def values(self, x: Any) -> list[list[Masked]]:
        """The outputs of each node for the inputs of a call."""
        typed = [
            Masked(_cast(array, dtype, name))
            for array, (name, dtype) in zip(self._given(x), self.inputs.items(), strict=True)
        ]
        return self._values(typed, call)[1:]

    def _summary_rows(self) -> list[Row]:
        from ..summary import keras_rows

        return keras_rows(self)

    def __repr__(self) -> str:
        return "\n".join(["Model(", *(f"  ({name}): {layer!r}" for name, layer in self.layers.items()), ")"])

    def _given(self, x: Any) -> list[AnyArray]:
        """The arrays of the call in the order of the inputs."""
        names = list(self.inputs)
        if isinstance(x, Mapping):
            if x.keys() != set(names):
                raise ArgumentError(f"x has {', '.join(map(str, x))}, but the inputs are {', '.join(names)}")
            x = [x[name] for name in names]
        elif len(names) == 1:
            x = [x]
        elif not isinstance(x, list | tuple) or len(x) != len(names):
            raise ArgumentError(f"x must be a list of {len(names)} arrays, or a dict: {', '.join(names)}")
        return [arrays.as_array(each, name) for each, name in zip(x, names, strict=True)]


def _value(values: Sequence[Sequence[Masked]], reference: Reference) -> Masked:
    if isinstance(reference, dict):
        return Masked(np.asarray(reference["constant"], reference.get("dtype")))
    node, output = reference
    return values[node][output]


def _option(values: Sequence[Sequence[Masked]], option: Any) -> Any:
    """What a call is given beside its inputs: arrays are a list of references, lists and dicts a "value"."""
    if isinstance(option, list):
        return [None if each is None else _value(values, each) for each in option]
    return option["value"] if isinstance(option, dict) else option


def _with_mask(x: Masked, mask: Masked | None) -> Masked:
    return Masked(x.array, None if mask is None else mask.array)


def _structured(structure: Any, outputs: Sequence[AnyArray]) -> Any:
    """The outputs in place of their numbers."""
    if isinstance(structure, dict):
        return {name: _structured(each, outputs) for name, each in structure.items()}
    if isinstance(structure, list | tuple):
        return [_structured(each, outputs) for each in structure]
    return outputs[structure]


def _cast(x: AnyArray, dtype: str, name: str) -> AnyArray:
    """An input in the type that the model declares for it, as Keras converts it."""
    if np.dtype(dtype).kind == "f":
        return arrays.as_floats(x, arrays.float_dtype(dtype), name)
    return arrays.as_floats(x, arrays.FLOAT64, name).astype(dtype) if x.dtype.kind not in "biu" else x


def _mask(given: Sequence[AnyArray], lengths: ArrayLike) -> Mask:
    shapes = {x.shape[:2] for x in given if x.ndim > 1}
    if len(shapes) != 1:
        raise ShapeError(f"lengths goes with inputs (B, T, ...), not with {[x.shape for x in given]}")
    B, T = shapes.pop()
    mask: Mask = np.arange(T) < arrays.as_lengths(lengths, (B,), T)[:, None]
    return mask
