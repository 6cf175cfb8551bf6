"""A coordinator that lies, against the programs as users run them: the command line, the Python package and a worker.

Whatever it says, a program ends or goes on as docs/terminal.md has it, paints nothing on the terminal, forges no line, writes
nothing outside ``--out``, and takes no more memory than for an honest coordinator and a bound besides.
"""

from __future__ import annotations

import fcntl
import http.server
import io
import json
import math
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import nadgrid
import numpy as np
import pytest
from cluster import clean_environment, program
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from nadgrid.v1 import nadgrid_pb2 as v1

from lying_coordinator import (
    OTHER,
    SPEC,
    SWEEP,
    Lie,
    LyingCoordinator,
    artifact,
    assignment,
    chunks,
    honest_files,
    job,
    npy,
    one_by_one,
    session,
    sweep_of,
    welcome,
    worker,
)
from measure import MIB, eventually, memory

#: A line that no program says of itself.
FORGED = "error: forged by the coordinator"
#: Writes to the clipboard, rings, asks for the cursor, takes the mouse, forges a line and turns the direction of writing.
PAINT = f"\x1b]52;c;cm0gLXJm\x07\x1b[6n\x1b[?1000h\r\n{FORGED}\n\u202e\u2066x\x9b2J\x7f"
#: What is left of it in a program's own sequences: nothing.
PAINTED = ("\x1b]", "\x07", "\x1b[6n", "\x1b[?1000h", "\x9b", "\x7f", "\u202e", "\u2066", f"\n{FORGED}", f"\r{FORGED}")
#: Whatever a terminal obeys, but the end of a line.
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
#: Seconds within which a command ends.
BOUND = 20.0
#: Memory that a program takes of an honest coordinator, and the bound besides.
MOST_MEMORY = (128 + 256) * MIB
LONG = "x" * 10_000
NAN, INF = math.nan, math.inf
HUGE = 2**64 - 1


@dataclass
class Told:
    """What a command said, and what it took."""

    code: int
    out: str
    err: str
    peak: int
    seconds: float

    def check(self, code: int | None = None, words: str = "") -> Told:
        """It ended within its bounds, as it should, and nothing that it said is obeyed by a terminal."""
        said = self.out + self.err
        assert self.seconds < BOUND, f"{self.seconds:.1f} s; {said[-500:]}"
        assert self.peak < MOST_MEMORY, f"{self.peak / MIB:.0f} MiB"
        assert code is None or self.code == code, f"exit code {self.code}: {said[-1000:]!r}"
        assert not (found := OBEYED.search(said)), f"{found} in {said[:3000]!r}"
        assert not any(line.startswith(FORGED) for line in said.splitlines()), said[:3000]
        assert "panicked" not in said, said[-3000:]
        assert words in said, said[-3000:]
        return self


