"""Pictures are those of the coordinator and the command line, and a notebook shows them as images."""

from __future__ import annotations

import base64
import http.server
import re
import threading
from pathlib import Path

import pytest
from authority import LOOPBACK, Authority
from cluster import Cluster, program
from conftest import NADS

import nadgrid
from nadgrid import _page
from nadgrid._address import Address
from nadgrid._pictures import FolderPictures, PagePictures, Picture


@pytest.fixture(scope="module")
def fetched(cluster: Cluster, sweep: nadgrid.Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fetched")
    cluster.nadgrid("fetch", sweep.id, "--out", folder)
    return folder


def test_a_coordinator_draws_what_the_command_line_draws(sweep: nadgrid.Sweep, fetched: Path) -> None:
    results = sweep.results()
    assert set(results.pictures) == {"nads/lenet/figure", "directional/curve"}
    for name in results.pictures:
        for format in ("svg", "png"):
            picture = results.picture(name, format=format)
            assert picture.content == (fetched / f"{name}.{format}").read_bytes()
    assert results.picture("directional/curve", theme="dark").content != results.picture("directional/curve").content
    # One that no list has.
    assert b"<svg" in results.picture("nads/lenet/nad_7").content
    with pytest.raises(nadgrid.NotFound, match=r"nads/lenet/figur.*did you mean"):
        results.picture("nads/lenet/figur")


def test_a_notebook_shows_them_as_images(sweep: nadgrid.Sweep, tmp_path: Path) -> None:
    picture = sweep.results().picture("directional/curve", format="png")
    found = re.fullmatch(
        r'<img src="data:image/png;base64,([^"]+)" alt="directional/curve" style="[^"]*">', shown(picture)
    )
    assert found
    assert base64.b64decode(found[1]) == picture.content
    assert picture._repr_png_() == found[1]
    assert picture.save(tmp_path / "curve.png").read_bytes() == picture.content
    assert "directional/curve, png" in repr(picture)
    # Markup of a picture is not markup of the page.
    evil = Picture('"><script>', "svg", b"<svg><script>alert(1)</script></svg>")
    assert "<script" not in shown(evil)
    assert evil._repr_png_() is None


def shown(picture: Picture) -> str:
    return picture._repr_html_()


def test_what_cannot_be_drawn_is_said_before_anything_is_asked(sweep: nadgrid.Sweep) -> None:
    for argument in ("theme", "format"):
        with pytest.raises(nadgrid.RequestError, match=f"{argument} = 'x': ") as error:
            sweep.results().picture("directional/curve", **{argument: "x"})
        assert error.value.field == argument


def test_a_folder_has_pictures_or_has_them_drawn(
    sweep: nadgrid.Sweep, fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = sweep.results().picture("directional/curve").content
    monkeypatch.setenv("PATH", "")
    there = nadgrid.load(fetched)
    assert set(there.pictures) == {"nads/lenet/figure", "directional/curve"}
    assert there.picture("directional/curve").content == drawn
    sweep.fetch(tmp_path)
    without = nadgrid.load(tmp_path)
    assert without.pictures == ()
    with pytest.raises(nadgrid.NotFound, match=r"`nadgrid plot`, which is not in the PATH"):
        without.picture("directional/curve")
    monkeypatch.setenv("PATH", str(program("nadgrid").parent))
    # What is for the programs of this shell is not for this one.
    monkeypatch.setenv("NADGRID_LIST", "true")
    assert set(without.pictures) == {"nads/lenet/figure", "directional/curve"}
    assert without.picture("directional/curve").content == drawn
    assert without.picture("nads/lenet/nad_3", theme="dark", format="png").content.startswith(b"\x89PNG")
    with pytest.raises(nadgrid.NotFound, match=r"curv.* is no picture"):
        without.picture("directional/curv")
    # Nothing is left behind, here or in the folder.
    assert not list(tmp_path.rglob("*.svg"))


def test_a_folder_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "secret.svg").write_text("<svg/>")
    (tmp_path / "out" / "nads").symlink_to(tmp_path)
    pictures = FolderPictures(tmp_path / "out", ["../secret.svg", "nads/secret.svg"])
    for name, kind in (("../secret", nadgrid.CoordinatorError), ("nads/secret", OSError)):
        with pytest.raises(kind):
            pictures.draw(name, "light", "svg")


def test_tokens_and_certificates_are_shown_to_the_page(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.sign("grid", LOOPBACK)
    with Cluster("--tls-certificate", certificate, "--tls-key", key, tokens=["ada"]) as cluster:
        cluster.access = ["--tls-ca", str(authority.file)]
        cluster.add_worker()
        with nadgrid.connect(cluster.url, ca=authority.file, token_file=cluster.token("ada")) as grid:
            results = grid.submit(NADS).wait(timeout=60).results()
            assert results.pictures == ("nads/lenet/figure",)
            assert results.picture("nads/lenet/figure").content.startswith(b"<svg")
            page = grid._connection.page
            with pytest.raises(nadgrid.NotFound):
                page.get("api", "sweeps", "none", "pictures")
            page._token = "nadgrid_0"
            with pytest.raises(nadgrid.Unauthenticated) as error:
                results.picture("nads/lenet/figure")
            assert error.value.reason == "TOKEN_UNKNOWN"
            page._domain = "other.example"
            with pytest.raises(nadgrid.Unreachable, match="certificate"):
                results.picture("nads/lenet/figure")


class _Page(http.server.BaseHTTPRequestHandler):
    status, content = 200, b""

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Location", "http://127.0.0.1:9/")
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "content", "kind", "words"),
    [
        (200, b"<html>", nadgrid.CoordinatorError, r"the picture x is no SVG"),
        (200, b" " * (_page.MOST_ANSWER + 1), nadgrid.CoordinatorError, r"more than the 33554432 bytes"),
        (302, b"", nadgrid.CoordinatorError, r"HTTP status 302"),
        (500, b"<html>", nadgrid.CoordinatorError, r"HTTP status 500"),
        (500, b"[" * 100_000, nadgrid.CoordinatorError, r"HTTP status 500"),
        (404, b'{"error": "no \\u001b[2J", "reason": "ARTIFACT_UNKNOWN"}', nadgrid.NotFound, "no \ufffd"),
        (403, b'{"error": "no", "reason": ["X"]}', nadgrid.CoordinatorError, r"HTTP status 403"),
    ],
)
def test_another_page_than_a_coordinators_does_no_harm(
    status: int, content: bytes, kind: type[nadgrid.NadgridError], words: str
) -> None:
    handler = type("Handler", (_Page,), {"status": status, "content": content})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = _page.Page(Address.of(f"127.0.0.1:{server.server_port}"), "", None, "")
        results = nadgrid.Results("", (), lambda _: b"", "x", PagePictures(page, "../s"))
        try:
            with pytest.raises(kind, match=words) as error:
                results.picture("x")
            assert type(error.value) is kind
            with pytest.raises(nadgrid.NadgridError):
                print(results.pictures)
        finally:
            server.shutdown()
    with pytest.raises(nadgrid.Unreachable, match=r"cannot be reached: .*refused"):
        results.picture("x")
