"""Who may do what, and that names are never markup."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cluster import Cluster, clusters
from conftest import MARKUP, SPECS, WITHOUT_END, Library, View, page_token
from playwright.sync_api import Browser, Page, expect


@pytest.fixture(scope="module")
def guarded() -> Iterator[Cluster]:
    for cluster in clusters(tokens=["ada", "bob"]):
        cluster.add_worker("--slots", "1")
        yield cluster


def badge(page: Page, state: str) -> None:
    expect(page.locator(".sweep-title .badge")).to_have_text(state)


def give_token(page: Page, token: str) -> None:
    page.get_by_role("textbox", name="Token").fill(token)
    page.get_by_role("button", name="Use it").click()


def test_writes_need_the_token(cluster: Cluster, view: View) -> None:
    sweep = cluster.submit(SPECS / "filling.toml", WITHOUT_END)
    viewer = view(cluster)
    page = viewer.open(f"#/sweeps/{sweep}")
    badge(page, "running")
    expect(page.get_by_role("button", name="read only")).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_text("To pause a sweep the page needs a token")).to_be_visible()
    assert cluster.status(sweep)["state"] == "running"
    viewer.expect_errors("40[13]")

    give_token(page, page_token(cluster))
    expect(page.get_by_role("button", name="may steer")).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    badge(page, "paused")
    assert cluster.status(sweep)["state"] == "paused"
    page.get_by_role("button", name="Resume").click()
    badge(page, "running")

    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert cluster.status(sweep)["state"] == "running"
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the sweep").click()
    badge(page, "cancelled")
    assert cluster.status(sweep)["state"] == "cancelled"
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    words = [write.rsplit("/", 1)[1] for write in viewer.writes]
    assert words == ["pause", "pause", "resume", "cancel"]


def test_the_token_in_the_address_is_taken_out_of_it(cluster: Cluster, view: View) -> None:
    token = page_token(cluster)
    viewer = view(cluster)
    page = viewer.open(f"#token={token}")
    expect(page.get_by_role("button", name="may steer")).to_be_visible()
    assert token not in page.url
    page.reload()
    expect(page.get_by_role("button", name="may steer")).to_be_visible()
    page.get_by_role("button", name="may steer").click()
    page.get_by_role("button", name="Forget it").click()
    expect(page.get_by_role("button", name="read only")).to_be_visible()
    assert page.evaluate("Object.values(sessionStorage).concat(Object.values(localStorage))") == []


def test_a_wrong_token_is_told_and_can_be_mended(guarded: Cluster, view: View) -> None:
    viewer = view(guarded)
    page = viewer.open("#token=0123456789")
    expect(page.get_by_role("status")).to_have_text("no access")
    give_token(page, guarded.token("ada").read_text().strip())
    expect(page.get_by_role("status")).to_have_text("live")
    viewer.expect_errors("40[13]")


def test_a_wrong_token_steers_nothing(cluster: Cluster, view: View) -> None:
    sweep = cluster.submit(SPECS / "filling.toml", WITHOUT_END)
    viewer = view(cluster)
    viewer.open("#token=0123456789")
    page = viewer.open(f"#/sweeps/{sweep}")
    badge(page, "running")
    expect(page.get_by_role("button", name="read only")).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert cluster.status(sweep)["state"] == "running"
    viewer.expect_errors("40[13]")


@pytest.mark.parametrize("path", ["api/events", "api/about", "api/sweeps", "metrics"])
def test_with_access_control_reads_need_a_token(path: str, guarded: Cluster, view: View) -> None:
    page = view(guarded).page
    for headers in ({}, {"Authorization": "Bearer 0123"}):
        assert page.request.get(f"{guarded.url}/{path}", headers=headers).status in (401, 403)


def test_each_sees_their_own_sweeps(guarded: Cluster, view: View) -> None:
    ada = guarded.submit(SPECS / "runs.toml", 'name="of_ada"', token="ada")
    guarded.submit(SPECS / "runs.toml", 'name="of_bob"', token="bob")
    viewer = view(guarded)
    page = viewer.open()
    expect(page.get_by_role("status")).to_have_text("no access")
    give_token(page, guarded.token("ada").read_text().strip())
    expect(page.get_by_role("link", name="of_ada")).to_be_visible()
    expect(page.get_by_role("button", name="ada", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="of_bob")).to_have_count(0)

    other = view(guarded)
    page = other.open(f"#token={guarded.token('bob').read_text().strip()}")
    expect(page.get_by_role("link", name="of_bob")).to_be_visible()
    page.goto(f"{guarded.url}/#/sweeps/{ada}")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).not_to_have_text("of_ada")
    viewer.expect_errors("40[13]")
    other.expect_errors("40[13]")


class Elsewhere(BaseHTTPRequestHandler):
    """A page of somebody else."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def elsewhere(browser: Browser) -> Iterator[Page]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{server.server_port}/")
    yield page
    context.close()
    server.shutdown()
    server.server_close()


