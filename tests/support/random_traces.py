"""Random models of recurrent layers with inputs to trace, and names that are hard to show."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import onward

from .random_sequentials import sequential

PIECES = (
    *("", "a", "$", "$x$", "$\\frac{", "a_b^c", "\\", "{}", "%s", "\n", "é", "'\"", "&amp;", "w" * 90),
    *("</script>", "<img src=x onerror=alert(1)>", "<!--"),
)


class Traced(NamedTuple):
    """A model, an input in its layout, and the valid steps (B,) of its rows; None: all."""

    model: onward.Sequential
    x: NDArray[Any]
    lengths: NDArray[Any] | None
    steps: NDArray[Any]  # x as (T, B, I)

    def row(self, row: int, steps: int) -> NDArray[Any]:
        """The first steps of a row, without the batch axis."""
        return self.steps[:steps, row]


def traced(rng: np.random.Generator, least: int = 0) -> Traced:
    """Return a random model with a recurrent layer, whose rows do not affect each other, and its input."""
    model, features = sequential(rng)
    softmax = [layer for layer in model.sublayers().values() if isinstance(layer, onward.Softmax)]
    if not model.recurrent_sublayers() or any(layer.dim != -1 for layer in softmax):
        return traced(rng, least)
    if model.dtype == np.float32 and rng.random() < 0.3:
        model = model.quantize(str(rng.choice(["int8", "float16"])))
    T, B = int(rng.integers(least, 7)), int(rng.integers(least, 5))
    steps = rng.normal(size=(T, B, features)).astype(model.dtype)
    lengths = rng.integers(least, T + 1, B) if rng.random() < 0.6 else None
    return Traced(model, steps.swapaxes(0, 1) if model.batch_first else steps, lengths, steps)


def name(rng: np.random.Generator) -> str:
    """Return a random name, which may look like mathematics, a format or HTML."""
    return "".join(PIECES[i] for i in rng.integers(len(PIECES), size=rng.integers(1, 4)))
