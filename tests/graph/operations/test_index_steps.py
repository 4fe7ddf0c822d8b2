"""Elements that are read or written at indices in the core, against their meaning in NumPy."""

from typing import Any

import numpy as np
import pytest
from support.lowering import run_lowered
from support.randomized import random_cases
from support.skips import counted_cases

from onward.errors import ArgumentError
from onward.graph.graph import Graph
from onward.graph.node import Node
from onward.graph.operations import OPERATIONS
from onward.graph.plan.planner import Planner

DTYPES = [np.float32, np.float64, np.int32, np.int64, np.int8, np.uint8, bool]
REDUCTIONS = ["none", "add", "mul", "max", "min"]


def drawn(rng: Any, shape: Any, dtype: Any) -> Any:
    if np.issubdtype(dtype, np.floating):
        return np.where(rng.random(shape) < 0.05, np.nan, rng.standard_normal(shape)).astype(dtype)
    return rng.integers(0, 2 if dtype is bool else 100, shape).astype(dtype)


def affine(rng: Any, shape: Any, size: int) -> Any:
    """Indices from 0 to size - 1 that change by one step along each axis."""
    indices = np.zeros(shape, np.int64)
    for axis, count in enumerate(shape):
        room = (size - 1 - indices.max()) // max(1, count - 1)
        step = int(rng.integers(0, room + 1))
        indices += np.arange(count).reshape(-1, *[1] * (len(shape) - axis - 1)) * step
    return np.asarray(indices + rng.integers(0, size - indices.max()) - size * int(rng.integers(0, 2)))


def indices_of(rng: Any, shape: Any, size: int) -> Any:
    if rng.random() < 0.5:
        return affine(rng, shape, size)
    return np.asarray(rng.integers(-size, size, shape, rng.choice([np.int32, np.int64])))


def random_case(rng: Any, operation: str) -> tuple[list[Any], dict[str, Any]]:
    rank = int(rng.integers(1, 5))
    shape = tuple(map(int, rng.integers(1, 6, rank)))
    dtype, axis = DTYPES[rng.integers(len(DTYPES))], int(rng.integers(rank))
    x, attributes = drawn(rng, shape, dtype), dict[str, Any]()
    if operation == "Gather":
        places = tuple(map(int, rng.integers(1, 5, rng.integers(0, 3))))
        return [x, indices_of(rng, places, shape[axis])], {"axis": axis}
    if operation.endswith("Elements"):
        places = tuple(n if i == axis else int(rng.integers(1, n + 1)) for i, n in enumerate(shape))
        indices, attributes = indices_of(rng, places, shape[axis]), {"axis": axis - rank * (rank > 2)}
    else:
        batch = int(rng.integers(0, rank)) if operation == "GatherND" else 0
        depth = int(rng.integers(1, rank - batch + 1))
        places = (*shape[:batch], *map(int, rng.integers(1, 4, rng.integers(0, 3))))
        columns = [indices_of(rng, places, shape[batch + i]).astype(np.int64) for i in range(depth)]
        indices, attributes = np.stack(columns, -1), {"batch_dims": batch} if batch else {}
    if operation.startswith("Gather"):
        return [x, indices], attributes
    updates = indices.shape if operation == "ScatterElements" else (*places, *shape[indices.shape[-1] :])
    return [x, indices, drawn(rng, updates, dtype)], {**attributes, "reduction": REDUCTIONS[rng.integers(5)]}


@pytest.mark.parametrize("known", [(), (1,), (0, 1), (0, 2)], ids=str)
@pytest.mark.parametrize(
    "operation", ["Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND"]
)
def test_random_indices(operation: str, known: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(known) * 10 + len(operation))
    for _ in range(random_cases(25)):
        inputs, attributes = random_case(rng, operation)
        constants = [place for place in known if place < len(inputs)]
        if len(constants) == len(inputs):
            constants = constants[1:]
        found = run_lowered(operation, inputs, attributes, known=constants)
        assert found is not None, (operation, inputs, attributes)
        expected = OPERATIONS[operation].compute(inputs, attributes)
        np.testing.assert_array_equal(
            found[0], expected[0], f"{operation} {inputs} {attributes}", strict=True
        )


