"""A journal in PostgreSQL: copied at random instants of writing, and with the coordinator or the server killed.

Whatever happens at whatever instant, a coordinator starts on what is there, with everything that was acknowledged and nothing
that nobody asked for. The same of a SQLite file is in ``coordinator/src/journal/tests.rs``, where a copy is made between two
of its writes.
"""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from blake3 import blake3
from cluster import Cluster
from measure import eventually
from nadgrid.v1 import nadgrid_pb2 as v1
from nadgrid.v1.nadgrid_pb2_grpc import SweepServiceStub
from postgres import Postgres

from stumbling import StumblingLine

SPEC = """\
name = "{name}"
architectures = ["logreg"]
input = {{ channels = 1, height = 4, width = 4 }}
[nads]
networks = 16
"""
#: Sweeps of a writer at most: all of them are kept.
MOST = 300
WRITERS = 3
#: Seconds between two requests of a writer.
PAUSE = 0.02
#: Records of which there are so many that the next one is followed by a compaction.
LONG = 60_000

#: Of a connection of its own.
OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]

#: What becomes of a writer's sweep, in this order, or of some of them.
SUBMITTED, PAUSED, CANCELLED = range(3)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as postgres:
        yield postgres


def sweeps(cluster: Cluster) -> Iterator[v1.Sweep]:
    """All that the coordinator has."""
    with grpc.insecure_channel(cluster.address, options=OPTIONS) as channel:
        stub, token = SweepServiceStub(channel), ""
        while True:
            # Its first answer comes when the journal has been read.
            page = stub.List(v1.ListRequest(page_size=1000, page_token=token), timeout=60, wait_for_ready=True)
            yield from page.sweeps
            if not (token := page.next_page_token):
                return


def found(cluster: Cluster) -> dict[str, int]:
    """How far the coordinator has each sweep, by its name."""
    far: dict[str, int] = {}
    for sweep in sweeps(cluster):
        assert sweep.name not in far, f"{sweep.name} is there twice"
        cancelled = sweep.state == v1.SWEEP_STATE_CANCELLED
        far[sweep.name] = CANCELLED if cancelled else PAUSED if sweep.paused else SUBMITTED
    return far


@dataclass
class History:
    """How far each sweep was asked to go, by its name, and how far that was acknowledged."""

    asked: dict[str, int] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)

    def copy(self) -> History:
        """What was acknowledged by now. What was asked for is looked at when it is over."""
        return History(self.asked, dict(self.acknowledged))

    def check(self, has: dict[str, int]) -> None:
        """All that was acknowledged is there, or what was asked for next; and nothing that nobody had asked for."""
        lost = {name: far for name, far in self.acknowledged.items() if has.get(name, -1) < far}
        assert not lost, f"{len(lost)} of {len(self.acknowledged)} acknowledged sweeps are lost or behind: {lost}"
        made_up = {name: far for name, far in has.items() if far > self.asked.get(name, -1)}
        assert not made_up, f"nobody has asked for {made_up}"


class Writers:
    """Users who submit, pause and cancel as fast as they are answered; for a ``with`` block."""

    def __init__(self, cluster: Cluster, history: History, prefix: str = "w") -> None:
        self._address, self.history, self._prefix = cluster.address, history, prefix
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(n,), daemon=True) for n in range(WRITERS)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _write(self, number: int) -> None:
        with grpc.insecure_channel(self._address, options=OPTIONS) as channel:
            stub = SweepServiceStub(channel)
            for turn in range(MOST):
                # Whoever is not answered has no acknowledgement, and asks no more.
                with suppress(grpc.RpcError):
                    self._one(stub, f"{self._prefix}{number}-{turn}", turn % 3)
                    if not self._over.wait(PAUSE):
                        continue
                return

    def _one(self, stub: SweepServiceStub, name: str, last: int) -> None:
        def ask(far: int, call: Any, request: Any) -> Any:
            self.history.asked[name] = far
            answer = call(request, timeout=60)
            self.history.acknowledged[name] = far
            return answer

        sweep = ask(SUBMITTED, stub.Submit, v1.SubmitRequest(spec=SPEC.format(name=name))).sweep.id
        if last >= PAUSED:
            ask(PAUSED, stub.Pause, v1.PauseRequest(sweep_id=sweep))
        if last == CANCELLED:
            ask(CANCELLED, stub.Cancel, v1.CancelRequest(sweep_id=sweep))

    def wait_for_more(self, sweeps: int) -> None:
        """Until so many more have been acknowledged."""
        most = len(self.history.acknowledged) + sweeps
        eventually(lambda: len(self.history.acknowledged) >= most, f"{most} sweeps", 60.0)


def check_start(postgres: Postgres, database: str, history: History) -> None:
    """A coordinator starts on a journal, has what it must, takes new work, and is the same after a kill."""
    with Cluster("--journal", postgres.url(database)) as cluster:
        has = found(cluster)
        history.check(has)
        submit(cluster, "afterwards")
        cluster.crash_coordinator()
        assert found(cluster) == {**has, "afterwards": SUBMITTED}


def submit(cluster: Cluster, name: str) -> str:
    path = cluster.folder / f"{name}.toml"
    path.write_text(SPEC.format(name=name))
    return cluster.submit(path)


def test_a_copy_made_at_any_instant_has_what_was_acknowledged(postgres: Postgres) -> None:
    chosen, copies = random.Random(11), []
    postgres.sql("CREATE DATABASE written")
    with Cluster("--journal", postgres.url("written")) as cluster, Writers(cluster, History()) as writers:
        for _ in range(5):
            writers.wait_for_more(20)
            time.sleep(chosen.random() / 10)
            copies.append((writers.history.copy(), postgres.dump("written")))
    for number, (history, dump) in enumerate(copies):
        postgres.restore(dump, f"copy{number}")
        check_start(postgres, f"copy{number}", history)


