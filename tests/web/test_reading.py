"""Reading the page of `onward explore` in Chromium: its tour, its keys, signs, authors and zoom."""

import json

import numpy as np
import pytest
from support.page import link

import onward
from onward.tracing.explore import PAGE

MINUS = "\N{MINUS SIGN}"
TEXT = "Now is the winter of our discontent"
RESTS = """() => new Promise((resolve) => {  // once the page has not scrolled for 20 frames
  let before = NaN, still = 0;
  const look = () => {
    still = scrollY === before ? still + 1 : 0;
    before = scrollY;
    return still === 20 ? resolve() : requestAnimationFrame(look);
  };
  look();
})"""


def latch():
    """The entry of the latch in the list of models."""
    return json.loads((PAGE / "entries.json").read_text())[-1]


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844), (640, 450), (320, 225)])
def test_the_tour_tells_the_numbers_of_the_latch_and_never_hides_what_it_describes(visit, width, height):
    page = visit(link(model="vowels", unit=5, step=3), width=width, height=height)
    page.select_option("#recording", "2")
    page.fill("#swap", "0.5")
    page.click("#tour-start")
    texts = []
    for n in range(1, 10):
        page.wait_for_function(f"document.querySelector('#tour-count').textContent === '{n} of 9'")
        page.evaluate(RESTS)
        part, panel = page.locator(".lit").bounding_box(), page.locator("#tour").bounding_box()
        if height < 420:  # at 400 %, the panel is directly above the part
            assert -1 < panel["y"] < height / 2 and 0 <= part["y"] - panel["y"] - panel["height"] < 60
        else:
            overlaps = part["x"] + part["width"] > panel["x"] and part["y"] + part["height"] > panel["y"]
            assert part["y"] < height / 2 and (not overlaps or part["y"] + 120 < panel["y"])
        texts.append(page.text_content("#tour-text"))
        page.click("#tour-next")
    assert page.is_hidden("#tour")
    page.wait_for_function("document.querySelector('#model').value === 'vowels'")
    assert "plus 0.5" in page.text_content("#whatif-banner")  # the reader's own what-if is back
    assert page.text_content("#unit-name").startswith("Unit 5 at step")
    lstm, linear = onward.load(PAGE / "models/latch.safetensors")
    signal = np.array(latch()["examples"][0]["x"], np.float32)
    answer = linear(lstm(signal)[0])[-1, 0]

    def closed(units):
        """The last answer if these units forget everything at step 51."""
        _, (h, c) = lstm(signal[:50])
        c[..., units] = 0
        return linear(lstm(signal[50:], (h, c))[0])[-1, 0]

    shown = [f"{value:.3f}".replace("-", MINUS) for value in (answer, closed([3]), closed(slice(None)))]
    assert shown[0] in texts[1] and "unit 3" in texts[3] and "Unit 5 has" in texts[3]
    assert f"from {shown[0]} to {shown[1]}" in texts[6] and f"{shown[0]} becomes {shown[2]}" in texts[7]
    assert abs(closed(slice(None))) < 0.1 < 0.2 < abs(closed([3])) < abs(answer)


def test_keys_play_and_step_and_play_comes_early_in_the_tab_order(visit):
    page = visit(link(model="latch", step=10))
    step = lambda: int(page.input_value("#step-number"))  # noqa: E731
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert step() == 11
    page.keyboard.press(" ")
    page.wait_for_function("document.querySelector('#step-number').value > 12")
    page.keyboard.press(" ")
    assert page.get_attribute("#play", "aria-label") == "Play"
    focused = []
    while "play" not in focused and len(focused) < 12:
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.id"))
    assert "play" in focused


def test_what_the_model_wrote_looks_different_and_the_reading_follows_what_if(visit):
    page = visit(link(model="shakespeare", text="KING"))
    page.click("#sample")
    page.wait_for_function("document.querySelector('#text').value.length > 6")
    page.click("#sample")
    written = page.locator("#tape .written").count()
    assert written == len(page.input_value("#text")) - 4
    page.fill("#text", "KINGS")  # the reader takes over
    page.wait_for_function("document.querySelector('#tape').children.length === 5")
    assert page.locator("#tape .written").count() <= 1
    before = page.locator("#tape span").nth(3).get_attribute("title")
    page.select_option("#clamp-scope", "layer")
    page.click("#clamp")
    assert page.locator("#tape span").nth(3).get_attribute("title") != before


def test_bars_keep_the_sign_of_their_numbers(visit):
    page = visit(link(model="latch", step=90))
    track, fill = (page.locator(f"#bars .{name}").bounding_box() for name in ("track", "fill"))
    middle = track["x"] + track["width"] / 2
    assert fill["x"] + fill["width"] == pytest.approx(
        middle, abs=2
    )  # a negative number goes to the left of zero
    page.fill("#step-number", "20")
    page.press("#step-number", "Enter")
    assert page.locator("#bars .fill").bounding_box()["x"] == pytest.approx(middle, abs=2)


def test_a_network_of_256_units_opens_as_the_ten_that_it_needs(visit):
    page = visit(link(model="shakespeare", text=TEXT))
    page.wait_for_selector("#all-units", timeout=60_000)
    rows = "document.querySelector('#maps .map canvas').height"
    assert page.evaluate(rows) == 10
    page.click("#all-units")
    assert page.evaluate(rows) == 256


def test_an_untrained_network_is_not_called_trained(visit, tmp_path):
    x = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
    onward.LSTM(3, 9, rng=1).trace(x).save(tmp_path / "gates.html")
    page = visit((tmp_path / "gates.html").as_uri())
    assert page.text_content("#subtitle").startswith("A network that runs here")
    assert visit().text_content("#subtitle").startswith("A trained network")


@pytest.mark.parametrize(("width", "height"), [(640, 450), (320, 225)])  # 1280 by 900 at 200 % and 400 %
def test_a_zoomed_page_fits_and_nothing_covers_its_text(visit, width, height):
    page = visit(link(model="latch", step=20), width=width, height=height)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    fixed = page.evaluate(
        """() => [...document.querySelectorAll("*")]
          .filter((each) => getComputedStyle(each).position === "fixed")
          .reduce((sum, each) => sum + each.getBoundingClientRect().height, 0)"""
    )
    assert fixed <= height / 3
