"""A local server of the page, and Debian's Chromium to open it."""

import shutil
import threading

import pytest

from onward import bundled
from onward.cli.explore import server, site

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def files():
    """The files of the page, and the bundled text model as it is."""
    return site(None) | {"bundled.safetensors": bundled.models()["shakespeare"].read_bytes()}


@pytest.fixture(scope="session")
def address(files):
    running = server(files)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}/"
    running.shutdown()
    running.server_close()


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Visit:
    """Opens pages without a network; a request to another machine, a warning or an error fails the test."""

    def __init__(self, browser, address):
        self.browser, self.address, self.problems, self.pages = browser, address, [], []

    def __call__(self, path="", *, width=1280, height=900, scheme="light", ready=True):
        page = self.browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
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
        page.goto(path if path.startswith("file:") else self.address + path)
        if ready:
            page.wait_for_selector("body[data-ready=true]", timeout=20_000)
        return page


@pytest.fixture
def visit(browser, address):
    visits = Visit(browser, address)
    yield visits
    for page in visits.pages:
        page.close()
    assert visits.problems == []
