"""What an attack is aimed at, and the list of those that any coordinator can be exposed to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import blake3
import grpc
from bystander import token_of
from cluster import Cluster
from nadgrid.v1.nadgrid_pb2 import InputHeader, UploadInputRequest
from nadgrid.v1.nadgrid_pb2_grpc import SweepServiceStub

#: The user as which attackers come.
ATTACKERS = "mallory"
#: Bytes of a file in one message.
CHUNK = 64 << 10


@dataclass
class Target:
    """A coordinator, as an attacker knows it."""

    #: Host and port.
    address: str
    #: The attacker's own token, of a user.
    token: str
    #: A worker's token that fell into the attacker's hands.
    worker_token: str
    #: A sweep of the attacker's own that is paused, and one that is complete.
    sweep: str = ""
    complete: str = ""
    #: Digest of a file that the attacker has uploaded.
    file: str = ""

    @classmethod
    def of(cls, cluster: Cluster) -> Target:
        user, worker = cluster.token(ATTACKERS), cluster.token("tests", role="worker")
        return cls(cluster.address, token_of(user), token_of(worker))

    @classmethod
    def furnished(cls, cluster: Cluster) -> Target:
        """With sweeps and a file, for which a worker comes and goes."""
        target = cls.of(cluster)
        with grpc.insecure_channel(target.address) as channel:
            target.file = upload(SweepServiceStub(channel), target.token, bytes(8 << 20))
        changes = ("nads.networks=16", "nads.block_size=16", "input={height=16, width=16}")
        target.complete = cluster.submit("lenet.toml", *changes, token=ATTACKERS)
        worker = cluster.add_worker("--slots", "1")
        cluster.wait(target.complete)
        assert worker.stop() == 0
        cluster.workers.remove(worker)
        target.sweep = cluster.submit("lenet.toml", token=ATTACKERS)
        cluster.nadgrid("pause", target.sweep, token=ATTACKERS)
        return target


def upload(stub: SweepServiceStub, token: str, data: bytes) -> str:
    """Uploads a file as any client does; its digest."""
    digest = blake3.blake3(data).hexdigest()
    granted = threading.Event()

    def parts() -> Iterator[UploadInputRequest]:
        yield UploadInputRequest(header=InputHeader(size=len(data), digest=digest))
        granted.wait()
        for at in range(0, len(data), CHUNK):
            yield UploadInputRequest(data=data[at : at + CHUNK])

    try:
        for response in stub.UploadInput(parts(), metadata=metadata(token), timeout=60):
            if response.HasField("grant"):
                granted.set()
            else:
                return digest
    finally:
        # Whoever waits for a grant that does not come is let go.
        granted.set()
    raise AssertionError("the upload was not answered")


def metadata(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


@dataclass
class NamedAttack:
    """An attack by its name in the table."""

    name: str
    #: Attacks, and says what it has sent.
    run: Callable[[Target], str]


#: All that are named with ``attack``, in their order.
ATTACKS: list[NamedAttack] = []


def naming(attacks: list[NamedAttack]) -> Callable[[str], Callable[[Callable[[Target], str]], Callable[[Target], str]]]:
    """A decorator that names an attack and adds it to these, for the tests that go through them all."""

    def attack(name: str) -> Callable[[Callable[[Target], str]], Callable[[Target], str]]:
        def take(run: Callable[[Target], str]) -> Callable[[Target], str]:
            attacks.append(NamedAttack(name, run))
            return run

        return take

    return attack


attack = naming(ATTACKS)
