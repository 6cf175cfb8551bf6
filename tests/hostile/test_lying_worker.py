"""Lies of a worker that has a token: it is one of many who may, and nobody but itself may come to harm.

Each test tells one kind of lie beside an honest worker, which computes the same sweep. Whatever is said, the sweep completes
with the digest that it has without the liar, a bystander is answered within a second, memory and the log stay small, nothing
that the coordinator prints holds a control character, and after a kill all sweeps are as they were.

Deliberately absent: a result that has the right form and wrong numbers, from whoever was given its shard. Against that there
are ``audit`` and ``nadgrid verify``.
"""

from __future__ import annotations

import json
import math
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from blake3 import blake3
from cluster import Cluster
from nadgrid.v1 import nadgrid_pb2 as v1

from guard import Guard
from liar import Liar, Session, digest, moments, runs
from measure import eventually
from scene import (
    COUNT,
    DIMENSION,
    GRADIENTS,
    PAINT,
    RUNS,
    SHARDS,
    TRAINING,
    WITHIN,
    Honest,
    Scene,
    Truth,
    assert_harmless,
    assert_refused,
    case,
    refused,
    texts,
)

#: Shards of one block; leases, and patience with lanes that hang, of a few seconds.
COORDINATOR = ("--most-shard-blocks", "1", "--lease-ttl", "2", "--stall-after", "2")

#: As much as may be said in one message, about.
LARGE = "x" * 3_900_000
U32, U64 = 2**32 - 1, 2**64 - 1

INVALID, UNFIT = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
DENIED, DAMAGED = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.DATA_LOSS


@pytest.fixture(scope="module")
def honest(coordinator: Cluster) -> Honest:
    for name in ("mallory", "trudy"):
        coordinator.token(name, role="worker")
    # A coordinator that starts knows all tokens at once.
    coordinator.crash_coordinator()
    honest = Honest(coordinator)
    honest.come()
    return honest


@pytest.fixture(scope="module")
def truth(honest: Honest) -> Truth:
    return Truth.of(honest.cluster)


@pytest.fixture
def scene(coordinator: Cluster, honest: Honest, truth: Truth, guard: Guard) -> Iterator[Scene]:
    assert coordinator.coordinator.is_running(), "an earlier lie has ended the coordinator"
    coordinator.wait_for_workers(1)
    scene = Scene(coordinator, truth, guard, honest)
    yield scene
    scene.tidy_up()


def wrong_runs() -> bytes:
    """A training run that never was."""
    return runs([1.0, 1.0, 0.5, 0.5, 2.0, 0.0, 0.0])


def block(sweep: str, first: int) -> v1.Shard:
    """The shard of one block of a sweep's only job."""
    return v1.Shard(sweep_id=sweep, job=0, first_block=first, blocks=1)


# How long it took


NO_DURATIONS = [1.7e308, math.inf, math.nan, -1.0]


def test_seconds_in_the_session(scene: Scene) -> None:
    """Twice the largest number for shards of one job: a sum of them must stay one that the journal can hold."""
    with scene.lie("seconds", "right results that took 1.7e308 s (twice), infinite, NaN and -1 s, in the session"):
        liar = scene.liar()
        times = [1.7e308, *NO_DURATIONS]
        session, first = scene.leased(liar, TRAINING, lanes=len(times))
        for shard, seconds in zip([first, *(session.shard() for _ in times[1:])], times, strict=True):
            said = {"seconds": seconds, "begin_seconds": seconds}
            assert session.result(shard, scene.true_runs(shard), liar.numerics, **said).verdict == v1.VERDICT_COMMITTED
        session.leave()


def test_seconds_of_uploads(scene: Scene) -> None:
    with scene.lie("seconds of uploads", "right results that took 1.7e308 s (twice), infinite, NaN and -1 s, uploaded"):
        liar = scene.liar()
        times = [1.7e308, *NO_DURATIONS]
        session, first = scene.leased(liar, TRAINING, lanes=len(times))
        for shard, seconds in zip([first, *(session.shard() for _ in times[1:])], times, strict=True):
            said = {"seconds": seconds, "begin_seconds": seconds}
            assert liar.upload(shard, scene.true_runs(shard), **said) == v1.VERDICT_COMMITTED
        session.leave()


def test_runs_that_took_for_ever(scene: Scene) -> None:
    """The duration within a result is no part of its digest, and is shown in its table."""
    with scene.lie("seconds within a result", "training runs of 1.7e308, infinite, NaN and -1 s"):
        liar = scene.liar()
        session, first = scene.leased(liar, TRAINING, lanes=4)
        for shard, seconds in zip([first, *(session.shard() for _ in range(3))], NO_DURATIONS, strict=True):
            outcome = [*scene.truth.outcomes[shard.first_block][:6], seconds]
            session.result(shard, runs(outcome), liar.numerics)
        session.leave()


def test_more_seconds_before_the_first_block_than_in_all(scene: Scene) -> None:
    with scene.lie("begin_seconds", "a right result of 1 s, 1e300 of them before its first block"):
        liar = scene.liar()
        session, shard = scene.leased(liar, TRAINING)
        session.result(shard, scene.true_runs(shard), liar.numerics, seconds=1.0, begin_seconds=1e300)
        session.leave()