def chain(length: int, writes: list[tuple[str, Any]], reads: list[str]) -> Graph:
    """Rows of x that are written to a copy of it one after another; `reads` are also outputs."""
    graph = Graph(outputs=(*reads, f"y{length}"))
    graph.add_input("y0", np.dtype(np.float32))
    graph.add_input("u", np.dtype(np.float32))
    for i, (operation, indices) in enumerate(writes):
        graph.add_constant(indices, f"i{i}")
        attributes = {"axis": 1} if operation == "ScatterElements" else {}
        inputs = (f"y{i}", f"i{i}", "u")
        graph.nodes.append(Node(operation, inputs, (f"y{i + 1}",), attributes, operation))
    return graph


@pytest.mark.parametrize("reads", [[], ["y1"], ["y0"], ["y2", "y3"]], ids=str)
def test_values_that_are_read_again_are_not_written_in_place(reads: list[str]) -> None:
    rng = np.random.default_rng(0)
    x, u = (rng.standard_normal(shape).astype(np.float32) for shape in ((3, 6, 2), (3, 1, 2)))
    writes = [("ScatterElements", np.full((3, 1, 2), i)) for i in (4, 0, 5, 1)]
    outputs = dict(zip([*reads, "y4"], Planner(chain(4, writes, reads))(x, u), strict=True))
    expected = {"y0": x}
    for i, (_, indices) in enumerate(writes):
        y = expected[f"y{i}"].copy()
        y[:, indices.flat[0]] = u[:, 0]
        expected[f"y{i + 1}"] = y
    for name, y in outputs.items():
        np.testing.assert_array_equal(y, expected[name])


def test_a_loop_that_writes_its_rows_copies_the_array_once() -> None:
    rng = np.random.default_rng(1)
    x, u = (rng.standard_normal(shape).astype(np.float32) for shape in ((3, 60, 2), (3, 1, 2)))
    planner = Planner(chain(50, [("ScatterElements", np.full((3, 1, 2), i)) for i in range(50)], []))
    planner(x, u)
    (program,) = planner.programs
    assert len(program.steps) == 1 + 50 + 1  # to the arena, each write, to the output


@pytest.mark.parametrize("operation", ["ScatterElements", "ScatterND", "GatherElements", "GatherND"])
def test_one_program_for_all_sizes(operation: str) -> None:
    graph = Graph(outputs=("y",))
    graph.add_input("x", np.dtype(np.float32))
    names = ["x", "i"]
    attributes = {}
    if operation.endswith("Elements"):
        graph.add_input("i", np.dtype(np.int64))
    else:
        graph.add_constant(np.array([[3], [0]]), "i")
    if operation.startswith("Scatter"):
        graph.add_input("u", np.dtype(np.float32))
        names.append("u")
    graph.nodes.append(Node(operation, tuple(names), ("y",), attributes, operation))
    planner, rng = Planner(graph), np.random.default_rng(0)
    for T in (5, 9, 4):
        x, places = rng.standard_normal((4, T)).astype(np.float32), rng.integers(0, 4, (2, T))
        inputs = [x, *([places] if operation.endswith("Elements") else [])]
        if operation.startswith("Scatter"):
            inputs.append(rng.standard_normal((2, T)).astype(np.float32))
        index = places if operation.endswith("Elements") else graph.constants["i"]
        expected = OPERATIONS[operation].compute(
            [x, index, *inputs[len(inputs) - len(names) + 2 :]], attributes
        )
        np.testing.assert_array_equal(planner(*inputs)[0], expected[0])
    assert len(planner.programs) == 1


