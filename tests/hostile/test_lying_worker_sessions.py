"""Lies of a worker that has a token, in its session: what it is, what it holds, how far it is, and that it has failed.

Each test tells one kind of lie beside an honest worker, which computes the same sweep; ``Scene.lie`` says what must hold.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
import pytest
from nadgrid.v1 import nadgrid_pb2 as v1

from liar import Liar, Session, digest, moments
from measure import eventually
from scene import (
    COUNT,
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
    UNFIT,
    WITHIN,
    Scene,
    assert_harmless,
    block,
    case,
    refused,
    texts,
)

COORDINATOR = SHORT_LIVED

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
        session, first = scene.leased(liar, GRADIENTS, name=PAINT, version=PAINT, precisions=["fp32", PAINT], slots=2)
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
    with scene.lie("hello", "hello with 0 and 2^32 - 1 slots and protocol versions, and without an id or a class"):
        scene.submit(GRADIENTS)
        changes: list[dict[str, Any]] = [{key: value} for key in ("slots", "protocol_version") for value in (0, U32)]
        changes += [{"worker_id": ""}, {"numerics_class": None}]
        for change in changes:
            with case(str(change)), refused(INVALID, UNFIT):
                scene.liar().session(**change)


def test_as_many_slots_as_may_be(scene: Scene) -> None:
    """It is given the whole sweep and does nothing; its slots are taken to hang."""
    with scene.lie("1,024 slots", "hello with 1,024 slots; nothing is computed"):
        scene.leased(scene.liar("!"), GRADIENTS, slots=1024)
        scene.complete()


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
    """Each slot is said to be free at once: it must not be given all shards of the sweep for as long as it beats."""
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
        over = threading.Event()

        def fail_all(session: Session) -> None:
            with suppress(grpc.RpcError, EOFError):
                while not over.is_set():
                    with suppress(TimeoutError):
                        shard = session.hear("assignment", 0.2).shard
                        session.say(failure=v1.Failure(shard=shard, kind=v1.FAILURE_KIND_TASK, message="no"))

        with scene.honest_stopped():
            sessions = [scene.liar(name).session(slots=SHARDS) for name in names]
            sweep = scene.submit(GRADIENTS)
            threads = [threading.Thread(target=fail_all, args=(session,), daemon=True) for session in sessions]
            for thread in threads:
                thread.start()
            time.sleep(1.0)
        try:
            eventually(lambda: scene.has_ended(sweep), "the sweep ends", WITHIN)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        for session in sessions:
            session.break_off()


def test_a_worker_that_comes_and_goes(scene: Scene) -> None:
    """What was lost with a worker goes to another, if there is one, and not to the same again."""
    with scene.lie("a worker that comes and goes", "hello again after each assignment: what was given is lost"):
        liar = scene.liar("!")
        session, shard = scene.leased(liar, GRADIENTS, slots=8)
        until = time.monotonic() + WITHIN
        while not scene.has_ended(shard.sweep_id):
            assert time.monotonic() < until, scene.cluster.nadgrid("explain", shard.sweep_id)
            session.break_off()
            session = liar.session(slots=8)
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


def test_twenty_liars_at_once(scene: Scene) -> None:
    """Each of them tells many lies, while the honest worker computes."""
    with scene.lie("twenty liars", "20 sessions at once that report progress, failures and partials that are none"):
        sweep = scene.submit(GRADIENTS)

        def lie_for_a_while(liar: Liar, number: int) -> None:
            with suppress(grpc.RpcError, EOFError, TimeoutError):
                session = liar.session(name=PAINT, slots=4)
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
