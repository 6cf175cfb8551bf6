"""What is shown is what is, without a reload."""

from __future__ import annotations

import json
import re

from cluster import Cluster, clusters
from conftest import PATIENCE, SPECS, WITHOUT_END, Library, View, Viewer, picture
from playwright.sync_api import Page, expect

MAP = "directional/lenet_map"

# Keeps the pixels of the map as they are now, and notes whenever there is no drawn picture.
WATCH = """(image) => {
    const read = (picture) => {
        const canvas = document.createElement("canvas");
        canvas.width = picture.naturalWidth;
        canvas.height = picture.naturalHeight;
        const context = canvas.getContext("2d");
        context.drawImage(picture, 0, 0);
        return context.getImageData(0, 0, canvas.width, canvas.height).data;
    };
    const box = image.parentElement;
    const before = read(image);
    window.gaps = 0;
    window.swaps = 0;
    window.changedPixels = () => {
        const now = read(box.querySelector("img"));
        let changed = 0;
        for (let at = 0; at < now.length; at += 4) {
            if (now[at] !== before[at] || now[at + 1] !== before[at + 1] || now[at + 2] !== before[at + 2]) changed += 1;
        }
        return changed;
    };
    new MutationObserver(() => {
        const pictures = box.querySelectorAll("img");
        window.swaps += 1;
        if (pictures.length !== 1 || pictures[0].naturalWidth === 0) window.gaps += 1;
    }).observe(box, { childList: true });
}"""


def grows(page: Page, above: int) -> int:
    """Waits until more pixels of the map have changed since it was first looked at; how many."""
    page.wait_for_function("(above) => window.changedPixels() > above", arg=above, timeout=PATIENCE, polling=200)
    return int(page.evaluate("window.changedPixels()"))


def done(page: Page) -> int:
    """Percent done, as the page has it."""
    return int(page.get_by_role("progressbar", name="Progress of the sweep").get_attribute("aria-valuenow") or -1)


def expect_done(page: Page, above: int) -> None:
    """Waits until more is done."""
    bar = page.get_by_role("progressbar", name="Progress of the sweep")
    expect(bar).not_to_have_attribute("aria-valuenow", re.compile(rf"^({'|'.join(map(str, range(above + 1)))})$"))


def test_a_running_sweep_fills_in_without_a_reload(cluster: Cluster, view: View) -> None:
    viewer = view(cluster)
    page = viewer.open()
    expect(page.get_by_text("No sweep yet.")).to_be_visible()
    page.evaluate("window.sameDocument = true")
    sweep = cluster.submit(SPECS / "filling.toml")
    page.get_by_role("link", name="filling").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("filling")
    expect(page.locator(".sweep-title .badge")).to_have_text("running")
    image = picture(page, MAP)
    expect(image).to_be_visible()
    image.evaluate(WATCH)
    first = grows(page, 0)
    grows(page, first)
    assert page.evaluate("window.swaps") >= 2
    assert page.evaluate("window.gaps") == 0
    expect(page.locator(f"figure[data-name='{MAP}'] .far")).to_have_text(re.compile(r"^\d+ so far$"))
    expect(page.get_by_text(re.compile(r"about .+ left"))).to_be_visible()
    cluster.nadgrid("cancel", sweep)
    expect(page.locator(".sweep-title .badge")).to_have_text("cancelled")
    expect(page.locator("#announce")).to_have_text("Sweep filling is cancelled.")
    assert page.evaluate("window.sameDocument")
    assert len(json.loads(cluster.nadgrid("list", "--json"))) == 1
    assert viewer.writes == []


def test_what_is_complete_is_drawn_while_the_rest_runs(cluster: Cluster, view: View) -> None:
    sweep = cluster.submit(SPECS / "filling.toml", "nads={networks=64}", WITHOUT_END)
    viewer = view(cluster)
    page = viewer.open(f"#/sweeps/{sweep}")
    expect(picture(page, "nads/lenet/figure")).to_be_visible()
    expect(picture(page, MAP)).to_be_visible()
    page.get_by_role("link", name="Directions").click()
    expect(page.get_by_role("img", name=re.compile("^NAD 0 of"))).to_be_visible()
    expect(page.locator(".sweep-title .badge")).to_have_text("running")


