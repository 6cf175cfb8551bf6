"""Lies of a worker that has a token, in what it uploads: checkpoints, bytes without a grant, parts and headers.

Each test tells one kind of lie beside an honest worker, which computes the same sweep; ``Scene.lie`` says what must hold.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import grpc
from cluster import Cluster
from nadgrid.v1 import nadgrid_pb2 as v1

from liar import digest, moments
from measure import eventually
from scene import (
    COUNT,
    DAMAGED,
    DIMENSION,
    GRADIENTS,
    INVALID,
    PAINT,
    RUNS,
    SHARDS,
    SHORT_LIVED,
    TRAINING,
    U32,
    U64,
    Scene,
    block,
    case,
    refused,
)

COORDINATOR = SHORT_LIVED

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
    with scene.lying(
        "a checkpoint", "checkpoints of 2^64 - 1 members, of 1 TiB, of another size and digest", TRAINING
    ) as (liar, session, shard):
        for name, change in NO_CHECKPOINTS.items():
            with case(name), refused(INVALID, DAMAGED):
                liar.checkpoint(shard, bytes(100), **change)


def test_a_checkpoint_of_nothing(scene: Scene) -> None:
    """Its bytes mean nothing, it is farther than any, and the shard goes to the honest worker: that begins again."""
    payloads = [b"", b"NADCKPT1", bytes(100), b"\xff" * 200]
    with scene.lying(
        "a checkpoint of nothing",
        "bytes that are no checkpoint, with all members and 2^32 - 1 epochs done",
        TRAINING,
        slots=len(payloads),
    ) as (liar, session, shard):
        for number, payload in enumerate(payloads):
            with suppress(grpc.RpcError):
                liar.checkpoint(shard, payload, members_done=number % 2, epochs=U32)
            if number + 1 < len(payloads):
                shard = session.shard()


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


def test_bytes_before_their_grant(scene: Scene) -> None:
    with scene.lying("bytes without a grant", "a header and 16 MiB, without waiting for a grant", GRADIENTS) as (
        liar,
        session,
        shard,
    ):
        upload = liar.offer()
        upload.say(header=liar.header(shard, moments(DIMENSION, COUNT)))
        for _ in range(16):
            upload.say(data=bytes(1 << 20))
        with refused(INVALID, DAMAGED):
            while True:
                assert upload.answer().WhichOneof("message") == "grant"


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
    with scene.lying(
        "an upload",
        "after the grant: 64 MiB for 1 kB, no bytes, a second header, Stored without an address, nothing",
        GRADIENTS,
    ) as (liar, session, shard):
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


WRONG_HEADERS: dict[str, dict[str, Any]] = {
    "another size": {"size": 7},
    "2^64 - 1 bytes": {"size": U64},
    "no class": {"numerics_class": None},
    "another class": {"numerics_class": v1.NumericsClass(device="made-up", arithmetic=PAINT)},
    "a large header": {"steps": [v1.Step(name="x" * 1000)] * 3900},
}


def test_a_header_that_is_refused(scene: Scene) -> None:
    with scene.lying(
        "a header", "headers of another size, of 2^64 - 1 bytes, without a class, with another, of 3.9 MB", GRADIENTS
    ) as (liar, session, shard):
        for name, change in WRONG_HEADERS.items():
            with case(name), refused():
                liar.upload(shard, moments(DIMENSION, COUNT), **change)


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
