"""A report in a real browser, where one is installed (playwright and its own browser, or the system's Chromium)."""

import io
import shutil

import pytest
from rich.console import Console

from mace_gaunt.evaluation.report import report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture
def browser():
    """A headless Chromium."""
    installed = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_api.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no browser can be started: {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_opens_from_disk(springs, frames, tmp_path, browser, scheme):
    report(springs, {"a": frames}, tmp_path, progress=False, console=Console(file=io.StringIO()), about={"x": 1})
    page = browser.new_page(color_scheme=scheme, viewport={"width": 900, "height": 700})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_load_state()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [(tmp_path / "report.html").as_uri()]
    widths = page.evaluate("Array.from(document.images).map(image => image.complete ? image.naturalWidth : 0)")
    assert len(widths) == 3 and min(widths) > 300
    headings = page.locator("h2").all_inner_texts()
    assert headings[0] == "Errors by split" and headings[-1] == "Configuration and origin"
    # Wide tables scroll in themselves, and text stands out from its background.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    ink, paper = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    assert contrast(ink, paper) > 7


def contrast(first: str, second: str) -> float:
    """WCAG's contrast ratio of two colours as `rgb(r, g, b)`."""
    lights = []
    for colour in (first, second):
        parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)
