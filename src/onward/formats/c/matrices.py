"""Matrices of weights in C: as float32, or as int8 with a scale for each unit."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .code import Body, Module


class Matrix(NamedTuple):
    """A matrix (O, K) of weights, and the function that multiplies by it."""

    O: int  # noqa: E741
    K: int
    is_int8: bool
    names: tuple[str, ...]  # of its arrays in C

    @classmethod
    def of(cls, module: Module, W: Any, scale: Any = None) -> Matrix:
        """Store a matrix: float32 and float16 as float32 (K, O), int8 as it is, with its scales."""
        W = np.asarray(W)
        O, K = W.shape  # noqa: E741
        if W.dtype == np.int8:
            return cls(O, K, True, (module.constant(W, "bytes"), module.constant(np.asarray(scale), "scale")))
        return cls(O, K, False, (module.constant(W.T.astype(np.float32), "weights"),))

    @property
    def function(self) -> str:
        """The name of the function."""
        return "product_of_bytes" if self.is_int8 else "product"

    @property
    def arguments(self) -> str:
        """Its arrays as arguments."""
        return ", ".join(self.names)

    def scratch(self, c: Body) -> list[str]:
        """Return the memory for a row in bytes, if the function needs it."""
        return [f"(int8_t *){c.scratch(self.K, 'int8')}"] if self.is_int8 else []

    def parameters(self, name: str) -> str:
        """Return the declarations of its arrays as parameters."""
        return f"const int8_t *{name}, const float *{name}_scale" if self.is_int8 else f"const float *{name}"

    def call(self, name: str, x: str, K: str, bias: str, O: str, y: str) -> str:  # noqa: E741
        """Return a call with parameters of a function as arguments."""
        arrays = f"{name}, {name}_scale" if self.is_int8 else name
        memory = ", bytes" if self.is_int8 else ""
        return f"{self.function}({x}, 0, 1, {K}, {arrays}, {bias}, {O}, {y}{memory});"