def test_the_journal_is_compacted_after_a_lie(scene: Scene) -> None:
    """A snapshot holds sums of what was reported; it replaces all that could be read before."""
    with scene.lie(
        "a snapshot of lies", "results of 1.7e308 s, and then so many records that the journal is compacted"
    ):
        liar = scene.liar()
        session, first = scene.leased(liar, TRAINING, lanes=2)
        for shard in (first, session.shard()):
            session.result(shard, scene.true_runs(shard), liar.numerics, seconds=1.7e308)
        session.leave()
    cluster, [sweep] = scene.cluster, scene.sweeps
    before = scene.acknowledged()
    cluster.stop_coordinator()
    lengthen(cluster.folder / "data", sweep)
    cluster.start_coordinator()
    scene.settle()
    # Whatever is written next is followed by a snapshot.
    cluster.nadgrid("cancel", scene.submit(GRADIENTS, waited_for=False))
    cluster.wait_for_log("journal compacted")
    after = scene.acknowledged()
    assert {id_: after.get(id_) for id_ in before} == before
    scene.check_restart()


def lengthen(data: Path, sweep: str) -> None:
    """Appends a batch to the journal, in its own form, of more records than are kept before it is compacted."""
    record = json.dumps({"record": "paused", "sweep": sweep, "paused": False})
    count = 60_000
    rest = f"{count}\n" + f"{record}\n" * count
    body = f"{blake3(rest.encode()).hexdigest()} {rest}".encode()
    database = sqlite3.connect(data / "journal.sqlite")
    with database:
        [last] = database.execute("SELECT last FROM journal").fetchone()
        database.execute("INSERT INTO batches (number, body) VALUES (?, ?)", (last + 1, body))
        database.execute("UPDATE journal SET last = ?", (last + 1,))
    database.close()


# Whose it is


def test_a_report_without_a_session(scene: Scene) -> None:
    with scene.lie("no session", "an upload of made-up gradients for each shard of a sweep, without a session"):
        liar = scene.liar()
        with scene.honest_stopped():
            sweep = scene.submit(GRADIENTS)
            for first in range(SHARDS):
                with suppress(grpc.RpcError):
                    verdict = liar.upload(block(sweep, first), moments(DIMENSION, COUNT, 1.0, 1.0))
                    assert verdict != v1.VERDICT_COMMITTED, f"made-up gradients are in block {first}"


@pytest.mark.parametrize("way", ["session", "upload"])
def test_a_report_without_a_lease(scene: Scene, way: str) -> None:
    """The liar has a session, and a shard of its own; it reports all the others."""
    with scene.lie(f"no lease, by {way}", "made-up results of all shards but the one that it has"):
        liar = scene.liar()
        with scene.honest_stopped():
            session, own = scene.leased(liar, TRAINING)
            for first in set(range(RUNS)) - {own.first_block}:
                shard = block(own.sweep_id, first)
                with case(f"block {first}"), suppress(grpc.RpcError):
                    if way == "session":
                        assert session.result(shard, wrong_runs(), liar.numerics).verdict != v1.VERDICT_COMMITTED
                    else:
                        assert liar.upload(shard, wrong_runs()) != v1.VERDICT_COMMITTED
        session.leave()


@pytest.mark.parametrize("way", ["session", "upload"])
def test_a_report_of_anothers_lease(scene: Scene, way: str) -> None:
    with scene.lie(f"another's lease, by {way}", "a made-up result of a shard that a worker of another token computes"):
        holder, thief = scene.liar("holder", token="trudy"), scene.liar("thief")
        holding, shard = scene.leased(holder, TRAINING)
        stealing = thief.session(precisions=[])
        if way == "session":
            assert stealing.result(shard, wrong_runs(), thief.numerics).verdict != v1.VERDICT_COMMITTED
        else:
            with suppress(grpc.RpcError):
                assert thief.upload(shard, wrong_runs()) != v1.VERDICT_COMMITTED
        # Whoever has the lease is heard.
        answer = holding.result(shard, scene.true_runs(shard), holder.numerics)
        assert answer.verdict == v1.VERDICT_COMMITTED
        stealing.leave()
        holding.leave()


def test_anothers_name(scene: Scene) -> None:
    """A worker's id belongs to its token: sessions, uploads and reads in its name are refused to others."""
    with scene.lie("another's name", "hello, reports, checkpoints and reads with the id of a worker of another token"):
        known = json.loads(scene.cluster.nadgrid("workers", "--json"))
        [honest] = [worker["id"] for worker in known if worker["name"] == "honest"]
        thief = scene.liar(honest)
        shard = block(scene.submit(TRAINING), 0)
        with refused(DENIED):
            thief.session()
        with refused(DENIED):
            thief.upload(shard, wrong_runs())
        with refused(DENIED):
            thief.checkpoint(shard, b"checkpoint")
        with refused(DENIED):
            list(thief.read(digest=digest(b""), worker_id=honest))


def test_a_users_token(scene: Scene) -> None:
    """Users are no workers."""
    with scene.lie("a user's token", "hello and a report with the token of a user"):
        shard = block(scene.submit(TRAINING), 0)
        with Liar(scene.cluster.address, "", scene.truth.numerics) as user:
            token = scene.cluster.token("mallory").read_text().strip()
            user.metadata = (("authorization", f"Bearer {token}"),)
            with refused(DENIED):
                user.session()
            with refused(DENIED):
                user.upload(shard, wrong_runs())


def test_two_sessions_of_one_worker(scene: Scene) -> None:
    """The newer one counts; what the older says is nothing."""
    with scene.lie("two sessions", "a second session of the same id, and then a result in the first"):
        liar = scene.liar()
        first, shard = scene.leased(liar, TRAINING)
        second = liar.session(precisions=[])
        with pytest.raises((EOFError, grpc.RpcError)):
            first.result(shard, wrong_runs(), liar.numerics)
        second.leave()


# Of what it is


