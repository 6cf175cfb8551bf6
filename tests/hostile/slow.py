"""Attacks that send little: slow headers, slow bodies, silence, noise, and HTTP/1.1."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from wire import (
    ACCOMPLICE,
    ATTACKER,
    BIND_WITHOUT_PORT,
    HEALTH,
    PREFACE,
    SWEEPS,
    Http2,
    Kind,
    Line,
    connect_many,
    frame,
    headers,
    message,
    settings,
)

from target import Target, attack

#: Seconds for which something slow goes on.
LONG = 0.8


@contextmanager
def lines(target: Target, number: int, sources: Sequence[str] = (ATTACKER,)) -> Iterator[list[Line]]:
    """So many connections of each of these addresses, closed in the end."""
    with ExitStack() as stack:
        made = [line for source in sources for line in connect_many(target.address, number, source)]
        for line in made:
            stack.enter_context(line)
        assert len(made) == number * len(sources), f"only {len(made)} connections could be made"
        yield made


def trickle(made: Sequence[Line], text: bytes) -> int:
    """Sends a byte of the text on each connection in turn, for as long as it lasts; how many bytes went."""
    sent, until = 0, time.monotonic() + LONG
    for byte in text:
        for line in made:
            sent += line.send(bytes([byte]), 0.1)
        if time.monotonic() >= until:
            break
        time.sleep(0.05)
    return sent


@attack("slow headers")
def slow_headers(target: Target) -> str:
    request = b"GET /api/sweeps HTTP/1.1\r\nHost: localhost\r\nX-Slow: " + b"z" * 1000
    with lines(target, 500) as made:
        sent = trickle(made, request)
    return f"500 connections with {sent:,} bytes of HTTP/1.1's headers, one after the other"


@attack("slow headers in HTTP/2")
def slow_frames(target: Target) -> str:
    with lines(target, 500) as made:
        for line in made:
            line.send(PREFACE + settings() + frame(Kind.HEADERS, 0, 1, headers(HEALTH))[:20])
        sent = trickle(made, headers(HEALTH))
    return f"500 connections with {sent:,} bytes of a HEADERS frame, one after the other"


@attack("slow preface")
def slow_preface(target: Target) -> str:
    with lines(target, 500) as made:
        sent = trickle(made, PREFACE)
    return f"500 connections with {sent:,} bytes of HTTP/2's preface, one after the other"


@attack("slow bodies")
def slow_bodies(target: Target) -> str:
    """Calls that are on their way take no place from those that are here."""
    streams = 0
    with ExitStack() as stack:
        made = [stack.enter_context(Http2(target.address)) for _ in range(8)]
        opened = [(line, line.call(SWEEPS + "Submit", None, target.token)) for line in made for _ in range(250)]
        until = time.monotonic() + LONG
        while time.monotonic() < until:
            for line, stream in opened:
                line.send(frame(Kind.DATA, 0, stream, b"\0"), 0.1)
            time.sleep(0.2)
        streams = len(opened)
    return f"{streams:,} calls of Submit on 8 connections, each with 5 bytes a second"


@attack("large bodies that never end")
def endless_bodies(target: Target) -> str:
    sent = 0
    with ExitStack() as stack:
        made = [stack.enter_context(Http2(target.address)) for _ in range(4)]
        for line in made:
            body = message(b"z" * (1 << 20), length=4 << 20)
            bodies = {line.call(SWEEPS + "Submit", None, target.token): body for _ in range(100)}
            sent += line.send_bodies(bodies, LONG / 2, end=False)
        time.sleep(0.5)
    return f"400 calls of Submit that announce 4 MiB each, {sent >> 20} MiB of it sent"


@attack("silent connections")
def silence(target: Target) -> str:
    with lines(target, 1500) as made:
        time.sleep(LONG)
        ended = sum(line.ends(0) for line in made)
    return f"1,500 connections that send nothing, of which {ended:,} were ended to make room"


@attack("bursts of connections")
def bursts(target: Target) -> str:
    """So many at once that they queue before they are accepted; a newcomer finds a place in the queue all the same."""
    host, port = target.address.rsplit(":", 1)
    bursts, each, until = 0, 1000, time.monotonic() + LONG
    while time.monotonic() < until:
        with ExitStack() as stack:
            for turn in range(each):
                burst = stack.enter_context(socket.socket())
                burst.setblocking(False)
                burst.setsockopt(socket.IPPROTO_IP, BIND_WITHOUT_PORT, 1)
                burst.bind((f"127.0.0.{2 + turn % 8}", 0))
                burst.connect_ex((host, int(port)))
            time.sleep(0.02)
        bursts += 1
    return f"{bursts} bursts of {each:,} connections at once, each closed before the next"


@attack("silent connections that speak HTTP/2")
def silent_http2(target: Target) -> str:
    with lines(target, 1000) as made:
        for line in made:
            line.send(PREFACE + settings())
        time.sleep(LONG)
    return "1,000 connections that send a preface and nothing more"


@attack("random bytes")
def noise(target: Target) -> str:
    chosen, sent = random.Random(11), 0
    for _ in range(10):
        with lines(target, 100) as made:
            for line in made:
                # A third of it in HTTP/2, where frames are expected.
                begin = PREFACE + settings() if chosen.random() < 1 / 3 else b""
                sent += line.send(begin + chosen.randbytes(chosen.randrange(1, 8192)), 0.5)
    return f"1,000 connections with {sent >> 20} MiB of random bytes"


@attack("random frames")
def noise_in_frames(target: Target) -> str:
    chosen, sent = random.Random(12), 0
    for _ in range(300):
        with Http2(target.address) as line:
            line.call(SWEEPS + "List", None, target.token)
            for _ in range(20):
                kind, flags, stream = chosen.randrange(10), chosen.randrange(256), chosen.randrange(8)
                sent += line.send(frame(kind, flags, stream, chosen.randbytes(chosen.randrange(64))), 0.5) > 0
            line.settle(0.2)
    return f"{sent:,} well-formed frames of random kinds and contents on 300 connections"


@attack("TLS on a port without TLS")
def tls_hello(target: Target) -> str:
    body = b"\x01\x00\x01\xfc\x03\x03" + bytes(range(32)) + b"\0" * 474
    with lines(target, 500) as made:
        for line in made:
            line.send(b"\x16\x03\x01" + len(body).to_bytes(2, "big") + body)
        time.sleep(0.5)
        ended = sum(line.ends(0.01) for line in made)
    assert ended == 500, f"only {ended} were ended"
    return "500 connections with the first message of TLS"


@attack("half-closed and reset connections")
def resets(target: Target) -> str:
    for _ in range(2000):
        line = Http2(target.address)
        line.call(SWEEPS + "List", b"", target.token)
        line.abort()
    return "2,000 connections that make a call and reset"


@attack("HTTP/1.1: long headers")
def long_http1(target: Target) -> str:
    sent = 0
    with lines(target, 50) as made:
        for line in made:
            sent += line.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * (2 << 20), 0.5)
        ended = sum(line.ends(0.5) for line in made)
    assert ended == 50, f"only {ended} of 50 were ended"
    return f"50 requests with a header of 2 MiB, of which {sent >> 20} MiB were taken"


@attack("HTTP/1.1: many headers")
def many_http1(target: Target) -> str:
    request = (
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: y\r\n" % turn for turn in range(20_000)) + b"\r\n"
    )
    with lines(target, 50) as made:
        sent = sum(line.send(request, 0.5) for line in made)
        ended = sum(line.ends(0.5) for line in made)
    assert ended == 50, f"only {ended} of 50 were ended"
    return f"50 requests with 20,000 headers, of which {sent >> 20} MiB were taken"


@attack("HTTP/1.1: chunks in a trickle")
def chunk_trickle(target: Target) -> str:
    begin = (
        "POST /api/sweeps/x/pause HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {target.token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with lines(target, 300) as made:
        for line in made:
            line.send(begin.encode())
        sent = trickle(made, b"1;extension=" + b"e" * 100 + b"\r\nz\r\n" * 1000)
    return f"300 requests whose chunks come in {sent:,} pieces of one byte"


@attack("HTTP/1.1: pipelined requests")
def pipeline(target: Target) -> str:
    request = f"GET /api/sweeps HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {target.token}\r\n\r\n".encode()
    with lines(target, 10) as made:
        # Answers are not read: the coordinator must stop reading, too.
        sent = sum(line.send(request * 5000, 0.2, read=False) for line in made)
        time.sleep(0.5)
    return f"{sent // len(request):,} requests on 10 connections, one behind the other, whose answers nobody reads"


@attack("HTTP/1.1: two lengths")
def smuggling(target: Target) -> str:
    """Requests that two parsers could cut differently: one that is not ours must not be made of the rest."""
    kinds = [
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 99999999999999999999\r\n\r\nhello",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello",
    ]
    with lines(target, len(kinds) * 20) as made:
        for line, kind in zip(made, kinds * 20, strict=True):
            line.send(b"POST /api/sweeps/x/pause HTTP/1.1\r\nHost: localhost\r\n" + kind)
        for line in made:
            line.read(0.5, least=12)
            assert not line.received or line.received.startswith(b"HTTP/1.1 4"), bytes(line.received[:100])
    return f"{20 * len(kinds)} requests of {len(kinds)} kinds"


@attack("page events not read")
def unread_events(target: Target) -> str:
    request = (
        "GET /api/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
        f"Authorization: Bearer {target.token}\r\n\r\n"
    )
    with ExitStack() as stack:
        made = [stack.enter_context(Line(target.address, ACCOMPLICE, buffer=1024)) for _ in range(250)]
        for line in made:
            line.send(request.encode(), read=False)
        time.sleep(LONG)
    return "250 streams of the page's events, over HTTP/1.1"
