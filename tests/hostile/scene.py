"""What a lying worker meets: a coordinator, an honest worker, and whatever must hold after each lie."""

from __future__ import annotations

import csv
import io
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
import pytest
from bystander import token_of
from cluster import Cluster
from guard import Guard
from liar import Liar, Session, runs
from measure import eventually
from nadgrid.v1 import nadgrid_pb2 as v1

#: Input pixels of both specs.
DIMENSION = 16

#: Sixteen shards of two gradients: more than are merged at once.
GRADIENTS = """\
name = "gradients"
architectures = ["logreg"]
input = { channels = 1, height = 4, width = 4 }
[nads]
networks = 32
block_size = 2
"""
#: Gradients of each of its shards, and how many shards it has.
COUNT, SHARDS = 2, 16

#: Eight shards of one training run, whose numbers the results show: a liar can have them right.
TRAINING = """\
name = "training"
architectures = ["logreg"]
input = { channels = 1, height = 4, width = 4 }
[directional]
directions = { kind = "pixels", indices = [1] }
seeds = 8
block_size = 1
train_samples = 64
test_samples = 64
training = { epochs = 2, batch_size = 32 }
"""
#: Training runs, and shards.
RUNS = 8

#: A text that a terminal would obey, and that would be a line of its own in a log.
PAINT = "x\x1b[2J\x1b]0;owned\x07\r\n2026-01-01T00:00:00Z  INFO forged\x9b31m\u202e"
#: What it would have written.
FORGED = "\n2026-01-01"

#: Shards of one block; leases, and patience with slots that hang, of a few seconds.
SHORT_LIVED = ("--most-shard-blocks", "1", "--lease-ttl", "2", "--stall-after", "2")
#: As much as may be said in one message, about.
LARGE = "x" * 3_900_000
U32, U64 = 2**32 - 1, 2**64 - 1

INVALID, UNFIT = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
DENIED, DAMAGED = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.DATA_LOSS

#: Bytes that a lie may add to the coordinator's log.
MOST_LOG = 256 << 10
#: Characters of an answer or a refusal.
MOST_WORDS = 4096
#: Seconds until the honest worker must have done the rest, beyond leases and patience.
WITHIN = 15.0
#: Seconds of a session after which a worker that loses it asks for another at once, and not ever less often.
SETTLED = 2.0


def wrong_runs() -> bytes:
    """A training run that never was."""
    return runs([1.0, 1.0, 0.5, 0.5, 2.0, 0.0, 0.0])


def block(sweep: str, first: int) -> v1.Shard:
    """The shard of one block of a sweep's only job."""
    return v1.Shard(sweep_id=sweep, job=0, first_block=first, blocks=1)


@dataclass
class Truth:
    """What the honest worker gets without anybody's lies."""

    #: Digests of the sweeps of both specs.
    digests: dict[str, str]
    #: The numbers of the training runs, by their places.
    outcomes: list[list[float]]
    numerics: v1.NumericsClass

    @classmethod
    def of(cls, cluster: Cluster) -> Truth:
        """Of a cluster with one worker, which computes both specs."""
        [worker] = cluster.wait_for_workers(1)
        sweeps = {}
        for spec in (GRADIENTS, TRAINING):
            path = cluster.folder / "true.toml"
            path.write_text(spec)
            sweeps[spec] = cluster.wait(cluster.submit(path))
        folder = cluster.folder / "true"
        cluster.nadgrid("fetch", sweeps[TRAINING]["id"], "--out", folder)
        rows = list(csv.reader(io.StringIO((folder / "directional" / "logreg.csv").read_text())))
        # Accuracies, losses and epochs. None has diverged, and how long it took is no part of the digest.
        first = rows[0].index("seed") + 1
        outcomes = [[*map(float, row[first : first + 5]), 0.0, 0.0] for row in rows[1:]]
        digests = {spec: sweep["digest"] for spec, sweep in sweeps.items()}
        return cls(digests, outcomes, v1.NumericsClass(**worker["numerics_class"]))


