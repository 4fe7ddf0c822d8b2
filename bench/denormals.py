"""Time calls with denormal weights, input and state, around 1e-40, and with ordinary ones, interleaved.

python bench/denormals.py
"""

from dataclasses import replace

import numpy as np
import report
from peers import GATES, Cell, Problem, interleaved, problem, run_onward


def denormal(p: Problem) -> Problem:
    scale = np.float32(1e-40)
    return replace(
        p,
        weights={name: weight * scale for name, weight in p.weights.items()},
        x=p.x * scale,
        state=tuple(part * scale for part in p.state),
    )


def main() -> None:
    options = report.parser(__doc__).parse_args()
    measured = report.Report(options)
    for kind in GATES:
        for B in (1, 64):
            ordinary = problem(Cell(kind, 100, B, 128, threads=1))
            calls = {
                name: run_onward(p)[0]
                for name, p in (("ordinary", ordinary), ("denormal", denormal(ordinary)))
            }
            times = interleaved(calls, rounds=2 if options.quick else 9, seconds=0.03)
            measured.add(
                "calls", cell=kind, T=100, B=B, H=128, **times, ratio=times["denormal"] / times["ordinary"]
            )


if __name__ == "__main__":
    main()