#: What a page may send to any address without asking first, and what it would have to ask for.
SEND = """async ([url, body, type]) => {
  const mode = type === "text/plain" ? "no-cors" : "cors";
  try {
    return (await fetch(url, {method: "POST", mode, headers: {"Content-Type": type}, body: Uint8Array.from(body)})).type;
  } catch (error) {
    return "refused";
  }
}"""


def grpc_message(field: bytes) -> list[int]:
    """A gRPC message whose first field is this text."""
    assert len(field) < 128
    message = b"\x0a" + bytes([len(field)]) + field
    return list(b"\0" + len(message).to_bytes(4, "big") + message)


@pytest.mark.parametrize("kind", ["text/plain", "application/grpc"])
def test_another_page_submits_cancels_and_reads_nothing(kind: str, cluster: Cluster, elsewhere: Page) -> None:
    sweep = cluster.submit(SPECS / "filling.toml", WITHOUT_END, f'name="theirs_{kind[:4]}"')
    spec = b"name = 'forged'\narchitectures = ['logreg']\n[nads]\nnetworks = 8"
    service = f"{cluster.url}/nadgrid.v1.SweepService"
    for method, field in (("Submit", spec), ("Cancel", sweep.encode())):
        told = elsewhere.evaluate(SEND, [f"{service}/{method}", grpc_message(field), kind])
        # A page is not even told the answer to what it may send.
        assert told == ("opaque" if kind == "text/plain" else "refused")
    assert elsewhere.evaluate(SEND, [f"{cluster.url}/api/sweeps/{sweep}/cancel", [], "text/plain"]) == "opaque"
    listed = json.loads(cluster.nadgrid("list", "--json"))
    assert "forged" not in json.dumps(listed)
    assert cluster.status(sweep)["state"] in ("queued", "running")
    reads = elsewhere.evaluate("(url) => fetch(url).then((answer) => answer.text(), () => 'refused')", f"{cluster.url}/api/sweeps")
    assert reads == "refused"
    cluster.nadgrid("cancel", sweep)


def test_the_page_sends_a_content_security_policy(cluster: Cluster, view: View) -> None:
    page = view(cluster).page
    for path in ("", "page/app.js", "page/style.css"):
        answer = page.request.get(f"{cluster.url}/{path}")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_names_are_text(library: Library, view: View) -> None:
    viewer = view(library.cluster)
    page = viewer.open("#/workers")
    expect(page.get_by_role("rowheader").filter(has_text=MARKUP)).to_have_count(1)
    page = viewer.open(f"#/sweeps/{library.complete}/shards")
    of_markup = page.get_by_role("row").filter(has_text=MARKUP)
    expect(of_markup.first).to_be_visible()
    of_markup.first.get_by_role("link").click()
    expect(page.get_by_role("region", name="Timeline of a shard").get_by_text(MARKUP).first).to_be_visible()
    assert page.locator("img[src='x']").count() == 0
    expect(page.get_by_text(re.compile("onerror")).first).to_be_visible()
