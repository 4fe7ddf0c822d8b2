"""Check that an ONNX model is well-formed: names, types, order of computation, functions and attributes."""

from __future__ import annotations

import graphlib
from collections import ChainMap, Counter
from collections.abc import Mapping, Sequence

from ...core import budget
from ...errors import FileError
from ...graph.graph import NODE
from . import messages
from .messages import Attribute, AttributeType, Function, Graph, Model, Node, Type
from .tensors import storage_of

FIELDS = messages.ATTRIBUTE_FIELDS
TYPES = {name: kind for kind, name in FIELDS.items()}
REQUIRED = {"t", "g", "sparse_tensor", "tp"}  # the other fields may be absent, which means zero or empty
FIRST_WITH_OPSETS = 3  # the first IR version that declares the versions of operators
WITH_GRAPHS = AttributeType.GRAPH, AttributeType.GRAPHS
MOST = 1 << 63  # numbers of nodes are not distinguished beyond
FunctionKey = tuple[str, str, str]


def described(owner: Graph | Function | Node) -> str:
    """A graph, function or node in messages; a node by its name or outputs, and its operator."""
    if not isinstance(owner, Node):
        return f"the {type(owner).__name__.lower()} {owner.name}"
    return f"node {owner.name or ', '.join(filter(None, owner.output))} ({owner.operator})"


def check_attribute(attribute: Attribute, node: Node) -> None:
    """Check that the value has the declared type; set the type, which old files omit. Raises FileError."""
    values = vars(attribute).items()
    present = [name for name, value in values if name in TYPES and value not in (None, [], ())]
    if not attribute.type and len(present) == 1:
        attribute.type = TYPES[present[0]]
    expected = FIELDS.get(attribute.type)
    found = f"the value {present[0]}" if present else "no value"
    if attribute.ref_attr_name:
        problem = f"refers to {attribute.ref_attr_name} and has {found}" if present else ""
    elif len(present) > 1:
        problem = f"has the values {', '.join(present)}; expected one of them"
    elif expected is None:
        problem = f"has the unknown type {attribute.type}; expected 1 to {max(AttributeType)}"
    elif present != [expected] and (present or expected in REQUIRED):
        problem = f"has the type {AttributeType(attribute.type).name} and {found}; expected {expected}"
    else:
        return
    if problem:
        raise FileError(f"{described(node)}: the attribute {attribute.name} {problem}")


def check_model(model: Model) -> None:
    """Raise FileError unless the model is well-formed; missing shapes are common and allowed."""
    graph = model.graph or Graph()
    if model.ir_version < 1:
        raise FileError(f"the file has the IR version {model.ir_version}; expected at least 1")
    opsets = _opsets(model.opset_import, "the model")
    if not opsets and model.ir_version >= FIRST_WITH_OPSETS:
        raise FileError("the model declares no opset; expected the version of its operators")
    functions = _functions(model)
    for function in model.functions:
        imported = _opsets(function.opset_import, f"the function {function.name}")
        _check_block(function, Scope(), imported or opsets)
    if functions:
        _check_calls(graph, functions)
    for value in graph.input:
        _check_type(value.type or Type(), f"the input {value.name}")
    _check_block(graph, Scope(), opsets or {"": 1})


def _opsets(imports: Sequence[messages.OperatorSetId], owner: str) -> dict[str, int]:
    """The versions of operators by domain."""
    opsets: dict[str, int] = {}
    for each in imports:
        domain = _domain(each.domain)
        if each.version < 1 or opsets.setdefault(domain, each.version) != each.version:
            raise FileError(f"{owner} declares opset {each.version} of {domain!r}; expected one version >= 1")
    return opsets


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


# The names of the values that nodes can use: those of a graph so far, and in further maps those around it.
Scope = ChainMap[str, None]


def _repeated(owner: Graph | Function | Node, name: str) -> FileError:
    """The error for a name that is empty or that another value has."""
    problem = f"the value {name} twice" if name else "a value without a name"
    return FileError(f"{described(owner)} defines {problem}; expected a new name")


def _check_block(block: Graph | Function, outer: Scope, opsets: Mapping[str, int]) -> None:
    """Check a graph or a function, and the graphs inside its nodes."""
    scope = outer.new_child()
    own = scope.maps[0]
    if isinstance(block, Graph):
        for value in (*block.input, *block.output):
            declared = value.type.tensor_type if value.type is not None else None
            if declared is not None and declared.elem_type:  # only the inputs of the model need whole types
                storage_of(declared.elem_type, f"the value {value.name}")
    inputs, outputs = (
        [value if isinstance(value, str) else value.name for value in values]
        for values in (block.input, block.output)
    )
    constants = [tensor.name for tensor in block.initializer] if isinstance(block, Graph) else []
    for names in (inputs, constants):  # constants of the names of inputs are their default values
        if len({"", *names}) <= len(names):
            raise _repeated(block, next(name for name, n in Counter(["", *names]).items() if n > 1))
        own.update(dict.fromkeys(names))
    visible = scope if any(scope.maps[1:]) else own  # which is quicker to search
    for node in block.node:
        _check_node(node, block, scope, visible, opsets)
    for name in outputs:
        if name not in own:  # those around a subgraph do not count
            raise FileError(
                f"{described(block)} has the output {name}, which no node, input or initializer defines"
            )


