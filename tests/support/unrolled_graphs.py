"""Random graphs of loops of Python as tracers write them: the nodes of one iteration after the other."""

from typing import Any

import numpy as np

import onward
from onward.graph import Graph

UNARY = ("Tanh", "Sigmoid", "Neg", "Abs", "Exp", "Relu", "Identity")
BINARY = ("Add", "Sub", "Mul", "Max")
OTHER = tuple("MatMul constant scale slope halves largest count flag rounds LSTM GRU".split())
AXES = 3  # of a sequence
B, D = 2, 5


class UnrolledGraph:
    """A loop over the steps of sequences, with random bodies, states, constants and outputs.

    `is_exact` tells whether no node has constant inputs alone: these are computed in NumPy.
    """

    def __init__(self, rng: np.random.Generator, steps: int) -> None:
        self.rng, self.steps, self.graph = rng, steps, Graph()
        self.inputs: list[Any] = []
        self.is_exact = True
        self.axis = int(rng.integers(AXES))
        self.kind = str(rng.choice(["all", "later", "backwards", "every second", "from the end"]))
        self.read = str(rng.choice(["Gather", "Gather of one", "Slice", "Split", "windows"]))
        if self.read == "Split":
            self.kind = "all"
        self.sequences = [self._sequence() for _ in range(rng.integers(1, 3))]
        self.states = [self._state() for _ in range(rng.integers(0, 4))]
        self.delays = [int(rng.choice([1, 1, 2, 3])) for _ in self.states]
        self.captured = [self._input(B, D), self._weights()]
        self.body = [self._choice() for _ in range(rng.integers(6, 14))]
        self.later = [int(rng.integers(len(self.body))) for _ in self.states]
        self.scales = rng.standard_normal((steps, int(rng.choice([1, D])))).astype(np.float32)
        self.slopes = rng.choice([-0.0, 0.0, 0.5], steps) if rng.integers(8) == 0 else np.zeros(steps)
        self.cells = {name: getattr(onward, name)(D, D, rng=rng) for name in ("LSTM", "GRU")}
        # states of other dtypes, and the cell of an LSTM, which each iteration changes
        self.number = self.graph.add_constant(np.zeros((B, D), np.int64))
        self.flag = self.graph.add("Less", self._input(B, D), self.captured[0])
        self.cell = self._input(B, D)
        readers = rng.choice(["first", "same", "third", "reverse"], rng.integers(0, 4))
        self.readers = list(map(str, readers))  # of the values before all iterations
        self._unroll()

    def run(self, run: Any) -> list[Any]:
        return [np.asarray(y) for y in run(*self.inputs)]

    def _input(self, *shape: int, declared: bool = True) -> str:
        self.inputs.append(self.rng.standard_normal(shape).astype(np.float32))
        axes = shape if declared else [f"n{len(self.inputs)}_{axis}" for axis in range(len(shape))]
        return self.graph.add_input(f"x{len(self.inputs)}", np.float32, axes)

    def _weights(self) -> str:
        return self.graph.add_constant(self.rng.standard_normal((D, D)).astype(np.float32) / 3)

    def _sequence(self) -> tuple[str, list[Any]]:
        """Add a sequence, and return its name and what gives the step of each iteration."""
        rng, steps = self.rng, self.steps
        first, length = 0, steps
        if self.kind == "later":
            first, length = int(rng.integers(1, 4)), steps + 5
        elif self.kind == "every second":
            length = 2 * steps + 1
        elif self.kind == "from the end":
            length = steps + int(rng.integers(3))
        places = [first + t * (2 if self.kind == "every second" else 1) for t in range(steps)]
        if self.kind == "backwards":
            places.reverse()
        elif self.kind == "from the end" and self.read != "windows":
            places = [place - steps for place in places]
        shape = [B, D]
        shape.insert(self.axis, length)
        name = self._input(*shape, declared=bool(rng.integers(2)))
        if self.read == "Split":
            sizes = self._integers([1] * steps)
            parts = self.graph.add_all("Split", [name, sizes], steps, axis=self.axis)
            return name, [self.graph.add("Squeeze", part, self._integers([self.axis])) for part in parts]
        return name, places

    def _integers(self, numbers: Any) -> str:
        return self.graph.add_constant(np.array(numbers, np.int64))

    def _step(self, sequence: tuple[str, list[Any]], t: int) -> str:
        name, places = sequence
        if self.read == "Split":
            return str(places[t])
        if self.read == "Gather":
            return self.graph.add("Gather", name, self._integers(places[t]), axis=self.axis)
        if self.read == "Gather of one":
            one = self.graph.add("Gather", name, self._integers([places[t]]), axis=self.axis)
        else:
            end = places[t] + 1 or 2**31 - 1
            numbers = [self._integers([n]) for n in (places[t], end, self.axis, 1)]
            if self.read == "windows":
                numbers[0] = self._integers([max(0, places[t] - 1)])
            one = self.graph.add("Slice", name, *numbers)
            if self.read == "windows":
                return self.graph.add("ReduceMax", one, self._integers([self.axis]), keepdims=0)
        return self.graph.add("Squeeze", one, self._integers([self.axis]))

    def _state(self) -> str:
        kind = self.rng.integers(4)
        if kind == 0:
            return self._input(B, D)
        if kind == 1:  # it grows in the first iteration
            return self._input(*((), (D,), (1, D), (B, 1))[self.rng.integers(4)])
        self.is_exact = False
        if kind == 2:
            return self.graph.add_constant(self.rng.standard_normal((B, D)).astype(np.float32))
        return self.graph.add("ConstantOfShape", self._integers([B, D]), value=np.zeros(1, np.float32))

    def _choice(self) -> tuple[str, int, int]:
        operation = str(self.rng.choice([*UNARY, *BINARY, *BINARY, *OTHER]))
        first, second = self.rng.integers(0, 1 << 16, 2)
        return operation, int(first), int(second)

    def _unroll(self) -> None:
        earlier = [[state] * delay for state, delay in zip(self.states, self.delays, strict=True)]
        copies = list[list[str]]()
        written = self._array() if self.rng.integers(2) else None
        around = [self._around(t) for t in range(self.steps)] if self.readers else []
        for t in range(self.steps):
            places = {"first": 0, "same": t, "third": 3 * t % self.steps, "reverse": -1 - t}
            values = [self._step(sequence, t) for sequence in self.sequences]
            values += [around[places[reader]] for reader in self.readers]
            values += [
                self.graph.add("Add", states[-delay], values[0])
                for states, delay in zip(earlier, self.delays, strict=True)
            ]
            values.append(self.captured[0])
            own = []
            for operation, first, second in self.body:
                x, y = values[first % len(values)], values[second % len(values)]
                own.append(self._value(operation, x, y, t))
                values.append(own[-1])
            for states, place in zip(earlier, self.later, strict=True):
                states.append(own[place])
            copies.append(own)
            if written:
                written = self._write(*written, t, own[-1])
        outputs = [*(states[-1] for states in earlier), self.number, self.flag, self.cell]
        outputs += [copies[-1][-1], *(written[:1] if written else ())]
        self.graph.outputs = tuple([*outputs, *self._outputs(copies)])

    def _around(self, t: int) -> str:
        """Add nodes before all iterations from which the value of one follows."""
        return self.graph.add("Neg", self.graph.add("Tanh", self._step(self.sequences[0], t)))

    def _value(self, operation: str, x: str, y: str, t: int) -> str:
        graph = self.graph
        if operation in BINARY:
            return graph.add(operation, x, y)
        if operation in self.cells:
            states = [y, self.cell][: 1 + (operation == "LSTM")]
            h, *c = graph.add_all("Step", [x, *states], len(states), cell=self.cells[operation].cell)
            self.cell = (*c, self.cell)[0]
            return h
        if operation == "count":
            self.number = graph.add("Add", self.number, graph.add("Cast", self.flag, to=np.dtype(np.int64)))
            return graph.add("Mul", x, graph.add("Cast", self.number, to=np.dtype(np.float32)))
        if operation == "flag":
            self.flag = graph.add("Xor", self.flag, graph.add("Less", x, y))
            return graph.add("Where", self.flag, x, y)
        if operation == "slope":
            return graph.add("LeakyRelu", x, alpha=float(self.slopes[t]))
        if operation == "rounds":  # repetitions inside of an iteration
            for _ in range(5):
                x = graph.add("Tanh", graph.add("Sub", graph.add("Neg", x), y))
            return x
        if operation == "halves":
            halves = graph.add_all("Split", [x, self._integers([2, D - 2])], 2, axis=-1)
            return graph.add("Concat", *halves[::-1], axis=-1)
        if operation == "largest":
            ordered, _ = graph.add_all("TopK", [x, self._integers([D])], 2)
            return graph.add("Sub", ordered, y)
        if operation == "MatMul":
            return graph.add("Tanh", graph.add("MatMul", x, self.captured[1]))
        if operation == "constant":  # the same one in each copy, with a name of its own
            return graph.add("Add", x, graph.add_constant(np.full(D, 0.5, np.float32)))
        if operation == "scale":
            return graph.add("Mul", x, graph.add_constant(self.scales[t]))
        return graph.add("Tanh" if operation == "Exp" else operation, x)

    def _outputs(self, copies: list[list[str]]) -> list[str]:
        rng, outputs = self.rng, list[str]()
        for kind in rng.permutation(["stacked", "backwards", "written", "single"])[:2]:
            place = int(rng.integers(len(self.body)))
            values = [own[place] for own in copies]
            axis = int(rng.integers(AXES))
            if kind == "single":
                outputs.append(self.graph.add("Max", *values[::3]))
            elif kind == "written":
                written = self._array()
                for t, value in enumerate(values):
                    written = self._write(*written, t, value)
                outputs.append(written[0])
            else:
                parts = [self.graph.add("Unsqueeze", value, self._integers([axis])) for value in values]
                order = parts[::-1] if kind == "backwards" else parts
                outputs.append(self.graph.add("Concat", *order, axis=axis))
        return outputs

    def _array(self) -> tuple[str, list[int], int, list[int], bool]:
        """Return an array, its shape, an axis, the steps to write along it, and whether to scatter."""
        rng, axis, shape = self.rng, int(self.rng.integers(AXES)), [B, D]
        first, rest = rng.integers(0, 3, 2).tolist()
        shape.insert(axis, first + self.steps + rest)
        array = self.graph.add("ConstantOfShape", self._integers(shape), value=np.ones(1, np.float32))
        order = -1 if rng.integers(2) else 1
        return array, shape, axis, list(range(first, first + self.steps))[::order], bool(rng.integers(2))

    def _write(
        self, array: str, shape: list[int], axis: int, places: list[int], scatters: bool, t: int, value: str
    ) -> tuple[str, list[int], int, list[int], bool]:
        """Write a value to a step of an array."""
        graph, place = self.graph, places[t]
        one = graph.add("Unsqueeze", value, self._integers([axis]))
        if scatters:
            index = np.full([*shape[:axis], 1, *shape[axis + 1 :]], place, np.int64)
            array = graph.add("ScatterElements", array, graph.add_constant(index), one, axis=axis)
        else:
            before = graph.add("Slice", array, *map(self._integers, ([0], [place], [axis], [1])))
            after = graph.add("Slice", array, *map(self._integers, ([place + 1], [2**63 - 1], [axis], [1])))
            ends = [before] * (place > 0), [after] * (place + 1 < shape[axis])
            array = graph.add("Concat", *ends[0], one, *ends[1], axis=axis)
        return array, shape, axis, places, scatters
