"""What code records in a call holds for all programs that are compiled for the call, with its guards."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from onward.graph import Graph
from onward.graph.plan.planner import Planner


def test_programs_of_plain_sizes_keep_the_guards_of_a_recording_that_exists() -> None:
    shapes = list[Any]()

    def record(known: Sequence[Any]) -> Graph:
        steps, features = known[0].shape
        shapes.append((str(steps), int(features)))  # which fixes the number of features
        graph = Graph()
        factor = graph.add_constant(np.float32(2 if steps > 4 else 3))
        graph.outputs = (graph.add("Mul", graph.add_input("x"), factor),)
        return graph

    graph = Graph()
    graph.outputs = (graph.add("Recorded", graph.add_input("x"), record=record),)
    planner = Planner(graph)
    for steps, recordings in ((6, 1), (9, 1), (4, 2), (5, 2), (3, 2)):
        x = np.arange(3.0 * steps, dtype=np.float32).reshape(steps, 3)
        (y,) = planner(x)
        np.testing.assert_array_equal(y, x * (2 if steps > 4 else 3))
        assert len(shapes) == recordings
