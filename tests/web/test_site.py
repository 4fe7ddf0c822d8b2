"""The site of the documentation in Chromium: its search, and the network on its home page."""

import functools
import http.server
import importlib
import re
import sys
import threading
from pathlib import Path

import jupytext
import pytest
from support import ROOT

TOOLS = str(ROOT / "tools" / "site")
EXECUTED = "watch"  # the lesson whose figure the home page shows; the others appear without outputs


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def built(folder):
    """Build the site without the outputs of most lessons and without the pages of the API."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    lessons = importlib.import_module("lessons")
    execute = lessons.execute
    lessons.execute = lambda path: execute(path) if path.stem == EXECUTED else jupytext.read(path)
    try:
        config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=False, plugins=["search"])
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
    finally:
        lessons.execute = execute


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The address of the site."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    sys.path.insert(0, TOOLS)
    try:
        built(folder)
    finally:
        sys.path.remove(TOOLS)
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def findable():
    sys.path.insert(0, TOOLS)
    try:
        return importlib.import_module("findable").FINDABLE
    finally:
        sys.path.remove(TOOLS)


def search(page, words, place):
    """Type words into the search, and wait until the first result is a page."""
    field = page.locator("[data-md-component=search-query]")
    field.fill("")
    field.press_sequentially(words)
    first = page.locator(".md-search-result__link").first
    first.and_(page.locator(f"[href*='/{place}']")).wait_for(state="attached", timeout=10_000)


def test_words_that_the_search_does_not_find(home, browser, findable):
    assert {"exploding", "glossary", "slides", "teacher forcing"} <= findable.keys()
    page = browser.new_page()
    page.goto(home)
    for words, place in findable.items():
        search(page, words, place)
    page.close()


def test_result_of_the_search_that_leads_nowhere(home, browser):
    page = browser.new_page()
    page.goto(home)
    search(page, "exploding gradients", "learn/backward/")
    page.goto(page.locator(".md-search-result__link[href*='#exploding']").first.get_attribute("href"))
    assert page.text_content("#exploding-gradients").startswith("Exploding gradients")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_home_page_without_the_network_at_work(home, browser, scheme):
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    page.goto(home)
    frame = page.frame_locator(".hero iframe")
    frame.locator("body[data-ready=true]").wait_for(timeout=30_000)
    assert frame.locator("#unit-name").text_content().startswith("Unit 3 at step 46")
    box = page.locator(".hero iframe").bounding_box()
    assert box["y"] < 450 and box["width"] > 900 and box["height"] > 400
    assert page.locator(".hero img.narrow:visible").count() == 0
    frame.locator("#step-number").fill("90")
    frame.locator("#step-number").press("Enter")
    frame.get_by_text(re.compile("^Unit 3 at step 90")).first.wait_for()
    page.close()


def test_home_page_that_is_wider_than_a_phone(home, browser):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(home)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".hero iframe").is_hidden()
    picture = page.locator(".hero img:visible")
    assert picture.count() == 1 and picture.evaluate("image => image.naturalWidth") > 100
    link = page.locator(".hero a:has(img)").get_attribute("href")
    page.goto(home + link)
    page.wait_for_selector("body[data-ready=true]", timeout=30_000)
    assert page.text_content("#unit-name").startswith("Unit 3 at step 46")
    page.close()


FAULTS = Path(__file__).with_name("equations.js").read_text(encoding="utf-8").split("\n", 1)[1]
EQUATIONS = [f"{lesson}/" for lesson in ("backward", "forward", "inside", "machine", "text", "training")]
EQUATIONS += ["slides/backward.html", "slides/forward.html"]
WIDE = """() => [document.documentElement.scrollWidth, [...document.querySelectorAll("table, pre")].filter(
    (wide) => wide.getBoundingClientRect().right > innerWidth && !wide.closest(".md-typeset__scrollwrap")
).length]"""


@pytest.fixture
def phone(browser):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    yield page
    page.close()


@pytest.mark.parametrize("place", EQUATIONS)
def test_equation_that_is_hard_to_read(home, phone, place):
    if place.startswith("slides"):
        phone.set_viewport_size({"width": 1280, "height": 720})
    phone.goto(f"{home}learn/{place}")
    phone.evaluate("document.fonts.ready")
    assert phone.evaluate(FAULTS) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("all('mo').forEach((e) => e.setAttribute('stretchy', 'false'))", "a bracket does not fit"),
        ("all('mtd').forEach((e) => (e.style.textAlign = 'left'))", "a sign is far from its left side"),
        ("all('mtd:has(mo)').forEach((e, k) => (e.style.paddingLeft = `${k}px`))", "signs do not align"),
        ("all('mspace').forEach((e) => e.remove())", "tanh touches x"),
        ("all('math').forEach((e) => (e.style.fontSize = '40px'))", "an equation is too wide"),
    ],
)  # fmt: skip
def test_equation_that_is_hard_to_read_and_goes_unnoticed(home, phone, change, fault):
    phone.goto(f"{home}learn/forward/")
    phone.evaluate("document.fonts.ready")
    phone.evaluate(f"() => {{ const all = (s) => [...document.querySelectorAll(s)]; {change} }}")
    assert fault in phone.evaluate(FAULTS)


def test_page_that_scrolls_sideways_on_a_phone(home, phone):
    places = re.findall(r"(\S+)\.md$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(places) > 50
    phone.route("**/search/**", lambda route: route.abort())  # the index takes longer than the page
    found = {}
    for place in places:
        phone.goto(f"{home}{place.removesuffix('index').rstrip('/')}/")
        phone.wait_for_function("document.querySelectorAll('.md-typeset > table').length === 0")
        width, cut = phone.evaluate(WIDE)
        if width > 390 or cut:
            found[place] = width, cut
    assert found == {}
