"""A coordinator that lies, in the files of a sweep: nothing is written outside ``--out``, and no file is another than was announced."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import nadgrid
import numpy as np
import pytest
from cluster import program
from nadgrid.v1 import nadgrid_pb2 as v1

from lying_coordinator import SWEEP, Lie, LyingCoordinator, artifact, chunks, honest_files, npy, sweep_of
from measure import MIB, memory
from victims import HUGE, LONG, PAINT, always, ask, elsewhere, run, tree


BAD_NAMES = [
    "../../escaped",
    "nads/../../escaped",
    "/tmp/nadgrid-escaped",
    "nads/\x1b]52;c;cm0gLXJm\x07.npy",
    "nads/a\nb.npy",
    "nads/a\x00b.npy",
    "nads/\u202egpj.exe",
    ".nadgrid-1/x",
    "nads/.ssh",
    "-rf",
    "",
    "a//b",
    "nads\\..\\x",
    LONG,
    "x/" * 5_000 + "x",
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=[repr(name[:20]) for name in BAD_NAMES])
def test_files_have_names_below_their_folder(name: str, tmp_path: Path) -> None:
    files = {**honest_files(), name: b"bad"}
    with LyingCoordinator(files=files) as coordinator:
        told = ask(coordinator, "fetch", SWEEP, "--out", tmp_path / "out")
        told.check(1, "is not the name of a file below a folder; accepted is a relative path of letters")
        assert tree(tmp_path) == {}
        with nadgrid.connect(coordinator.url) as grid, pytest.raises(nadgrid.CoordinatorError, match="accepted is"):
            grid.sweep(SWEEP).fetch(tmp_path / "out")
        assert tree(tmp_path) == {}


def by_both(coordinator: LyingCoordinator, out: Path, code: int, words: str) -> None:
    """Fetches with both programs; both refuse with these words, and the folder is as it was."""
    before = tree(out.parent)
    told = ask(coordinator, "fetch", SWEEP, "--out", out).check(code)
    assert re.search(words, told.err), told.err
    assert tree(out.parent) == before
    with nadgrid.connect(coordinator.url) as grid, pytest.raises((nadgrid.NadgridError, OSError), match=words):
        grid.sweep(SWEEP).fetch(out)
    assert tree(out.parent) == before


def test_nothing_is_written_through_a_linked_folder(tmp_path: Path) -> None:
    """As somebody else, or an earlier coordinator, may have left it."""
    out, outside = tmp_path / "out", tmp_path / "outside"
    (outside / "logreg").mkdir(parents=True)
    (outside / "logreg" / "nads.npy").write_text("mine")
    out.mkdir()
    (out / "nads").symlink_to(outside)
    with LyingCoordinator() as coordinator:
        by_both(coordinator, out, 1, "is a symbolic link")
        (out / "nads").unlink()
        (out / "nads").mkdir()
        (out / "nads" / "logreg").symlink_to(outside / "logreg")
        by_both(coordinator, out, 1, "is a symbolic link")


def test_nothing_is_taken_away_through_a_linked_folder(tmp_path: Path) -> None:
    """The record of an earlier sweep names files that it has not written."""
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    out.mkdir()
    (outside / "mine").write_text("mine")
    (out / "flipping").symlink_to(outside)
    (out / "sweep.json").write_text(json.dumps({"artifacts": [{"name": "flipping/mine"}], "figures": []}))
    with LyingCoordinator() as coordinator:
        by_both(coordinator, out, 1, "is a symbolic link")
        (out / "flipping").unlink()
        names = [{"name": "../outside/mine"}, {"name": "../../outside/mine"}, {"name": str(outside / "mine")}]
        (out / "sweep.json").write_text(json.dumps({"artifacts": names, "figures": []}))
        ask(coordinator, "fetch", SWEEP, "--out", out).check(0)
    assert (outside / "mine").read_text() == "mine"


@pytest.mark.parametrize("which", ["command line", "notebook"])
def test_a_linked_file_is_replaced(which: str, tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    (out / "nads" / "logreg").mkdir(parents=True)
    outside.mkdir()
    for name in ("nads.npy", "sweep.json", "figure.svg"):
        (outside / name).write_text("mine")
        link = out / ("" if name == "sweep.json" else "nads/logreg") / name
        link.symlink_to(outside / name)
    (out / "nads" / "logreg" / "mean.npy").symlink_to("/nowhere/at/all")
    with LyingCoordinator() as coordinator:
        if which == "command line":
            ask(coordinator, "fetch", SWEEP, "--out", out).check(0)
            run(program("nadgrid"), "plot", out).check(0)
        else:
            with nadgrid.connect(coordinator.url) as grid:
                grid.sweep(SWEEP).fetch(out)
        for name in ("nads.npy", "sweep.json", "figure.svg"):
            assert (outside / name).read_text() == "mine"
        for name, content in coordinator.files.items():
            assert not (out / name).is_symlink()
            assert (out / name).read_bytes() == content


def test_pictures_are_drawn_through_no_link(tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("mine")
    with LyingCoordinator() as coordinator:
        ask(coordinator, "fetch", SWEEP, "--out", out).check(0)
    for name in ("figure.svg", "figure.png"):
        (out / "nads" / "logreg" / name).unlink()
        (out / "nads" / "logreg" / name).symlink_to(outside / "mine")
    run(program("nadgrid"), "plot", out).check(0)
    assert (outside / "mine").read_text() == "mine"
    (out / "elsewhere").mkdir()
    (out / "elsewhere" / "nads").symlink_to(outside)
    run(program("nadgrid"), "plot", out, "--out", out / "elsewhere").check(1, "is a symbolic link")
    assert tree(outside) == {"mine": b"mine"}


NAME = "nads/logreg/nads.npy"


def instead(make: Callable[[bytes], Iterator[v1.ReadArtifactResponse]]) -> Lie:
    """Sends something else for one of the files."""
    files = honest_files()

    def lie(asked: v1.ReadArtifactRequest, _: grpc.ServicerContext) -> Iterator[v1.ReadArtifactResponse]:
        return make(files[NAME]) if asked.name == NAME else chunks(asked.name, files[asked.name])

    return lie


def endless(content: bytes, data: bytes, size: int | None = None) -> Iterator[v1.ReadArtifactResponse]:
    announced = artifact(NAME, content)
    announced.size = announced.size if size is None else size
    yield v1.ReadArtifactResponse(artifact=announced)
    while True:
        yield v1.ReadArtifactResponse(data=data)


def headless(content: bytes, **changed: Any) -> Iterator[v1.ReadArtifactResponse]:
    announced = artifact(NAME, content)
    for field, value in changed.items():
        setattr(announced, field, value)
    yield v1.ReadArtifactResponse(artifact=announced) if changed else v1.ReadArtifactResponse()
    yield v1.ReadArtifactResponse(data=content)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda content: chunks(NAME, content[:-1]), "announced"),
        (lambda content: chunks(NAME, content + b"x"), "announced"),
        (lambda content: chunks(NAME, content[:-1] + b"x"), "damaged"),
        (lambda content: iter([*chunks(NAME, content)][:1]), "truncated"),
        (lambda content: endless(content, b"x" * 65_536), "longer than|more than"),
        (lambda content: endless(content, b"x" * 65_536, size=2**40), "announced"),
        (lambda content: endless(content, b"", size=None), "has an empty chunk"),
        (lambda content: headless(content), "without its size and digest"),
        (lambda content: headless(content, digest="../../etc/passwd"), "is not 64 hexadecimal digits"),
        (lambda content: headless(content, digest=PAINT), "is not 64 hexadecimal digits"),
    ],
    ids=[
        *("shorter", "longer", "other bytes", "no bytes", "endless", "endless and announced", "empty chunks"),
        *("no header", "a path for a digest", "paint for a digest"),
    ],
)
def test_files_are_those_announced(make: Any, words: str, tmp_path: Path) -> None:
    with LyingCoordinator(ReadArtifact=instead(make)) as coordinator:
        told = ask(coordinator, "fetch", SWEEP, "--out", tmp_path / "out").check(1)
        assert re.search(words, told.err), told.err
        assert tree(tmp_path) == {}
        if "header" not in words and "hexadecimal" not in words and "size and digest" not in words:
            # The notebook goes by what the sweep announced, and by nothing else.
            with nadgrid.connect(coordinator.url) as grid, pytest.raises(nadgrid.NadgridError):
                grid.sweep(SWEEP).fetch(tmp_path / "out")
            assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"size": 2**60}, "free"), ({"size": HUGE}, "free"), ({"digest": "../../etc/passwd"}, "digest")],
    ids=["more than the disk", "more than any disk", "a path for a digest"],
)
def test_what_a_sweep_announces_can_be(changed: dict[str, Any], words: str, tmp_path: Path) -> None:
    sweep = sweep_of(honest_files())
    for field, value in changed.items():
        setattr(sweep.artifacts[0], field, value)
    with LyingCoordinator(Get=always(sweep)) as coordinator:
        by_both(coordinator, tmp_path / "out", 1, words)


def test_a_file_beyond_the_limit_is_not_begun(tmp_path: Path) -> None:
    sweep = sweep_of({NAME: b""})
    sweep.artifacts[0].size = 2 * 1024 * MIB
    with LyingCoordinator(Get=always(sweep)) as coordinator:
        by_both(coordinator, tmp_path / "out", 1, "at most 1073741824 are accepted|free")
        assert not coordinator.times("ReadArtifact")


def huge_npy(shape: str, data: bytes = b"") -> bytes:
    """A .npy file whose header says more than is there."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("nads/logreg/nads.npy", huge_npy(f"({2**40}, 16)")),
        ("nads/logreg/nads.npy", huge_npy(f"({2**20}, {2**40})")),
        ("nads/logreg/singular_values.npy", huge_npy(f"({2**62},)")),
        ("nads/logreg/nads.npy", b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65_535),
        ("nads/logreg/nads.npy", npy(np.array([None]).astype("U7"))),
        ("nads/logreg/spectrum.json", b"[" * 1_000_000),
        ("nads/logreg/spectrum.json", b'{"effective_rank": 1e999, "anisotropy": "x"}'),
        ("nads/logreg/spectrum.json", json.dumps({"effective_rank": 1.0, "anisotropy": 0.5, PAINT: PAINT}).encode()),
    ],
    ids=["rows", "columns", "values", "nested header", "text", "nested", "wild", "painted"],
)
def test_results_that_cannot_be_are_an_error_or_a_note(name: str, content: bytes, tmp_path: Path) -> None:
    with LyingCoordinator(files={**honest_files(), name: content}) as coordinator:
        told = ask(coordinator, "fetch", SWEEP, "--out", tmp_path / "out").check()
        assert told.code in (0, 1), told
        before = memory(os.getpid())
        with nadgrid.connect(coordinator.url) as grid:
            nads = grid.sweep(SWEEP).results().nads["logreg"]
            with pytest.raises((nadgrid.CoordinatorError, nadgrid.DamagedPayload)):
                print(nads.nad_images, nads.singular_values, nads.spectrum)
        assert memory(os.getpid()) < before + 64 * MIB


