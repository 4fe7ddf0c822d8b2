"""A local server of the page, and Debian's Chromium to open it."""

import shutil
import threading
from pathlib import Path

import pytest

from onward import bundled, text
from onward.cli.explore import server, site
from onward.tracing.explore import PAGE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def files():
    """The files of the page, and the bundled text model as it is."""
    return site(None) | {"bundled.safetensors": bundled.models()["shakespeare"].read_bytes()}


@pytest.fixture(scope="session")
def shakespeare(files, tmp_path_factory):
    """The text model of the page, and its vocabulary."""
    path = tmp_path_factory.mktemp("page") / "shakespeare.safetensors"
    path.write_bytes(files["models/shakespeare.safetensors"])
    return text.load(path)


@pytest.fixture(scope="session")
def served(files):
    """What the server has: the files of the page, those of whole models, and what tests add."""
    return files | {
        "onward-graph.wasm": (PAGE / "onward-graph.wasm").read_bytes(),
        "onward-graph-relaxed.wasm": (PAGE / "onward-graph-relaxed.wasm").read_bytes(),
        "whole.js": Path(__file__).with_name("whole.mjs").read_bytes(),
    }


@pytest.fixture(scope="session")
def address(served):
    running = server(served)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}/"
    running.shutdown()
    running.server_close()


@pytest.fixture(scope="session")
def launch():
    """A function that starts Chromium with more arguments."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as running:
        yield lambda *args: running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *args])


@pytest.fixture(scope="session")
def browser(launch):
    chromium = launch()
    yield chromium
    chromium.close()


class Visit:
    """Opens pages without a network; a request to another machine, a warning or an error fails the test."""

    def __init__(self, browser, address):
        self.browser, self.address, self.problems, self.pages = browser, address, [], []

    def __call__(self, path="", *, width=1280, height=900, scheme="light", ready=True, **options):
        viewport = {"width": width, "height": height}
        page = self.browser.new_page(viewport=viewport, color_scheme=scheme, **options)
        self.pages.append(page)
        page.on("console", lambda message: self.problems.append(message.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        allowed = (self.address, "data:", "file:", "blob:")

        def check(route):
            if route.request.url.startswith(allowed):
                return route.continue_()
            self.problems.append(f"requested {route.request.url}")
            return route.abort()

        page.route("**/*", check)
        page.goto(path if path.startswith(("file:", "about:")) else self.address + path)
        if ready:
            page.wait_for_selector("body[data-ready=true]", timeout=20_000)
        return page


@pytest.fixture
def visits(address):
    """A function from a browser to its Visit."""
    made = []

    def of(browser):
        made.append(Visit(browser, address))
        return made[-1]

    yield of
    for visit in made:
        for page in visit.pages:
            page.close()
    assert [problem for visit in made for problem in visit.problems] == []


@pytest.fixture
def visit(visits, browser):
    return visits(browser)
