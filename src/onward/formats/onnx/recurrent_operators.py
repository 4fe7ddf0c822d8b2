"""ONNX's nodes RNN, GRU and LSTM, run by Onward's layers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
from onnx.reference.op_run import OpRun

from ...core import arrays
from ...core.arrays import Array
from ...core.gates import reorder
from ...errors import ArgumentError, OnwardError, ShapeError
from ...layers import rnn
from ...layers.base import NO_WEIGHTS
from .activation_names import RECURRENT
from .operators import AnyArray, Cached, described, floats

DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
FUNCTIONS = {name.lower(): meaning for name, meaning in RECURRENT.items()}  # whatever their case
# output_sequence (opset 1) says whether Y is an output, as does that the node names it
ATTRIBUTES = {
    "activations",
    "activation_alpha",
    "activation_beta",
    "clip",
    "direction",
    "hidden_size",
    "layout",
    "output_sequence",
}


@dataclass(frozen=True)
class Options:
    """What the attributes of a node say."""

    arguments: dict[str, Any]  # of the layer, sizes apart
    directions: int
    reverse: bool
    batch_first: bool
    hidden_size: int | None


class Node(OpRun):
    """A recurrent node: its attributes are read with the graph, its weights packed when they are new."""

    op_domain = ""
    layer_type: ClassVar[Any]  # of layers
    attributes: ClassVar[set[str]]
    functions: ClassVar[int]  # in one direction
    first_of_states = 4  # of the inputs: lengths, and after them h and c

    def __init__(self, node: onnx.NodeProto, run_params: dict[str, Any]) -> None:
        super().__init__(node, run_params)
        self._options: Options | None = None
        if not self.has_linked_attribute:  # else they come with each call of the function around the node
            try:
                self._options = self._read({name: getattr(self, name) for name in self.attributes_names_})
            except OnwardError as error:
                raise ArgumentError(f"{described(node)}: {error}") from error
        self._cached = Cached(lambda *given: self._layer(self._options, *given))

    def _read(self, attributes: Mapping[str, Any]) -> Options:
        if unknown := attributes.keys() - ATTRIBUTES - self.attributes:
            raise ArgumentError(f"Onward does not know its attribute {', '.join(sorted(unknown))}")
        direction, layout = attributes.get("direction") or "forward", attributes.get("layout") or 0
        if direction not in DIRECTIONS:
            raise ArgumentError(f"direction={direction!r}, but must be one of {', '.join(DIRECTIONS)}")
        if layout not in (0, 1):
            raise ArgumentError(f"layout={layout!r}, but must be 0 or 1")
        D = DIRECTIONS[direction]
        arguments = self._arguments(attributes)
        if attributes.get("activations"):
            arguments |= self._named(self._activations(attributes, D))
        if attributes.get("clip") is not None:
            arguments["clip"] = float(attributes["clip"])
        self.layer_type(1, 1, rng=NO_WEIGHTS, bidirectional=D == 2, **arguments)  # raises what it raises
        return Options(arguments, D, direction == "reverse", layout == 1, attributes.get("hidden_size"))

    def _activations(self, attributes: Mapping[str, Any], D: int) -> list[tuple[Any, ...]]:
        """The functions of each direction, each a name or a name with its alpha and beta."""
        n, names = self.functions, attributes["activations"]
        if n == 1 and names == ["Tanh", "Tanh"]:  # the default of RNN, whatever its direction
            names = names[:D]
        if len(names) != n * D:
            raise ArgumentError(f"activations={names!r}, but must be {n * D} names")
        # those that take alpha or beta take them in turn
        numbers = {key: iter(attributes.get(f"activation_{key}") or ()) for key in ("alpha", "beta")}
        functions: list[Any] = []
        for name in names:
            if name.lower() not in FUNCTIONS:
                raise ArgumentError(f"activations={names!r}, but Onward does not know {name}")
            function, parameters = FUNCTIONS[name.lower()]
            given = [float(next(numbers[key], default)) for key, default in parameters.items()]
            functions.append((function, *given) if given else function)
        return [tuple(functions[:n]), tuple(functions[n:])][:D]

    def _named(self, functions: list[tuple[Any, ...]]) -> dict[str, Any]:
        """The functions of each direction as an argument of the layer."""
        return {"activations": functions[0] if len(functions) == 1 else tuple(functions)}

    def _arguments(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """What the attributes that only this cell has are as arguments of the layer."""
        return {}

    def _run(
        self,
        X: AnyArray,
        W: AnyArray,
        R: AnyArray,
        B: AnyArray | None = None,
        sequence_lens: AnyArray | None = None,
        initial_h: AnyArray | None = None,
        initial_c: AnyArray | None = None,
        P: AnyArray | None = None,
        **attributes: Any,
    ) -> tuple[AnyArray, ...]:
        """Y, Y_h and, of an LSTM, Y_c, in the dtype of X."""
        options = self._options or self._read(attributes)
        _check("X", X, (None, None, None))
        x, h0, c0 = floats("X", X), floats("initial_h", initial_h), floats("initial_c", initial_c)
        if options.batch_first:
            x, h0, c0 = (None if a is None else a.swapaxes(0, 1) for a in (x, h0, c0))
        T, batch, _ = x.shape
        lengths = None if sequence_lens is None else arrays.as_lengths(sequence_lens, (batch,), T)
        layer = self._cached(W, R, B, P) if self._options else self._layer(options, W, R, B, P)

        steps = arrays.reversed_steps(x, lengths) if options.reverse else x
        y, final = layer(steps, (h0, c0) if "c" in layer.state_names else h0, lengths=lengths)
        states = list(final) if "c" in layer.state_names else [final]
        if options.reverse:
            y = arrays.reversed_steps(y, lengths)
        if lengths is not None:
            for state in states:
                state[:, lengths == 0] = 0  # the specification is silent here: as onnxruntime

        y = y.reshape(T, batch, options.directions, -1)
        if options.batch_first:
            outputs = [output.swapaxes(0, 1) for output in (y, *states)]
        else:
            outputs = [y.swapaxes(1, 2), *states]
        return tuple(output.astype(X.dtype, copy=False) for output in outputs)

    def layer(self, inputs: list[Any], batch_first: bool) -> Any:
        """The layer that does what the node does, from those of its inputs that are known beforehand.

        Raises ArgumentError where there is none.
        """
        if self._options is None or self._options.reverse:
            raise ArgumentError(f"{described(self.onnx_node)} runs only in reverse, which no layer supports")
        X, W, R, B, _, _, _, P = (*inputs, *[None] * 8)[:8]
        if W is None or R is None or sum(map(bool, self.input[3:4])) > (B is not None) or X is not None:
            raise ArgumentError(f"{described(self.onnx_node)} has weights that depend on the inputs")
        return self._layer(self._options, W, R, B, P, batch_first=batch_first)

    @property
    def batch_first(self) -> bool:
        return self._options is not None and self._options.batch_first

    def _layer(self, options: Any, *given: AnyArray | None, batch_first: bool = False) -> Any:
        """The layer with weights W, R and, where they are not None, B and P."""
        W, R, B, P = (floats(name, a) for name, a in zip("WRBP", given, strict=True))
        D, G = options.directions, len(self.layer_type.gates)
        _check("W", W, (D, None, None))
        H = W.shape[1] // G
        _check("W", W, (D, G * H, None))
        _check("R", R, (D, G * H, H))
        _check("B", B, (D, 2 * G * H))
        _check("P", P, (D, 3 * H))
        if options.hidden_size not in (None, H):
            raise ShapeError(f"hidden_size={options.hidden_size}, but R has shape {R.shape}")
        arguments = options.arguments | ({} if P is None else {"peephole": True})
        layer = self.layer_type(
            W.shape[2],
            H,
            bias=B is not None,
            bidirectional=D == 2,
            batch_first=batch_first,
            dtype=W.dtype,
            rng=NO_WEIGHTS,
            **arguments,
        )
        weights = {}
        for d, suffix in enumerate(("_l0", "_l0_reverse")[:D]):
            for name, weight in self._weights(W[d], R[d], None if B is None else B[d]):
                weights[name + suffix] = weight
            if P is not None:
                weights[f"weight_peephole{suffix}"] = reorder(P[d], "peephole", "onnx", "torch")
        layer.load_state_dict(weights)
        return layer

    def _weights(self, W: Array, R: Array, B: Array | None) -> Iterator[tuple[str, Array]]:
        """The weights of one direction under PyTorch's names, their gates in PyTorch's order."""
        stacked = {"weight_ih": W, "weight_hh": R}
        if B is not None:
            stacked["bias_ih"], stacked["bias_hh"] = np.split(B, 2)
        cell = self.layer_type.__name__.lower()
        for name, weight in stacked.items():
            yield name, weight if cell == "rnn" else reorder(weight, cell, "onnx", "torch")


def _check(name: str, array: AnyArray | None, shape: tuple[int | None, ...]) -> None:
    if array is None:
        return
    if array.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
        expected = ", ".join("any" if n is None else str(n) for n in shape)
        raise ShapeError(f"{name} has shape {array.shape}, but must have shape ({expected})")


# The evaluator finds the class of an operator by its name.


class RNN(Node):
    """H_t = f(X_t W^T + H_{t-1} R^T + Wb + Rb)"""

    layer_type = rnn.RNN
    attributes: ClassVar[set[str]] = set()
    functions: ClassVar[int] = 1

    def _named(self, functions: list[tuple[Any, ...]]) -> dict[str, Any]:
        each = tuple(f for (f,) in functions)
        return {"nonlinearity": each[0] if len(set(each)) == 1 else each}


class GRU(Node):
    """As onward.GRU, reset before the product unless linear_before_reset says after."""

    layer_type = rnn.GRU
    attributes: ClassVar[set[str]] = {"linear_before_reset"}
    functions: ClassVar[int] = 2

    def _arguments(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        return {"reset_after": bool(attributes.get("linear_before_reset"))}


class LSTM(Node):
    """As onward.LSTM; input_forget makes f = 1 - i."""

    layer_type = rnn.LSTM
    attributes: ClassVar[set[str]] = {"input_forget"}
    functions: ClassVar[int] = 3

    def _arguments(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        return {"coupled": True} if attributes.get("input_forget") else {}
