"""A coordinator that lies, to a worker: it takes no shard that cannot be and no more than it can hold, and goes on."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from cluster import clean_environment, program
from nadgrid.v1 import nadgrid_pb2 as v1

from lying_coordinator import (
    OTHER,
    SPEC,
    SWEEP,
    Lie,
    LyingCoordinator,
    artifact,
    assignment,
    npy,
    one_by_one,
    session,
    welcome,
)
from measure import MIB, eventually
from victims import BOUND, FORGED, HUGE, LONG, MOST_MEMORY, OBEYED, PAINT, always, elsewhere, peak_of, refusing


class Worker:
    """A real worker of a lying coordinator; for a ``with`` block."""

    def __init__(self, coordinator: LyingCoordinator, log: Path, *arguments: str) -> None:
        self.coordinator, self.log = coordinator, log
        command = [program("nadgrid-worker"), "--coordinator", coordinator.url, "--device", "cpu", "--slots", "1"]
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
            spec = SPEC.replace("networks = 64", "networks = 99_999_999") + "#" * (1 << 16)
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