#: Changes of a true shard of one block.
NO_SHARDS: dict[str, dict[str, Any]] = {
    "no such sweep": {"sweep_id": "01a00000-0000-7000-8000-000000000000"},
    "a sweep's id to be obeyed": {"sweep_id": PAINT},
    "a large id": {"sweep_id": "s" * 60_000},
    "another job": {"job": 1},
    "the last job": {"job": U32},
    "behind the end": {"first_block": SHARDS},
    "the last block there can be": {"first_block": U64},
    "all blocks there can be": {"first_block": 1, "blocks": U64},
    "no blocks": {"blocks": 0},
    "across two nodes": {"first_block": 1, "blocks": 2},
    "three blocks": {"first_block": 0, "blocks": 3},
}


def test_a_shard_that_does_not_exist(scene: Scene) -> None:
    """In everything in which a worker names a shard."""
    with scene.lie(
        "no such shard", "everything a worker can say, of 11 shards outside the sweep, unaligned, of 2^64 - 1 blocks"
    ):
        liar = scene.liar()
        session, own = scene.leased(liar, GRADIENTS)
        payload = moments(DIMENSION, COUNT)
        for name, change in NO_SHARDS.items():
            shard = block(own.sweep_id, own.first_block)
            for key, value in change.items():
                setattr(shard, key, value)
            with case(name):
                session.say(progress=v1.Progress(shard=shard, blocks_done=1))
                session.say(computed=v1.Computed(shard=shard))
                session.say(failure=v1.Failure(shard=shard, kind=v1.FAILURE_KIND_SPEC, message="no"))
                answer = session.result(shard, payload, liar.numerics)
                assert answer.verdict in (v1.VERDICT_NOT_NEEDED, v1.VERDICT_REFUSED)
                with suppress(grpc.RpcError):
                    assert liar.upload(shard, payload) == v1.VERDICT_NOT_NEEDED
                with suppress(grpc.RpcError):
                    assert not liar.checkpoint(shard, b"checkpoint")
                liar.session(worker_id="again", held=[shard], precisions=[]).leave()
        session.leave()


def test_no_shard_at_all(scene: Scene) -> None:
    with scene.lie("no shard", "every message without its shard, and a message that says nothing"):
        liar = scene.liar()
        session, _ = scene.leased(liar, GRADIENTS)
        session.say(progress=v1.Progress())
        session.say(computed=v1.Computed())
        session.say(failure=v1.Failure())
        session.say(result=v1.ShardResult())
        for header in (v1.PartialHeader(), v1.PartialHeader(worker_id=liar.worker_id)):
            with refused():
                liar.offer().send(header, b"")
        with refused():
            liar.checkpoint(None, b"")
        session.say()
        with pytest.raises((EOFError, grpc.RpcError)):
            session.hear("answer")


# What it says it yielded


def changed(start: int, word: bytes) -> bytes:
    """A partial with other bytes from a place on."""
    payload = moments(DIMENSION, COUNT)
    return payload[:start] + word + payload[start + len(word) :]


NO_GRADIENTS: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"N",
    "another file": changed(0, b"\x7fELF"),
    "cut off": moments(DIMENSION, COUNT)[:-8],
    "trailing bytes": moments(DIMENSION, COUNT) + bytes(8),
    "another dimension": moments(DIMENSION + 1, COUNT),
    "a dimension that overflows": changed(8, struct.pack("<Q", U64)),
    "no gradients": moments(DIMENSION, 0),
    "2^64 - 1 gradients": moments(DIMENSION, U64),
    "one gradient more": moments(DIMENSION, COUNT + 1),
    "NaN mean": moments(DIMENSION, COUNT, math.nan, 1.0),
    "infinite mean": moments(DIMENSION, COUNT, math.inf, 1.0),
    "NaN scatter": moments(DIMENSION, COUNT, 0.0, math.nan),
    "infinite scatter": moments(DIMENSION, COUNT, 0.0, math.inf),
    "negative variance": moments(DIMENSION, COUNT, 0.0, -1.0),
    "training runs": wrong_runs(),
}


def test_what_no_gradients_yield(scene: Scene) -> None:
    """Each is refused, in the session and as an upload."""
    with scene.lie(
        "no partial", "16 payloads that are no partial: NaN, infinite, of another shape or file, cut off, too long"
    ):
        liar = scene.liar()
        session, shard = scene.leased(liar, GRADIENTS)
        for name, payload in NO_GRADIENTS.items():
            with case(name):
                if len(payload) <= 1024:
                    assert_refused(session.result(shard, payload, liar.numerics))
                with refused():
                    liar.upload(shard, payload)
        session.leave()


#: Mean and scatter.
HUGE = {
    "a mean of 1e308": (1e308, 0.0),
    "a mean of -1e308": (-1e308, 0.0),
    "a scatter of 1.7e308": (0.0, 1.7e308),
    "both": (1.7e308, 1.7e308),
}


def test_finite_moments_whose_sum_is_not(scene: Scene) -> None:
    """Each number is finite, and what they merge to is not: whoever reported it is told, and others compute it."""
    with scene.lie("huge moments", "eight partials of means of ±1e308 and scatters of 1.7e308"):
        liar = scene.liar()
        session, first = scene.leased(liar, GRADIENTS, lanes=2 * len(HUGE))
        shards = [first, *(session.shard() for _ in range(2 * len(HUGE) - 1))]
        for shard, numbers in zip(shards, [*HUGE.values()] * 2, strict=True):
            with suppress(grpc.RpcError):
                liar.upload(shard, moments(DIMENSION, COUNT, *numbers))
        session.leave()