def _check_node(
    node: Node,
    block: Graph | Function,
    scope: Scope,
    visible: Mapping[str, None],
    opsets: Mapping[str, int],
) -> None:
    if not node.op_type:
        raise FileError(f"{described(node)} has no operator")
    if node.domain not in opsets and _domain(node.domain) not in opsets:
        raise FileError(
            f"{described(node)} is of the domain {node.domain!r}; expected the file to declare its opset"
        )
    for name in node.input:
        if name and name not in visible:
            raise _missing(node, name, block)
    attributes: set[str] = set()
    for attribute in node.attribute:
        if attribute.name in attributes:
            raise FileError(f"{described(node)} has the attribute {attribute.name} twice")
        attributes.add(attribute.name)
        if attribute.type in WITH_GRAPHS:
            for graph in attribute.subgraphs():
                _check_block(graph, scope, opsets)
    own = scope.maps[0]
    for name in node.output:
        if name and name in visible:
            raise _repeated(node, name)
        if name:
            own[name] = None


def _missing(node: Node, name: str, block: Graph | Function) -> FileError:
    """The error for a node that takes a value before its definition."""
    nodes = [(next(filter(None, other.output), ""), other) for other in block.node]
    first_output = {output: first for first, other in nodes for output in filter(None, other.output)}
    if name not in first_output:
        return FileError(
            f"{described(node)} takes the value {name}, which no input, initializer or earlier node defines"
        )
    before = {
        first: {first_output[each] for each in other.input if each in first_output} for first, other in nodes
    }
    try:
        graphlib.TopologicalSorter(before).prepare()
    except graphlib.CycleError as error:
        cycle = " -> ".join(error.args[1])
        return FileError(f"the nodes of the graph form a cycle: {cycle}; expected an order of computation")
    later = next(other for other in block.node if name in other.output)
    return FileError(
        f"{described(node)} takes the value {name} before {described(later)} defines it; "
        "expected nodes in topological order"
    )


def _check_type(kind: Type, owner: str) -> None:
    """Raise FileError unless a type is complete; each level of nesting is a message, so it is bounded."""
    tensor = kind.tensor_type or kind.sparse_tensor_type
    element = kind.sequence_type or kind.optional_type
    if tensor is not None:
        storage_of(tensor.elem_type, owner)
        for dimension in tensor.shape.dim if tensor.shape is not None else ():
            size = dimension.dim_value
            if size is not None and size < messages.UNKNOWN_SIZE:
                raise FileError(f"{owner} has an axis of the size {size}; expected at least -1, for any size")
    elif element is not None and element.elem_type is not None:
        _check_type(element.elem_type, owner)
    elif kind.map_type is not None and kind.map_type.value_type is not None:
        storage_of(kind.map_type.key_type, owner)
        _check_type(kind.map_type.value_type, owner)
    elif kind.opaque_type is None:
        raise FileError(f"{owner} has no complete type")


def _functions(model: Model) -> dict[FunctionKey, Function]:
    functions: dict[FunctionKey, Function] = {}
    for function in model.functions:
        key = (_domain(function.domain), function.name, function.overload)
        if functions.setdefault(key, function) is not function:
            raise FileError(f"the model defines the function {function.name} of {function.domain!r} twice")
    return functions


def _check_calls(graph: Graph, functions: Mapping[FunctionKey, Function]) -> None:
    """Raise FileError if functions call themselves, and LimitError if they expand to too many nodes."""
    blocks: list[tuple[FunctionKey | None, Graph | Function]] = [*functions.items(), (None, graph)]
    calls = {key: _calls(block, functions) for key, block in blocks}
    try:
        order = [*graphlib.TopologicalSorter({key: set(calls[key][1]) for key in calls}).static_order()]
    except graphlib.CycleError as error:
        cycle = " -> ".join(name for _, name, _ in error.args[1])
        raise FileError(f"functions call themselves: {cycle}; expected no recursion") from error
    sizes: dict[FunctionKey | None, int] = {}  # the numbers of nodes with all functions expanded
    for key in order:
        count, callees = calls[key]
        sizes[key] = min(count + sum(sizes[callee] for callee in callees), MOST)
    budget.current().check(budget.STEP * sizes[None], NODE * sizes[None])


def _calls(
    block: Graph | Function, functions: Mapping[FunctionKey, Function]
) -> tuple[int, list[FunctionKey]]:
    """Return the number of nodes of a graph or function, with subgraphs, and the function of each call."""
    count, callees, blocks = 0, [], [block]
    for each in blocks:  # the loop body appends to the blocks
        count += len(each.node)
        for node in each.node:
            key = (_domain(node.domain), node.op_type, node.overload)
            callees += [key] if key in functions else []
            for attribute in node.attribute:
                blocks += attribute.subgraphs()
    return count, callees
