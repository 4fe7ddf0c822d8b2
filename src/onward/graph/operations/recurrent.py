"""Recurrent layers: `Recurrent` runs a cell; RNN, GRU and LSTM take ONNX's weights as inputs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...core import arrays
from ...core.cell import KINDS, Cell
from ...core.gates import reorder
from ...errors import ArgumentError, ShapeError
from ..activation_names import RECURRENT
from ..node import AnyArray, Node, Operand, Signature
from ..plan.builder import Builder
from ..plan.view import DTYPES, View, name_of
from ..size import hint
from ..sized import broadcast_shape, has_sizes, integers
from .compositions import composed
from .expressions import where
from .registry import Inputs, along_time, operation, reading
from .value import typed_view

DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
FUNCTIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}  # in one direction
OPTIONS = (
    *("activations", "activation_alpha", "activation_beta", "clip", "direction", "hidden_size"),
    "input_forget",
)
ACTIVATIONS = {name.lower(): meaning for name, meaning in RECURRENT.items()}  # whatever their case


def _recurrent_signature(
    x: Operand, lengths: Operand | None = None, *states: Operand | None, cell: Any, reverse: bool = False
) -> list[Signature]:
    if len(x.shape) != 3 or x.shape[2] != cell.input_size:
        raise ShapeError(f"x has shape {x.shape}, but {cell!r} takes (T, B, {cell.input_size})")
    T, B, _ = x.shape
    shapes = cell.state_shapes(B)
    for name, state, shape in zip(("h", "c"), states, shapes, strict=False):
        if state is not None and state.shape != shape:
            raise ShapeError(f"the initial {name} has shape {state.shape}, but x requires {shape}")
    return [Signature(shape, x.dtype) for shape in ((T, B, cell.sizes.DP), *shapes)]


def weights_of_unit(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> int:
    """Return how many weights each unit of a cell has, in all of its layers."""
    cell = attributes["cell"]
    return int(sum(math.prod(shape) for _, shape in cell.float_shapes()) // cell.hidden_size)


@operation("Recurrent", signature=_recurrent_signature, combines=lambda node, inputs: [(0, 2), (), (0, 2)])
def recurrent(
    x: AnyArray, lengths: AnyArray | None = None, *states: AnyArray | None, cell: Any, reverse: bool = False
) -> tuple[AnyArray, ...]:
    """Run a cell over x (T, B, I), from the last step to the first if `reverse`.

    Returns y (T, B, D*P) and the final state, one array (L*D, B, units) for each state of the cell.
    """
    y, *final = cell(arrays.reversed_steps(x, lengths) if reverse else x, *states, lengths=lengths)
    return arrays.reversed_steps(y, lengths) if reverse else y, *final


@recurrent.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    X, lengths, h, c = (*inputs, None, None, None)[:4]
    cell, T = node.attributes["cell"], shapes[0][0]
    dtype = name_of(cell.dtype)
    x = typed_view(b, X, (dtype,))
    if x is None or not b.computes(cell.dtype):
        return None
    if lengths is not None and lengths.known and (lengths.array == T).all():
        lengths = None
    steps = typed_view(b, lengths)
    if lengths is not None and (steps is None or lengths.dtype.kind != "i" or node.attributes.get("reverse")):
        return None
    states = [typed_view(b, value, (dtype,)) for value in (h, c)]
    if all(state is None or b.is_zero(state) for state in states):  # as without initial states
        h = c = None
        states = [None, None]
    if T == 0:
        unchanged = [state for state in states[: len(shapes) - 1] if state is not None]
        return [unchanged[0], *unchanged] if len(unchanged) == len(shapes) - 1 else None
    if any(value is not None and v is None for value, v in zip((h, c), states, strict=True)):
        return None
    if x.strides[2] != 1 and x.shape[2] > 1:
        x = b.contiguous(x)
    y, h_n, *cells = (b.new(*shape, dtype=dtype) for shape in shapes)
    out = y
    if node.attributes.get("reverse"):
        x, out = x.reversed(0), y.reversed(0)
    add_recurrent(b, node, x, states[: 1 + len(cells)], out, [h_n, *cells], steps)
    return [y, h_n, *cells]


def add_recurrent(
    b: Builder,
    node: Node,
    x: View,
    initial: Sequence[View | None],
    y: View,
    final: Sequence[View],
    lengths: View | None = None,
) -> None:
    """Add the step that runs the cell of a node over x (T, B, I)."""
    states = [None if state is None else b.contiguous(state) for state in initial]
    (h0, c0), (h_n, c_n) = ((*each, None, None)[:2] for each in (states, final))
    steps = None if lengths is None else b.contiguous(b.cast(lengths, "int64"))
    b.add("recurrent", b.stack(node.attributes["cell"]), x, h0, c0, y, h_n, c_n, steps, str(node))


@composed("Step")
def step(x: Any, *states: Any, cell: Any) -> Iterator[Any]:
    """The states (..., H) after one step of a cell with one input x (..., I)."""
    parts = [x, *states]
    for name, part, size in zip("xhc", parts, (cell.input_size, *[cell.hidden_size] * 2), strict=False):
        if part.shape[-1:] != (size,):
            raise ShapeError(f"{name} has shape {part.shape}, but {cell!r} takes (..., {size})")
    leading = broadcast_shape(*(part.shape[:-1] for part in parts))
    parts = [p if p.shape[:-1] == leading else p.apply("Expand", [*leading, 1]) for p in parts]
    rows = [p if p.rank == 2 else p.apply("Flatten", axis=p.rank - 1) for p in parts]
    first, *rest = (each.apply("Unsqueeze", [0]) for each in rows)
    _, *after = first.apply_all("Recurrent", None, *rest, outputs=1 + len(states), cell=cell)
    for row, part, state in zip(rows[1:], parts[1:], after, strict=True):
        yield state.apply("Squeeze", [0]) if row is part else state.apply("Reshape", part.apply("Shape").name)


def _define(kind: str) -> None:
    @composed(kind, attributes=(*OPTIONS, "linear_before_reset"), widens=True)
    def run(
        X: Any, W: Any, R: Any, B: Any = None, lengths: Any = None, h: Any = None, c: Any = None,
        P: Any = None, *, layout: int = 0, **attributes: Any,
    ) -> Iterator[Any]:  # fmt: skip
        """ONNX's operator: X (T, B, I), or (B, T, I) with layout 1, to Y (T, D, B, H), Y_h and Y_c."""
        weights = [p and p.known for p in (W, R, B, P)]
        is_known = not any(isinstance(array, Signature) for array in weights)
        cell = new_cell(
            kind, attributes, *(weights if is_known else [p and Signature.of(p) for p in weights])
        )
        if X.rank != 3 or X.shape[2] != W.shape[2]:
            takes = f"W {W.shape} takes three axes, the last of {W.shape[2]}"
            raise ShapeError(f"X has shape {X.shape}, but {takes}")
        D = 1 + cell.bidirectional

        def swapped(x: Any) -> Any:
            return x if x is None or not layout else x.apply("Transpose", perm=[1, 0, 2])

        inputs = (lengths, *map(swapped, (h, c)[: len(cell.state_names)]))
        reverse = attributes.get("direction") == "reverse"
        operation = "Recurrent"
        if not is_known:
            operation, inputs = "WeightedRecurrent", (*inputs, *_weight_parts(cell, W, R, B, P))
        y, *states = swapped(X).apply_all(operation, *inputs, outputs=3, cell=cell, reverse=reverse)
        if D == 1:  # y (T, B, H) to Y (T, 1, B, H), or (B, T, 1, H)
            yield swapped(y).apply("Unsqueeze", [2 if layout else 1])
        else:  # y (T, B, D*H) to Y (T, D, B, H), or (B, T, D, H)
            perm = [1, 0, 2, 3] if layout else [0, 2, 1, 3]
            yield y.apply("Reshape", [0, 0, D, -1]).apply("Transpose", perm=perm)
        for state in states[: len(cell.state_names)]:  # (D, B, H), or (B, D, H)
            if lengths is not None:  # 0 in rows of no steps: the specification is silent here; as onnxruntime
                state = state.apply("FinalState", state.constant(0), lengths)
            yield swapped(state)


