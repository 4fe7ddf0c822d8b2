"""Translate the operators of a TensorFlow Lite file to a graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, count
from typing import Any

import numpy as np

from ...core import budget
from ...errors import ArgumentError, FileError, OnwardError
from ...graph import Graph, Input
from ...graph.node import REFUSALS, AnyArray, named
from ...graph.structure import Structure
from ...graph.writer import Writer
from . import control, elementwise, integers, movement, products, reals, recurrent, windows
from .read import CUSTOM, OMITTED, Model, Operator, Signature, Subgraph, Tensor, read, subgraph_of
from .registry import ANY, COMPLEX, FLOATS, INTEGERS, Call, Value

MODULES = [control, elementwise, integers, movement, products, recurrent, windows]  # fill the tables
MAX_DEPTH = 16  # subgraphs in subgraphs
FLEX = "Flex"  # starts the names of TensorFlow's own operators


def load(data: Any, method: str | None = None, qdq: bool = False) -> Graph:
    """Return the graph of a file; `method` is the key of the signature, if there are several.

    With `qdq`, operators compute with the real numbers that integers stand for.

    Raises FileError, and ArgumentError, which names the operator.
    """
    model = read(data)
    signature = _chosen(model, method)
    subgraph = model.subgraphs[signature.subgraph]
    t, tensors = Translator(model, Graph(), qdq), subgraph.tensors

    def declared(names: dict[int, str], numbers: Sequence[int]) -> list[Input]:
        return [Input(names[n], tensors[n].dtype, tensors[n].declared_axes) for n in numbers]

    taken = declared(signature.inputs, subgraph.inputs)
    returned = declared(signature.outputs, subgraph.outputs)
    inputs: list[Any] = [
        Value(t, t.graph.add_input(*each), tensors[number].dtype).cast(tensors[number].inner_dtype)
        for each, number in zip(taken, subgraph.inputs, strict=True)
    ]
    outputs = t.subgraph(signature.subgraph, inputs)
    t.graph.outputs = tuple(y.cast(each.dtype).name for y, each in zip(outputs, returned, strict=True))
    carried = [Input(f"{name}_out", start.dtype, start.shape) for name, start in t.initial.items()]
    if carried:  # inputs with default values, and outputs that a call does not return
        t.graph.structure = Structure({x.name: x.name for x in taken}, tuple(y.name for y in returned))
    t.graph.outputs += tuple(t.variables[name].name for name in t.initial)
    t.graph.carries = {name: f"{name}_out" for name in t.initial}
    t.graph.declared_outputs = (*returned, *carried)
    return t.graph.without_unused()


def _chosen(model: Model, method: str | None) -> Signature:
    """Return the signature with a key, or the only one; files without any name their tensors."""
    found: dict[str, Signature] = {each.key: each for each in model.signature_defs}
    if method is not None or len(found) > 1:
        if method not in found:
            raise ArgumentError(
                f"method={method!r}; the file has the signatures {', '.join(found) or 'none'}"
            )
        return found[method]
    if found:
        return next(iter(found.values()))
    subgraph = model.subgraphs[0]
    inputs, outputs = (
        dict(zip(numbers, _unique(subgraph.tensors[number].name for number in numbers), strict=True))
        for numbers in (subgraph.inputs, subgraph.outputs)
    )
    return Signature(subgraph=0, inputs=inputs, outputs=outputs)


def _unique(names: Any) -> list[str]:
    """Return names, with numbers appended to those that appear before."""
    found: list[str] = []
    for name in names:
        numbered = (f"{name}_{number}" for number in count(2))
        found.append(next(new for new in chain([name], numbered) if new not in found))
    return found


class Translator(Writer):
    """Adds the operators of subgraphs to a graph."""

    def __init__(
        self, model: Model, graph: Graph, qdq: bool = False, depth: int = 0, has_variables: bool = True
    ) -> None:
        super().__init__(graph)
        self.model, self.qdq, self.depth, self.has_variables = model, qdq, depth, has_variables
        self.variables: dict[str, Value] = {}  # the present values of the state, by name
        self.initial: dict[str, AnyArray] = {}  # the first values of those that are read before all else
        self.starts: dict[str, AnyArray] = {}  # what a subgraph that runs once assigns, by name
        self._values: dict[int, Value] = {}  # of the subgraph at hand, by the number of the tensor

    def inner(self, has_variables: bool = False) -> Translator:
        """Return a translator that turns a subgraph into a graph of its own."""
        found = Translator(self.model, Graph(), self.qdq, self.depth + 1, has_variables)
        found.label = self.label
        return found

    def variable(self, name: str, initial: AnyArray | None) -> Value:
        """Return the present value of a variable, which starts with an array. Raises ArgumentError."""
        if name not in self.variables:
            if initial is None:
                raise ArgumentError(f"the variable {name} is read before it is assigned")
            input_name = self.graph.add_input(name, initial.dtype, initial.shape)
            self.graph.add_constant(initial, input_name)
            self.initial[name] = initial
            self.assign(name, Value(self, input_name, initial.dtype))
        return self.variables[name]

    def state(self, tensor: Tensor) -> Value:
        """Return the present value of a tensor that recurrent operators change; it starts at the number 0.

        Other operators may read it, too: converters join it with constants of zeros.
        """
        zero, dtype = tensor.zero_point if tensor.is_quantized else 0, tensor.inner_dtype
        budget.take(dtype.itemsize * math.prod(map(abs, tensor.axes)))
        return self.variable(tensor.name, np.full(tensor.axes, zero, dtype))

    def assign(self, name: str, value: Value) -> None:
        """Replace the value of a variable. Raises ArgumentError."""
        if not self.has_variables:
            raise ArgumentError(f"the variable {name} is used inside a loop or branch")
        self.variables[name] = value

    # Subgraphs.

    def subgraph(
        self, number: int, inputs: Sequence[Value], wanted: Sequence[int] | None = None
    ) -> list[Value]:
        """Add the operators of a subgraph and return its outputs, or the tensors of other numbers."""
        if self.depth > MAX_DEPTH:
            raise FileError(f"the subgraphs are nested more than {MAX_DEPTH} deep")
        found, around = subgraph_of(self.model, number, len(inputs)), (self._values, self.label)
        self._values = dict(zip(found.inputs, inputs, strict=True))
        self.depth += 1
        for each in found.operators:
            self._add_operator(found, each)
        outputs = [self._value(found, each) for each in wanted or found.outputs]
        self.depth -= 1
        self._values, self.label = around
        return outputs

    def _add_operator(self, subgraph: Subgraph, operator: Operator) -> None:
        call = Call(self, subgraph, operator)
        name = call.results[0].name if call.results else f"operator {operator.number}"
        self.label = name, operator.kind
        try:
            found = self._outputs(subgraph, call)
        except OnwardError as error:
            raise type(error)(named(f"node {name} ({operator.kind})", error)) from error
        except REFUSALS as error:
            raise FileError(
                f"node {name} ({operator.kind}) has inputs or options that it does not take: {error}"
            ) from error
        for number, value in zip(operator.outputs, found, strict=False):
            self._values[number] = value

    def _outputs(self, subgraph: Subgraph, call: Call) -> Sequence[Any]:
        """Add an operator and return its outputs."""
        given, results = call.given, call.results
        is_real = self.qdq and reals.are_needed(call.operator, (*given, *results))
        if is_real:
            call.given, call.results = list(map(reals.plain, given)), list(map(reals.plain, results))
        function = _function(call)
        inputs = [None if n == OMITTED else self._value(subgraph, n) for n in call.operator.inputs]
        call.inputs = list(map(reals.dequantized, inputs, given)) if is_real else inputs
        found = function(call, *call.inputs)
        outputs = found if isinstance(found, list | tuple) else [] if found is None else [found]
        return list(map(reals.quantized, outputs, results)) if is_real else outputs

    def _value(self, subgraph: Subgraph, number: int) -> Value:
        if number not in self._values:
            tensor = subgraph.tensors[number]
            if tensor.is_variable:
                return self.state(reals.plain(tensor) if self.qdq else tensor)
            if tensor.data is None:
                raise FileError(f"the tensor {tensor.name} is used before an operator computes it")
            budget.take(tensor.data.nbytes)
            array = np.ascontiguousarray(tensor.data).astype(tensor.inner_dtype)
            name = self.graph.add_constant(array.reshape(tensor.data.shape), tensor.name)
            self._values[number] = Value(self, name, array.dtype)
        return self._values[number]


def _function(call: Call) -> Any:
    """Return the function that translates an operator. Raises ArgumentError if there is none."""
    kind, custom = call.operator.kind, call.operator.kind.removeprefix(f"{CUSTOM}:")
    if custom.startswith(FLEX):
        raise ArgumentError(
            f"the operator {custom} runs code of TensorFlow, which a file does not contain: convert the "
            "model without SELECT_TF_OPS"
        )
    if custom != kind:
        raise ArgumentError(f"the custom operator {custom} runs code that the file does not contain")
    given = [x for x in call.given if x is not None]
    quantized = [x for x in (*given, *call.results) if x.data is None and x.is_quantized]
    table, types = FLOATS, " with real values"
    if any(x.type.startswith("complex") for x in given):
        table, types = COMPLEX, " with complex values"
    elif kind in ANY:
        table = ANY
    elif any(x.type in ("int8", "uint8", "int16") for x in quantized):
        table, types = INTEGERS, " with quantized values"
    if kind not in table:
        is_other = any(kind in other for other in (ANY, FLOATS, INTEGERS, COMPLEX))
        raise ArgumentError(f"the operator {kind}{types if is_other else ''} is not supported")
    return table[kind]