@dataclass
class Honest:
    """The honest worker of a cluster, or the one that takes its place."""

    cluster: Cluster
    #: When it was last seen to have come.
    since: float = 0.0

    def come(self) -> None:
        """Starts it."""
        self.cluster.add_worker("--slots", "1", "--name", "honest")

    def wait(self) -> None:
        """Until it is there."""
        self.cluster.wait_for_workers(1)
        self.since = time.monotonic()

    def restart(self) -> None:
        """Kills the coordinator, and starts it again. A worker that would take its time to come back is replaced."""
        is_settled = time.monotonic() > self.since + SETTLED
        self.cluster.crash_coordinator(restart=False)
        if not is_settled:
            self.cluster.workers.pop().kill()
        self.cluster.start_coordinator()
        if not is_settled:
            self.come()


@dataclass
class Scene:
    """A coordinator, an honest worker, and liars that come and go."""

    cluster: Cluster
    truth: Truth
    guard: Guard
    honest: Honest
    #: Sweeps that the honest worker must complete, and their specs.
    sweeps: dict[str, str] = field(default_factory=dict)
    #: Whether the coordinator is as a test found it.
    is_tidy: bool = True
    _liars: list[Liar] = field(default_factory=list)
    _sessions: list[Session] = field(default_factory=list)

    # Those who take part

    def liar(self, worker_id: str = "a-liar", token: str = "mallory", **numerics: Any) -> Liar:
        """A liar of its own connection, by default with the honest worker's class."""
        known = v1.NumericsClass()
        known.CopyFrom(self.truth.numerics)
        for part, value in numerics.items():
            setattr(known, part, value)
        shown = token_of(self.cluster.token(token, role="worker"))
        self._liars.append(Liar(self.cluster.address, shown, known, worker_id))
        return self._liars[-1]

    def submit(self, spec: str, waited_for: bool = True) -> str:
        """Submits a spec; unless told otherwise the honest worker must complete it."""
        path = self.cluster.folder / "lied-to.toml"
        path.write_text(spec)
        sweep = self.cluster.submit(path)
        if waited_for:
            self.sweeps[sweep] = spec
        return sweep

    def leased(self, liar: Liar, spec: str, **hello: Any) -> tuple[Session, v1.Shard]:
        """A new sweep of which the liar has a shard, in a session in which it is heard."""
        session = liar.session(**hello)
        self._sessions.append(session)
        session.stay_alive()
        self.submit(spec)
        return session, session.shard()

    @contextmanager
    def honest_stopped(self) -> Iterator[None]:
        """The honest worker does nothing meanwhile. Its lease lives on, if it is not for long."""
        [honest] = self.cluster.workers
        honest.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            honest.signal(signal.SIGCONT)

    def true_runs(self, shard: v1.Shard) -> bytes:
        """What a shard of TRAINING really yields."""
        return runs(self.truth.outcomes[shard.first_block])

    def has_ended(self, sweep: str) -> bool:
        return self.cluster.status(sweep)["state"] not in ("queued", "running")

    # What must hold

    @contextmanager
    def lie(self, name: str, sent: str) -> Iterator[None]:
        """Around a lie: in the end all sweeps of the test are complete and right, and nobody has come to harm."""
        self.is_tidy = False
        log = self.cluster.folder / "coordinator.log"
        begin = log.stat().st_size
        with self.guard.attack(f"lying worker: {name}", sent):
            try:
                yield
                self.check_words()
            finally:
                self.close()
            self.complete()
        self.check_words()
        said = log.read_bytes()[begin:]
        assert len(said) < MOST_LOG, f"{len(said)} bytes of log"
        assert_harmless("the log", said.decode())
        self.check_restart()
        self.is_tidy = True

    @contextmanager
    def lying(self, name: str, sent: str, spec: str, **hello: Any) -> Iterator[tuple[Liar, Session, v1.Shard]]:
        """A lie of one liar, which has a shard of a new sweep and leaves in the end."""
        with self.lie(name, sent):
            liar = self.liar()
            session, shard = self.leased(liar, spec, **hello)
            yield liar, session, shard
            session.leave()

    def close(self) -> None:
        """All liars go."""
        for session in self._sessions:
            session.break_off()
        for liar in self._liars:
            liar.__exit__(None, None, None)
        self._liars, self._sessions = [], []

    def complete(self) -> None:
        """The honest worker completes the sweeps of this test, with the right numbers."""
        for sweep, spec in self.sweeps.items():
            eventually(partial(self.has_ended, sweep), f"sweep {sweep} ends", WITHIN)
            status = self.cluster.status(sweep)
            assert status["state"] == "complete", [status[key] for key in ("state", "message", "failures", "notices")]
            assert status["digest"] == self.truth.digests[spec], "the sweep's numbers are wrong"
            for job in status["jobs"]:
                # All of it takes no second.
                assert 0 <= job["slot_seconds"] < 60, f"{job['slot_seconds']} slot-seconds"

    def check_words(self) -> None:
        """What users are shown holds no control characters and no line that a liar wrote."""
        for command in (["workers"], ["list"], *(["status", sweep] for sweep in self.sweeps)):
            assert_harmless(" ".join(command), self.cluster.nadgrid(*command))
            assert_harmless(" ".join(command), *texts(json.loads(self.cluster.nadgrid(*command, "--json"))))
        for sweep in self.sweeps:
            assert_harmless("explain", self.cluster.nadgrid("explain", sweep))
            if self.has_ended(sweep):
                watched = self.cluster.run("watch", sweep)
                assert_harmless("watch", watched.stdout, watched.stderr)

    def check_restart(self) -> None:
        """After a kill all sweeps are as they were, and an honest worker is there."""
        before = self.acknowledged()
        self.honest.restart()
        assert self.acknowledged() == before
        self.settle()

    def settle(self) -> None:
        """After a restart: the honest worker is there, and the guard asks on a new connection."""
        self.honest.wait()
        with suppress(grpc.RpcError):
            self.guard._listed()

    def acknowledged(self) -> dict[str, Any]:
        """What was acknowledged of all sweeps."""
        sweeps = json.loads(self.cluster.nadgrid("list", "--json", "--limit", "1000"))
        kept = ("state", "digest", "name", "message", "submitted_at", "owner", "failures")
        return {sweep["id"]: [sweep[key] for key in kept] for sweep in sweeps}

    def tidy_up(self) -> None:
        """What a lie has spoilt is not in the way of the next."""
        self.close()
        if self.is_tidy:
            return
        for sweep in self.sweeps:
            self.cluster.nadgrid("cancel", sweep)
        self.honest.restart()
        self.settle()


