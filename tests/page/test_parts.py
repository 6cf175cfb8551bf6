"""The parts of a sweep: directions, shards, files, spec; and the keyboard."""

from __future__ import annotations

import re
from pathlib import Path

import blake3
from conftest import Library, View, is_drawn, picture
from playwright.sync_api import FloatRect, Locator, Page, expect


def box(of: Locator) -> FloatRect:
    """Where something is, in pixels."""
    rectangle = of.bounding_box()
    assert rectangle is not None
    return rectangle


def test_every_picture_of_a_complete_sweep_is_drawn(library: Library, view: View) -> None:
    page = view(library.cluster).open(f"#/sweeps/{library.complete}")
    listed = page.request.get(f"{library.cluster.url}/api/sweeps/{library.complete}/pictures").json()["pictures"]
    assert {entry["kind"] for entry in listed} >= {"nads", "curve"}
    for entry in listed:
        image = picture(page, entry["name"])
        expect(image).to_be_visible()
        assert is_drawn(image), entry
        expect(image).to_have_attribute("alt", re.compile(re.escape(entry["title"])))


def test_a_slider_goes_through_the_directions(library: Library, view: View) -> None:
    page = view(library.cluster).open(f"#/sweeps/{library.complete}")
    page.get_by_role("link", name="Directions").click()
    first = page.get_by_role("region", name="First architecture")
    image = first.get_by_role("img", name=re.compile(r"^NAD 0 of"))
    expect(image).to_be_visible()
    assert is_drawn(image)
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(first.get_by_role("img", name=re.compile(r"^NAD 1 of"))).to_be_visible()
    page.keyboard.press("End")
    expect(first.get_by_role("img", name=re.compile(r"^NAD 255 of"))).to_be_visible()
    field = page.get_by_label("Index of the direction")
    field.fill("17")
    field.press("Enter")
    expect(first.get_by_role("img", name=re.compile(r"^NAD 17 of"))).to_be_visible()
    expect(first.get_by_text(re.compile(r"^NAD 17: singular value [\d.,]+ ± [\d.]+"))).to_be_visible()
    field.fill("100000")
    field.press("Enter")
    expect(first.get_by_role("img", name=re.compile(r"^NAD 255 of"))).to_be_visible()
    page.get_by_role("button", name="Previous direction").click()
    expect(first.get_by_role("img", name=re.compile(r"^NAD 254 of"))).to_be_visible()
    # Arrows count outside the slider, too.
    page.keyboard.press("ArrowLeft")
    expect(first.get_by_role("img", name=re.compile(r"^NAD 253 of"))).to_be_visible()
    assert page.url.endswith("/nads/lenet/253")
    page.reload()
    expect(first.get_by_role("img", name=re.compile(r"^NAD 253 of"))).to_be_visible()


def test_two_architectures_are_side_by_side(library: Library, view: View) -> None:
    page = view(library.cluster).open(f"#/sweeps/{library.complete}/nads/lenet/3")
    first = page.get_by_role("region", name="First architecture")
    second = page.get_by_role("region", name="Second architecture")
    expect(first.get_by_role("img", name=re.compile("^NAD 3 of"))).to_be_visible()
    expect(second).to_have_count(0)
    page.get_by_label("Beside it").select_option(f"{library.complete}/logreg")
    image = second.get_by_role("img", name=re.compile("^NAD 3 of"))
    expect(image).to_be_visible()
    assert is_drawn(image)
    assert box(image)["x"] > box(first)["x"] + box(first)["width"]
    page.get_by_role("button", name="Next direction").click()
    for pane in (first, second):
        expect(pane.get_by_role("img", name=re.compile("^NAD 4 of"))).to_be_visible()
    # From another sweep.
    page.get_by_label("Beside it").select_option(f"{library.other}/lenet")
    expect(second.get_by_role("heading")).to_have_text(re.compile("other"))
    expect(second.get_by_role("img", name=re.compile("^NAD 4 of"))).to_be_visible()
    page.reload()
    expect(second.get_by_role("heading")).to_have_text(re.compile("other"))
    page.get_by_label("Beside it").select_option("nothing")
    expect(second).to_have_count(0)


def test_spectra_and_accuracy_against_the_index(library: Library, view: View) -> None:
    page = view(library.cluster).open(f"#/sweeps/{library.complete}/nads")
    region = page.get_by_role("region", name="Spectra and accuracy against NAD index")
    expect(region.get_by_role("img")).to_have_count(2)
    for name in ("nads/spectra", "directional/curve"):
        image = picture(page, name)
        expect(image).to_be_visible()
        assert is_drawn(image)


