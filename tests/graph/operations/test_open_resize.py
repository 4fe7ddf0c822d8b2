"""Resize computes the places of neighbors in the program where sizes differ from call to call."""

from typing import Any

import numpy as np
import pytest
from support.evaluate import meaning

from onward.graph import Graph, Model

SIZES = (4, 6, 8), (3, 9, 5), (5, 1, 31), (1, 2, 1)
COORDINATES = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "asymmetric", "align_corners")
SCALES = ([1, 1, 2], [1, 2, 0.5], [1, 0.75, 1.5])


def model_of(axes: Any, scales: Any, **attributes: Any) -> Model:
    """Resize x (batch, height, width) by scales, or to 1 1/2 times the height and twice the width."""
    graph = Graph()
    x = graph.add_input("x", np.float32, axes)
    if scales is None:
        shape = graph.add("Shape", x)
        more = graph.add("Mul", shape, graph.add_constant(np.array([2, 3, 4])))
        sizes = graph.add("Div", more, graph.add_constant(np.array([2, 2, 2])))
        graph.outputs = (graph.add("Resize", x, "", "", sizes, **attributes),)
    else:
        factors = graph.add_constant(np.array(scales, np.float32))
        graph.outputs = (graph.add("Resize", x, "", factors, **attributes),)
    return Model(graph)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_a_program_for_all_sizes_has_the_bits_of_programs_for_each(mode: str, coordinates: str) -> None:
    for scales in (*SCALES, None):
        has_elements = True
        attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
        model = model_of(("batch", "height", "width"), scales, **attributes)
        for shape in SIZES:
            x = np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)
            y = model(x)
            np.testing.assert_array_equal(y, meaning(model, x)[0], strict=True)
            np.testing.assert_array_equal(y, model_of(shape, scales, **attributes)(x), strict=True)
            has_elements &= y.size > 0
        # without elements, NumPy checks the places of the neighbors
        assert not (has_elements and any(program.in_numpy for program in model.programs))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("steps", [[1.0, 0.0, 0.0], [1.0, 0.7, 0.45], [1.0, 1.0, 0.0]])
def test_steps_have_the_same_bits_in_all_programs(mode: str, steps: list[float]) -> None:
    model = model_of(("batch", "height", "width"), None, mode=mode, steps=steps)
    for shape in SIZES:
        x = np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)
        y = model(x)
        np.testing.assert_array_equal(y, meaning(model, x)[0], strict=True)
        np.testing.assert_array_equal(y, model_of(shape, None, mode=mode, steps=steps)(x), strict=True)


@pytest.mark.parametrize("after", [5, 7, 11, 50])
def test_the_nearest_elements_are_at_multiples_of_a_step(after: int) -> None:
    """Quotients by the scale have other neighbors: of 35 elements, the fifth is at 27.999999."""
    graph = Graph()
    x, sizes = graph.add_input("x", np.float32, ("time",)), graph.add_constant(np.array([after]))
    options = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric", "steps": [0.0]}
    graph.outputs = (graph.add("Resize", x, "", "", sizes, **options),)
    model = Model(graph)
    for before in range(1, 200):
        step = np.float32(before) / np.float32(after)
        places = np.floor(np.arange(after, dtype=np.float32) * step)
        y = model(np.arange(before, dtype=np.float32))
        np.testing.assert_array_equal(y, places.clip(0, before - 1), strict=True)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("scales", [*SCALES, None])
def test_no_size_makes_a_program_specific(mode: str, scales: Any) -> None:
    """Each length of an image had a program of its own, and a table of its size."""
    model = model_of(("batch", "height", "width"), scales, mode=mode)
    for shape in ((4, 6, 8), (3, 9, 5), (2, 12, 20), (5, 7, 31)):
        model(np.ones(shape, np.float32))
    (program,) = model.programs
    assert program.axes.names == ["batch", "height", "width"]
    assert not program.axes.fixed


@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_each_rounding_of_integers(rounding: str) -> None:
    graph = Graph()
    x = graph.add_input("x", np.int64, ("batch", "time"))
    factors = graph.add_constant(np.array([1, 1.25], np.float32))
    graph.outputs = (graph.add("Resize", x, "", factors, nearest_mode=rounding),)
    model = Model(graph)
    for steps in (4, 9, 16):
        given = np.arange(2 * steps).reshape(2, steps)
        np.testing.assert_array_equal(model(given), meaning(model, given)[0], strict=True)
    assert len(model.programs) == 1
