"""When the steps of a value over time are complete."""

from fractions import Fraction
from typing import NamedTuple


class Timing(NamedTuple):
    """Where time is in a value, and when its steps are complete.

    Step k is complete after k * stride + latency + 1 steps of the input, rounded down. `stages` are (delay,
    stride) of the windows before it, with the stride 1 / n if each step becomes n steps: values with equal
    stages always have the same number of complete steps. The last `tail` steps become complete only at the
    end of the sequence.
    """

    axis: int
    stages: tuple[tuple[int, int | Fraction], ...] = ()
    latency: int | Fraction = 0
    stride: int | Fraction = 1
    tail: int = 0

    def after(self, delay: int, stride: int, tail: int) -> "Timing":
        """Return the timing of windows over the value, the first of which is complete `delay` steps later."""
        stages = self.stages
        if (delay, stride) != (0, 1):
            if stride == 1 and delay > 0 and stages and stages[-1][1] == 1 and stages[-1][0] > 0:
                stages = (*stages[:-1], (stages[-1][0] + delay, 1))
            else:
                stages = (*stages, (delay, stride))
        return Timing(self.axis, stages, self.latency + delay * self.stride, self.stride * stride, tail)


def varying_axes(first: tuple[int, ...], second: tuple[int, ...]) -> list[int]:
    """Return the axes in which two shapes differ."""
    return [axis for axis, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
