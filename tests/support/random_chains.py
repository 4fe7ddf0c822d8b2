"""Random chains of recurrent layers whose graphs move the states that they take and return."""

from typing import Any

import numpy as np

from onward.graph import Graph, Model

GATES = {"GRU": 3, "LSTM": 4}
H = 4  # units, and features


class RandomChain:
    """One or two recurrent layers from x (T, B, H), with the states as inputs and outputs of the graph.

    The states are those of all layers in an array of each kind, or an array for each. Some of them are
    reversed, exchanged, cut or given other axes and back.
    """

    def __init__(self, seed: int) -> None:
        self._rng = rng = np.random.default_rng(seed)
        self._graph = graph = Graph()
        self.kind, self.count = str(rng.choice(["GRU", "LSTM"])), int(rng.integers(1, 3))
        self.is_stacked, self._chance = bool(rng.integers(2)), float(rng.choice([0, 0.15]))
        self.moves = list[str]()  # what the graph does to states
        states = 1 + (self.kind == "LSTM")
        y = graph.add_input("x", np.float32, ("time", "batch", H))
        axes = (self.count if self.is_stacked else 1, "batch", H)
        number = states if self.is_stacked else states * self.count
        inputs = [self._moved(graph.add_input(f"s{i}", np.float32, axes)) for i in range(number)]
        inputs = self._exchanged(inputs)
        if self.is_stacked:
            parts = [self._split(each) for each in inputs]
            starts = [[part[layer] for part in parts] for layer in range(self.count)]
        else:
            starts = [inputs[layer * states :][:states] for layer in range(self.count)]
        ends = []
        for start in starts:
            y, *end = self._layer(y, start)
            ends.append(end)
        if self.is_stacked:
            outputs = [graph.add("Concat", *kind, axis=0) for kind in zip(*ends, strict=True)]
        else:
            outputs = [end for layer in ends for end in layer]
        outputs = self._exchanged([self._moved(end) for end in outputs])
        graph.outputs = (y, *outputs)

    def __str__(self) -> str:
        arrays = "an array of each kind" if self.is_stacked else "an array of each state"
        return f"{self.count} {self.kind}, {arrays}, {', '.join(self.moves) or 'unmoved'}"

    def model(self) -> Model:
        """Return the model."""
        return Model(self._graph)

    def arrays(self, T: int, B: int) -> tuple[Any, list[Any]]:
        """Return x and the states in the order of the inputs."""
        sizes: dict[Any, int] = {"time": T, "batch": B}
        shapes = ([sizes.get(axis, axis) for axis in each.axes or ()] for each in self._graph.inputs)
        x, *states = (self._rng.normal(size=shape).astype(np.float32) for shape in shapes)
        return x, states

    def of_layers(self, states: list[Any]) -> list[Any]:
        """Return states in the order of the inputs as layers take them."""
        kinds = 1 + (self.kind == "LSTM")
        if self.is_stacked:
            layers = [[state[layer : layer + 1] for state in states] for layer in range(self.count)]
        else:
            layers = [states[layer * kinds :][:kinds] for layer in range(self.count)]
        return [tuple(layer) if kinds == 2 else layer[0] for layer in layers]

    def in_order(self, states: list[Any]) -> list[Any]:
        """Return states of layers in the order of the outputs."""
        layers = [state if isinstance(state, tuple) else (state,) for state in states]
        if self.is_stacked:
            return [np.concatenate(kind) for kind in zip(*layers, strict=True)]
        return [state for layer in layers for state in layer]

    def _number(self, *values: int) -> str:
        return self._graph.add_constant(np.array(values))

    def _weights(self, *shape: int) -> str:
        return self._graph.add_constant(self._rng.normal(0, 0.5, shape).astype(np.float32))

    def _layer(self, x: str, start: list[str]) -> tuple[str, ...]:
        rows = GATES[self.kind] * H
        weights = self._weights(1, rows, H), self._weights(1, rows, H), self._weights(1, 2 * rows)
        outputs = 2 + len(start) - 1
        y, *end = self._graph.add_all(self.kind, (x, *weights, "", *start), outputs, hidden_size=H)
        return self._graph.add("Squeeze", y, self._number(1)), *end

    def _split(self, state: str) -> tuple[str, ...]:
        """Return the states of the layers in one array."""
        add = self._graph.add
        if self._rng.integers(2):
            return self._graph.add_all("Split", (state, self._number(*[1] * self.count)), self.count)
        bounds = ((self._number(i), self._number(i + 1), self._number(0)) for i in range(self.count))
        return tuple(add("Slice", state, *bound) for bound in bounds)

    def _exchanged(self, states: list[str]) -> list[str]:
        if len(states) < 2 or self._rng.random() >= 2 * self._chance:
            return states
        order = self._rng.permutation(len(states)).tolist()
        self.moves.append(f"in the order {order}")
        return [states[place] for place in order]

    def _moved(self, state: str) -> str:
        """Return a state of which some axes may be moved or reversed."""
        add, number = self._graph.add, self._number
        choice = self._rng.integers(4) if self._rng.random() < 2 * self._chance else self._rng.integers(4, 9)
        axis = int(self._rng.integers(3))
        if choice == 0:
            self.moves.append(f"axis {axis} reversed")
            bounds = number(-1), number(np.iinfo(np.int64).min), number(axis), number(-1)
            return add("Slice", state, *bounds)
        if choice == 1:
            self.moves.append("features gathered backward")
            return add("Gather", state, number(*range(H)[::-1]), axis=2)
        if choice == 2:
            self.moves.append("transposed in memory")
            return add("Reshape", add("Transpose", state, perm=[2, 1, 0]), add("Shape", state))
        if choice == 3:
            self.moves.append("rows rotated")
            first = add("Slice", state, number(0), number(1), number(1))
            rest = add("Slice", state, number(1), number(np.iinfo(np.int64).max), number(1))
            return add("Concat", rest, first, axis=1)
        if choice == 4:
            return add("Transpose", add("Transpose", state, perm=[1, 2, 0]), perm=[2, 0, 1])
        if choice == 5:
            return add("Reshape", add("Reshape", state, number(-1, 2)), add("Shape", state))
        if choice == 6:
            return add("Squeeze", add("Unsqueeze", state, number(0)), number(0))
        return state
