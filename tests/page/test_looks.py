"""Each view in light and dark, wide and narrow: pictures of it to look at, nothing cut off, nothing that axe-core finds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from conftest import Library, View
from playwright.sync_api import Page, expect

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("NADGRID_SCREENSHOTS") or REPOSITORY / "out" / "page")

# Boxes that scroll on their own would hide something; only the spec's lines and a large picture may be that wide.
CUT_OFF = """[...document.querySelectorAll("main :not(pre, .scroll)")]
    .filter((box) => getComputedStyle(box).overflowX === "auto" && box.scrollWidth > box.clientWidth)
    .map((box) => box.className)"""

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def sees(*selectors: str) -> Callable[[Page], None]:
    """A view is there when these are."""

    def wait(page: Page) -> None:
        for selector in selectors:
            expect(page.locator(selector).first).to_be_visible()

    return wait


def shortcuts(page: Page) -> None:
    sees("h1")(page)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()


def cancelling(page: Page) -> None:
    page.get_by_role("button", name="Cancel…").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def enlarged(page: Page) -> None:
    page.get_by_role("button", name="Enlarge Accuracy").click()
    expect(page.get_by_role("dialog").get_by_role("img")).to_be_visible()


def token(page: Page) -> None:
    page.get_by_role("button", name="read only").click()
    expect(page.get_by_role("textbox", name="Token")).to_be_visible()


def timeline(page: Page) -> None:
    page.get_by_role("table", name="Shards, the latest first").get_by_role("link").first.click()
    sees(".span-bar", ".trace code")(page)


VIEWS: dict[str, tuple[str, Callable[[Page], None]]] = {
    "sweeps": ("#/sweeps", sees("tbody tr")),
    "sweep_complete": ("#/sweeps/{complete}", sees("figure.nads img", "figure.curve img")),
    "sweep_filling": ("#/sweeps/{paused}", sees("figure.map img")),
    "directions": ("#/sweeps/{complete}/nads/lenet/2", sees(".pane img", "figure.curve img")),
    "two_directions": (
        "#/sweeps/{complete}/nads/lenet/2/beside/{complete}/logreg",
        sees("[aria-label='Second architecture'] img"),
    ),
    "shards": ("#/sweeps/{complete}/shards", timeline),
    "files": ("#/sweeps/{complete}/files", sees("tbody tr")),
    "spec": ("#/sweeps/{complete}/spec", sees("pre")),
    "workers": ("#/workers", sees("tbody tr")),
    "shortcuts": ("#/sweeps", shortcuts),
    "cancelling": ("#/sweeps/{paused}", cancelling),
    "enlarged": ("#/sweeps/{paused}", enlarged),
    "token": ("#/sweeps", token),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_legible_for_all(name: str, scheme: str, library: Library, view: View) -> None:
    route, wait = VIEWS[name]
    FOLDER.mkdir(parents=True, exist_ok=True)
    for width in (1280, 400):
        viewer = view(
            library.cluster, color_scheme=scheme, reduced_motion="reduce", viewport={"width": width, "height": 900}
        )
        page = viewer.open(route.format(complete=library.complete, paused=library.paused))
        expect(page.get_by_role("status")).to_have_text("live")
        wait(page)
        page.screenshot(path=FOLDER / f"{name}-{scheme}-{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(page, options=RULES)
        assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("name", VIEWS)
def test_nothing_is_wider_than_the_screen(name: str, library: Library, view: View) -> None:
    route, wait = VIEWS[name]
    page = view(library.cluster).open(route.format(complete=library.complete, paused=library.paused))
    wait(page)
    for width in (360, 400, 640, 641, 900, 901, 1120, 1121, 1600):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CUT_OFF) == [], width
