"""Read the archives of torch.export.save: the program as small dataclasses, and its arrays by name.

Nothing in an archive is executed. The size of a tensor is checked before it is copied.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...core import budget
from ...core.arrays import contiguous
from ...core.files import parse_json
from ...errors import FileError
from ...graph.declared import evaluate, readable
from ..zip import MAX_AXES, Data, ZipMembers
from . import archive

OLD_LAYOUT = "serialized_exported_program.json"
VERSIONS = range(5, 9)  # major versions of the schema
MAX_DEPTH = 16  # nested graphs
# torch's numbers of dtypes; bfloat16 has no NumPy dtype, and is widened to float32
DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    10: "complex64", 11: "complex128", 12: "bool", 13: "float32", 28: "uint16", 34: "uint32", 35: "uint64",
}  # fmt: skip
BFLOAT16 = 13
FLOATS = {"Infinity": np.inf, "-Infinity": -np.inf, "NaN": np.nan}  # as JSON strings
STRIDED = 7

Size = int | str  # a number, or an expression of symbols


class Argument(NamedTuple):
    """The value of an argument or output: its kind, such as "as_tensor", and its content in JSON."""

    kind: str
    value: Any


@dataclass(frozen=True)
class TensorMeta:
    """The dtype, shape and memory layout of a tensor."""

    dtype: np.dtype[Any]
    sizes: tuple[Size, ...]
    strides: tuple[Size, ...]
    offset: Size
    is_bfloat16: bool = False

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements are in C order for most sizes; unknown strides count as if they were."""
        expected = 1
        sizes, strides = map(_example, self.sizes[::-1]), map(_example, self.strides[::-1])
        for size, stride in zip(sizes, strides, strict=True):
            if size is None or stride is None:
                return True
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True


@dataclass(frozen=True)
class Node:
    """One call of an operator."""

    target: str
    inputs: list[tuple[str, Argument]]
    outputs: list[Argument]
    name: str


@dataclass(frozen=True)
class Graph:
    """Nodes in the order of their computation."""

    inputs: list[Argument]
    outputs: list[Argument]
    nodes: list[Node]
    tensors: dict[str, TensorMeta]


End = tuple[tuple[str, dict[str, Any]], Argument]  # an input or output: its kind, its description, its value


@dataclass(frozen=True)
class Program:
    """A program: its graph, what its inputs and outputs are, its arrays, and the signature of forward()."""

    graph: Graph
    inputs: list[End]
    outputs: list[End]
    ranges: dict[str, tuple[int | None, int | None]]
    in_spec: str | None
    out_spec: str | None
    parameters: list[str]
    guards: list[str] = field(default_factory=list)  # conditions on the sizes of the inputs
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)


def read(data: Data | ZipMembers) -> Program:
    """Read a program. Raises FileError, and errors of other types if the JSON does not have its form."""
    members = ZipMembers.of(data)
    if OLD_LAYOUT in members.entries:
        program = _program(parse_json(members[OLD_LAYOUT], OLD_LAYOUT))
        for name in members.entries:
            if re.fullmatch(r"serialized_(state_dict|constants)\.(pt|json)", name) and len(members[name]):
                program.arrays.update(_saved_arrays(name, members[name]))
        return program
    names = list(members.entries)
    models = [name for name in names if re.fullmatch(r"([^/]+/)?models/[^/]+\.json", name)]
    if len(models) != 1:
        if any("data/aotinductor/" in name for name in names):
            raise FileError(
                "the file is an AOTInductor package, which contains machine code: save the exported program "
                "with torch.export.save instead"
            )
        raise FileError(f"the archive has {len(models)} programs; expected one member models/NAME.json")
    root, _, name = models[0].rpartition("models/")
    program = _program(parse_json(members[models[0]], models[0]))
    stored = archive.Archive(None, lambda path: members[str(path)], archive.byteorder_of(members, root))
    stem = name.removesuffix(".json")
    for kind in ("weights", "constants"):
        folder = f"{root}data/{kind}/"
        if (saved := f"{folder}{stem}.pt") in members.entries:  # PyTorch 2.8
            program.arrays.update(_saved_arrays(saved, members[saved]))
        for config in names:  # whose name has varied
            if config.startswith(folder + stem) and config.endswith("_config.json"):
                program.arrays.update(_arrays(stored, folder, parse_json(members[config], config)))
    return program


