"""ONNX models of one recurrent node, with random options from the whole specification."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from onward.formats.onnx.read import read
from onward.formats.onnx.translate import translate
from onward.graph import Model

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
FUNCTIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}
TAKES_ALPHA = {"Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"}
TAKES_BETA = {"Affine", "ScaledTanh", "HardSigmoid"}
BOUNDED, GATES_BOUNDED = {"Tanh", "Sigmoid", "Softsign", "HardSigmoid"}, {"Sigmoid", "HardSigmoid"}
ACTIVATIONS = ["Relu", "Tanh", "Sigmoid", "Softsign", "Softplus", *sorted(TAKES_ALPHA)]


def outputs_of(model: Any, *args: Any, **inputs: Any) -> tuple[Any, ...]:
    """Call a model and return its outputs as a tuple, whatever their number."""
    results = model(*args, **inputs)
    return results if isinstance(results, tuple) else (results,)


class Opened(Model):
    """A model whose calls return a tuple, whatever the number of outputs."""

    def __call__(self, *args: Any, **inputs: Any) -> tuple[Any, ...]:
        return outputs_of(super().__call__, *args, **inputs)


def open_model(proto: onnx.ModelProto) -> Opened:
    """Open a model as onward.load opens its file; its calls return a tuple."""
    return Opened(translate(read("model.onnx", proto.SerializeToString())))


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    """Normally distributed numbers, the same for the same shape."""
    rng = np.random.default_rng(sum(shape) + len(shape))
    return rng.normal(0, 0.5, shape).astype(dtype)


class Case(NamedTuple):
    """A model and its inputs."""

    model: onnx.ModelProto
    feeds: dict[str, NDArray[Any]]

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the node, for the message of a failing test."""
        node = self.model.graph.node[0]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        return {"op": node.op_type, "inputs": list(node.input), "outputs": list(node.output), **attributes}

    def time_first(self) -> "Case":
        """The case with layout 0, in which the time axis, or that of the directions, is the first one."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        (node,) = model.graph.node
        if not self.attributes.get("layout"):
            return self
        kept = [attribute for attribute in node.attribute if attribute.name != "layout"]
        del node.attribute[:]
        node.attribute.extend(kept)
        for stored in model.graph.initializer:
            if stored.name.startswith("initial"):
                array = onnx.numpy_helper.to_array(stored).swapaxes(0, 1)
                stored.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(array), stored.name))
        moved = {k: a.swapaxes(0, 1) if k[0] in "Xi" else a for k, a in self.feeds.items()}
        return Case(model, {name: np.ascontiguousarray(feed) for name, feed in moved.items()})

    def as_declared(self, outputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs of `time_first` in the layout of the case."""
        if not self.attributes.get("layout"):
            return list(outputs)
        return [y.transpose(2, 0, 1, 3) if y.ndim == 4 else y.swapaxes(0, 1) for y in outputs]


def model_of(
    nodes: Sequence[onnx.NodeProto],
    feeds: dict[str, NDArray[Any]],
    outputs: Sequence[str],
    constants: dict[str, NDArray[Any]] | None = None,
    opset: int = 14,
) -> onnx.ModelProto:
    """A model with the inputs `feeds`, whose shapes are not fixed."""
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(feed.dtype), [None] * feed.ndim)
        for name, feed in feeds.items()
    ]
    kind = values[0].type.tensor_type.elem_type if values else onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "graph",
        values,
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def movement(case: Case, rng: np.random.Generator) -> list[float]:
    """How far each output moves if every input moves by half an ulp of float32, computed in float64.

    Two computations in float32 cannot be expected to agree more closely.
    """
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.tensor_type
        kind.elem_type = (
            onnx.TensorProto.DOUBLE if kind.elem_type == onnx.TensorProto.FLOAT else kind.elem_type
        )
    for stored in model.graph.initializer:
        if stored.data_type == onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(stored).astype(np.float64)
            stored.CopyFrom(onnx.numpy_helper.from_array(array, stored.name))
    graph = open_model(model)

    def moved(by: float) -> Any:
        return graph(
            **{
                name: feed if feed.dtype.kind == "i" else feed * (1 + rng.uniform(-by, by, feed.shape))
                for name, feed in case.feeds.items()
            }
        )

    exact, others = moved(0), [moved(2**-24) for _ in range(8)]
    return [max(np.abs(other[k] - y).max() for other in others) for k, y in enumerate(exact)]