def test_a_worker_that_keeps_on_lying(scene: Scene) -> None:
    """Whatever it is given, it reports numbers that overflow: it is not given the same for ever."""
    with scene.lie("huge moments, for ever", "a partial of mean 1e308 for every shard that it is given"):
        liar = scene.liar()
        session, shard = scene.leased(liar, GRADIENTS)
        until = time.monotonic() + WITHIN
        while not scene.has_ended(shard.sweep_id):
            assert time.monotonic() < until, json.dumps(scene.cluster.status(shard.sweep_id), indent=2)
            with suppress(grpc.RpcError):
                liar.upload(shard, moments(DIMENSION, COUNT, 1e308, 1e308))
            with suppress(TimeoutError):
                shard = session.hear("assignment", 0.2).shard
        session.leave()


NO_RUNS = {
    "NaN accuracies": [math.nan, 50.0, 0.5, 0.5, 2.0, 0.0, 0.0],
    "101 percent": [101.0, 50.0, 0.5, 0.5, 2.0, 0.0, 0.0],
    "infinite loss": [50.0, 50.0, math.inf, 0.5, 2.0, 0.0, 0.0],
    "half an epoch": [50.0, 50.0, 0.5, 0.5, 0.5, 0.0, 0.0],
    "NaN epochs": [50.0, 50.0, 0.5, 0.5, math.nan, 0.0, 0.0],
    "a step before the first": [math.nan] * 4 + [2.0, -1.0, 0.0],
}


def test_what_no_training_yields(scene: Scene) -> None:
    with scene.lie("no training run", "six runs that cannot be: 101 %, NaN, half an epoch"):
        liar = scene.liar()
        session, shard = scene.leased(liar, TRAINING)
        for name, outcome in NO_RUNS.items():
            with case(name):
                assert_refused(session.result(shard, runs(outcome), liar.numerics))
                with refused():
                    liar.upload(shard, runs(outcome))
        session.leave()


UNTRAINED = {
    "more epochs than are trained": [50.0, 50.0, 0.5, 0.5, 4e9, 0.0, 0.0],
    "a step behind the last": [math.nan] * 4 + [2.0, 8e15, 0.0],
}


def test_a_run_beyond_its_recipe(scene: Scene) -> None:
    """The spec says how many epochs and steps a run has."""
    with scene.lie("a run beyond its recipe", "a run of 4e9 epochs of 2, and one that diverged at step 8e15 of 4"):
        liar = scene.liar()
        session, shard = scene.leased(liar, TRAINING)
        for name, outcome in UNTRAINED.items():
            with case(name):
                assert_refused(session.result(shard, runs(outcome), liar.numerics))
        session.leave()


NO_DIGESTS = {"another's": digest(b"another"), "short": "ab", "none": "", "to be obeyed": PAINT, "large": "f" * 60_000}


def test_a_wrong_digest(scene: Scene) -> None:
    with scene.lie(
        "a wrong digest", "right results with another digest, none, one in control characters, one of 60 kB"
    ):
        liar = scene.liar()
        session, shard = scene.leased(liar, TRAINING)
        payload = scene.true_runs(shard)
        for name, wrong in NO_DIGESTS.items():
            with case(name):
                assert_refused(session.result(shard, payload, liar.numerics, digest=wrong))
                with refused(DAMAGED, INVALID):
                    liar.upload(shard, payload, digest=wrong)
        session.leave()


def test_large_results_in_the_session(scene: Scene) -> None:
    """A message may have 4 MB; the log, memory and answers have room for less."""
    with scene.lie("large results", "30 results with a digest, data, or a step's name of 3.9 MB"):
        liar = scene.liar()
        session, shard = scene.leased(liar, TRAINING)
        payload = scene.true_runs(shard)
        changes: list[dict[str, Any]] = [
            {"digest": LARGE},
            {"data": LARGE.encode()},
            {"digest": "", "steps": [v1.Step(name=LARGE)]},
        ]
        for change in changes * 10:
            assert_refused(session.result(shard, payload, liar.numerics, **change))
        session.leave()


@pytest.mark.parametrize("field", ["sweep_id", "digest"])
def test_answers_that_are_not_read(scene: Scene, field: str) -> None:
    """They wait in the coordinator's memory, and repeat nothing of any length that was said."""
    with scene.lie(
        f"answers not read, {field}", f"200 results with a {field} of 3.9 MB, in a session that reads no answer"
    ):
        liar = scene.liar()
        with scene.honest_stopped():
            shard = block(scene.submit(TRAINING), 0)
            result = v1.ShardResult(shard=shard, numerics_class=liar.numerics)
            if field == "sweep_id":
                result.shard.sweep_id = LARGE
            else:
                result.digest = LARGE
            session = liar.begin(v1.SessionRequest(hello=liar.hello(precisions=[])), reads=False)
            for _ in range(200):
                session.say(result=result)
            with suppress(AssertionError):
                eventually(session.has_said_all, "all is said", 1.5)
        eventually(session.has_said_all, "all is said", WITHIN)
        session.break_off()


STEPS: dict[str, list[v1.Step]] = {
    "for ever": [v1.Step(name="compute", begin_us=0, end_us=U64)],
    "backwards": [v1.Step(name="compute", begin_us=U64, end_us=0)],
    "to be obeyed": [v1.Step(name=PAINT, begin_us=1, end_us=2)],
    "1,000 of them": [v1.Step(name="x" * 40, begin_us=1, end_us=2)] * 1000,
}


def test_steps_that_nobody_did(scene: Scene) -> None:
    with scene.lie("steps", "right results with steps of 2^64 µs, backwards, in control characters, 1,000 of them"):
        liar = scene.liar()
        session, first = scene.leased(liar, TRAINING, lanes=len(STEPS))
        shards = [first, *(session.shard() for _ in range(len(STEPS) - 1))]
        for number, (shard, (name, steps)) in enumerate(zip(shards, STEPS.items(), strict=True)):
            with case(name):
                if number % 2:
                    session.result(shard, scene.true_runs(shard), liar.numerics, steps=steps)
                else:
                    liar.upload(shard, scene.true_runs(shard), steps=steps)
        session.leave()