@pytest.mark.parametrize("known", [(), (1,)], ids=str)
@pytest.mark.parametrize("operation", ["ScatterElements", "ScatterND", "GatherElements", "GatherND"])
def test_indices_out_of_range(operation: str, known: tuple[int, ...]) -> None:
    x, indices = np.zeros((3, 1), np.float32), np.array([[3]])
    updates = [np.zeros((1, 1), np.float32)] if operation.startswith("Scatter") else []
    with pytest.raises(ArgumentError, match="the index 3 is out of range for an axis of size 3"):
        run_lowered(operation, [x, indices, *updates], {}, known=known)


@pytest.mark.parametrize("known", [(), (1,)], ids=str)
@pytest.mark.parametrize(
    "operation", ["Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND"]
)
def test_indices_out_of_range_are_errors_without_elements_too(operation: str, known: tuple[int, ...]) -> None:
    for case in counted_cases(60, most=0):
        rng, attributes = np.random.default_rng(case.seed), dict[str, Any]()
        shape = [int(size) for size in rng.choice([0, 1, 2, 3], 2 if operation.endswith("ND") else 3)]
        axis = 0 if operation.endswith("ND") else int(rng.integers(3))
        x, count = np.ones(shape, np.float32), int(rng.integers(3))
        if operation.endswith("Elements"):
            places = [*shape[:axis], count, *shape[axis + 1 :]]
        else:
            places = [count, 1] if operation.endswith("ND") else [count]
        indices = rng.integers(-4, 4, places)
        inputs = [x, indices]
        if operation.startswith("Scatter"):
            updates = places if operation.endswith("Elements") else [count, *shape[1:]]
            inputs.append(np.zeros(updates, np.float32))
        if not operation.endswith("ND"):
            attributes["axis"] = axis
        is_inside = bool(((indices >= -shape[axis]) & (indices < shape[axis])).all())
        graph = Graph()
        names = [f"x{place}" for place in range(len(inputs))]
        for place, (name, array) in enumerate(zip(names, inputs, strict=True)):
            graph.add_constant(array, name) if place in known else graph.add_input(name, array.dtype)
        graph.outputs = (graph.add(operation, *names, **attributes),)
        given = [array for place, array in enumerate(inputs) if place not in known]
        with case:
            if is_inside:
                (expected,) = OPERATIONS[operation].compute(inputs, attributes)
                np.testing.assert_array_equal(Planner(graph)(*given)[0], expected)
                continue
            with pytest.raises(ArgumentError, match="is out of range"):
                Planner(graph)(*given)


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
@pytest.mark.parametrize(("width", "hop"), [(8, 3), (6, 2), (5, 5), (4, 7), (9, 1)], ids=str)
def test_overlapping_frames_accumulate_in_their_order_without_indices(
    width: int, hop: int, reduction: str
) -> None:
    rng, count = np.random.default_rng(width), 6
    places = (2 + hop * np.arange(count)[:, None] + np.arange(width)).reshape(-1, 1)
    x = rng.normal(size=(int(places.max()) + 3, 2)).astype(np.float32)
    updates = rng.normal(size=(len(places), 2)).astype(np.float32)
    for operation, indices in ("ScatterND", places), ("ScatterElements", places.repeat(2, 1)):
        graph = Graph()
        graph.add_input("x", x.dtype, x.shape)
        graph.add_input("updates", x.dtype, updates.shape)
        known = graph.add_constant(indices)
        graph.outputs = (graph.add(operation, "x", known, "updates", reduction=reduction),)
        planner = Planner(graph)
        (y,) = planner(x, updates)
        (expected,) = OPERATIONS[operation].compute([x, indices, updates], {"reduction": reduction})
        np.testing.assert_array_equal(y, expected, strict=True)
        assert not [step for step, _ in planner.find([x, updates]).timed([x, updates], 1) if "put" in step]
