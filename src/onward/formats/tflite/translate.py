"""Translate the operators of a TensorFlow Lite file to a graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core import budget
from ...errors import ArgumentError, FileError, OnwardError
from ...graph import Graph, Input
from ...graph.node import AnyArray
from ...graph.structure import Structure
from . import (
    control,
    elementwise,
    integer_functions,
    integers,
    loops,
    lstm,
    movement,
    products,
    reals,
    rnn,
    spectra,
    windows,
)
from .read import (
    CUSTOM,
    OMITTED,
    Model,
    Operator,
    Signature,
    Subgraph,
    Tensor,
    read,
)
from .registry import ANY, COMPLEX, FLOATS, INTEGERS, Call, Table, Value

MODULES = [control, elementwise, integer_functions, integers, loops, lstm, movement, products, rnn]
MODULES += [spectra, windows]  # fill the tables
MAX_DEPTH = 16  # subgraphs in subgraphs
# What inputs and options of other kinds than those of an operator raise.
DAMAGES = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
FLEX = "Flex"  # starts the names of TensorFlow's own operators


def load(data: Any, method: str | None = None, qdq: bool = False) -> Graph:
    """Return the graph of a file; `method` is the key of the signature, if there are several.

    With `qdq`, operators compute with the real numbers that integers stand for.

    Raises FileError, and ArgumentError, which names the operator.
    """
    model = read(data)
    signature = _chosen(model, method)
    subgraph = model.subgraphs[signature.subgraph]
    t, tensors = Translator(model, Graph(), qdq=qdq), subgraph.tensors

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
    t.graph.declared_outputs = tuple(returned)
    if t.variables:
        t.add_carries([each.name for each in taken], [each.name for each in returned])
    return t.graph.without_unused()


def _chosen(model: Model, method: str | None) -> Signature:
    """Return the signature with a key, or the only one; files without any name their tensors."""
    found = {each.key: each for each in model.signatures}
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
    return Signature("", 0, inputs, outputs)


def _unique(names: Any) -> list[str]:
    """Return names, with numbers appended to those that appear before."""
    found: list[str] = []
    for name in names:
        new, number = name, 1
        while new in found:
            number += 1
            new = f"{name}_{number}"
        found.append(new)
    return found


class Translator:
    """Adds the operators of subgraphs to a graph."""

    def __init__(
        self, model: Model, graph: Graph, outer: Translator | None = None, qdq: bool = False
    ) -> None:
        self.model, self.graph = model, graph
        self.qdq: bool = qdq if outer is None else outer.qdq
        self.depth: int = 0 if outer is None else outer.depth + 1
        self.is_inner = outer is not None
        self.variables: dict[str, Value] = {}  # the present values of the state, by name
        self.initial: dict[str, AnyArray] = {}
        self.starts: dict[str, AnyArray] = {}  # what a subgraph that runs once assigns, by name
        self.starting: dict[str, AnyArray] | None = None  # in that subgraph, what it has assigned
        self.label = ("", "")  # the name and the kind of the operator at hand
        self._constants: dict[Any, str] = {}
        self._values: dict[int, Value] = {}  # of the subgraph at hand, by the number of the tensor

    # Adding operations.

    def add(self, operation: str, *inputs: Any, **attributes: Any) -> str:
        """Add an operation with one output; inputs are names, lists of integers, or None if omitted."""
        found: str = self.add_all(operation, inputs, 1, **attributes)[0]
        return found

    def add_all(self, operation: str, inputs: Sequence[Any], outputs: int, **attributes: Any) -> Any:
        """Add an operation with several outputs and return their names."""
        names = [x if isinstance(x, str) else "" if x is None else self.cast(x, np.int64) for x in inputs]
        name, source = self.label
        return self.graph.add_all(operation, names, outputs, name=name, source=source, **attributes)

    def cast(self, value: Any, dtype: Any) -> str:
        """Return the name of a constant; equal ones are stored once."""
        array: AnyArray = np.asarray(value).astype(dtype)
        if array.nbytes > 1024:
            budget.take(array.nbytes)
            return self.graph.add_constant(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.graph.add_constant(array)
        return self._constants[key]

    # Values that calls keep.

    def add_carries(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Declare the variables as inputs with default values, and as outputs that a call does not return."""
        graph = self.graph
        for name, value in self.variables.items():
            graph.carries[name] = f"{name}_out"
            graph.outputs += (value.name,)
            start = self.initial[name]
            graph.declared_outputs += (Input(f"{name}_out", start.dtype, start.shape),)
        graph.structure = Structure({name: name for name in inputs}, tuple(outputs))

    def variable(self, name: str, initial: AnyArray | None) -> Value:
        """Return the present value of a variable, which starts with an array. Raises ArgumentError."""
        if name not in self.variables:
            if self.is_inner:
                raise ArgumentError(f"the variable {name} is used inside a loop or branch")
            if initial is None:
                raise ArgumentError(f"the variable {name} is read before it is assigned")
            self.initial[name] = initial
            input_name = self.graph.add_input(name, initial.dtype, initial.shape)
            self.graph.add_constant(initial, input_name)
            self.variables[name] = Value(self, input_name, initial.dtype)
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
        if self.starting is not None:
            if value.known is None:
                raise ArgumentError(f"the initial value of the variable {name} is not a constant")
            self.starting[name] = value.known
            return
        if name not in self.variables:
            self.variable(name, self.starts.get(name))
        self.variables[name] = value

    # Subgraphs.

    def subgraph(
        self, number: int, inputs: Sequence[Value], wanted: Sequence[int] | None = None
    ) -> list[Value]:
        """Add the operators of a subgraph and return its outputs, or the tensors of other numbers."""
        if self.depth > MAX_DEPTH:
            raise FileError(f"the subgraphs are nested more than {MAX_DEPTH} deep")
        found, around = self.model.subgraph(number, len(inputs)), (self._values, self.label)
        self._values = dict(zip(found.inputs, inputs, strict=True))
        self.depth += 1
        for each in found.operators:
            self._add_operator(found, each)
        outputs = [self._value(found, each) for each in wanted or found.outputs]
        self.depth -= 1
        self._values, self.label = around
        return outputs

    def _add_operator(self, subgraph: Subgraph, operator: Operator) -> None:
        given = [None if n == OMITTED else subgraph.tensors[n] for n in operator.inputs]
        results = [subgraph.tensors[number] for number in operator.outputs if number != OMITTED]
        name = results[0].name if results else f"operator {operator.number}"
        self.label = name, operator.kind
        try:
            found = self._outputs(subgraph, operator, given, results)
        except OnwardError as error:
            message = str(error)
            raise type(error)(
                message if message.startswith("node ") else f"node {name} ({operator.kind}): {message}"
            ) from error
        except DAMAGES as error:
            raise FileError(
                f"node {name} ({operator.kind}) has inputs or options that it does not take: {error}"
            ) from error
        for number, value in zip(operator.outputs, found, strict=False):
            self._values[number] = value

    def _outputs(
        self,
        subgraph: Subgraph,
        operator: Operator,
        given: Sequence[Tensor | None],
        results: Sequence[Tensor],
    ) -> Sequence[Any]:
        """Add an operator and return its outputs."""
        is_real = self.qdq and reals.are_needed(operator, (*given, *results))
        plain = reals.plain if is_real else lambda tensor: tensor
        call = Call(self, operator, list(map(plain, given)), list(map(plain, results)))
        function = _function(operator, call.given, call.results)
        inputs = [None if n == OMITTED else self._value(subgraph, n) for n in operator.inputs]
        call.inputs = list(map(reals.dequantized, inputs, given)) if is_real else inputs
        call.intermediates = [subgraph.tensors[n] for n in operator.intermediates]
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