# What it says of itself


NO_CLASSES: dict[str, dict[str, Any]] = {
    "3.9 MB": {"arithmetic": LARGE},
    "to be obeyed": {"arithmetic": PAINT},
    "empty": {"evaluation": ""},
    "no device": {"device": "x" * 65},
    "another libtorch": {"libtorch": PAINT},
}


def test_a_numerics_class_that_is_none(scene: Scene) -> None:
    with scene.lie(
        "a numerics class that is none", "25 hellos with a part of the class of 3.9 MB, in control characters, or none"
    ):
        scene.submit(GRADIENTS)
        for name, numerics in NO_CLASSES.items():
            liar = scene.liar(**numerics)
            for _ in range(5):
                with case(name), refused(INVALID, UNFIT):
                    liar.session()


@pytest.mark.parametrize("end", ["leaves", "breaks off", "stays and does nothing", "stays and fails"])
def test_a_made_up_numerics_class(scene: Scene, end: str) -> None:
    """A sweep runs in the class of its first shard: one that a liar has made up must not have it for ever."""
    with scene.lie(
        f"a made-up class, and it {end}", "hello with a class that nobody has, and the first lease of a new sweep"
    ):
        # Ids are looked at in order: this one comes first.
        liar = scene.liar("!", arithmetic="made-up")
        session, shard = scene.leased(liar, GRADIENTS)
        if end == "leaves":
            session.leave()
        elif end == "breaks off":
            session.break_off()
        else:
            if end == "stays and fails":
                session.say(failure=v1.Failure(shard=shard, kind=v1.FAILURE_KIND_TASK, message="no"))
            # With the liar still there.
            scene.complete()


def test_names_that_a_terminal_obeys(scene: Scene) -> None:
    with scene.lie("names", "name, version and failures with ESC, BEL, CR, newline, CSI and a change of direction"):
        liar = scene.liar()
        session, first = scene.leased(liar, GRADIENTS, name=PAINT, version=PAINT, precisions=["fp32", PAINT], lanes=2)
        second = session.shard()
        scene.check_words()
        session.say(failure=v1.Failure(shard=first, kind=v1.FAILURE_KIND_TASK, message=PAINT))
        scene.check_words()
        session.say(failure=v1.Failure(shard=second, kind=v1.FAILURE_KIND_UNFIT, message=PAINT))
        eventually(lambda: "set aside" in scene.cluster.logs(), "it is set aside")
        scene.check_words()
        session.leave()


def test_large_names(scene: Scene) -> None:
    with scene.lie("large names", "name, version, a failure and precisions of 3.9 MB"):
        liar = scene.liar()
        many = ["fp32"] * 500_000
        for change in ({"name": LARGE}, {"version": LARGE}, {"precisions": [LARGE]}, {"precisions": many}):
            with suppress(grpc.RpcError):
                liar.session(**change).leave()
        session, shard = scene.leased(liar, GRADIENTS)
        session.say(failure=v1.Failure(shard=shard, kind=v1.FAILURE_KIND_TASK, message=LARGE[:3_000_000]))
        scene.check_words()
        assert len(scene.cluster.nadgrid("workers")) < 32_768
        session.leave()


def test_an_id_that_is_none(scene: Scene) -> None:
    with scene.lie(
        "a worker's id that is none", "hello, uploads and reads with ids of spaces, control characters, 3.9 MB"
    ):
        shard = block(scene.submit(GRADIENTS), 0)
        for worker_id in (" ", "a b", "x" * 101, "x\n", "x\x1b[2J", "é", LARGE):
            liar = scene.liar(worker_id)
            with case(worker_id[:20]):
                with refused():
                    liar.session()
                with refused():
                    liar.upload(shard, moments(DIMENSION, COUNT))
                with refused():
                    list(liar.read(digest=digest(b""), worker_id=worker_id))


def test_a_hello_that_is_refused(scene: Scene) -> None:
    with scene.lie("hello", "hello with 0 and 2^32 - 1 lanes and protocol versions, and without an id or a class"):
        scene.submit(GRADIENTS)
        changes: list[dict[str, Any]] = [{key: value} for key in ("lanes", "protocol_version") for value in (0, U32)]
        changes += [{"worker_id": ""}, {"numerics_class": None}]
        for change in changes:
            with case(str(change)), refused(INVALID, UNFIT):
                scene.liar().session(**change)


def test_as_many_lanes_as_may_be(scene: Scene) -> None:
    """It is given the whole sweep and does nothing; its lanes are taken to hang."""
    with scene.lie("1,024 lanes", "hello with 1,024 lanes; nothing is computed"):
        scene.leased(scene.liar("!"), GRADIENTS, lanes=1024)
        scene.complete()


# What it says it has