def draw(rng: np.random.Generator, **fixed: Any) -> Case:
    """One node with random options, except for the given attributes."""

    def some(*choices: Any) -> Any:
        return choices[rng.integers(len(choices))]

    op = fixed.pop("op", None) or some("RNN", "GRU", "LSTM")
    direction = some("forward", "reverse", "bidirectional")
    D, G = 1 + (direction == "bidirectional"), GATES[op]
    T, B, I, H = (int(n) for n in rng.integers(1, [7, 6, 6, 10]))  # noqa: E741 - axis letters
    attributes: dict[str, Any] = {"direction": direction, "hidden_size": H}
    if some(True, False):
        attributes["clip"] = float(rng.uniform(0.1, 2))
    if some(True, False):
        names = [str(rng.choice(ACTIVATIONS)) for _ in range(D * FUNCTIONS[op])]
        attributes["activations"] = names
        for name, takers in (("activation_alpha", TAKES_ALPHA), ("activation_beta", TAKES_BETA)):
            if any(function in takers for function in names):
                attributes[name] = [float(rng.uniform(0.1, 0.9)) for f in names if f in takers]
    if op == "LSTM" and some(True, False):
        attributes["input_forget"] = int(rng.integers(2))
    if op == "GRU":
        attributes["linear_before_reset"] = int(rng.integers(2))
    chosen = attributes.get("activations", [])
    bounded = BOUNDED.issuperset(chosen) and GATES_BOUNDED.issuperset(chosen[:: FUNCTIONS[op]])
    # small weights, and gate biases from -1 to 1, so that rounding errors do not grow over time
    scale = 0.6 if bounded else 0.1
    if bounded or not attributes.get("input_forget"):  # which turns a gate of -1 into 2
        T = some(T, T, T, T, 40)
    attributes |= fixed

    def normal(*shape: int) -> NDArray[Any]:
        return rng.normal(0, scale, shape).astype(np.float32)

    feeds = {"X": normal(T, B, I), "W": normal(D, G * H, I), "R": normal(D, G * H, H)}
    optional: dict[str, NDArray[Any]] = {
        "B": normal(D, 2 * G * H) + np.float32(0 if bounded else -0.5),
        "sequence_lens": rng.integers(0, T + 1, B).astype(np.int32),
        "initial_h": normal(D, B, H),
    }
    if op == "LSTM":
        optional |= {"initial_c": normal(D, B, H), "P": normal(D, 3 * H)}
    names = list(feeds)
    for name, array in optional.items():
        present = some(True, False) or (name == "B" and not bounded)
        names.append(name if present else "")
        if present:
            feeds[name] = array
    if "sequence_lens" in feeds and some(True, False, False):
        feeds["sequence_lens"][:] = T
    for name in ("initial_h", "initial_c"):
        if name in feeds:
            feeds[name] *= some(0, 1, 1, 1)
    outputs = ["Y", "Y_h", "Y_c"][: 2 + (op == "LSTM")]
    kept = [name if some(True, True, False) else "" for name in outputs]
    if not any(kept):
        kept = outputs
    constants = some([], ["W", "R", "B", "P"], ["W", "R", "B", "P"], [*feeds.keys() - {"X"}])
    if attributes.setdefault("layout", int(rng.integers(2))):
        feeds |= {k: np.ascontiguousarray(a.swapaxes(0, 1)) for k, a in feeds.items() if k[0] in "Xi"}
    stored = {name: feeds.pop(name) for name in sorted(constants) if name in feeds}
    node = helper.make_node(op, names, kept, **attributes)
    return Case(model_of([node], feeds, [name for name in kept if name], stored), feeds)


def draw_quantized(rng: np.random.Generator) -> tuple[Case, dict[str, NDArray[Any]]]:
    """One DynamicQuantizeLSTM with random options, and its constants by name."""
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    attributes: dict[str, Any] = {"direction": direction, "hidden_size": (H := 7)}
    D, T, B, I = 1 + (direction == "bidirectional"), 5, 3, 4  # noqa: E741 - axis letters
    some = [bool(n) for n in rng.integers(0, 2, 8)]
    if some[0]:
        attributes["clip"] = 0.5
    attributes["input_forget"] = int(some[1])

    def normal(*shape: int) -> NDArray[Any]:
        return rng.normal(0, 0.7, shape).astype(np.float32)

    kind: Any = np.int8 if some[2] else np.uint8
    scales = (D, 4 * H) if some[3] else (D,)
    # onnxruntime requires the zero point 0 if each column has its own scale
    zero_point = 0 if some[3] else int(rng.integers(-9, 9)) if some[2] else int(rng.integers(110, 140))
    low, high = (-128, 128) if some[2] else (0, 256)
    constants = {
        "W": rng.integers(low, high, (D, I, 4 * H)).astype(kind),
        "R": rng.integers(low, high, (D, H, 4 * H)).astype(kind),
        **({"B": normal(D, 8 * H)} if some[4] else {}),
        **({"P": normal(D, 3 * H)} if some[5] else {}),
        **{f"{matrix}_scale": rng.uniform(0.004, 0.01, scales).astype(np.float32) for matrix in "WR"},
        **{f"{matrix}_zero_point": np.full(scales, zero_point, kind) for matrix in "WR"},
    }
    feeds = {"X": normal(T, B, I)}
    if some[6]:
        feeds |= {"initial_h": normal(D, B, H), "initial_c": normal(D, B, H)}
    if some[7]:
        feeds["sequence_lens"] = np.array([T, *rng.integers(0, T + 1, B - 1)], np.int32)
    names = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    names += ["W_scale", "W_zero_point", "R_scale", "R_zero_point"]
    inputs = [name if name in constants or name in feeds else "" for name in names]
    outputs = ["Y", "Y_h", "Y_c"]
    node = helper.make_node("DynamicQuantizeLSTM", inputs, outputs, domain="com.microsoft", **attributes)
    model = model_of([node], feeds, outputs, constants)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return Case(model, feeds), constants
