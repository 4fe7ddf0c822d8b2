"""Traces of random models: each row equals its own trace, and pictures and pages show any value and name."""

import numpy as np
import pytest
from support.page import embedded
from support.random_traces import name, traced
from support.randomized import random_cases

NO_FORMULA = "a$\\frac{$"  # which matplotlib takes for one
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, 1e30)


@pytest.mark.parametrize("seed", range(random_cases(40)))
def test_the_trace_of_a_row_is_that_of_its_valid_steps_alone(seed: int) -> None:
    case = traced(np.random.default_rng(seed))
    trace, y = case.model.trace(case.x, lengths=case.lengths), case.model(case.x, lengths=case.lengths)
    has_steps = y.ndim == 3
    np.testing.assert_array_equal(trace.y, y.swapaxes(0, 1) if case.model.batch_first and has_steps else y)
    for row, length in enumerate(trace.lengths):
        for key, array in trace.items():
            assert array.shape[:2] == case.steps.shape[:2] and not array[length:, row].any(), key
        if length == 0:
            continue
        alone = case.model.trace(case.row(row, length))
        for key, array in alone.items():
            np.testing.assert_array_equal(trace[key][:length, row], array[:, 0])
        outputs = [case.model(case.row(row, t + 1)) for t in range(length)]
        expected = case.model(case.row(row, length)) if has_steps else np.stack(outputs)
        np.testing.assert_array_equal(trace.answers(row), expected)


@pytest.mark.parametrize("seed", range(random_cases(12)))
def test_pictures_and_pages_show_any_values_and_names(seed: int) -> None:
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(seed)
    case = traced(rng, least=1)
    places = rng.random(case.x.shape) < rng.choice([0, 0.2, 1])
    trace = case.model.trace(np.where(places, SPECIAL[seed % 5], case.x), lengths=case.lengths)
    row = int(rng.integers(len(trace.lengths)))
    names = [NO_FORMULA if seed % 3 == 0 else name(rng) for _ in range(trace.y.shape[-1])]
    text = "".join(rng.choice(["$", "<", "\n", "é"], trace.lengths[row]))
    layer = int(rng.integers(len(trace.layers)))
    assert trace.summary().keys() == trace.layers.keys()
    figure = trace.plot(
        layer,
        row,
        classes=names,
        text=text,
        title=NO_FORMULA if seed % 3 == 1 else name(rng),
        similar=bool(seed % 2),
    )
    figure.draw_without_rendering()  # places and draws all text, but fills no pixels
    page = trace.explore(row, classes=names, text=text)
    entry = embedded(page)
    assert entry["classes"] == names and "<img" not in page.html
    for layer in entry.get("record", {"layers": []})["layers"]:  # the page draws the diagrams of some kinds
        assert layer["type"] == trace.recorded[layer["name"]].kind