def peak_of(pid: int) -> int:
    """The most bytes that a process had in memory so far; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return max((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), default=0)


def run(*command: str | Path, seconds: float = BOUND, interrupt: float | None = None) -> Told:
    """Runs a command to its end. ``interrupt``: after so many seconds it gets Ctrl-C."""
    began = time.monotonic()
    child = subprocess.Popen(
        [*map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
    )
    timers = [threading.Timer(seconds, child.kill)]
    if interrupt is not None:
        timers.append(threading.Timer(interrupt, child.send_signal, (signal.SIGINT,)))
    peaks = [0]

    def look() -> None:
        while child.poll() is None:
            peaks.append(peak_of(child.pid))
            time.sleep(0.02)

    for timer in timers:
        timer.start()
    watch = threading.Thread(target=look)
    watch.start()
    said: dict[str, bytes] = {}
    assert child.stdout is not None
    assert child.stderr is not None
    with child.stdout as out, child.stderr as err:
        reader = threading.Thread(target=lambda: said.update(err=err.read()))
        reader.start()
        said["out"] = out.read()
        reader.join()
    watch.join()
    for timer in timers:
        timer.cancel()
    out_text, err_text = said["out"].decode(), said["err"].decode()
    return Told(child.returncode, out_text, err_text, max(peaks), time.monotonic() - began)


def ask(coordinator: LyingCoordinator, *arguments: str | Path, **options: Any) -> Told:
    """Runs ``nadgrid`` with this coordinator."""
    return run(program("nadgrid"), "--coordinator", coordinator.url, *arguments, **options)


def always(answer: Any) -> Lie:
    """The same answer, whatever is asked."""
    return lambda _, __: iter(answer) if isinstance(answer, list) else answer


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, links not followed."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(root, name)
            if path.is_symlink():
                found[str(path.relative_to(folder))] = b"-> " + os.readlink(path).encode()
            elif path.is_file():
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.toml"
    path.write_text(SPEC)
    return path


def painted() -> v1.Sweep:
    """A sweep whose every word paints."""
    failure = v1.ShardFailure(workers=[PAINT], message=PAINT, blocks=1, attempts=3)
    return sweep_of(
        {},
        name=PAINT,
        digest=PAINT,
        message=PAINT,
        owner=PAINT,
        state=v1.SWEEP_STATE_RUNNING,
        coordinator_version=PAINT,
        numerics_class=v1.NumericsClass(
            device=PAINT, arithmetic=PAINT, evaluation=PAINT, libtorch=PAINT, precision=PAINT
        ),
        jobs=[job(experiment=PAINT, architecture=PAINT, digest=PAINT, state=v1.JOB_STATE_COMPUTING, retries=2)],
        artifacts=[v1.Artifact(name=PAINT, size=1, digest=PAINT)],
        inputs=[v1.Input(name=PAINT, size=1, digest=PAINT)],
        failures=[failure],
        notices=[PAINT],
        spec=SPEC + f"# \u202e{PAINT}",
    )


def painted_worker() -> v1.Worker:
    return worker(
        id=PAINT,
        name=PAINT,
        version=PAINT,
        unfit=PAINT,
        rate_of=PAINT,
        last_error=PAINT,
        members_per_second=1.0,
        numerics_class=v1.NumericsClass(device=PAINT, arithmetic=PAINT),
    )


def ended(message: v1.Sweep) -> v1.Sweep:
    message.state = v1.SWEEP_STATE_FAILED
    return message


def every(message: Callable[[], v1.Sweep]) -> dict[str, Lie]:
    """Every answer that has a sweep has this one."""
    one = always(message())
    lies = dict.fromkeys(("Get", "Cancel", "Pause", "Resume"), one)
    return {
        **lies,
        "List": always(v1.ListResponse(sweeps=[message()], notices=[PAINT])),
        "Watch": always([message(), ended(message())]),
        "ListWorkers": always(v1.ListWorkersResponse(workers=[painted_worker()], notices=[PAINT])),
    }


def test_an_honest_coordinator_is_believed(tmp_path: Path, spec: Path) -> None:
    """Without this, a program that refuses everything would pass."""
    with LyingCoordinator() as coordinator:
        for arguments in (
            ["list"],
            ["status", SWEEP],
            ["watch", SWEEP],
            ["workers"],
            ["top", "--once"],
            ["submit", spec],
        ):
            ask(coordinator, *arguments).check(0)
        ask(coordinator, "fetch", SWEEP, "--out", tmp_path / "out").check(0)
        assert {"sweep.json", "nads/logreg/nads.npy", "nads/logreg/figure.svg"} <= set(tree(tmp_path / "out"))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["list"], 0),
        (["list", "--json"], 0),
        (["status", SWEEP], 0),
        (["status", SWEEP, "--json"], 0),
        (["cancel", SWEEP], 0),
        (["pause", SWEEP], 0),
        (["resume", SWEEP], 0),
        (["workers"], 0),
        (["workers", "--json"], 0),
        (["top", "--once"], 0),
        (["top", "--json"], 0),
        (["watch", SWEEP], 4),
        (["watch", SWEEP, "--json"], 4),
        (["explain", f"{SWEEP}/nads/none"], 2),
        (["doctor"], None),
    ],
    ids=lambda value: " ".join(value).replace(SWEEP, "ID") if isinstance(value, list) else "",
)
def test_words_paint_nothing(arguments: list[str], code: int | None) -> None:
    with LyingCoordinator(**every(painted)) as coordinator:
        ask(coordinator, *arguments).check(
            code, words=FORGED if arguments[0] not in ("pause", "resume", "cancel") else ""
        )


def test_words_of_explanations_checks_and_plans_paint_nothing(spec: Path) -> None:
    explanation = v1.ExplainResponse(
        subject=PAINT,
        state=PAINT,
        reasons=[PAINT],
        workers=[v1.WorkerReason(worker_id=PAINT, name=PAINT, reason=PAINT)],
    )
    shard = v1.Shard(sweep_id=PAINT, first_block=HUGE, blocks=HUGE)
    checks = [
        v1.VerifyResponse(total=2),
        v1.VerifyResponse(total=2, done=1, shard=shard, job=PAINT, message=PAINT),
        v1.VerifyResponse(
            total=2, done=2, shard=shard, job=PAINT, committed=PAINT, committed_by=PAINT, recomputed_by=PAINT
        ),
    ]
    planned = v1.JobPlan(experiment=PAINT, architecture=PAINT, basis=PAINT, members=HUGE, blocks=HUGE, seconds=NAN)
    plan = v1.PlanResponse(jobs=[planned], seconds=-INF, lanes=2**32 - 1)
    with LyingCoordinator(Explain=always(explanation), Verify=always(checks), Plan=always(plan)) as coordinator:
        for json_ in ([], ["--json"]):
            ask(coordinator, "explain", SWEEP, *json_).check(0, FORGED)
            ask(coordinator, "verify", SWEEP, *json_).check(5, FORGED)
            ask(coordinator, "plan", spec, *json_).check(0, FORGED)


def refusing(code: grpc.StatusCode, reason: str, *violations: tuple[str, str]) -> Lie:
    """Ends every call with words that paint, in the status and in its details."""
    details = [error_details_pb2.ErrorInfo(domain="nadgrid", reason=reason)]
    if violations:
        found = [error_details_pb2.BadRequest.FieldViolation(field=f, description=d) for f, d in violations]
        details.append(error_details_pb2.BadRequest(field_violations=found))
    packed = []
    for detail in details:
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    rich = status_pb2.Status(code=code.value[0], message=PAINT, details=packed).SerializeToString()

    def lie(_: Any, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata((("grpc-status-details-bin", rich),))
        context.abort(code, PAINT)

    return lie


@pytest.mark.parametrize(
    ("code", "reason", "exit_code"),
    [
        (grpc.StatusCode.NOT_FOUND, "SWEEP_UNKNOWN", 1),
        (grpc.StatusCode.INVALID_ARGUMENT, "SPEC_INVALID", 2),
        (grpc.StatusCode.FAILED_PRECONDITION, "INPUT_MISSING", 1),
        (grpc.StatusCode.PERMISSION_DENIED, "NOT_YOURS", 6),
        (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", 3),
        (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", 1),
        (grpc.StatusCode.INTERNAL, PAINT, 1),
        (grpc.StatusCode.UNIMPLEMENTED, "", 1),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "FULL", 1),
    ],
    ids=lambda value: value.name if isinstance(value, grpc.StatusCode) else "",
)
def test_words_of_a_status_paint_nothing(
    code: grpc.StatusCode, reason: str, exit_code: int, spec: Path, tmp_path: Path
) -> None:
    names = ("Get", "List", "Submit", "ListWorkers", "ReadArtifact")
    lie = refusing(code, reason, (PAINT, PAINT), ("", LONG))
    with LyingCoordinator(**dict.fromkeys(names, lie)) as coordinator:
        for arguments in (
            ["status", SWEEP],
            ["submit", spec],
            ["workers"],
            ["fetch", SWEEP, "--out", tmp_path / "out"],
        ):
            ask(coordinator, *arguments).check(exit_code, FORGED)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("id_", ["--out=/tmp/x", "-rf", "$(reboot)", "a b", "../x", PAINT, "", LONG])
def test_a_new_sweeps_id_can_stand_in_a_command(id_: str, spec: Path) -> None:
    with LyingCoordinator(Submit=always(v1.SubmitResponse(sweep=sweep_of({}, id=id_), created=True))) as coordinator:
        told = ask(coordinator, "submit", spec).check(1, "an id is 1 to 64 letters, digits")
        assert told.out == ""
        with (
            nadgrid.connect(coordinator.url) as grid,
            pytest.raises(nadgrid.CoordinatorError, match="an id is 1 to 64"),
        ):
            grid.submit(SPEC)


def test_another_sweep_than_the_one_asked_for_is_refused(tmp_path: Path) -> None:
    other = sweep_of({}, id=OTHER)
    lies: dict[str, Lie] = {name: always(other) for name in ("Get", "Cancel", "Pause", "Resume")}
    with LyingCoordinator(Watch=always([other]), **lies) as coordinator:
        for command in ("status", "cancel", "pause", "resume", "watch"):
            ask(coordinator, command, SWEEP).check(1, f'sweep {SWEEP} was asked for, and "{OTHER}" came')
        ask(coordinator, "fetch", SWEEP, "--out", tmp_path / "out").check(1, "was asked for")
        with nadgrid.connect(coordinator.url) as grid, pytest.raises(nadgrid.CoordinatorError, match="was asked for"):
            grid.sweep(SWEEP)


def long_names() -> v1.Sweep:
    jobs = [job(experiment=LONG, architecture=LONG)] * 3
    failure = v1.ShardFailure(workers=[LONG] * 200, message=LONG)
    return sweep_of(
        {},
        state=v1.SWEEP_STATE_RUNNING,
        name=LONG,
        owner=LONG,
        message=LONG,
        notices=[LONG] * 2,
        jobs=jobs,
        failures=[failure],
    )


def wild_numbers(value: float) -> Callable[[], v1.Sweep]:
    def sweep() -> v1.Sweep:
        counts = dict.fromkeys(
            ("members", "members_done", "members_in_flight", "members_failed", "shards", "retries"), HUGE
        )
        counts |= dict.fromkeys(("copies", "audits_due", "audits_passed", "partials"), HUGE)
        rates = {"progress": value, "seconds_left": value, "lane_seconds": value, "members_per_second": value}
        wild = job(**{**counts, **rates, "state": v1.JOB_STATE_COMPUTING})
        failure = v1.ShardFailure(job=7, first_block=HUGE, blocks=HUGE, attempts=2**32 - 1)
        message = sweep_of({}, jobs=[wild] * 3, failures=[failure], progress=value, seconds_left=value, weight=value)
        message.state, message.workers, message.priority = v1.SWEEP_STATE_RUNNING, 2**32 - 1, -(2**31)
        message.submitted_at.seconds, message.started_at.seconds = 2**63 - 1, -(2**63)
        message.ended_at.nanos = -1
        return message

    return sweep


def unknown_values() -> v1.Sweep:
    """Values of enumerations that nobody knows, and none of the messages within."""
    return v1.Sweep(id=SWEEP, state=99, jobs=[v1.Job(state=-7), v1.Job()], failures=[v1.ShardFailure(job=2**32 - 1)])  # type: ignore[arg-type]


SHOWN = (["list"], ["status", SWEEP], ["status", SWEEP, "--json"], ["workers"], ["top", "--once"], ["watch", SWEEP])


@pytest.mark.parametrize(
    "sweep",
    [long_names, *map(wild_numbers, (NAN, INF, -INF, -1.0, 7.0, 1e308)), unknown_values],
    ids=["long names", "nan", "inf", "-inf", "negative", "more than all", "1e308", "unknown values"],
)
def test_what_cannot_be_is_shown_in_one_way_or_another(sweep: Callable[[], v1.Sweep]) -> None:
    wild = worker(silent_ms=HUGE, lanes=2**32 - 1, leases=2**32 - 1, members_done=HUGE, members_per_second=NAN)
    wild.transfers_waiting, wild.transfers, wild.transfers_waiting_ms = 9, 9, HUGE
    wild.transfer_bytes_per_second = INF
    lies = {**every(sweep), "ListWorkers": always(v1.ListWorkersResponse(workers=[wild] * 3, notices=[LONG] * 300))}
    with LyingCoordinator(**lies) as coordinator:
        for arguments in SHOWN:
            told = ask(coordinator, *arguments).check(4 if arguments[0] == "watch" else 0)
            assert len(told.out + told.err) < 4 * MIB
        with nadgrid.connect(coordinator.url) as grid:
            shown = grid.sweep(SWEEP)
            for value in (shown, shown.jobs, shown.failures, grid.sweeps(), grid.workers()):
                assert len(repr(value) + str(value) + value._repr_html_()) < 4 * MIB
            with pytest.raises(nadgrid.SweepFailed):
                shown.wait(progress=True)


def test_a_list_that_never_ends_ends() -> None:
    """Pages without a sweep, and pages with the same token again and again, of more sweeps than were asked for."""
    with LyingCoordinator(List=always(v1.ListResponse(next_page_token="1"))) as coordinator:
        ask(coordinator, "list").check(1, "a page of the list has no sweep")
        with pytest.raises(nadgrid.CoordinatorError, match="a page of the list has no sweep"):
            nadgrid.connect(coordinator.url)
    page = v1.ListResponse(sweeps=[sweep_of({})] * 300, next_page_token="1")
    with LyingCoordinator(List=always(page)) as coordinator:
        told = ask(coordinator, "list", "--limit", "250").check(0)
        assert len(told.out.splitlines()) == 251
        assert len(coordinator.times("List")) <= 3
        with nadgrid.connect(coordinator.url) as grid:
            assert len(grid.sweeps(250)) == 250


@pytest.mark.parametrize(
    ("lie", "command"),
    [
        ({"Get": always(sweep_of({}).SerializeToString() + b"\x3a\x00" * (1 << 18))}, ["status", SWEEP]),
        ({"List": always(b"\x0a\x00" * (1 << 18))}, ["list"]),
        ({"ListWorkers": always(b"\x0a\x00" * (1 << 18))}, ["workers"]),
        ({"Explain": always(b"\x22\x00" * (1 << 18))}, ["explain", SWEEP]),
        ({"Watch": always([sweep_of({}).SerializeToString() + b"\xa2\x01\x00" * (1 << 18)])}, ["watch", SWEEP]),
    ],
    ids=["jobs", "sweeps", "workers", "reasons", "failures"],
)
def test_entries_without_bytes_take_no_memory(lie: dict[str, Lie], command: list[str]) -> None:
    """Two bytes on the wire are an entry of hundreds of bytes in memory, and kilobytes on a screen."""
    with LyingCoordinator(**lie) as coordinator:
        ask(coordinator, *command).check(1, "whose fields take far more memory")


def test_entries_without_bytes_take_no_memory_of_a_notebook() -> None:
    jobs = sweep_of({}).SerializeToString() + b"\x3a\x00" * (1 << 18)
    with (
        LyingCoordinator(Get=always(jobs), Watch=always([jobs])) as coordinator,
        nadgrid.connect(coordinator.url) as grid,
    ):
        before = memory(os.getpid())
        with pytest.raises(nadgrid.CoordinatorError, match="far more memory"):
            grid.sweep(SWEEP)
        [sweep] = grid.sweeps()
        with pytest.raises(nadgrid.CoordinatorError, match="far more memory"):
            next(sweep.watch())
        assert memory(os.getpid()) < before + 64 * MIB


def test_messages_that_are_none_or_too_long_are_refused(tmp_path: Path) -> None:
    nothing = {"Submit": always(v1.SubmitResponse()), "Get": always(b""), "ReadArtifact": always([])}
    with LyingCoordinator(**nothing) as coordinator:
        ask(coordinator, "status", SWEEP).check(1, "was asked for")
    for bytes_ in (b"\xff" * 1_000, b"\x07", b"\x0a\xff\xff\xff\xff\x0f"):
        with LyingCoordinator(Get=always(bytes_), List=always(bytes_)) as coordinator:
            for arguments in (["list"], ["fetch", SWEEP, "--out", tmp_path / "out"]):
                told = ask(coordinator, *arguments).check()
                assert told.code in (1, 3)
    four = sweep_of({}, message="m" * (4 * MIB), spec=SPEC + "#" * (4 * MIB), notices=["n" * 1_000] * 4_000)
    with LyingCoordinator(Get=always(four)) as coordinator:
        told = ask(coordinator, "status", SWEEP).check(0)
        assert len(told.out + told.err) < 2 * MIB
    seventeen = sweep_of({}, message="m" * (17 * MIB))
    with LyingCoordinator(Get=always(seventeen)) as coordinator:
        ask(coordinator, "status", SWEEP).check(1, "at most 16777216 are accepted")


# Files


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
        told.check(1, "is no name of a file below a folder; accepted is a relative path of letters")
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
        (lambda content: endless(content, b"", size=None), "without a byte"),
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


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """Something on the user's network that is none of the coordinator's."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/secret")
        else:
            self.send_response(403)
        self.end_headers()
        self.wfile.write(b"SECRET of this network \x1b]52;c;x\x07\r\n" + FORGED.encode())

    do_PUT = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """Its address, and what it was asked."""
    asked: list[str] = []
    handler = type("Handler", (Elsewhere,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


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


# Streams


def test_a_watch_that_ends_at_once_is_begun_ever_less_often() -> None:
    running = sweep_of({}, state=v1.SWEEP_STATE_RUNNING)

    def in_a_notebook(coordinator: LyingCoordinator) -> None:
        with nadgrid.connect(coordinator.url) as grid:
            [sweep] = grid.sweeps()
            sweep._message.state = v1.SWEEP_STATE_RUNNING
            with pytest.raises(nadgrid.TimedOut):
                sweep.wait(timeout=2.5)

    with ExitStack() as stack:
        coordinators = [
            stack.enter_context(LyingCoordinator(Watch=always(answer))) for answer in ([running], [], [running])
        ]
        says, ends, noted = coordinators
        with ThreadPoolExecutor() as pool:
            watched = [pool.submit(ask, coordinator, "watch", SWEEP, interrupt=2.5) for coordinator in (says, ends)]
            pool.submit(in_a_notebook, noted).result()
        for told in watched:
            told.result().check(130)
        for coordinator in coordinators:
            # 0.25, 0.5, 1 and 2 s lie between them.
            assert 3 <= len(coordinator.times("Watch")) <= 5


def test_a_watch_that_says_nothing_or_too_much_ends_with_ctrl_c(tmp_path: Path) -> None:
    def silent(_: Any, context: grpc.ServicerContext) -> Iterator[v1.Sweep]:
        while context.is_active():
            time.sleep(0.05)
        yield from ()

    def flood(_: Any, context: grpc.ServicerContext) -> Iterator[v1.Sweep]:
        for count in range(1 << 40):
            yield sweep_of(
                {}, state=v1.SWEEP_STATE_RUNNING, jobs=[job(members_done=count % 64)], notices=[f"{count}{PAINT}"]
            )

    with (
        LyingCoordinator(Watch=silent) as says_nothing,
        LyingCoordinator(Watch=flood) as says_too_much,
        LyingCoordinator(ReadArtifact=silent, UploadInput=silent) as sends_nothing,
    ):
        ask(sends_nothing, "watch", SWEEP).check(0)
        # At the same time: they wait for Ctrl-C.
        with ThreadPoolExecutor() as pool:
            told = [pool.submit(ask, of, "watch", SWEEP, interrupt=3.0) for of in (says_nothing, says_too_much)]
            fetch = ("fetch", SWEEP, "--out", tmp_path / "none")
            told.append(pool.submit(ask, sends_nothing, *fetch, interrupt=2.0))
        for each in told:
            each.result().check(130)
    assert tree(tmp_path) == {}


def test_checks_without_end_end() -> None:
    shard = v1.Shard(sweep_id=SWEEP, blocks=1)

    def flood(_: Any, __: grpc.ServicerContext) -> Iterator[v1.VerifyResponse]:
        while True:
            yield v1.VerifyResponse(total=2, done=1, shard=shard, agrees=True)

    def repeat(_: Any, __: grpc.ServicerContext) -> Iterator[v1.VerifyResponse]:
        while True:
            yield v1.VerifyResponse(total=2)

    for lie in (flood, repeat):
        with LyingCoordinator(Verify=lie) as coordinator:
            ask(coordinator, "verify", SWEEP).check(1, "more is told than the 2 shards announced")


@pytest.fixture(scope="module")
def half_an_answer() -> Iterator[Callable[[], Told]]:
    """A command whose answer begins and never ends; it is asked first and looked at last, since it may take its time."""

    told: list[Told] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        command = (program("nadgrid"), "--coordinator", url, "status", SWEEP)
        threading.Thread(target=answer_halves, args=(server,), daemon=True).start()
        thread = threading.Thread(target=lambda: told.append(run(*command, seconds=70.0)))
        thread.start()

        def wait() -> Told:
            thread.join()
            return told[0]

        yield wait


def answer_halves(server: socket.socket) -> None:
    """HTTP/2 by hand, since a server of gRPC's holds itself to the caller's deadline: heads of answers, and nothing after them."""
    connection, _ = server.accept()
    head = bytes([0x88, 0x00]) + b"\x0ccontent-type" + b"\x10application/grpc"

    def send(kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        connection.sendall(len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload)

    with connection, connection.makefile("rb") as asked:
        asked.read(len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
        send(4, 0, 0)
        while frame := asked.read(9):
            size, kind, flags, stream = (
                int.from_bytes(frame[:3], "big"),
                frame[3],
                frame[4],
                int.from_bytes(frame[5:], "big"),
            )
            payload = asked.read(size)
            if kind == 1:
                send(1, 4, stream, head)
            elif kind in (4, 6) and not flags & 1:
                # Settings and pings are acknowledged.
                send(kind, 1, 0, payload if kind == 6 else b"")


@pytest.mark.usefixtures("half_an_answer")
def test_half_an_answer_is_waited_for_later() -> None:
    """Begins the wait; its end is looked at by the last test."""


# On a terminal


#: Seconds for which a live view is looked at, once it has begun.
LOOK = 1.0


def on_a_terminal(
    coordinator: LyingCoordinator, *arguments: str, keys: bytes = b"\x03", lines: int = 40
) -> tuple[int, str]:
    """Exit code and output of ``nadgrid`` on a terminal of its own; when it has been looked at it gets the keys, Ctrl-C by default."""
    terminal, within = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 120, 0, 0))
    # No Python runs between fork and exec, which the threads of gRPC would not bear.
    child = subprocess.Popen(
        ["setsid", "--ctty", program("nadgrid"), "--coordinator", coordinator.url, *arguments],
        stdin=within,
        stdout=within,
        stderr=within,
        env={**clean_environment(), "TERM": "xterm-256color"},
    )
    os.close(within)
    shown, until, looked_at = b"", time.monotonic() + BOUND, math.inf
    while time.monotonic() < until:
        if time.monotonic() > looked_at:
            os.write(terminal, keys)
            looked_at = math.inf
        if not select.select([terminal], [], [], 0.05)[0]:
            continue
        try:
            read = os.read(terminal, 1 << 16)
        except OSError:
            read = b""
        if not read:
            break
        if not shown:
            looked_at = time.monotonic() + LOOK
        shown += read
    else:
        child.kill()
    os.close(terminal)
    return child.wait(), shown.decode(errors="replace")


@pytest.mark.parametrize("sweep", [painted, wild_numbers(NAN), long_names], ids=["words", "numbers", "long names"])
@pytest.mark.parametrize("command", ["watch", "top"])
def test_a_live_view_paints_what_is_its_own(command: str, sweep: Callable[[], v1.Sweep]) -> None:
    running = sweep()
    running.state = v1.SWEEP_STATE_RUNNING

    def watch(_: Any, context: grpc.ServicerContext) -> Iterator[v1.Sweep]:
        yield running
        while context.is_active():
            time.sleep(0.05)

    lies = {**every(lambda: v1.Sweep.FromString(running.SerializeToString())), "Watch": watch}
    with LyingCoordinator(**lies) as coordinator:
        if command == "watch":
            code, shown = on_a_terminal(coordinator, "watch", SWEEP)
        else:
            # A question that shows the sweep's name, and its answer.
            code, shown = on_a_terminal(coordinator, "top", keys=b"cnq")
    assert code == (130 if command == "watch" else 0), shown[-2000:]
    assert "panicked" not in shown, shown[-2000:]
    assert len(shown) > 200
    for sequence in PAINTED:
        assert sequence not in shown, f"{sequence!r} in {shown[:4000]!r}"


def test_ten_thousand_jobs_fit_on_a_screen() -> None:
    jobs = sweep_of({}, state=v1.SWEEP_STATE_RUNNING, jobs=[job()] * 70_000, notices=["n"] * 70_000)
    with LyingCoordinator(List=always(v1.ListResponse(sweeps=[jobs]))) as coordinator:
        code, shown = on_a_terminal(coordinator, "top", keys=b"q")
    assert "panicked" not in shown
    assert code in (0, 1)


# Workers


class Worker:
    """A real worker of a lying coordinator; for a ``with`` block."""

    def __init__(self, coordinator: LyingCoordinator, log: Path, *arguments: str) -> None:
        self.coordinator, self.log = coordinator, log
        command = [program("nadgrid-worker"), "--coordinator", coordinator.url, "--device", "cpu", "--lanes", "1"]
        with log.open("wb") as stderr:
            self.child = subprocess.Popen(
                [*map(str, command), "--name", "honest", "--grace", "3", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env={**clean_environment(), "NADGRID_LOG": "debug"},
            )
        self.peak = 0

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()

    def end(self) -> None:
        """Asks it to end, which it does."""
        self.child.terminate()
        self.child.wait(BOUND)

    def _look(self) -> None:
        self.peak = max(self.peak, peak_of(self.child.pid))

    def said(self, kind: str) -> list[Any]:
        """What it has told of this kind in its sessions."""
        heard = self.coordinator.said("Session")
        return [getattr(message, kind) for message in heard if message.WhichOneof("message") == kind]

    def goes_on(self) -> None:
        """It is alive and beats, within the bound of memory, and no line of its log is the coordinator's."""
        beats = len(self.said("heartbeat"))
        eventually(lambda: len(self.said("heartbeat")) > beats, "another heartbeat", BOUND)
        assert self.child.poll() is None, self.log.read_text()
        self._look()
        assert self.peak < MOST_MEMORY, f"{self.peak / MIB:.0f} MiB"
        self.log_is_its_own()

    def log_is_its_own(self) -> None:
        log = self.log.read_text()
        assert not (found := OBEYED.search(log)), f"{found} in {log[-3000:]!r}"
        assert not any(line.startswith(FORGED) for line in log.splitlines()), log[-3000:]
        assert "panicked" not in log, log[-3000:]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "worker.log"


def test_a_worker_paints_nothing_into_its_log(log: Path) -> None:
    shard = v1.Shard(sweep_id=PAINT, first_block=0, blocks=1)
    serve = session(
        welcome(coordinator_version=PAINT),
        v1.SessionResponse(revocation=v1.Revocation(shard=shard, reason=PAINT)),
        v1.SessionResponse(answer=v1.Answer(shard=shard, verdict=99, message=PAINT)),  # type: ignore[arg-type]
        v1.SessionResponse(),
        assignment(shard=shard, experiment=PAINT, architecture=PAINT, traceparent=PAINT),
        assignment(f'name = "x\\u001b[2J"\nseed = "{PAINT}"', shard=v1.Shard(sweep_id=SWEEP, blocks=2)),
    )
    with LyingCoordinator(Session=serve) as coordinator, Worker(coordinator, log) as worker:
        eventually(lambda: any(f.kind == v1.FAILURE_KIND_SPEC for f in worker.said("failure")), "the spec is refused")
        worker.goes_on()
        assert not any(OBEYED.search(failure.message) for failure in worker.said("failure"))


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.PERMISSION_DENIED], ids=lambda code: code.name
)
def test_a_worker_that_is_refused_says_so_and_ends(code: grpc.StatusCode, log: Path) -> None:
    with (
        LyingCoordinator(Session=refusing(code, "PROTOCOL_MISMATCH")) as coordinator,
        Worker(coordinator, log) as worker,
    ):
        assert worker.child.wait(BOUND) == 4
        worker.log_is_its_own()
        assert "refuses this worker" in log.read_text()


def test_a_session_that_closes_at_once_is_asked_for_ever_less_often(tmp_path: Path) -> None:
    lies: dict[str, tuple[Lie, str]] = {
        "welcomes": (session(closes=True), "it ended the session"),
        "assigns": (session(assignment(), closes=True), "it ended the session"),
        "fails": (refusing(grpc.StatusCode.INTERNAL, ""), ""),
        "does not welcome": (lambda asked, _: iter([assignment()]), ""),
        "says nothing": (lambda asked, _: iter([]), ""),
    }
    # All at the same time: they wait most of it.
    with ExitStack() as stack:
        pairs = {}
        for name, (serve, words) in lies.items():
            coordinator = stack.enter_context(LyingCoordinator(Session=serve))
            worker = stack.enter_context(Worker(coordinator, tmp_path / f"{name}.log"))
            pairs[name] = (coordinator, worker, words)
        for coordinator, _, _ in pairs.values():
            eventually(lambda coordinator=coordinator: bool(coordinator.times("Session")), "the first session")  # type: ignore[misc]
        time.sleep(2.5)
        for name, (coordinator, worker, words) in pairs.items():
            began = [
                message for method, _, message in list(coordinator.heard) if method == "Session" and message is None
            ]
            # At least 0.05, 0.1, 0.2, 0.4, 0.8 and 1.6 s lie between them; the first of all began a little earlier.
            assert 3 <= len(began) <= 8, f"{name}: {len(began)}"
            assert worker.child.poll() is None, name
            assert words in worker.log.read_text(), name
            worker.log_is_its_own()


def test_a_worker_holds_no_more_shards_than_it_can(log: Path) -> None:
    def flood(asked: Iterator[Any], context: grpc.ServicerContext) -> Iterator[v1.SessionResponse]:
        next(asked)
        yield welcome()
        for block in range(1 << 40):
            spec = SPEC.replace("networks = 64", "networks = 99_999_999") + "#" * (1 << 18)
            yield assignment(f"{spec}{block}", shard=v1.Shard(sweep_id=f"s{block}", first_block=block, blocks=1))

    with LyingCoordinator(Session=flood) as coordinator, Worker(coordinator, log) as worker:
        eventually(lambda: "it assigns more shards" in log.read_text(), "the session ends")
        time.sleep(1.0)
        worker._look()
        assert worker.child.poll() is None
        assert worker.peak < MOST_MEMORY, f"{worker.peak / MIB:.0f} MiB"


#: Assignments, and of which kind the failure is that they are answered with.
NO_SHARDS = {
    "no spec": (assignment("no spec"), v1.FAILURE_KIND_SPEC),
    "too long": (assignment(SPEC + "#" * (3 << 19)), v1.FAILURE_KIND_SPEC),
    "nested": (assignment("a = " + "[" * 500_000), v1.FAILURE_KIND_SPEC),
    "all blocks": (assignment(shard=v1.Shard(sweep_id=SWEEP, first_block=7, blocks=HUGE)), v1.FAILURE_KIND_TASK),
    "one too many": (assignment(shard=v1.Shard(sweep_id=SWEEP, first_block=8, blocks=1)), v1.FAILURE_KIND_TASK),
    "no node": (assignment(shard=v1.Shard(sweep_id=SWEEP, first_block=1, blocks=2)), v1.FAILURE_KIND_TASK),
    "no job": (assignment(shard=v1.Shard(sweep_id=SWEEP, job=2**32 - 1, blocks=1)), v1.FAILURE_KIND_TASK),
    "no blocks": (assignment(shard=v1.Shard(sweep_id=LONG, blocks=0)), v1.FAILURE_KIND_TASK),
}


def test_shards_that_cannot_be_are_refused(log: Path) -> None:
    """One after the other, by one worker, which outlives them all."""
    serve = one_by_one([said for said, _ in NO_SHARDS.values()])
    with LyingCoordinator(Session=serve) as coordinator, Worker(coordinator, log) as worker:
        eventually(lambda: len(worker.said("failure")) >= len(NO_SHARDS), "all failures are told")
        kinds = [failure.kind for failure in worker.said("failure")]
        assert dict(zip(NO_SHARDS, kinds, strict=True)) == {name: kind for name, (_, kind) in NO_SHARDS.items()}
        worker.goes_on()


#: A job that needs a file.
FILES_SPEC = SPEC.replace("[nads]\nnetworks = 64\nblock_size = 8\n", "") + (
    '[directional]\ndirections = { kind = "file", path = "nads.npy", indices = [0] }\nseeds = 1\n'
    "train_samples = 16\ntest_samples = 16\ntraining = { epochs = 1 }\n"
)


def needing(**changed: Any) -> v1.SessionResponse:
    """The assignment of a shard that needs a file."""
    content = npy(np.eye(16, dtype=np.float32))
    told: dict[str, Any] = {"role": "basis", "name": "nads.npy", "size": len(content)}
    told["digest"] = artifact("", content).digest
    return assignment(FILES_SPEC, experiment="directional", inputs=[v1.ShardInput(**{**told, **changed})])


def flood_of(data: bytes) -> Lie:
    def lie(_: Any, context: grpc.ServicerContext) -> Iterator[v1.ReadInputResponse]:
        while context.is_active():
            yield v1.ReadInputResponse(data=data)

    return lie


def test_files_of_a_shard_are_those_announced(tmp_path: Path) -> None:
    one = always([v1.ReadInputResponse(data=b"x")])
    lies: dict[str, tuple[v1.SessionResponse, Lie]] = {
        "2^60 bytes": (needing(size=2**60), one),
        "a path for a digest": (needing(digest="../../etc/passwd"), one),
        "paint": (needing(digest=PAINT, name=PAINT), one),
        "other bytes": (needing(), one),
        "endless": (needing(), flood_of(b"x" * 65_536)),
        "empty chunks": (needing(), flood_of(b"")),
        "refused": (needing(name="/etc/passwd"), refusing(grpc.StatusCode.FAILED_PRECONDITION, "INPUT_MISSING")),
    }
    with ExitStack() as stack:
        pairs = {}
        for name, (said, read) in lies.items():
            coordinator = stack.enter_context(LyingCoordinator(Session=session(said), ReadInput=read))
            pairs[name] = (coordinator, stack.enter_context(Worker(coordinator, tmp_path / f"{name[:3]}.log")))
        for name, (coordinator, _) in pairs.items():
            eventually(lambda coordinator=coordinator: bool(coordinator.times("ReadInput")), name)  # type: ignore[misc]
        time.sleep(1.0)
        for name, (coordinator, worker) in pairs.items():
            worker.goes_on()
            # Nothing was computed of it; a file that came damaged is asked for again, for a while.
            assert not worker.said("computed"), name
            assert not worker.said("result"), name
            assert len(coordinator.times("ReadInput")) < 20, name


def test_a_worker_tells_nothing_of_its_network(log: Path) -> None:
    """A made-up address leads to something on the worker's network, whose words are not for the coordinator."""
    with elsewhere() as (address, asked):
        urls = ["file:///etc/passwd", f"{address}/redirect", f"{address}/x", PAINT]

        def read(request: v1.ReadInputRequest, context: grpc.ServicerContext) -> Iterator[v1.ReadInputResponse]:
            if request.through_coordinator or not urls:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no file")
            yield v1.ReadInputResponse(get=v1.PresignedRequest(method="GET", url=urls.pop(0)))

        def upload(parts: Iterator[Any], _: grpc.ServicerContext) -> Iterator[v1.UploadPartialResponse]:
            next(parts)
            put = v1.PresignedRequest(method="PUT", url=f"{address}/put")
            yield v1.UploadPartialResponse(grant=v1.Grant(put=put))
            next(parts)
            yield v1.UploadPartialResponse(verdict=v1.VERDICT_COMMITTED)

        serve = session(
            *(needing(digest=f"{place:064x}") for place in range(1)),
            assignment(
                SPEC.replace("height = 4, width = 4", "height = 16, width = 16"),
                shard=v1.Shard(sweep_id=OTHER, blocks=1),
            ),
        )
        with (
            LyingCoordinator(Session=serve, ReadInput=read, UploadPartial=upload) as coordinator,
            Worker(coordinator, log) as worker,
        ):
            eventually(lambda: any("put" in path for path in asked), "the address is tried", 60.0)
            eventually(lambda: len(coordinator.said("UploadPartial")) >= 2, "the outcome is told")
            worker.goes_on()
            told = [*worker.said("failure"), *coordinator.said("UploadPartial")]
            assert not any("SECRET" in str(message) for message in told), told
        assert "/secret" not in asked


def test_a_grant_that_never_comes_holds_nothing_up(log: Path) -> None:
    """The result is kept as long as its lease lives; the session goes on, and the worker ends when it is asked to."""

    def silent(parts: Iterator[Any], context: grpc.ServicerContext) -> Iterator[v1.UploadPartialResponse]:
        next(parts)
        while context.is_active():
            time.sleep(0.05)
        yield from ()

    large = SPEC.replace("height = 4, width = 4", "height = 16, width = 16")
    unknown = [v1.Shard(sweep_id=f"s{place}", first_block=HUGE, blocks=HUGE) for place in range(1_000)]
    revocations = [v1.SessionResponse(revocation=v1.Revocation(shard=shard)) for shard in unknown]
    serve = session(*revocations, assignment(large))
    with LyingCoordinator(Session=serve, UploadPartial=silent) as coordinator, Worker(coordinator, log) as worker:
        eventually(lambda: bool(coordinator.times("UploadPartial")), "the result is offered", 60.0)
        worker.goes_on()
        assert not [part for part in coordinator.said("UploadPartial") if part.data]
        worker.end()


def test_messages_of_a_session_are_bounded(log: Path) -> None:
    """Inputs of two bytes by the million, a message beyond the limit, and heartbeats by the nanosecond."""
    inputs = assignment().SerializeToString()
    many = (
        v1.Assignment(shard=v1.Shard(sweep_id=SWEEP, blocks=1), spec=SPEC).SerializeToString() + b"\x2a\x00" * 700_000
    )
    length = bytes([len(many) & 0x7F | 0x80, len(many) >> 7 & 0x7F | 0x80, len(many) >> 14 & 0x7F])
    messages = [b"\x12" + length + many, assignment("#" * (5 * MIB)), b"\xff" * 1_000, inputs]
    remaining = list(messages)

    def serve(asked: Iterator[Any], _: grpc.ServicerContext) -> Iterator[Any]:
        next(asked)
        yield welcome(heartbeat_interval_ms=0)
        if remaining:
            yield remaining.pop(0)
            time.sleep(0.3)
            return
        for _message in asked:
            pass

    with LyingCoordinator(Session=serve) as coordinator, Worker(coordinator, log) as worker:
        eventually(lambda: not remaining, "all were said", 30.0)
        worker.goes_on()
        beats = len(worker.said("heartbeat"))
        time.sleep(1.0)
        assert len(worker.said("heartbeat")) - beats < 200


def test_half_an_answer_is_no_answer(half_an_answer: Callable[[], Told]) -> None:
    told = half_an_answer()
    assert (told.code, told.seconds < 60) == (3, True), told
    assert "no whole answer came" in told.err


def test_what_is_shown_of_a_hostile_coordinator_in_a_notebook_paints_nothing() -> None:
    with LyingCoordinator(**every(painted)) as coordinator, nadgrid.connect(coordinator.url) as grid:
        sweep = grid.sweep(SWEEP)
        texts = io.StringIO()
        for value in (sweep, sweep.jobs, sweep.failures, sweep.artifacts, grid.sweeps(), grid.workers()):
            print(repr(value), value, value._repr_html_(), file=texts)
        print(sweep.name, sweep.digest, sweep.message, sweep.owner, sweep.notices, sweep.spec, file=texts)
        [failure], [shown] = sweep.failures, grid.workers()
        print(failure.message, failure.workers[0], shown.name, shown.last_error, file=texts)
        assert FORGED in texts.getvalue()
        assert not any(line.startswith(FORGED) for line in texts.getvalue().replace(sweep.spec, "").splitlines())
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", texts.getvalue())
    with LyingCoordinator(Get=refusing(grpc.StatusCode.NOT_FOUND, "SWEEP_UNKNOWN")) as coordinator:
        with nadgrid.connect(coordinator.url) as grid, pytest.raises(nadgrid.NotFound) as error:
            grid.sweep(SWEEP)
        assert not OBEYED.search(str(error.value))
