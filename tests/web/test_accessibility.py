"""Everybody can use the page: with the keyboard alone, a screen reader, weak eyes, and without motion."""

from pathlib import Path

import pytest

TEXT = "Now is the winter"
MODELS = ["shakespeare", "vowels", "forecaster", "latch"]
CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
CONTROLS = "button, input, select, textarea, summary, [tabindex='0']"


@pytest.mark.parametrize("model", ["shakespeare", "vowels", "forecaster", "latch"])
def test_every_control_has_a_name_in_both_themes(visit, model):
    for scheme in ("light", "dark"):
        page = visit(f"#model={model}", scheme=scheme)
        unnamed = page.evaluate(
            """() =>
              [...document.querySelectorAll("button, input, select, textarea, [role=slider], [role=img]")]
              .filter((e) => !/\\p{L}{2}/u.test(e.ariaLabel ?? e.labels?.[0]?.textContent ?? e.textContent))
              .map((e) => e.outerHTML.slice(0, 90))"""
        )
        assert unnamed == []
        assert page.evaluate("document.documentElement.dataset.theme") == scheme


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("model", MODELS)
def test_text_stands_out_from_its_background(visit, model, scheme):
    """By the ratios of WCAG 2.2, level AA."""
    page = visit(f"#model={model}", scheme=scheme)
    page.wait_for_selector("#influence[data-changes]")
    page.click("#tour-start")
    assert page.evaluate(CONTRAST) == []
    for _ in range(6):
        page.click("#tour-next")
    assert page.is_visible("#whatif-banner")
    assert page.evaluate(CONTRAST) == []


def test_the_keyboard_alone_is_enough(visit):
    page = visit(f"#model=shakespeare&text={TEXT}&unit=3&step=10")

    def tab_to(selector):
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate(f"document.activeElement.matches('{selector}')"):
                return
        pytest.fail(f"Tab does not reach {selector}")

    tab_to("#model")
    tab_to("#text")
    page.keyboard.press("Control+End")
    page.keyboard.type("!")
    page.wait_for_function(f"document.querySelector('#scrub').max === '{len(TEXT) + 1}'")
    tab_to('[data-layer="1.l1"]')
    page.keyboard.press("Enter")
    assert page.text_content("#layer-name") == "Inside layer 2"
    tab_to("#maps .map")
    page.keyboard.press("ArrowLeft")
    assert page.input_value("#step-number") == str(len(TEXT))
    unit = page.input_value("#unit-number")
    page.keyboard.press("ArrowDown")
    assert page.input_value("#unit-number") != unit
    tab_to("#clamp")
    page.keyboard.press("Enter")
    assert page.is_visible("#whatif-banner")
    tab_to("#play")
    page.keyboard.press("Home")


@pytest.mark.parametrize("model", MODELS)
def test_every_control_is_reached_and_shows_its_focus(visit, model):
    page = visit(f"#model={model}")
    page.wait_for_selector("#influence[data-changes]")
    page.wait_for_selector("#needed [data-unit]", timeout=60_000)
    count = "(all) => all.filter((e) => e.checkVisibility() && !e.disabled).length"
    expected = page.locator(CONTROLS).evaluate_all(count)
    reached = set()
    page.evaluate("[...document.querySelectorAll('*')].forEach((e, n) => (e.dataset.n = n))")
    for _ in range(expected + 5):
        page.keyboard.press("Tab")
        n, is_control, style, width = page.evaluate(
            """(controls) => {
              const e = document.activeElement;
              const { outlineStyle, outlineWidth } = getComputedStyle(e);
              return [e.dataset.n, e.matches(controls), outlineStyle, parseFloat(outlineWidth)];
            }""",
            CONTROLS,
        )
        if is_control:
            assert style != "none" and width >= 2
            reached.add(n)
    assert len(reached) == expected


def test_nothing_moves_by_itself_for_readers_who_want_no_motion(visit):
    page = visit(reduced_motion="reduce")
    moving = "getComputedStyle(document.documentElement).scrollBehavior"
    assert page.evaluate(moving) == "auto" and visit().evaluate(moving) == "smooth"
    assert page.evaluate("document.getAnimations().length") == 0


def test_a_screen_reader_hears_the_step_the_value_and_the_change(visit):
    page = visit(f"#model=shakespeare&text={TEXT}&unit=3&step=10")
    first = page.locator("#maps .map").first
    assert first.get_attribute("aria-valuetext").startswith("unit 3, step 10 “e”: 0.")
    assert page.get_attribute("#scrub", "aria-valuetext") == f"step 10 of {len(TEXT)}, “e”"
    assert "forget gate" in page.get_attribute("#cell svg", "aria-label")
    assert (
        page.get_attribute("#whatif-banner", "role") == page.get_attribute("#text-note", "role") == "status"
    )
    assert page.get_attribute("html", "lang") == "en" and page.title() == "An LSTM, thinking"
    levels = page.locator("h1:visible, h2:visible, h3:visible").evaluate_all(
        "(all) => all.map((e) => e.tagName)"
    )
    assert levels[0] == "H1" and levels.count("H1") == 1 and levels[1] == "H2"