def test_the_page_survives_a_restart_of_the_coordinator(cluster: Cluster, view: View) -> None:
    sweep = cluster.submit(SPECS / "filling.toml")
    viewer = view(cluster)
    page = viewer.open(f"#/sweeps/{sweep}")
    expect_done(page, 0)
    page.evaluate("window.sameDocument = true")
    cluster.crash_coordinator(restart=False)
    expect(page.get_by_role("status")).to_have_text("coordinator away, trying again")
    # What was known stays on the page.
    before = done(page)
    assert before > 0
    expect(page.get_by_role("heading", level=1)).to_have_text("filling")
    cluster.start_coordinator()
    expect(page.get_by_role("status")).to_have_text("live")
    expect_done(page, before)
    expect(picture(page, MAP)).to_be_visible()
    assert page.evaluate("window.sameDocument")
    viewer.expect_errors(
        "ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE"
    )
    assert viewer.writes == []


def test_workers_come_and_go(cluster: Cluster, view: View) -> None:
    page = view(cluster).open("#/workers")
    rows = page.get_by_role("table", name="Workers").locator("tbody tr")
    expect(rows).to_have_count(1)
    worker = cluster.add_worker("--slots", "2", "--name", "guest")
    guest = rows.filter(has_text="guest")
    expect(guest.locator(".badge")).to_have_text("fit")
    expect(page.get_by_text("2 workers connected, 3 slots")).to_be_visible()
    worker.kill()
    # It is shown as away, or not at all any more.
    expect(guest.locator(".badge", has_text="fit")).to_have_count(0)
    expect(page.get_by_text("1 worker connected, 1 slot")).to_be_visible()


def test_a_sweep_that_is_not_there(cluster: Cluster, view: View) -> None:
    viewer = view(cluster)
    page = viewer.open("#/sweeps/01234567-89ab-7def-8123-456789abcdef")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("live")
    page.get_by_role("navigation", name="Views").get_by_role("link", name="Sweeps").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sweeps")
    viewer.expect_errors("404")


def test_older_sweeps_are_a_page_away(view: View) -> None:
    for idle in clusters():
        for number in range(101):
            idle.submit(SPECS / "runs.toml", f'name="sweep_{number}"')
        viewer = view(idle)
        page = viewer.open()
        rows = page.get_by_role("table", name="Sweeps, newest first").locator("tbody tr")
        expect(rows).to_have_count(100)
        expect(rows.first.get_by_role("link")).to_have_text("sweep_100")
        page.get_by_role("button", name="Show older sweeps").click()
        expect(rows).to_have_count(101)
        expect(rows.last.get_by_role("link")).to_have_text("sweep_0")
        expect(page.get_by_role("button", name="Show older sweeps")).to_have_count(0)


def streams(viewer: Viewer) -> int:
    """How often the overview's stream was opened."""
    return sum(url.endswith("/api/events") for _, url in viewer.requests)


def test_a_silent_stream_is_opened_again(library: Library, view: View) -> None:
    viewer = view(library.cluster)
    viewer.page.clock.install()
    page = viewer.open()
    expect(page.get_by_role("status")).to_have_text("live")
    before = streams(viewer)
    with page.expect_request("**/api/events"):
        # To the page the half minute that a stream may be silent for, and the wait before it tries again.
        page.clock.fast_forward(31_000)
        page.clock.fast_forward(1_000)
    expect(page.get_by_role("status")).to_have_text("live")
    assert streams(viewer) > before


def test_a_hidden_tab_keeps_no_stream(library: Library, view: View) -> None:
    viewer = view(library.cluster)
    viewer.page.clock.install()
    page = viewer.open()
    expect(page.get_by_role("status")).to_have_text("live")
    hide = """(hidden) => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    page.clock.fast_forward(31_000)
    expect(page.get_by_role("status")).to_have_text("resting")
    page.evaluate(hide, False)
    expect(page.get_by_role("status")).to_have_text("live")
