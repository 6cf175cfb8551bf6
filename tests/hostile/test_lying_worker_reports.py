"""Lies of a worker that has a token, in what it reports: how long it took, whose it is, of which shard, and what it yielded.

Each test tells one kind of lie beside an honest worker, which computes the same sweep; ``Scene.lie`` says what must hold.
Deliberately absent: a result that has the right form and wrong numbers, from whoever was given its shard. Against that there
are ``audit`` and ``nadgrid verify``.
"""

from __future__ import annotations

import json
import math
import sqlite3
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from blake3 import blake3
from nadgrid.v1 import nadgrid_pb2 as v1

from liar import Liar, digest, moments, runs
from measure import eventually
from scene import (
    COUNT,
    DAMAGED,
    DENIED,
    DIMENSION,
    GRADIENTS,
    INVALID,
    LARGE,
    PAINT,
    RUNS,
    SHARDS,
    SHORT_LIVED,
    TRAINING,
    U32,
    U64,
    WITHIN,
    Scene,
    assert_refused,
    block,
    case,
    refused,
    wrong_runs,
)

COORDINATOR = SHORT_LIVED

NO_DURATIONS = [1.7e308, math.inf, math.nan, -1.0]


def test_seconds_in_the_session(scene: Scene) -> None:
    """Twice the largest number for shards of one job: a sum of them must stay one that the journal can hold."""
    times = [1.7e308, *NO_DURATIONS]
    with scene.lying(
        "seconds",
        "right results that took 1.7e308 s (twice), infinite, NaN and -1 s, in the session",
        TRAINING,
        slots=len(times),
    ) as (liar, session, first):
        for shard, seconds in zip([first, *(session.shard() for _ in times[1:])], times, strict=True):
            said = {"seconds": seconds, "begin_seconds": seconds}
            assert session.result(shard, scene.true_runs(shard), liar.numerics, **said).verdict == v1.VERDICT_COMMITTED


def test_seconds_of_uploads(scene: Scene) -> None:
    times = [1.7e308, *NO_DURATIONS]
    with scene.lying(
        "seconds of uploads",
        "right results that took 1.7e308 s (twice), infinite, NaN and -1 s, uploaded",
        TRAINING,
        slots=len(times),
    ) as (liar, session, first):
        for shard, seconds in zip([first, *(session.shard() for _ in times[1:])], times, strict=True):
            said = {"seconds": seconds, "begin_seconds": seconds}
            assert liar.upload(shard, scene.true_runs(shard), **said) == v1.VERDICT_COMMITTED


def test_runs_that_took_for_ever(scene: Scene) -> None:
    """The duration within a result is no part of its digest, and is shown in its table."""
    with scene.lying(
        "seconds within a result", "training runs of 1.7e308, infinite, NaN and -1 s", TRAINING, slots=4
    ) as (liar, session, first):
        for shard, seconds in zip([first, *(session.shard() for _ in range(3))], NO_DURATIONS, strict=True):
            outcome = [*scene.truth.outcomes[shard.first_block][:6], seconds]
            session.result(shard, runs(outcome), liar.numerics)


def test_more_seconds_before_the_first_block_than_in_all(scene: Scene) -> None:
    with scene.lying("begin_seconds", "a right result of 1 s, 1e300 of them before its first block", TRAINING) as (
        liar,
        session,
        shard,
    ):
        session.result(shard, scene.true_runs(shard), liar.numerics, seconds=1.0, begin_seconds=1e300)


def test_the_journal_is_compacted_after_a_lie(scene: Scene) -> None:
    """A snapshot holds sums of what was reported; it replaces all that could be read before."""
    with scene.lie(
        "a snapshot of lies", "results of 1.7e308 s, and then so many records that the journal is compacted"
    ):
        liar = scene.liar()
        session, first = scene.leased(liar, TRAINING, slots=2)
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
    with scene.lying(
        "no such shard",
        "everything a worker can say, of 11 shards outside the sweep, unaligned, of 2^64 - 1 blocks",
        GRADIENTS,
    ) as (liar, session, own):
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
    with scene.lying(
        "no partial",
        "16 payloads that are no partial: NaN, infinite, of another shape or file, cut off, too long",
        GRADIENTS,
    ) as (liar, session, shard):
        for name, payload in NO_GRADIENTS.items():
            with case(name):
                if len(payload) <= 1024:
                    assert_refused(session.result(shard, payload, liar.numerics))
                with refused():
                    liar.upload(shard, payload)


#: Mean and scatter.
HUGE = {
    "a mean of 1e308": (1e308, 0.0),
    "a mean of -1e308": (-1e308, 0.0),
    "a scatter of 1.7e308": (0.0, 1.7e308),
    "both": (1.7e308, 1.7e308),
}


