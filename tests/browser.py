"""A headless Chromium, for the tests of pages."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
# A microphone that beeps, and the user's leave to use it.
FLAGS += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """A browser. Tests that use it are skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def open_page(browser, path: Path):
    """Opens a page, which must neither fail nor ask for anything but files."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(20000)
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.route("**/*", lambda route: route.continue_() if _is_local(route.request.url) else pytest.fail())
    page.goto(path.as_uri())
    return page


def _is_local(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:"))