def test_nothing_acknowledged_is_lost_with_a_coordinator(postgres: Postgres) -> None:
    """It is killed at random instants of writing; a copy of the database that it left is as good."""
    chosen, history = random.Random(12), History()
    postgres.sql("CREATE DATABASE killed")
    with Cluster("--journal", postgres.url("killed")) as cluster:
        for number in range(4):
            with Writers(cluster, history, f"{number}-") as writers:
                writers.wait_for_more(20)
                time.sleep(chosen.random() / 10)
                cluster.crash_coordinator(restart=False)
            eventually(lambda: sessions(postgres, "killed") == 0, "the server has noticed")
            postgres.sql(f"CREATE DATABASE left{number} TEMPLATE killed")
            check_start(postgres, f"left{number}", history)
            cluster.start_coordinator()
            history.check(found(cluster))


def sessions(postgres: Postgres, database: str) -> int:
    return int(postgres.sql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"))


def test_nothing_acknowledged_is_lost_with_the_server() -> None:
    """It is killed at random instants of writing, and recovers; the coordinator waits for it and goes on."""
    chosen, history = random.Random(13), History()
    # Of its own: it takes all of its databases with it.
    with Postgres() as postgres, Cluster("--journal", postgres.url()) as cluster:
        for number in range(3):
            with Writers(cluster, history, f"{number}-") as writers:
                writers.wait_for_more(20)
                time.sleep(chosen.random() / 10)
                postgres.crash()
                known = history.copy()
                postgres.start()
                known.check(found(cluster))
                # The same coordinator goes on.
                writers.wait_for_more(WRITERS + 1)
            history.check(found(cluster))
        has = found(cluster)
        cluster.crash_coordinator()
        assert found(cluster) == has
        # Both at once.
        with Writers(cluster, history, "both-") as writers:
            writers.wait_for_more(20)
            postgres.crash()
            cluster.crash_coordinator(restart=False)
        postgres.start()
        cluster.start_coordinator()
        history.check(found(cluster))


# Compaction


@pytest.fixture(scope="module")
def long(postgres: Postgres) -> dict[str, Any]:
    """A database ``long`` whose journal is compacted after the next record; what was acknowledged in it."""
    postgres.sql("CREATE DATABASE long")
    with Cluster("--journal", postgres.url("long")) as cluster:
        one, two, three = (submit(cluster, name) for name in ("one", "two", "three"))
        cluster.nadgrid("pause", two)
        cluster.nadgrid("cancel", three)
        acknowledged = states(cluster)
        cluster.stop_coordinator()
    record = json.dumps({"record": "paused", "sweep": one, "paused": False})
    rest = f"{LONG}\n" + f"{record}\n" * LONG
    head = f"{blake3(rest.encode()).hexdigest()} {LONG}"
    body = f"convert_to('{head}' || E'\\n' || repeat('{record}' || E'\\n', {LONG}), 'UTF8')"
    postgres.sql(f"INSERT INTO nadgrid_batches SELECT last + 1, {body} FROM nadgrid_journal", "long")
    postgres.sql("UPDATE nadgrid_journal SET last = last + 1", "long")
    return acknowledged


def states(cluster: Cluster) -> dict[str, Any]:
    """Of each sweep what was acknowledged of it."""
    return {s.name: (s.id, s.state, s.paused, s.submitted_at.seconds, s.ended_at.seconds) for s in sweeps(cluster)}


def test_a_compaction_that_is_killed_at_any_step(postgres: Postgres, long: dict[str, Any]) -> None:
    """When the server has answered a statement, for one after the other: the state is the same each time."""
    acknowledged: set[str] = set()
    with StumblingLine(postgres.port) as line:
        url = postgres.url("long").replace(f":{postgres.port}/", f":{line.port}/")
        with Cluster("--journal", url) as cluster:
            for step in itertools.count():
                # Until the line is told whom to kill it waits at its statement, and questions are answered.
                now = states(cluster)
                assert {name: state for name, state in now.items() if name in long} == long
                assert acknowledged <= now.keys() - long.keys() <= {f"last{earlier}" for earlier in range(step)}
                line.kill_when_it_comes(cluster.coordinator.pid)
                path = cluster.folder / "last.toml"
                path.write_text(SPEC.format(name=f"last{step}"))
                # Whoever is not answered, since the coordinator is killed, has no acknowledgement.
                if cluster.run("submit", path).returncode == 0:
                    acknowledged.add(f"last{step}")
                eventually(lambda: line.stumbled.is_set() or is_short(postgres, "long"), "it is compacted")
                if not line.stumbled.is_set():
                    break
                line.stumble_at(step + 1)
                cluster.crash_coordinator()
            # BEGIN, a batch, what is read back of it, the head, what was before, and COMMIT; some are two messages.
            assert step >= 6, f"there were {step} steps"
            # The new journal is there, and goes on.
            cluster.nadgrid("cancel", long["one"][0])
            cancelled = states(cluster)
            cluster.crash_coordinator()
            assert states(cluster) == cancelled


def is_short(postgres: Postgres, database: str) -> bool:
    """Whether a journal has been compacted, and has all its batches."""
    whole = "last - first + 1 = (SELECT count(*) FROM nadgrid_batches)"
    rest = f"(SELECT sum(length(body)) < {LONG} FROM nadgrid_batches)"
    return postgres.sql(f"SELECT {whole} AND {rest} FROM nadgrid_journal", database) == "t"