def test_finite_moments_whose_sum_is_not(scene: Scene) -> None:
    """Each number is finite, and what they merge to is not: whoever reported it is told, and others compute it."""
    with scene.lying(
        "huge moments", "eight partials of means of ±1e308 and scatters of 1.7e308", GRADIENTS, slots=2 * len(HUGE)
    ) as (liar, session, first):
        shards = [first, *(session.shard() for _ in range(2 * len(HUGE) - 1))]
        for shard, numbers in zip(shards, [*HUGE.values()] * 2, strict=True):
            with suppress(grpc.RpcError):
                liar.upload(shard, moments(DIMENSION, COUNT, *numbers))


def test_a_worker_that_keeps_on_lying(scene: Scene) -> None:
    """Whatever it is given, it reports numbers that overflow: it is not given the same for ever."""
    with scene.lying(
        "huge moments, for ever", "a partial of mean 1e308 for every shard that it is given", GRADIENTS
    ) as (liar, session, shard):
        until = time.monotonic() + WITHIN
        while not scene.has_ended(shard.sweep_id):
            assert time.monotonic() < until, json.dumps(scene.cluster.status(shard.sweep_id), indent=2)
            with suppress(grpc.RpcError):
                liar.upload(shard, moments(DIMENSION, COUNT, 1e308, 1e308))
            with suppress(TimeoutError):
                shard = session.hear("assignment", 0.2).shard


NO_RUNS = {
    "NaN accuracies": [math.nan, 50.0, 0.5, 0.5, 2.0, 0.0, 0.0],
    "101 percent": [101.0, 50.0, 0.5, 0.5, 2.0, 0.0, 0.0],
    "infinite loss": [50.0, 50.0, math.inf, 0.5, 2.0, 0.0, 0.0],
    "half an epoch": [50.0, 50.0, 0.5, 0.5, 0.5, 0.0, 0.0],
    "NaN epochs": [50.0, 50.0, 0.5, 0.5, math.nan, 0.0, 0.0],
    "a step before the first": [math.nan] * 4 + [2.0, -1.0, 0.0],
}


def test_what_no_training_yields(scene: Scene) -> None:
    with scene.lying("no training run", "six runs that cannot be: 101 %, NaN, half an epoch", TRAINING) as (
        liar,
        session,
        shard,
    ):
        for name, outcome in NO_RUNS.items():
            with case(name):
                assert_refused(session.result(shard, runs(outcome), liar.numerics))
                with refused():
                    liar.upload(shard, runs(outcome))


UNTRAINED = {
    "more epochs than are trained": [50.0, 50.0, 0.5, 0.5, 4e9, 0.0, 0.0],
    "a step behind the last": [math.nan] * 4 + [2.0, 8e15, 0.0],
}


def test_a_run_beyond_its_recipe(scene: Scene) -> None:
    """The spec says how many epochs and steps a run has."""
    with scene.lying(
        "a run beyond its recipe", "a run of 4e9 epochs of 2, and one that diverged at step 8e15 of 4", TRAINING
    ) as (liar, session, shard):
        for name, outcome in UNTRAINED.items():
            with case(name):
                assert_refused(session.result(shard, runs(outcome), liar.numerics))


NO_DIGESTS = {"another's": digest(b"another"), "short": "ab", "none": "", "to be obeyed": PAINT, "large": "f" * 60_000}


def test_a_wrong_digest(scene: Scene) -> None:
    with scene.lying(
        "a wrong digest", "right results with another digest, none, one in control characters, one of 60 kB", TRAINING
    ) as (liar, session, shard):
        payload = scene.true_runs(shard)
        for name, wrong in NO_DIGESTS.items():
            with case(name):
                assert_refused(session.result(shard, payload, liar.numerics, digest=wrong))
                with refused(DAMAGED, INVALID):
                    liar.upload(shard, payload, digest=wrong)


def test_large_results_in_the_session(scene: Scene) -> None:
    """A message may have 4 MB; the log, memory and answers have room for less."""
    with scene.lying("large results", "30 results with a digest, data, or a step's name of 3.9 MB", TRAINING) as (
        liar,
        session,
        shard,
    ):
        payload = scene.true_runs(shard)
        changes: list[dict[str, Any]] = [
            {"digest": LARGE},
            {"data": LARGE.encode()},
            {"digest": "", "steps": [v1.Step(name=LARGE)]},
        ]
        for change in changes * 10:
            assert_refused(session.result(shard, payload, liar.numerics, **change))


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
    with scene.lying(
        "steps",
        "right results with steps of 2^64 µs, backwards, in control characters, 1,000 of them",
        TRAINING,
        slots=len(STEPS),
    ) as (liar, session, first):
        shards = [first, *(session.shard() for _ in range(len(STEPS) - 1))]
        for number, (shard, (name, steps)) in enumerate(zip(shards, STEPS.items(), strict=True)):
            with case(name):
                if number % 2:
                    session.result(shard, scene.true_runs(shard), liar.numerics, steps=steps)
                else:
                    liar.upload(shard, scene.true_runs(shard), steps=steps)