def _arrays(stored: archive.Archive, folder: str, config: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield raw tensors, of which those with one path share memory, and tensors that torch.save wrote."""
    for name, payload in config["config"].items():
        where = f"the tensor {name}"
        path = folder + payload["path_name"]
        if payload.get("use_pickle"):
            pickled = archive.read(stored.content(path))
            array = pickled.array(pickled.tree)
            if array is not None:
                yield name, array.copy()
        elif payload.get("tensor_meta") is not None:
            meta = _meta(payload["tensor_meta"], where)
            code = "bfloat16" if meta.is_bfloat16 else meta.dtype.str[1:]
            names = (where, f"the member {path}")
            array = stored.tensor(path, code, meta.offset, meta.sizes, meta.strides, names)
            yield name, contiguous(array)


def _saved_arrays(member: str, content: memoryview | bytes) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the tensors of a dictionary that torch.save wrote."""
    stored = archive.read(content)
    if not isinstance(stored.tree, dict):
        raise FileError(f"the member {member} is not a dictionary of tensors")
    for name, value in stored.tree.items():
        array = stored.array(value)
        if array is not None and isinstance(name, str):
            yield name, array


def _program(tree: Any) -> Program:
    major, minor = (tree["schema_version"][key] for key in ("major", "minor"))
    if major not in VERSIONS:
        raise FileError(
            f"the program has schema version {major}.{minor}; Onward reads versions {VERSIONS[0]} to "
            f"{VERSIONS[-1]}: save it again with another version of PyTorch"
        )
    module = tree["graph_module"]
    own = [entry.get("signature") for entry in module["module_call_graph"] if entry.get("fqn") == ""]
    call: dict[str, Any] = next(filter(None, own), {})
    ranges = {}
    for name, bounds in tree["range_constraints"].items():
        is_dict = isinstance(bounds, dict)
        values = (bounds.get("min_val"), bounds.get("max_val")) if is_dict else (bounds, None)
        if any(value is not None and type(value) is not int for value in values):
            raise FileError(f"the range of {name} is {bounds}; expected integers")
        ranges[name] = values
    names = call.get("forward_arg_names") or []
    specs = call.get("in_spec"), call.get("out_spec")
    in_spec, out_spec = (text if isinstance(text, str) else None for text in specs)
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise FileError("forward_arg_names is not a list of names")
    guards = tree.get("guards_code") or []
    if not (isinstance(guards, list) and all(isinstance(guard, str) for guard in guards)):
        raise FileError("guards_code is not a list of conditions")
    graph = _Graphs().read(module["graph"])
    inputs, outputs = (
        _ends(module["signature"][f"{what}_specs"], arguments, what)
        for what, arguments in (("input", graph.inputs), ("output", graph.outputs))
    )
    graph = Graph(
        [argument for _, argument in inputs],
        [argument for _, argument in outputs],
        [node for node in graph.nodes if not node.target.endswith(".with_effects")],
        graph.tensors,
    )
    return Program(graph, inputs, outputs, ranges, in_spec, out_spec, names, guards)


def _ends(specs: list[Any], arguments: list[Argument], what: str) -> list[End]:
    """Return the inputs or outputs without the tokens that order assertions in decomposed programs."""
    if len(specs) != len(arguments):
        raise FileError(f"the signature and the graph have different numbers of {what}s")
    ends = zip((_union(spec, f"an {what}") for spec in specs), arguments, strict=True)
    return [end for end in ends if end[0][0] != "token"]


class _Graphs:
    """Reads graphs, with a limit on their depth."""

    def read(self, tree: Any, depth: int = 0) -> Graph:
        if depth > MAX_DEPTH:
            raise FileError(f"graphs are nested more than {MAX_DEPTH} deep")
        budget.spend(20 * budget.STEP * len(tree["nodes"]))
        return Graph(
            [self._argument(value, depth) for value in tree["inputs"]],
            [self._argument(value, depth) for value in tree["outputs"]],
            [self._node(node, depth) for node in tree["nodes"]],
            {name: _meta(meta, f"the tensor {name}") for name, meta in tree["tensor_values"].items()},
        )

    def _node(self, tree: Any, depth: int) -> Node:
        outputs = [self._argument(value, depth) for value in tree["outputs"]]
        tensors = [value for kind, value in outputs if kind == "as_tensor" and isinstance(value, dict)]
        name = tree.get("name") or (tensors[0].get("name") if tensors else tree["target"])
        inputs = [(entry["name"], self._argument(entry["arg"], depth)) for entry in tree["inputs"]]
        return Node(tree["target"], inputs, outputs, str(name))

    def _argument(self, tree: Any, depth: int) -> Argument:
        kind, value = _union(tree, "an argument")
        if kind == "as_graph":
            return Argument(kind, self.read(value["graph"], depth + 1))
        if kind == "as_float":
            value = FLOATS.get(value, value) if isinstance(value, str) else value
            if not isinstance(value, int | float):
                raise FileError(f"an argument is {str(value)[:60]!r}; expected a number")
        return Argument(kind, value)


def _example(size: Size) -> int | None:
    """Return a size for symbols with unlike values, or None if it is unknown."""
    if isinstance(size, int):
        return size
    text = readable(size)
    symbols = sorted(set(re.findall(r"\b[a-z]\w*\b", text)))
    found = evaluate(text, {name: 1009 + 3 * zlib.crc32(name.encode()) % 9973 for name in symbols})
    return found if isinstance(found, int) else None


def _union(tree: Any, where: str) -> tuple[str, Any]:
    """Return the name and the value of the only entry of a JSON object."""
    if not isinstance(tree, dict) or len(tree) != 1:
        raise FileError(f"{where} is {str(tree)[:60]}; expected an object with one entry")
    return next(iter(tree.items()))


def _meta(tree: Any, where: str) -> TensorMeta:
    number = tree["dtype"]
    if number not in DTYPES:
        raise FileError(f"{where} has the dtype number {number}, which Onward does not support")
    if tree.get("layout", STRIDED) != STRIDED:
        raise FileError(f"{where} is sparse; expected a dense tensor")
    sizes, strides = ([_size(n, where) for n in tree[key]] for key in ("sizes", "strides"))
    if len(sizes) > MAX_AXES or len(strides) != len(sizes):
        raise FileError(f"{where} has {len(sizes)} sizes and {len(strides)} strides")
    offset = _size(tree.get("storage_offset"), where)
    return TensorMeta(np.dtype(DTYPES[number]), tuple(sizes), tuple(strides), offset, number == BFLOAT16)


def _size(tree: Any, where: str) -> Size:
    if type(tree) is dict and len(tree) == 1 and type(size := tree.get("as_int")) is int:
        return size
    _, value = _union(tree, where)
    return str(value["expr_str"])