def texts(value: Any) -> list[str]:
    """All texts in a value of JSON, its keys excepted."""
    if isinstance(value, dict):
        return [text for part in value.values() for text in texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in texts(part)]
    return [value] if isinstance(value, str) else []


def assert_harmless(what: str, *said: str) -> None:
    """No terminal obeys anything in it, and no line was made by a liar."""
    for text in said:
        # A spec is text of many lines, and its user's own.
        obeyed = {c for c in text if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c == "\u202e"}
        assert not obeyed, f"{what} holds {sorted(obeyed)}"
        assert FORGED not in text, f"{what} has a forged line"


@contextmanager
def refused(*codes: grpc.StatusCode) -> Iterator[None]:
    """What is said here is refused, by default as invalid, in a few words that are safe to print."""
    with pytest.raises(grpc.RpcError) as raised:
        yield
    error: Any = raised.value
    assert error.code() in (codes or (grpc.StatusCode.INVALID_ARGUMENT,)), error
    details = error.details() or ""
    assert len(details) < MOST_WORDS, f"a refusal of {len(details)} characters"
    assert_harmless("a refusal", details)


def assert_refused(answer: v1.Answer) -> None:
    """What was said in a session is refused, in a few words that are safe to print."""
    assert answer.verdict == v1.VERDICT_REFUSED, v1.Verdict.Name(answer.verdict)
    assert len(answer.message) < MOST_WORDS, f"an answer of {len(answer.message)} characters"
    assert_harmless("an answer", answer.message)


@contextmanager
def case(name: str) -> Iterator[None]:
    """One of several lies of a kind: a failure names it."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"the lie: {name}")
        raise
