"""Attacks on the handshake of a coordinator with TLS: each by itself, and then for its places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack

import pytest
from authority import LOOPBACK, Authority
from cluster import Cluster, clusters
from conftest import USERS
from guard import Attack, Guard
from handshakes import ATTACKS, TlsLine
from measure import eventually
from test_places import FEW, PATIENCE, take_all
from wire import ACCOMPLICE, ATTACKER, PREFACE, Line, settings

from target import NamedAttack, Target


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """Those of a coordinator with a certificate, and those of its clients."""
    authority = Authority(tmp_path_factory.mktemp("authority"), "authority")
    certificate, key = authority.sign("grid", LOOPBACK)
    return ["--tls-certificate", str(certificate), "--tls-key", str(key)], ["--tls-ca", str(authority.file)]


@pytest.fixture(scope="module")
def coordinator(arguments: tuple[list[str], list[str]]) -> Iterator[Cluster]:
    serve, access = arguments
    for cluster in clusters(*serve, tokens=USERS):
        cluster.access = access
        yield cluster


@pytest.fixture(scope="module")
def target(coordinator: Cluster) -> Target:
    """Without sweeps: no attack gets as far as to ask for one."""
    return Target.of(coordinator)


@pytest.mark.parametrize("named", ATTACKS, ids=lambda named: named.name.removeprefix("TLS: "))
def test_attack(named: NamedAttack, guarded: Callable[..., AbstractContextManager[Attack]], target: Target) -> None:
    with guarded(named.name) as attack:
        attack.sent = named.run(target)


@pytest.fixture(scope="module")
def narrow(arguments: tuple[list[str], list[str]]) -> Iterator[Guard]:
    """A coordinator with few places, and its guard."""
    serve, access = arguments
    for cluster in clusters(*serve, *FEW, tokens=USERS):
        cluster.access = access
        with Guard(cluster) as guard:
            yield guard


def say_nothing(address: str, source: str) -> Line:
    return Line(address, source)


def say_half_a_hello(address: str, source: str) -> Line:
    line = TlsLine(address, source)
    hello = line.hello()
    line.send(hello[: len(hello) // 2], 0.5)
    return line


def leave_the_handshake(address: str, source: str) -> Line:
    line = TlsLine(address, source)
    line.send(line.hello(), 0.5)
    return line


def shake_hands(address: str, source: str) -> Line:
    line = TlsLine(address, source)
    line.shake_hands(0.5)
    return line


def begin_http2(address: str, source: str) -> Line:
    line = TlsLine(address, source)
    if line.shake_hands(0.5):
        line.say(PREFACE + settings())
    return line


KINDS = {
    "nothing": say_nothing,
    "half a hello": say_half_a_hello,
    "a handshake that is left": leave_the_handshake,
    "a handshake and nothing after it": shake_hands,
    "the preface of HTTP/2": begin_http2,
}


@pytest.mark.parametrize("kind", KINDS)
def test_handshakes_keep_nobody_out(kind: str, narrow: Guard) -> None:
    """Whoever has shown no token has a place for the handshake and for a first request, and no longer."""
    address = narrow.cluster.address
    sent = f"80 connections, each with {kind}, from two addresses, where there are 64 places; held open"
    with narrow.attack(f"all places of TLS, with {kind}", sent), ExitStack() as stack:
        taken = take_all(stack, address, KINDS[kind], (ATTACKER, ACCOMPLICE), 40)
        assert taken
        eventually(lambda: all([line.ends(0) for line in taken]), "all places are free again", PATIENCE)
