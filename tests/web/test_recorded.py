"""Pages of traces: the page runs the model, or shows the recorded values, whatever these are."""

import numpy as np
import pytest
from support.page import embedded, link, shown
from support.random_options import drawn
from support.random_traces import name, traced
from support.randomized import random_cases

import onward


def test_a_model_that_cannot_run_in_the_page_is_shown_as_recorded_and_the_page_says_so(visit, tmp_path):
    model = onward.LSTM(3, 5, bidirectional=True, rng=1)
    x = np.random.default_rng(0).normal(size=(11, 1, 3)).astype(np.float32)
    trace = model.trace(x)
    trace.save(tmp_path / "gates.html")
    page = visit((tmp_path / "gates.html").as_uri() + link(layer="l0_reverse", unit=2, step=4))
    assert "recorded values: the model cannot run here because it has a reverse" in page.text_content(
        "#numbers"
    )
    assert page.is_hidden("#tour-start") and "recorded values only" in page.text_content("#cards")
    assert page.text_content("#layer-name") == "Inside layer 1, right to left"
    values = shown(page)
    assert values["f"] == trace["l0_reverse.f"][3, 0, 2]
    assert values["c_prev"] == trace["l0_reverse.c"][4, 0, 2]  # the reverse direction read this step before
    assert not page.locator(".differs").count()


@pytest.mark.parametrize("kind", ["MinGRU", "LRU", "sLSTM", "GatedDeltaRule"])
def test_layers_beyond_torch_have_no_diagram_and_no_equation_of_another_cell(visit, tmp_path, kind):
    sizes = {"GatedDeltaRule": (3, 2, 4)}.get(kind, (3, 5))
    trace = getattr(onward, kind)(*sizes, rng=1).trace(np.random.default_rng(0).normal(size=(7, 3)))
    trace.save(tmp_path / "gates.html")
    page = visit((tmp_path / "gates.html").as_uri() + link(unit=1, step=3))
    assert page.text_content("#layer-note") == f"This {kind} layer is called l0 in Python."
    assert page.text_content("#cell") == f"The page has no diagram of a {kind}."
    assert f"The equations of a {kind} are in" in page.text_content("#lines")
    arrays = {key.removeprefix("l0."): values for key, values in trace.items()}
    assert page.locator("#maps .map").count() == len(arrays)
    for key, values in arrays.items():
        if values.shape[2] > 1:
            assert shown(page)[key] == pytest.approx(values[2, 0, 1])


@pytest.mark.parametrize("seed", range(random_cases(6)))
def test_a_page_shows_values_that_are_not_finite_and_any_names(visit, tmp_path, seed):
    rng = np.random.default_rng(seed)
    case = traced(rng, least=1)
    x = np.where(rng.random(case.x.shape) < 0.2, (np.nan, np.inf, -np.inf)[seed % 3], case.x)
    trace = case.model.trace(x, lengths=case.lengths)
    trace.explore(classes=[name(rng) for _ in range(trace.y.shape[-1])]).save(tmp_path / "gates.html")
    page = visit((tmp_path / "gates.html").as_uri())
    assert not page.locator("img").count() and "cannot go on" not in page.text_content("#status")


@pytest.mark.parametrize("seed", range(random_cases(12)))
def test_the_page_of_a_random_model_shows_the_numbers_of_the_trace(visit, tmp_path, seed):
    case = drawn(np.random.default_rng(seed))
    trace = case.model.trace(case.x)
    steps, row = len(trace.x), seed % trace.x.shape[1]
    classes = "abcdefghijkl"[: trace.y.shape[-1]]
    text = (
        "".join(classes[n % len(classes)] for n in trace.x[:steps, row]) if case.x.dtype.kind == "i" else None
    )
    shown_page = trace.explore(row, classes=classes, text=text)
    shown_page.save(tmp_path / "page.html")
    page = visit((tmp_path / "page.html").as_uri())
    assert "cannot go on" not in page.text_content("#status")
    layer, unit = next(iter(trace.layers.values())), int(page.input_value("#unit-number"))
    for key, value in shown(page).items():
        if key in layer and unit < layer[key].shape[2]:
            assert value == layer[key][steps - 1, row, unit]
    if "record" not in embedded(shown_page):
        page.wait_for_selector("#needed .bar")
