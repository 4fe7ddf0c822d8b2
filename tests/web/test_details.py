"""Details of the page: what the diagrams connect, where legends are, and what the page claims."""

from pathlib import Path

import numpy as np
import pytest
from support.page import link

import onward

LOOSE_ENDS = Path(__file__).with_name("loose_ends.js").read_text()


@pytest.mark.parametrize("cell", [onward.RNN, onward.LSTM, onward.GRU])
def test_no_wire_of_a_cell_ends_in_the_void(visit, tmp_path, cell):
    cell(2, 5, rng=1).trace(np.ones((4, 2), np.float32)).save(tmp_path / "gates.html")
    page = visit((tmp_path / "gates.html").as_uri())
    assert page.evaluate(LOOSE_ENDS) == []
    page.locator("#cell .wire").last.evaluate("wire => wire.setAttribute('d', 'M8 100H9')")
    assert len(page.evaluate(LOOSE_ENDS)) > 0
    assert page.evaluate("document.querySelectorAll('#cell .wire').length") >= 5
    texts = " ".join(page.locator("#cell text").all_text_contents())
    assert "h of all" in texts  # the state of every unit enters, not only that of the one on display


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_legend_is_beside_the_maps_or_directly_above_them(visit, width, height):
    page = visit(link(model="latch"), width=width, height=height)
    legend, maps = (page.locator(name).bounding_box() for name in (".beside .legend", "#maps"))
    is_beside = legend["x"] >= maps["x"] + maps["width"]
    assert is_beside == (width > 640)
    assert abs(legend["y"] - maps["y"]) < 5 or 0 <= maps["y"] - legend["y"] - legend["height"] < 40


def test_the_page_claims_the_bits_of_the_precision_that_the_model_has(visit, tmp_path):
    page = visit(link(model="shakespeare"))
    assert "this model in Python, with its matrices in int8." in page.text_content("#numbers")
    assert "matrices in" not in visit(link(model="latch")).text_content("#numbers")
    half = onward.LSTM(3, 9, rng=1).quantize("float16")
    half.trace(np.ones((5, 3), np.float32)).save(tmp_path / "half.html")
    page = visit((tmp_path / "half.html").as_uri())
    assert "with its matrices in float16." in page.text_content("#numbers")
    onward.LSTM(3, 9, dtype="float64", rng=1).trace(np.ones((5, 3))).save(tmp_path / "wide.html")
    page = visit((tmp_path / "wide.html").as_uri())
    assert "recorded values" in page.text_content("#numbers")
    assert "bits" not in page.text_content("#numbers")
