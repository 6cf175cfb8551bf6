"""A coordinator that lies, in what is shown of it: by the command line, on a terminal and in a notebook.

Whatever it says, a program ends or goes on as docs/terminal.md has it, paints nothing on the terminal, forges no line, and takes
no more memory than for an honest coordinator and a bound besides.
"""

from __future__ import annotations

import fcntl
import io
import math
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import nadgrid
import pytest
from cluster import clean_environment, program
from nadgrid.v1 import nadgrid_pb2 as v1

from lying_coordinator import OTHER, SPEC, SWEEP, Lie, LyingCoordinator, job, sweep_of, worker
from measure import MIB, memory
from victims import (
    BOUND,
    FORGED,
    HUGE,
    INF,
    LONG,
    NAN,
    OBEYED,
    PAINT,
    PAINTED,
    always,
    ask,
    every,
    long_names,
    painted,
    refusing,
    tree,
    unknown_values,
    wild_numbers,
)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.toml"
    path.write_text(SPEC)
    return path


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
    plan = v1.PlanResponse(jobs=[planned], seconds=-INF, slots=2**32 - 1)
    with LyingCoordinator(Explain=always(explanation), Verify=always(checks), Plan=always(plan)) as coordinator:
        for json_ in ([], ["--json"]):
            ask(coordinator, "explain", SWEEP, *json_).check(0, FORGED)
            ask(coordinator, "verify", SWEEP, *json_).check(5, FORGED)
            ask(coordinator, "plan", spec, *json_).check(0, FORGED)


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
            ask(coordinator, command, SWEEP).check(1, f'sweep {SWEEP} was requested, but "{OTHER}" was received')
        ask(coordinator, "fetch", SWEEP, "--out", tmp_path / "out").check(1, "was requested")
        with nadgrid.connect(coordinator.url) as grid, pytest.raises(nadgrid.CoordinatorError, match="was requested"):
            grid.sweep(SWEEP)


SHOWN = (["list"], ["status", SWEEP], ["status", SWEEP, "--json"], ["workers"], ["top", "--once"], ["watch", SWEEP])


@pytest.mark.parametrize(
    "sweep",
    [long_names, *map(wild_numbers, (NAN, INF, -INF, -1.0, 7.0, 1e308)), unknown_values],
    ids=["long names", "nan", "inf", "-inf", "negative", "more than all", "1e308", "unknown values"],
)
def test_what_cannot_be_is_shown_in_one_way_or_another(sweep: Callable[[], v1.Sweep]) -> None:
    wild = worker(silent_ms=HUGE, slots=2**32 - 1, leases=2**32 - 1, members_done=HUGE, members_per_second=NAN)
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
        ask(coordinator, "list").check(1, "a page of the list is empty")
        with pytest.raises(nadgrid.CoordinatorError, match="a page of the list is empty"):
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
        ask(coordinator, "status", SWEEP).check(1, "was requested")
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
