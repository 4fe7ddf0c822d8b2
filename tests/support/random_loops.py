"""Random loops and scans, and what a plain loop over NumPy arrays makes of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.graph import Graph, Model

Array = NDArray[Any]

COUNTS = [0, 1, 2, 3, 17, 50, 100]
OPERATIONS: dict[str, Callable[..., Array]] = {
    "Neg": np.negative,
    "Tanh": np.tanh,
    "Abs": np.abs,
    "Relu": lambda x: np.maximum(x, 0),
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Max": np.maximum,
    "Min": np.minimum,
}
UNARY, BINARY = [*OPERATIONS][:4], [*OPERATIONS][4:]


class RandomLoop:
    """A graph with a random Loop or Scan over float32 matrices, its inputs, and the answer of a plain loop.

    An iteration reads states, slices along any axis, forward or backward, values from around the loop and the
    number of the iteration. A loop may end early, by a condition; then it writes no slices.
    """

    def __init__(self, seed: int) -> None:
        self._rng = rng = np.random.default_rng(seed)
        self.count, self._sizes = int(rng.choice(COUNTS)), rng.integers(1, 19, 2)
        self.is_scan = bool(rng.integers(2))
        self._last = None if self.is_scan or rng.integers(4) else int(rng.integers(self.count + 2))
        self._states = [self._numbers(*self._shape()) for _ in range(rng.integers(1, 4))]
        number = int(rng.integers(self.is_scan, 4))
        self._slices = [self._stacked() for _ in range(number)]
        self._axes, self._backward = rng.integers(-3, 3, number), rng.integers(0, 2, number)
        self._outer = [self._numbers(*self._shape()) for _ in range(rng.integers(3))]
        # the operations of an iteration: the value that each one computes, from which, and how
        self._computed = list[tuple[str, tuple[str, ...], Callable[..., Array]]]()
        self._sample = dict[str, Array]()  # values of one iteration
        self._body = Graph()
        self._add_body()
        self.graph = self._around()

    @property
    def ends_early(self) -> bool:
        """Whether a condition may end the loop."""
        return self._last is not None

    @property
    def inputs(self) -> list[Array]:
        whole = [np.moveaxis(x, 0, axis).copy() for x, axis in zip(self._slices, self._axes, strict=True)]
        return [*self._states, *whole, *self._outer]

    def answer(self) -> list[Array]:
        """Run the loop in NumPy."""
        states, written = self._states, [list[Array]() for _ in self._scanned]
        for i in range(self.count):
            if self._last is not None and i > self._last:
                break
            places = [self.count - 1 - i if back else i for back in self._backward]
            slices = [x[place] for x, place in zip(self._slices, places, strict=True)]
            values = dict(zip(self._names, [*states, *slices, *self._outer], strict=True))
            values |= self._constants | {"number": np.float32(i).reshape(())}
            for name, inputs, function in self._computed:
                values[name] = np.asarray(function(*(values[each] for each in inputs)), np.float32)
            states = [values[name] for name in self._next]
            for part, name in zip(written, self._scanned, strict=True):
                part.append(values[name])
        stacked = []
        for part, name, axis, back in zip(
            written, self._scanned, self._out_axes, self._out_backward, strict=True
        ):
            y = np.array(part[:: -1 if back else 1], np.float32).reshape(-1, *self._sample[name].shape)
            stacked.append(np.moveaxis(y, 0, axis))
        return [*states, *stacked]

    def _shape(self) -> tuple[int, int]:
        rows, columns = (1 if self._rng.random() < 0.25 else int(n) for n in self._sizes)
        return rows, columns

    def _numbers(self, *shape: int) -> Array:
        return self._rng.standard_normal(shape).astype(np.float32)

    def _stacked(self) -> Array:
        return self._numbers(self.count, *self._shape())

    def _add_body(self) -> None:
        body, rng = self._body, self._rng
        if not self.is_scan:
            body.add_input("i", np.int64, ())
            body.add_input("goes_on", bool, ())
        given = [*self._states, *(np.zeros(x.shape[1:], np.float32) for x in self._slices), *self._outer]
        self._names = [body.add_input(f"input {n}", np.float32) for n in range(len(given))]
        if not self.is_scan:
            for n, (axis, back) in enumerate(zip(self._axes, self._backward, strict=True), len(self._states)):
                index = body.add("Sub", body.add_constant(np.array(-1)), "i") if back else "i"
                self._names[n] = body.add("Gather", self._names[n], index, axis=int(axis))
        self._constants = {
            body.add_constant(x): x for x in (self._numbers(*self._shape()), self._numbers(1, 1))
        }
        self._sample = dict(zip(self._names, given, strict=True)) | self._constants
        for _ in range(rng.integers(1, 10)):
            self._add_operation()
        self._next = [self._of_shape(state.shape) for state in self._states]
        self._scanned = [self._any() for _ in range(0 if self._last is not None else rng.integers(3))]
        self._out_axes, self._out_backward = rng.integers(-3, 3, (2, len(self._scanned)))
        self._out_backward = self._out_backward % 2

    def _any(self) -> str:
        return str(self._rng.choice([*self._sample]))

    def _add(self, operation: str, function: Callable[..., Array], *inputs: str, **attributes: Any) -> str:
        constants = [name for name in inputs if name in self._body.constants and name not in self._sample]
        values = tuple(name for name in inputs if name not in constants)
        name = self._body.add(operation, *inputs, **attributes)
        self._computed.append((name, values, function))
        self._sample[name] = np.asarray(function(*(self._sample[each] for each in values)), np.float32)
        return name

    def _add_operation(self) -> str:
        """Add one operation on values so far."""
        rng, body, x = self._rng, self._body, self._any()
        kind, columns = rng.integers(7), self._sample[x].shape[1]
        if kind == 0:
            name = str(rng.choice(UNARY))
            return self._add(name, OPERATIONS[name], x)
        if kind == 1:
            axis = int(rng.integers(2))
            axes = body.add_constant(np.array([axis]))
            return self._add("ReduceMean", lambda v: v.mean(axis, keepdims=True), x, axes)
        if kind == 2:
            W = self._numbers(columns, int(self._shape()[1])) / np.float32(columns)
            return self._add("MatMul", lambda v: v @ W, x, body.add_constant(W))
        if kind == 3 and not self.is_scan:
            number = body.add("Cast", "i", to=np.dtype(np.float32))
            self._sample["number"] = np.zeros((), np.float32)
            y = body.add("Mul", x, number)
            self._computed.append((y, (x, "number"), np.multiply))
            del self._sample["number"]
            self._sample[y] = self._sample[x]
            return self._add("Tanh", np.tanh, y)
        name = str(rng.choice(BINARY))
        shape = self._sample[x].shape
        others = [n for n, other in self._sample.items() if _broadcasts(other.shape, shape)]
        y = self._add(name, OPERATIONS[name], *map(str, rng.permutation([x, str(rng.choice(others))])))
        return self._add("Tanh", np.tanh, y) if name == "Mul" else y  # powers of powers would overflow

    def _of_shape(self, shape: tuple[int, ...]) -> str:
        """Return a value of a shape that depends little on the states, so that the loop is not chaotic.

        It may be one of the states, or another input.
        """
        fitting = [name for name, x in self._sample.items() if x.shape == shape]
        if self._rng.random() < 0.2:
            return str(self._rng.choice([name for name in fitting if name in self._names]))
        parts = [
            n for n, x in self._sample.items() if _broadcasts(x.shape, shape) and x.size <= np.prod(shape)
        ]
        parts = [n for n in parts if np.broadcast_shapes(self._sample[n].shape, shape) == shape]
        total = self._add("Add", np.add, str(self._rng.choice(fitting)), str(self._rng.choice(parts)))
        factor = self._body.add_constant(np.full((1, 1), 0.05, np.float32))
        return self._add("Mul", lambda v: v * np.float32(0.05), self._add("Tanh", np.tanh, total), factor)

    def _around(self) -> Graph:
        """Return the graph of the loop."""
        graph, body = Graph(), self._body
        kinds = [len(self._states), len(self._slices), len(self._outer)]
        names = [graph.add_input(f"input {n}", np.float32) for n in range(sum(kinds))]
        options: dict[str, Any] = {
            "scan_output_axes": self._out_axes.tolist(),
            "scan_output_directions": self._out_backward.tolist(),
        }
        body.outputs = (*self._next, *self._scanned)
        count = len(body.outputs)
        if self.is_scan:
            options |= {
                "num_scan_inputs": len(self._slices),
                "scan_input_axes": self._axes.tolist(),
                "scan_input_directions": self._backward.tolist(),
                "captured": len(self._outer),
            }
            graph.outputs = graph.add_all("Scan", names, count, body=body, **options)
            return graph
        goes_on = "goes_on"
        if self._last is not None:
            goes_on = body.add("Less", "i", body.add_constant(np.array(self._last)))
        body.outputs = (goes_on, *body.outputs)
        limit = graph.add_constant(np.array(self.count))
        condition = self._rng.choice(["", graph.add_constant(np.array(True))])
        around = [declared.name for declared in body.inputs[2 + len(self._states) :]]
        carried = around if self._rng.random() < 0.3 else []  # as TensorFlow and JAX write loops
        last = 1 + len(self._states)
        body.outputs = (*body.outputs[:last], *carried, *body.outputs[last:])
        results = graph.add_all(
            "Loop",
            (limit, str(condition), *names),
            count + len(carried),
            body=body,
            captured=len(around) - len(carried),
            **options,
        )
        graph.outputs = (*results[: last - 1], *results[last - 1 + len(carried) :])
        return graph

    def results(self, model: Model) -> tuple[Array, ...]:
        """Run a model of the graph."""
        results = model(*self.inputs)
        return results if isinstance(results, tuple) else (results,)


def _broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(n == m or 1 in (n, m) for n, m in zip(a, b, strict=True))