def _function(operator: Operator, given: Sequence[Tensor | None], results: Sequence[Tensor]) -> Any:
    """Return the function that translates an operator. Raises ArgumentError if there is none."""
    kind = operator.kind
    if kind.startswith(f"{CUSTOM}:{FLEX}"):
        raise ArgumentError(
            f"the operator {kind.removeprefix(CUSTOM + ':')} runs code of TensorFlow, which a file does not "
            "contain: convert the model without SELECT_TF_OPS"
        )
    if kind.startswith(f"{CUSTOM}:"):
        raise ArgumentError(
            f"the custom operator {kind.removeprefix(CUSTOM + ':')} runs code that the file does not contain"
        )
    table, types = _table(kind, given, results)
    if kind not in table:
        is_other = any(kind in other for other in (ANY, FLOATS, INTEGERS, COMPLEX))
        raise ArgumentError(f"the operator {kind}{types if is_other else ''} is not supported")
    return table[kind]


def _table(kind: str, given: Sequence[Tensor | None], results: Sequence[Tensor]) -> tuple[Table, str]:
    """Return the table of an operator, and the values that it is for."""
    values = [x for x in (*given, *results) if x is not None and x.data is None]
    if any(x is not None and x.type.startswith("complex") for x in given):
        return COMPLEX, " with complex values"
    if kind in ANY:
        return ANY, ""
    if any(x.is_quantized and x.type in ("int8", "uint8", "int16") for x in values):
        return INTEGERS, " with quantized values"
    return FLOATS, " with real values"