def test_ten_thousand_held_shards(scene: Scene) -> None:
    """A worker that comes back names what it holds: what is not true is revoked, and what it does not compute goes to others."""
    with scene.lie(
        "held shards", "hello with 11,600 shards, all shards of a sweep among them, and then heartbeats alone"
    ):
        liar = scene.liar()
        with scene.honest_stopped():
            sweep = scene.submit(GRADIENTS)
            held = [v1.Shard(sweep_id=sweep, job=n // SHARDS, first_block=n % SHARDS, blocks=1) for n in range(10_000)]
            with suppress(grpc.RpcError):
                liar.session(held=held + held[:SHARDS] * 100).stay_alive()
        scene.complete()


def test_hello_twice(scene: Scene) -> None:
    with scene.lie("hello twice", "a second hello in the session"):
        liar = scene.liar()
        session, _ = scene.leased(liar, GRADIENTS)
        session.say(hello=liar.hello(name="another"))
        with pytest.raises((EOFError, grpc.RpcError)):
            session.hear("answer")


def test_no_hello(scene: Scene) -> None:
    with scene.lie(
        "no hello", "250 sessions that begin with a heartbeat, a result, a goodbye, with nothing, or not at all"
    ):
        scene.submit(GRADIENTS)
        liar = scene.liar()
        firsts = [
            v1.SessionRequest(heartbeat=v1.Heartbeat()),
            v1.SessionRequest(result=v1.ShardResult(data=bytes(100_000))),
            v1.SessionRequest(goodbye=v1.Goodbye()),
            v1.SessionRequest(),
            None,
        ]
        sessions = [(first, liar.begin(first)) for first in firsts * 50]
        for first, session in sessions:
            if first is not None:
                with refused():
                    session.hear("welcome")
        for _, session in sessions:
            session.break_off()


#: Of a shard that is the liar's, and of one that is not.
FLOODS: dict[str, Callable[[v1.Shard, v1.Shard], dict[str, Any]]] = {
    "heartbeats": lambda _own, _other: {"heartbeat": v1.Heartbeat()},
    "progress": lambda _, other: {"progress": v1.Progress(shard=other, blocks_done=1)},
    "failures": lambda _, other: {"failure": v1.Failure(shard=other, message="no " * 600)},
    "refused results": lambda own, _: {"result": v1.ShardResult(shard=own, data=b"no", digest="no")},
    "unneeded results": lambda _, other: {"result": v1.ShardResult(shard=other, data=b"no", digest="no")},
    "draining": lambda _own, _other: {"draining": v1.Draining()},
}


@pytest.mark.parametrize("kind", FLOODS)
def test_floods(scene: Scene, kind: str) -> None:
    """As many messages as the connection takes."""
    with scene.lie(f"a flood of {kind}", f"2,000 {kind}"):
        session, own = scene.leased(scene.liar(), GRADIENTS)
        message = FLOODS[kind](own, block(own.sweep_id, (own.first_block + 1) % SHARDS))
        for _ in range(2_000):
            session.say(**message)
        eventually(session.has_said_all, "all is said", WITHIN)
        session.leave()


NO_PROGRESS: list[dict[str, Any]] = [
    {"blocks_done": U64},
    {"fraction": math.nan},
    {"fraction": math.inf},
    {"fraction": -1e308},
    {"seconds": 1.7e308, "begin_seconds": 1.7e308, "fraction": 0.1},
    {"seconds": math.nan, "begin_seconds": math.inf, "fraction": 0.2},
    {"seconds": -1.0, "fraction": 5e-324},
]


def test_progress_that_cannot_be(scene: Scene) -> None:
    """What everybody is shown stays a share, a count and a time."""
    with scene.lie("progress", "2^64 - 1 blocks done, fractions and seconds that are NaN, infinite, negative, huge"):
        session, own = scene.leased(scene.liar(), TRAINING)
        for progress in NO_PROGRESS:
            for first in range(RUNS):
                session.say(progress=v1.Progress(shard=block(own.sweep_id, first), **progress))
            with case(str(progress)):
                status = scene.cluster.status(own.sweep_id)
                [job] = status["jobs"]
                assert 0 <= status["progress"] <= 1
                assert 0 <= job["progress"] <= 1
                assert 0 <= job["members_done"] + job["members_in_flight"] <= job["members"]
                assert status["seconds_left"] is None or 0 <= status["seconds_left"] < 86_400
        session.leave()


def test_progress_without_end(scene: Scene) -> None:
    """It always gets on and never ends: somebody else computes it besides."""
    with scene.lie("progress without end", "a fraction that grows by 1e-9 for as long as the sweep runs"):
        session, shard = scene.leased(scene.liar(), GRADIENTS)
        until = time.monotonic() + WITHIN
        fraction = 0.0
        while not scene.has_ended(shard.sweep_id):
            assert time.monotonic() < until, json.dumps(scene.cluster.status(shard.sweep_id), indent=2)
            fraction += 1e-9
            session.say(progress=v1.Progress(shard=shard, fraction=fraction, seconds=fraction))
            time.sleep(0.05)


def test_computed_and_never_reported(scene: Scene) -> None:
    """Each lane is said to be free at once: it must not be given all shards of the sweep for as long as it beats."""
    with scene.lie("computed, and nothing more", "Computed for every shard that it is given, and heartbeats"):
        session, shard = scene.leased(scene.liar("!"), TRAINING)
        with suppress(TimeoutError, EOFError):
            while True:
                session.say(computed=v1.Computed(shard=shard))
                shard = session.hear("assignment", 0.5).shard
        scene.complete()


def test_failed_for_every_shard(scene: Scene) -> None:
    """One worker's failures do not put shards aside for good while another could compute them."""
    with scene.lie("failed", "a failure, of every kind that is tried again, for every shard that it is given"):
        session, shard = scene.leased(scene.liar("!"), GRADIENTS)
        kinds: list[Any] = [v1.FAILURE_KIND_TASK, v1.FAILURE_KIND_TRANSIENT, v1.FAILURE_KIND_UNSPECIFIED, 99]
        for turn in range(200):
            session.say(failure=v1.Failure(shard=shard, kind=kinds[turn % 4], message=f"failure {turn}"))
            try:
                shard = session.hear("assignment", 0.5).shard
            except TimeoutError:
                break
        scene.complete()
        session.leave()


def test_six_names_that_fail_everything(scene: Scene) -> None:
    """Whoever has a token has as many ids as it likes: failures of them alone do not put a shard aside for good."""
    with scene.lie(
        "six names",
        "six sessions of one token that fail every shard that they are given, before anybody has computed one",
    ):
        names = [f"!{n}" for n in range(6)]
        with scene.honest_stopped():
            sessions = [scene.liar(name).session(lanes=SHARDS) for name in names]
            scene.submit(GRADIENTS)

            def fail_all(session: Session) -> None:
                with suppress(grpc.RpcError, EOFError, TimeoutError):
                    while True:
                        shard = session.hear("assignment", 3.0).shard
                        session.say(failure=v1.Failure(shard=shard, kind=v1.FAILURE_KIND_TASK, message="no"))

            threads = [threading.Thread(target=fail_all, args=(session,), daemon=True) for session in sessions]
            for thread in threads:
                thread.start()
            time.sleep(1.0)
        for thread in threads:
            thread.join(WITHIN)
        for session in sessions:
            session.break_off()


def test_a_worker_that_comes_and_goes(scene: Scene) -> None:
    """What was lost with a worker goes to another, if there is one, and not to the same again."""
    with scene.lie("a worker that comes and goes", "hello again after each assignment: what was given is lost"):
        liar = scene.liar("!")
        session, shard = scene.leased(liar, GRADIENTS, lanes=8)
        until = time.monotonic() + WITHIN
        while not scene.has_ended(shard.sweep_id):
            assert time.monotonic() < until, scene.cluster.nadgrid("explain", shard.sweep_id)
            session.break_off()
            session = liar.session(lanes=8)
            with suppress(TimeoutError):
                session.hear("assignment", 0.3)
        session.break_off()


def test_a_sound_spec_that_is_said_to_be_wrong(scene: Scene) -> None:
    """A worker that finds a spec wrong may end its sweep: then its user is told whose word that was, and submits it again."""
    with scene.lie(
        "a failure of the spec", "Failure of kind SPEC for a sweep that is fine, of 100 kB in control characters"
    ):
        session = scene.liar().session()
        sweep = scene.submit(TRAINING, waited_for=False)
        message = PAINT + LARGE[:100_000]
        session.say(failure=v1.Failure(shard=session.shard(), kind=v1.FAILURE_KIND_SPEC, message=message))
        eventually(lambda: scene.has_ended(sweep), "the sweep ends", WITHIN)
        status = scene.cluster.status(sweep)
        assert_harmless("status", *texts(status))
        if status["state"] != "complete":
            assert status["state"] == "failed"
            assert len(status["message"]) < 4096
            assert "liar" in status["message"], "nobody is named"
        scene.submit(TRAINING)
        session.leave()


def test_a_spec_is_wrong_only_to_whom_it_was_given(scene: Scene) -> None:
    with scene.lie("a failure of another's shard", "failures of all kinds for shards that it does not have"):
        session = scene.liar().session(precisions=[])
        with scene.honest_stopped():
            sweep = scene.submit(TRAINING)
            for first in range(RUNS):
                for kind in (v1.FAILURE_KIND_SPEC, v1.FAILURE_KIND_UNFIT, v1.FAILURE_KIND_TASK):
                    session.say(failure=v1.Failure(shard=block(sweep, first), kind=kind, message="no"))
        session.leave()


def test_draining_and_asking_for_more(scene: Scene) -> None:
    with scene.lie("draining", "Draining, and then Computed, Progress and heartbeats, to be given more"):
        session = scene.liar("!").session()
        session.say(draining=v1.Draining())
        eventually(lambda: '"draining": true' in scene.cluster.nadgrid("workers", "--json"), "it drains")
        shard = block(scene.submit(GRADIENTS), 0)
        for _ in range(10):
            session.say(computed=v1.Computed(shard=shard))
            session.say(progress=v1.Progress(shard=shard))
            session.say(heartbeat=v1.Heartbeat())
        with pytest.raises(TimeoutError):
            session.hear("assignment", 0.5)
        session.leave()


# Checkpoints


NO_CHECKPOINTS: dict[str, dict[str, Any]] = {
    "more members than the shard has": {"members_done": 2},
    "2^64 - 1 members": {"members_done": U64},
    "larger than any": {"size": 1 << 40},
    "another size": {"size": 7},
    "another digest": {"digest": digest(b"another")},
    "no digest": {"digest": PAINT},
    "a large digest": {"digest": "f" * 60_000},
}


def test_a_checkpoint_that_is_refused(scene: Scene) -> None:
    with scene.lie("a checkpoint", "checkpoints of 2^64 - 1 members, of 1 TiB, of another size and digest"):
        liar = scene.liar()
        session, shard = scene.leased(liar, TRAINING)
        for name, change in NO_CHECKPOINTS.items():
            with case(name), refused(INVALID, DAMAGED):
                liar.checkpoint(shard, bytes(100), **change)
        session.leave()


def test_a_checkpoint_of_nothing(scene: Scene) -> None:
    """Its bytes mean nothing, it is farther than any, and the shard goes to the honest worker: that begins again."""
    with scene.lie(
        "a checkpoint of nothing", "bytes that are no checkpoint, with all members and 2^32 - 1 epochs done"
    ):
        liar = scene.liar()
        payloads = [b"", b"NADCKPT1", bytes(100), b"\xff" * 200]
        session, shard = scene.leased(liar, TRAINING, lanes=len(payloads))
        for number, payload in enumerate(payloads):
            with suppress(grpc.RpcError):
                liar.checkpoint(shard, payload, members_done=number % 2, epochs=U32)
            if number + 1 < len(payloads):
                shard = session.shard()
        session.leave()


def test_checkpoints_without_a_lease(scene: Scene) -> None:
    """They are not kept: a disk is not filled with what nobody asked for."""
    with scene.lie("checkpoints without a lease", "100 checkpoints of shards that it does not have"):
        liar = scene.liar()
        with scene.honest_stopped():
            sweep = scene.submit(TRAINING)
            before = artifact_bytes(scene.cluster)
            with suppress(grpc.RpcError):
                for n in range(100):
                    assert not liar.checkpoint(block(sweep, n % RUNS), n.to_bytes(200, "little"))
            left = artifact_bytes(scene.cluster) - before
        assert left < 2_000, f"{left} bytes are left"


def artifact_bytes(cluster: Cluster) -> int:
    """Bytes of the artifacts on disk."""
    return sum(path.stat().st_size for path in (cluster.folder / "data" / "artifacts").rglob("*") if path.is_file())


# How it uploads


def test_bytes_before_their_grant(scene: Scene) -> None:
    with scene.lie("bytes without a grant", "a header and 16 MiB, without waiting for a grant"):
        liar = scene.liar()
        session, shard = scene.leased(liar, GRADIENTS)
        upload = liar.offer()
        upload.say(header=liar.header(shard, moments(DIMENSION, COUNT)))
        for _ in range(16):
            upload.say(data=bytes(1 << 20))
        with refused(INVALID, DAMAGED):
            while True:
                assert upload.answer().WhichOneof("message") == "grant"
        session.leave()


WRONG_PARTS: dict[str, list[dict[str, Any]]] = {
    "more bytes than granted": [{"data": moments(DIMENSION, COUNT)}, {"data": b"x"}],
    "far more bytes than granted": [{"data": bytes(1 << 20)}] * 64,
    "no bytes": [{"data": b""}],
    "a second header": [{"header": v1.PartialHeader()}],
    "stored, where no address was given": [{"stored": v1.Stored()}],
    "unreachable, where no address was given": [{"store_unreachable": v1.StoreUnreachable(message=PAINT)}],
    "nothing at all": [{}],
    "an end too early": [],
}


def test_an_upload_that_goes_wrong(scene: Scene) -> None:
    with scene.lie(
        "an upload", "after the grant: 64 MiB for 1 kB, no bytes, a second header, Stored without an address, nothing"
    ):
        liar = scene.liar()
        session, shard = scene.leased(liar, GRADIENTS)
        for name, parts in WRONG_PARTS.items():
            with case(name):
                upload = liar.offer()
                upload.say(header=liar.header(shard, moments(DIMENSION, COUNT)))
                assert upload.answer().WhichOneof("message") == "grant"
                for part in parts:
                    upload.say(**part)
                upload.end()
                with refused(INVALID, DAMAGED):
                    upload.answer()
        session.leave()


WRONG_HEADERS: dict[str, dict[str, Any]] = {
    "another size": {"size": 7},
    "2^64 - 1 bytes": {"size": U64},
    "no class": {"numerics_class": None},
    "another class": {"numerics_class": v1.NumericsClass(device="made-up", arithmetic=PAINT)},
    "a large header": {"steps": [v1.Step(name="x" * 1000)] * 3900},
}


def test_a_header_that_is_refused(scene: Scene) -> None:
    with scene.lie("a header", "headers of another size, of 2^64 - 1 bytes, without a class, with another, of 3.9 MB"):
        liar = scene.liar()
        session, shard = scene.leased(liar, GRADIENTS)
        for name, change in WRONG_HEADERS.items():
            with case(name), refused():
                liar.upload(shard, moments(DIMENSION, COUNT), **change)
        session.leave()


def test_places_that_are_not_used(scene: Scene) -> None:
    """There are so many places for uploads: whoever has no lease gets none, and others do not wait for them."""
    with scene.lie("grants that are not used", "64 uploads of 64 made-up workers, none of which sends its bytes"):
        with scene.honest_stopped():
            sweep = scene.submit(GRADIENTS)
            uploads = []
            for n in range(64):
                liar = scene.liar(f"liar-{n}")
                uploads.append(liar.offer())
                uploads[-1].say(header=liar.header(block(sweep, n % SHARDS), moments(DIMENSION, COUNT)))
            time.sleep(0.3)
        eventually(lambda: scene.has_ended(sweep), "others have places", 5.0)
        for upload in uploads:
            upload.cancel()


def test_twenty_liars_at_once(scene: Scene) -> None:
    """Each of them tells many lies, while the honest worker computes."""
    with scene.lie("twenty liars", "20 sessions at once that report progress, failures and partials that are none"):
        sweep = scene.submit(GRADIENTS)

        def lie_for_a_while(liar: Liar, number: int) -> None:
            with suppress(grpc.RpcError, EOFError, TimeoutError):
                session = liar.session(name=PAINT, lanes=4)
                for turn in range(10):
                    shard = block(sweep, (turn + number) % SHARDS)
                    session.say(progress=v1.Progress(shard=shard, blocks_done=U64, fraction=math.nan))
                    session.say(computed=v1.Computed(shard=shard))
                    session.say(failure=v1.Failure(shard=shard, kind=v1.FAILURE_KIND_TASK, message=PAINT))
                    with suppress(grpc.RpcError):
                        liar.upload(shard, moments(DIMENSION, COUNT, math.nan))
                session.leave()

        liars = [scene.liar(f"liar-{n}") for n in range(20)]
        threads = [
            threading.Thread(target=lie_for_a_while, args=each, daemon=True)
            for each in zip(liars, range(20), strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WITHIN)
