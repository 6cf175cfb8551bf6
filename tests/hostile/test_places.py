"""Who takes the places: connections of callers without a token, held open, and connections that are over at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack

import pytest
from cluster import Cluster
from conftest import USERS
from guard import Attack, Guard
from wire import (
    ACCOMPLICE,
    ATTACKER,
    END_HEADERS,
    END_STREAM,
    HEALTH,
    SWEEPS,
    Http2,
    Kind,
    Line,
    connect_many,
    frame,
    literal,
)

from target import Target

#: So few places that a test can take them all, and a second until somebody must have said who they are.
FEW = ("--limit", "connections=64", "--limit", "connections_per_peer=40", "--limit", "first_request_seconds=1")
#: Connections that are over at once. Were they kept for 20 s they would take ten times what may be left behind.
SHORT = 10_000
#: Seconds until connections must be ended that have no token to show, where a second is given to them.
PATIENCE = 6.0

Open = Callable[[str, str], Line]


def ask_health(address: str, source: str) -> Line:
    line = Http2(address, source)
    line.call(HEALTH)
    return line


def ask_page_in_http1(address: str, source: str) -> Line:
    line = Line(address, source)
    line.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return line


def ask_page_in_http2(address: str, source: str) -> Line:
    line = Http2(address, source)
    pairs = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"localhost")]
    block = b"".join(literal(name, value) for name, value in pairs)
    line.send(frame(Kind.HEADERS, END_HEADERS | END_STREAM, line.next_stream(), block))
    return line


def ask_without_token(address: str, source: str) -> Line:
    line = Http2(address, source)
    line.call(SWEEPS + "List")
    return line


def ask_with_wrong_token(address: str, source: str) -> Line:
    line = Http2(address, source)
    line.call(SWEEPS + "List", token="A" * 43)
    return line


def say_nothing(address: str, source: str) -> Line:
    return Line(address, source)


def begin_upload(address: str, source: str) -> Line:
    """A call that is open to anybody and whose body does not come."""
    line = Http2(address, source)
    line.call(HEALTH, None)
    return line


KINDS: dict[str, Open] = {
    "a health check": ask_health,
    "a health check that does not end": begin_upload,
    "the page over HTTP/1.1": ask_page_in_http1,
    "the page over HTTP/2": ask_page_in_http2,
    "a call without a token": ask_without_token,
    "a call with a wrong token": ask_with_wrong_token,
    "nothing": say_nothing,
}


@pytest.fixture(scope="module")
def narrow() -> Iterator[Guard]:
    """A coordinator with few places, and its guard."""
    with Cluster(*FEW, tokens=USERS) as cluster, Guard(cluster) as guard:
        yield guard


def take_all(stack: ExitStack, address: str, ask: Open, sources: Sequence[str], each: int) -> list[Line]:
    """Takes what places there are; those that come too late are turned away."""
    taken = []
    for source in sources:
        for _ in range(each):
            try:
                taken.append(stack.enter_context(ask(address, source)))
            except OSError:
                break
    return taken


@pytest.mark.parametrize("kind", KINDS)
def test_anonymous_callers_keep_nobody_out(kind: str, narrow: Guard) -> None:
    address = narrow.cluster.address
    sent = f"80 connections, each with {kind}, from two addresses, where there are 64 places; held open"
    with narrow.attack(f"all places, with {kind}", sent), ExitStack() as stack:
        taken = take_all(stack, address, KINDS[kind], (ATTACKER, ACCOMPLICE), 40)
        # The newcomers among the bystander's calls must get in all the while.
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and not all(line.ends(0) for line in taken):
            time.sleep(0.05)
        held = sum(not line.ends(0) for line in taken)
        assert held == 0, f"{held} of {len(taken)} anonymous connections are still open after {PATIENCE} s"


def test_anonymous_callers_that_go_on_keep_nobody_out(narrow: Guard) -> None:
    """A health check now and again holds no place for good where places are short."""
    address = narrow.cluster.address
    sent = (
        "80 connections with a health check every 200 ms each, where there are 64 places; new ones for those that end"
    )
    with narrow.attack("all places, with health checks again and again", sent), ExitStack() as stack:
        taken: list[Line] = []
        until = time.monotonic() + 2
        while time.monotonic() < until:
            for line in taken:
                if isinstance(line, Http2) and not line.ends(0):
                    line.call(HEALTH)
            taken = [line for line in taken if not line.closed]
            for source in (ATTACKER, ACCOMPLICE):
                taken += take_all(stack, address, ask_health, (source,), 40 - len(taken) // 2)
            time.sleep(0.2)


def test_places_that_a_token_has_are_kept(narrow: Guard) -> None:
    """A user's connection is not ended to make room, nor for its silence."""
    target = Target.of(narrow.cluster)
    with narrow.attack("all places, while a user is silent", "80 connections with health checks"), ExitStack() as stack:
        user = stack.enter_context(Http2(target.address, "127.0.0.4"))
        assert user.answered([user.call(SWEEPS + "List", token=target.token)], 5) == 1
        take_all(stack, target.address, ask_health, (ATTACKER, ACCOMPLICE), 40)
        time.sleep(2)
        assert user.answered([user.call(SWEEPS + "List", token=target.token)], 5) == 1, "the user was turned away"


def test_all_places_by_default(guarded: Callable[..., AbstractContextManager[Attack]], coordinator: Cluster) -> None:
    """As many connections as limits allow, each proven by a health check."""
    with guarded("all places of the defaults") as attack, ExitStack() as stack:
        taken = take_all(stack, coordinator.address, ask_health, (ATTACKER, ACCOMPLICE), 2048)
        time.sleep(2)
        attack.sent = f"{len(taken):,} connections from two addresses, each with a health check, held open"


@pytest.mark.parametrize(
    ("what", "ask"),
    [
        ("that send nothing", say_nothing),
        ("with a call each", ask_without_token),
        ("with a health check each", ask_health),
    ],
)
def test_connections_that_are_over_cost_nothing(
    what: str, ask: Open, guarded: Callable[..., AbstractContextManager[Attack]], coordinator: Cluster
) -> None:
    """Not the seconds of memory that such a connection would have had, had it stayed."""
    with guarded(f"short connections {what}", f"{SHORT:,} connections {what}, closed at once", settle=5.0):
        for turn in range(SHORT):
            line = ask(coordinator.address, f"127.0.0.{2 + turn % 8}")
            line.abort()


def test_silent_connections_do_not_add_up(
    coordinator: Cluster, guarded: Callable[..., AbstractContextManager[Attack]]
) -> None:
    with guarded("waves of connections", "5 waves of 1,000 connections that send nothing, each closed before the next"):
        for _ in range(5):
            lines = connect_many(coordinator.address, 1000)
            for line in lines:
                line.close()
            assert len(lines) == 1000
