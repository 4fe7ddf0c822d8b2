"""Random graphs in which integers of the call, and numbers computed from them, decide sizes."""

from typing import Any

import numpy as np

from onward.graph import Graph

FEATURES = 6
SHAPES: tuple[tuple[int | str, ...], ...] = ((), (1,), (1, 1), ("batch",), (3,))
HOSTILE = (2**63 - 1, 2**62, 2**31 - 1, 2**30, -(2**31), -(2**40))


class RandomLengths:
    """A graph of x (2, T, FEATURES) and the integers n, which cut, extend and mask it."""

    def __init__(self, seed: int) -> None:
        self.rng, self.graph = np.random.default_rng(seed), Graph()
        self.dtype = self.rng.choice([np.int64, np.int32])
        self.shape = SHAPES[self.rng.integers(len(SHAPES))]
        self.x = self.graph.add_input("x", np.float32, (2, "T", FEATURES))
        self.n = self.graph.add_input("n", self.dtype, self.shape)
        self._length()
        outputs = [self._layer() for _ in range(self.rng.integers(1, 5))]
        self.graph.outputs = (*filter(None, outputs), self.x, *([self.k] if self.rng.random() < 0.5 else []))

    def inputs(self, rng: Any, is_hostile: bool = False) -> tuple[Any, Any]:
        """Return x and n for a call."""
        x = rng.standard_normal((2, int(rng.integers(1, 12)), FEATURES)).astype(np.float32)
        shape = tuple(int(rng.integers(1, 5)) if isinstance(size, str) else size for size in self.shape)
        numbers = rng.choice(HOSTILE, shape) if is_hostile else rng.integers(-4, 14, shape)
        return x, np.asarray(numbers).astype(self.dtype)

    def _constant(self, value: Any, dtype: Any = np.int64) -> str:
        return self.graph.add_constant(np.array(value, dtype))

    def _length(self) -> None:
        """Compute a number from n, as int64."""
        add, rng, k = self.graph.add, self.rng, self.n
        if rng.random() < 0.6:
            k = add(rng.choice(["Sub", "Add", "Mul"]), k, self._constant(rng.integers(3), self.dtype))
        if rng.random() < 0.5:
            k = add("Clip", k, self._constant(0, self.dtype))
        wraps = rng.random() < 0.2
        if wraps:
            operation, number = [("Mul", 1 << 29), ("Add", 2**31 - 7)][rng.integers(2)]
            k = add(operation, k, self._constant(number, self.dtype))
            if self.dtype == np.int64:
                k = add(operation, k, self._constant([1 << 33, 2**63 - 1 - 2**40][rng.integers(2)]))
        for operation, number in (("Div", 2), ("Max", 1), ("Min", 6), ("Mod", 5)):
            if rng.random() < 0.25:
                k = add(operation, k, self._constant(number, self.dtype))
        k = add(rng.choice(["ReduceMax", "ReduceSum", "ReduceMin"]), k, keepdims=0)
        for operation, number in (("Min", 20), ("Max", -20)) if wraps else ():
            k = add(operation, k, self._constant(number, self.dtype))
        if rng.random() < 0.3:
            k = add("Cast", self._quotient(k), to=np.dtype(self.dtype))
        self.k = add("Cast", k, to=np.dtype(np.int64)) if self.dtype == np.int32 else k
        self.size = add("Reshape", self.k, self._constant([1]))

    def _quotient(self, k: str) -> str:
        """Divide numbers as floats, and perhaps round them."""
        add, rng, dtype = self.graph.add, self.rng, self.rng.choice([np.float32, np.float64])
        operation, number = [("Div", 3), ("Div", 4), ("Mul", 0.5), ("Mul", 0.3)][rng.integers(4)]
        quotient = add(operation, add("Cast", k, to=np.dtype(dtype)), self._constant(number, dtype))
        rounding = rng.choice(["Ceil", "Floor", ""])
        return add(rounding, quotient) if rounding else quotient

    def _layer(self) -> str | None:
        """Change x, or return an output of its own."""
        add, x, time, zero = self.graph.add, self.x, self._constant([1]), self._constant([0])
        match self.rng.integers(6):
            case 0:
                parts = [(self.size, self._constant([1 << 40])), (zero, self.size)]
                self.x = add("Concat", *(add("Slice", x, *part, time) for part in parts), axis=1)
            case 1:
                self.x = add("Tanh", add("Slice", x, zero, self.size, time))
            case 2:
                places = add("Range", self._constant(0), self.k, self._constant(1))
                lengths = add("Cast", add("Reshape", self.n, self._constant([-1, 1])), to=np.dtype(np.int64))
                return add("Less", add("Unsqueeze", places, zero), lengths)
            case 3:
                mean = add("ReduceMean", x, time, keepdims=1)
                return add("Expand", mean, add("Concat", time, self.size, time, axis=0))
            case 4:
                return add("ConstantOfShape", self.size, value=np.array([2.5], np.float32))
            case _:
                self.x = add("Add", x, add("Cast", self.k, to=np.dtype(np.float32)))
        return None