for _kind in KINDS:
    _define(_kind)


@operation("Steps", signature=lambda x: Signature(x.shape[1:2], np.dtype(np.int32)), reads_values=False)
def steps(x: Operand) -> AnyArray:
    """Return the number of time steps of x (T, B, ...) for each row."""
    T, B = x.shape[:2]
    counts: AnyArray = integers([T] * B)
    return counts if has_sizes(counts) else counts.astype(np.int32)


steps.steps(DTYPES)(lambda b, x: b.scalar(x.shape[0], "int32").broadcast(x.shape[1]))


@operation(
    "LastStep",
    signature=lambda y, lengths=None, *, axis=1: Signature(
        (*y.shape[:axis], *y.shape[axis + 1 :]), arrays.working_dtype(y)
    ),
    combines=lambda node, inputs: [[node.attributes.get("axis", 1)], ()],
)
def last_step(y: AnyArray, lengths: AnyArray | None = None, *, axis: int = 1) -> AnyArray:
    """Return the last valid step of each row of y (B, T, ...), as onward.Last does; `axis` is that of T."""
    y = y.swapaxes(axis, 1)
    last = np.zeros((len(y), *y.shape[2:]), arrays.working_dtype(y))
    valid = (
        np.full(len(y), y.shape[1])
        if lengths is None
        else arrays.as_lengths(lengths, y.shape[:1], y.shape[1])
    )
    rows = np.flatnonzero(valid)
    last[rows] = y[rows, valid[rows] - 1]
    return last


