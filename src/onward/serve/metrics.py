"""Counters and histograms in the Prometheus text format."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

# upper bounds in seconds
BOUNDS = np.array(
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 2.5]
)


class Histogram:
    """The number of observations up to each of BOUNDS."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(BOUNDS) + 1, np.int64)
        self._sum = 0.0

    def observe(self, seconds: ArrayLike) -> None:
        """Add observations."""
        values = np.atleast_1d(np.asarray(seconds, np.float64))
        self._counts += np.bincount(np.searchsorted(BOUNDS, values), minlength=len(self._counts))
        self._sum += float(values.sum())

    @property
    def count(self) -> int:
        """The number of observations."""
        return int(self._counts.sum())

    def lines(self, name: str) -> Iterator[str]:
        """The lines of the text format."""
        totals = np.cumsum(self._counts).tolist()
        for bound, total in zip([*BOUNDS.tolist(), "+Inf"], totals, strict=True):
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count {self.count}"


class Metrics:
    """What /metrics reports."""

    def __init__(self) -> None:
        self.connections = self.messages = self.runs = 0
        self.closed: Counter[int] = Counter()  # connections that the server closed, by status
        self.refused: Counter[int] = Counter()  # handshakes, by status
        self.latency, self.step = Histogram(), Histogram()

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """Return the metrics with the present values of gauges, {name: (help, value)}."""
        counters: dict[str, tuple[str, Any]] = {
            "connections_total": ("WebSocket connections accepted.", self.connections),
            "messages_total": ("Messages of streams that were processed.", self.messages),
            "runs_total": ("Whole sequences scored by POST /run.", self.runs),
            "closed_total": ("WebSocket connections that the server closed, by status.", self.closed),
            "refused_total": ("WebSocket handshakes refused, by HTTP status.", self.refused),
        }
        histograms = {
            "latency_seconds": ("Time from the arrival of a message to its answer.", self.latency),
            "step_seconds": ("Time of one call of the pool.", self.step),
        }
        lines: list[str] = []
        for kind, metrics in {"gauge": gauges, "counter": counters, "histogram": histograms}.items():
            for name, (text, value) in metrics.items():
                lines += [f"# HELP onward_{name} {text}", f"# TYPE onward_{name} {kind}"]
                if isinstance(value, Histogram):
                    lines += value.lines(f"onward_{name}")
                elif isinstance(value, Counter):
                    lines += [
                        f'onward_{name}{{status="{status}"}} {n}' for status, n in sorted(value.items())
                    ]
                else:
                    lines.append(f"onward_{name} {value}")
        return "\n".join(lines) + "\n"