def test_a_picture_can_be_enlarged_and_saved(library: Library, view: View, tmp_path: Path) -> None:
    page = view(library.cluster, viewport={"width": 400, "height": 800}).open(f"#/sweeps/{library.paused}")
    image = picture(page, "directional/lenet_map")
    expect(image).to_be_visible()
    page.get_by_role("button", name=re.compile("^Enlarge")).click()
    large = page.get_by_role("dialog").get_by_role("img")
    assert box(large)["width"] > 1.5 * box(image)["width"]
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    for ending, start in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=re.compile(f"^Save .* as {ending}$")).click()
        waiting.value.save_as(tmp_path / ending)
        assert (tmp_path / ending).read_bytes().lstrip().startswith(start)


def test_a_shard_has_a_timeline_and_a_trace(library: Library, view: View) -> None:
    page = view(library.cluster).open(f"#/sweeps/{library.complete}/shards")
    api = f"{library.cluster.url}/api/sweeps/{library.complete}/shards"
    listed = page.request.get(f"{api}?limit=200").json()
    rows = page.get_by_role("table", name="Shards, the latest first").locator("tbody tr")
    expect(rows).to_have_count(len(listed["shards"]))
    rows.first.get_by_role("link").click()
    timeline = page.get_by_role("region", name="Timeline of a shard")
    expect(timeline.get_by_role("rowheader", name=re.compile("^shard"))).to_be_visible()
    expect(timeline.get_by_role("rowheader", name=re.compile("^compute"))).to_be_visible()
    trace = timeline.locator(".trace code").inner_text()
    assert re.fullmatch("[0-9a-f]{32}", trace)
    assert trace == listed["shards"][0]["trace_id"]
    # Every bar lies within its slot.
    for bar in timeline.locator(".span-bar").all():
        inner, outer = box(bar), box(bar.locator(".."))
        assert inner["x"] >= outer["x"] - 1
        assert inner["x"] + inner["width"] <= outer["x"] + outer["width"] + 3
    # The address leads back to it.
    page.reload()
    expect(timeline.locator(".trace code")).to_have_text(trace)
    timeline.get_by_role("link", name="Close").click()
    expect(timeline).to_have_count(0)


def test_artifacts_arrive_whole(library: Library, view: View, tmp_path: Path) -> None:
    page = view(library.cluster).open(f"#/sweeps/{library.complete}/files")
    artifacts = library.cluster.status(library.complete)["artifacts"]
    rows = page.get_by_role("table", name="Artifacts").locator("tbody tr")
    expect(rows).to_have_count(len(artifacts))
    # One of each kind: a browser lets a page start but ten downloads in a row.
    for artifact in {Path(artifact["name"]).suffix: artifact for artifact in artifacts}.values():
        row = rows.filter(has=page.get_by_role("rowheader", name=artifact["name"], exact=True))
        expect(row.locator(".digest code")).to_have_attribute("title", artifact["digest"])
        with page.expect_download() as waiting:
            row.get_by_role("button", name=f"Download {artifact['name']}").click()
        path = tmp_path / "file"
        waiting.value.save_as(path)
        content = path.read_bytes()
        assert len(content) == artifact["size"]
        assert blake3.blake3(content).hexdigest() == artifact["digest"]


def test_the_spec_is_there(library: Library, view: View) -> None:
    page = view(library.cluster).open(f"#/sweeps/{library.complete}/spec")
    expect(page.get_by_label("The spec in TOML")).to_have_text(library.cluster.status(library.complete)["spec"])


def focused(page: Page) -> str:
    """What has the focus, in words."""
    return str(
        page.evaluate("""() => {
        const node = document.activeElement;
        return node === document.body ? "nothing" : node.getAttribute("aria-label") ?? node.textContent.trim();
    }""")
    )


def tab_to(page: Page, words: str) -> None:
    """Presses Tab until something has the focus; each stop on the way must be visible."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if focused(page) == words:
            break
    assert focused(page) == words
    assert page.evaluate("document.activeElement.matches(':focus-visible')")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


def test_everything_goes_by_keyboard(library: Library, view: View) -> None:
    page = view(library.cluster).open()
    expect(page.get_by_role("link", name="directions")).to_be_visible()
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    tab_to(page, "directions")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect(page.get_by_role("heading", level=1)).to_have_text("directions")
    tab_to(page, "Shards")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Shards")).to_have_attribute("aria-current", "page")
    row = page.get_by_role("table", name="Shards, the latest first").get_by_role("link").first
    expect(row).to_be_visible()
    tab_to(page, row.inner_text())
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Timeline of a shard").get_by_role("heading")).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("w")
    expect(page.get_by_role("heading", level=1)).to_have_text("Workers")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("s")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sweeps")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_the_chosen_colours_stay(library: Library, view: View) -> None:
    page = view(library.cluster, color_scheme="light").open()
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Use dark colours").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark
    # The pictures follow.
    page.goto(f"{library.cluster.url}/#/sweeps/{library.complete}")
    image = picture(page, "nads/lenet/figure")
    expect(image).to_be_visible()
    page.keyboard.press("t")
    assert page.evaluate(ground) == light
    assert page.evaluate("localStorage.length") == 0