@last_step.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Without lengths, the last step is a view of y; zeros are that if there is none."""
    (y, *lengths), axis = inputs, node.attributes.get("axis", 1)
    if y is None or any(lengths) or name_of(y.dtype) not in ("float32", "float64"):
        return None
    if y.shape[axis] == 0:
        return [b.scalar(0, name_of(y.dtype)).broadcast(*shapes[0])]
    steps, count = typed_view(b, y), y.shape[axis]
    if steps is None:
        return None
    others = [other for other in range(len(y.shape)) if other != axis]
    return [
        steps.permuted(axis, *others)
        .sliced(0, count - 1, count)
        .with_axes(shapes[0], [steps.strides[k] for k in others])
    ]


last_step.lowers_empty = True


@composed("FinalState", combines=lambda node, inputs: [(0, 2), (0, 1, 2), ()])
def final_state(state: Any, initial: Any, lengths: Any) -> Any:
    """The final state (D, B, H) of a recurrent node, or the initial state in rows of no steps."""
    return where((lengths > 0).apply("Unsqueeze", [1]), state, initial)


def new_cell(
    kind: str, attributes: Mapping[str, Any], W: Operand, R: Operand, B: Operand | None = None,
    P: Operand | None = None,
) -> Cell:  # fmt: skip
    """Return the cell of an ONNX node with weights W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H), P (D, 3*H).

    An LSTM of TensorFlow Lite also has the attribute `cell_clip`.

    If W is a signature, the cell has no weights. Raises ArgumentError and ShapeError.
    """
    D, G = _directions(attributes), len(KINDS[kind].gates)
    arguments = _options(kind, attributes, D)
    _check("W", W.shape, (D, None, None))
    H = W.shape[1] // G
    _check("W", W.shape, (D, G * H, None))
    _check("R", R.shape, (D, G * H, H))
    if attributes.get("hidden_size") not in (None, H):
        raise ShapeError(f"hidden_size={attributes['hidden_size']}, but R has shape {R.shape}")
    if P is not None:
        _check("P", P.shape, (D, 3 * H))
        arguments["peephole"] = True
    if B is not None:
        _check("B", B.shape, (D, 2 * G * H))
    cell = Cell(kind, W.shape[2], H, bias=B is not None, bidirectional=D == 2, dtype=W.dtype, **arguments)
    if isinstance(W, Signature):
        return cell
    return cell.filled(_weights(cell, W, R, B, P))


def _weights(cell: Cell, W: Any, R: Any, B: Any, P: Any) -> dict[str, Any]:
    """Return the weights under the cell's names, their gates in the cell's order."""
    kind = cell.kind.lower()
    weights = {}
    for d, suffix in enumerate(cell.suffixes()):
        stacked = {"weight_ih": W[d], "weight_hh": R[d]}
        if B is not None:
            stacked["bias_ih"], stacked["bias_hh"] = B[d].reshape(2, -1)
        for name, weight in stacked.items():
            weights[name + suffix] = weight if kind == "rnn" else reorder(weight, kind, "onnx", "torch")
        if P is not None:
            weights["weight_peephole" + suffix] = reorder(P[d], "peephole", "onnx", "torch")
    return weights


def _weight_parts(cell: Cell, W: Any, R: Any, B: Any, P: Any) -> list[Any]:
    """Return the weights in the order of the cell, from parts of a composition."""
    kind = cell.kind.lower()

    def reordered(x: Any, count: int, name: str) -> Any:
        gates = x.apply_all("Split", [x.shape[0] // count] * count, outputs=count, axis=0)
        order = reorder(np.arange(count), name, "onnx", "torch") if count > 1 else [0]
        first, *rest = (gates[place] for place in order)
        return first.apply("Concat", *rest, axis=0)

    weights, G = dict[str, Any](), len(cell.gates)
    for d, suffix in enumerate(cell.suffixes()):
        stacked = {"weight_ih": W, "weight_hh": R}
        stacked = {name: each.apply("Gather", np.array(d), axis=0) for name, each in stacked.items()}
        if B is not None:
            both = B.apply("Gather", np.array(d), axis=0)
            stacked["bias_ih"], stacked["bias_hh"] = both.apply_all(
                "Split", [both.shape[0] // 2] * 2, outputs=2, axis=0
            )
        weights |= {name + suffix: reordered(each, G, kind) for name, each in stacked.items()}
        if P is not None:
            weights["weight_peephole" + suffix] = reordered(
                P.apply("Gather", np.array(d), axis=0), 3, "peephole"
            )
    return [weights[name] for name, _ in cell.float_shapes()]


def check_options(kind: str, attributes: Mapping[str, Any]) -> None:
    """Raise ArgumentError if no cell has the options of a node of ONNX."""
    D, layout = _directions(attributes), attributes.get("layout", 0)
    if layout not in (0, 1):
        raise ArgumentError(f"layout={layout!r}, but must be 0 or 1")
    if options := _options(kind, attributes, D):
        Cell(kind, 1, 1, bidirectional=D == 2, **options)


def _directions(attributes: Mapping[str, Any]) -> int:
    direction = attributes.get("direction") or "forward"
    if not isinstance(direction, str) or direction not in DIRECTIONS:
        raise ArgumentError(f"direction={direction!r}, but must be one of {', '.join(DIRECTIONS)}")
    return DIRECTIONS[direction]


def _options(kind: str, attributes: Mapping[str, Any], D: int) -> dict[str, Any]:
    """Return the arguments of the cell, without its sizes, for the attributes of a node."""
    options: dict[str, Any] = {}
    if attributes.get("activations"):
        functions = _functions(kind, attributes, D)
        if kind == "RNN":
            each = tuple(f for (f,) in functions)
            options["nonlinearity"] = each[0] if len(set(each)) == 1 else each
        else:
            options["activations"] = functions[0] if D == 1 else tuple(functions)
    if attributes.get("clip") is not None:
        options["clip"] = float(attributes["clip"])
    if kind == "GRU":
        options["reset_after"] = bool(attributes.get("linear_before_reset"))
    if kind == "LSTM" and attributes.get("input_forget"):
        options["coupled"] = True
    if kind == "LSTM" and attributes.get("cell_clip") is not None:
        options["cell_clip"] = float(attributes["cell_clip"])
    return options


def _functions(kind: str, attributes: Mapping[str, Any], D: int) -> list[tuple[Any, ...]]:
    """Return the functions of each direction, each a name or a name with its parameters."""
    n, names = FUNCTIONS[kind], attributes["activations"]
    if n == 1 and names == ["Tanh", "Tanh"]:  # the default of RNN, whatever its direction
        names = names[:D]
    if len(names) != n * D:
        raise ArgumentError(f"activations={names!r}, but must be {n * D} names")
    # the functions that have alpha or beta take the next one
    numbers = {key: iter(attributes.get(f"activation_{key}") or ()) for key in ("alpha", "beta")}
    functions: list[Any] = []
    for name in names:
        if name.lower() not in ACTIVATIONS:
            raise ArgumentError(f"activations={names!r}, but Onward does not support {name}")
        function, parameters = ACTIVATIONS[name.lower()]
        given = [float(next(numbers[key], default)) for key, default in parameters.items()]
        functions.append((function, *given) if given else function)
    return [tuple(functions[:n]), tuple(functions[n:])][:D]


def _check(name: str, shape: tuple[int, ...], expected: tuple[int | None, ...]) -> None:
    if len(shape) != len(expected) or any(n not in (None, m) for m, n in zip(shape, expected, strict=True)):
        takes = ", ".join("any" if n is None else str(n) for n in expected)
        raise ShapeError(f"{name} has shape {shape}, but must have ({takes})")


recurrent.lowers_empty = True


@recurrent.over_time
def _(time: Any, node: Node) -> None:
    """Carry the states."""
    cell, x = node.attributes["cell"], node.inputs[0]
    if time.axis(x) == 1:  # blocks of rows
        time.unchanged(node)
        return
    lengths, *states = (*node.inputs[1:], "", "", "")[: 1 + len(cell.state_names)]
    if cell.bidirectional or node.attributes.get("reverse"):
        time.refuse(node, "its reverse direction starts at the last step of the sequence")
    if time.axis(x) != 0:
        time.refuse(node, "its steps are not those of the time axis")
    time.check_all_steps(node, lengths, x)
    carried = carry_states(time, node, "hc", states, cell.state_shapes(time.shape(x)[1]), cell.dtype)
    y, *finals = time.add_all("Recurrent", (x, "", *carried), 1 + len(carried), cell=cell)
    time.define(node.outputs[0], y, time.timing(x))
    keep_states(time, node, carried, finals)


def carry_states(
    time: Any, node: Node, names: Sequence[str], states: Sequence[str], shapes: Sequence[Any], dtype: Any
) -> list[str]:
    """Return carries of states, which start at values that are the same for all sequences, or at zeros."""
    carried = []
    for name, state, shape in zip(names, states, shapes, strict=False):
        known = time.known(state) if state else None
        source = state if known is None else ""
        if source and not time.is_independent(source):
            time.refuse(node, f"its initial {name} depends on the sequence")
        initial = time.filled(shape, dtype) if known is None else known
        carried.append(time.carry(node, initial, None, name, source))
    return carried


def keep_states(time: Any, node: Node, carried: Sequence[str], finals: Sequence[str]) -> None:
    """Carry the final states of a recurrent cell, and let them stand for the outputs of a node."""
    for before, after, output in zip(carried, finals, (*node.outputs[1:], "", ""), strict=False):
        time.keep(before, after)
        if output:
            time.define(output, after, None)


@last_step.over_time
@along_time
def _(time: Any, node: Node, axis: int) -> None:
    """Carry the last step so far."""
    y, lengths = (*node.inputs, "")[:2]
    time.check_all_steps(node, lengths, y)
    time.summarize(node, time.latest(node, y), [axis])


@final_state.over_time
def _(time: Any, node: Node) -> None:
    """The state so far, because every row has steps."""
    if time.axis(node.inputs[0]) == 1:  # blocks of rows
        time.unchanged(node)
        return
    time.check_all_steps(node, node.inputs[2], "")
    time.define(node.outputs[0], node.inputs[0], None)


recurrent.reading(weights_of_unit)


@reading("RNN", "GRU", "LSTM")
def rows_of_unit(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """The weights of each unit: a row of W and of R for each gate."""
    W, R = inputs[1:3]
    return (math.prod(W.shape) + math.prod(R.shape)) // max(1, min(map(hint, R.shape[1:])))