def test_addresses_that_are_no_stores_lead_nowhere(tmp_path: Path) -> None:
    with elsewhere() as (address, asked):
        urls = [
            "file:///etc/passwd",
            "gopher://127.0.0.1/",
            f"{address}/redirect",
            f"{address}/x",
            "http://[::1",
            PAINT,
        ]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lead_to, urls, [tmp_path / str(number) for number in range(len(urls))]))
        assert "/redirect" in asked
        assert "/secret" not in asked


def lead_to(url: str, out: Path) -> None:
    """Says that all files are at this address. They come through the coordinator all the same, and nothing of what is there."""
    files = honest_files()

    def lie(request: v1.ReadArtifactRequest, _: grpc.ServicerContext) -> Iterator[v1.ReadArtifactResponse]:
        if request.presigned:
            get = v1.PresignedRequest(method="GET", url=url, headers={"x-y": "z"})
            yield v1.ReadArtifactResponse(artifact=artifact(request.name, files[request.name]), get=get)
        else:
            yield from chunks(request.name, files[request.name])

    with LyingCoordinator(ReadArtifact=lie) as coordinator:
        told = ask(coordinator, "fetch", SWEEP, "--out", out).check(0)
        assert "SECRET" not in told.out + told.err
        with nadgrid.connect(coordinator.url) as grid:
            assert grid.sweep(SWEEP).artifact(NAME) == files[NAME]
