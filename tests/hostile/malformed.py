"""Attacks with messages of gRPC: such as are wrong, such as grow when they are read, and answers that nobody reads."""

from __future__ import annotations

import struct
import time
from contextlib import ExitStack

from wire import (
    HEALTH,
    SWEEPS,
    WORKERS,
    Http2,
    message,
    text_field,
)

from target import Target, attack

MESSAGE = 4 << 20
#: Calls with swollen messages, at once.
TIMES = 4
#: Bytes with which a call is refused, at most.
REFUSAL = 16_000


def nested(depth: int) -> bytes:
    """A message in a message in a message, of a field that there is not."""
    inner = b""
    for _ in range(depth):
        inner = text_field(9, inner)
    return inner


@attack("malformed messages")
def malformed(target: Target) -> str:
    bodies = {
        "no message": b"",
        "half a prefix": b"\0\0\0",
        "longer than it says": message(b"abc", length=1),
        "shorter than it says": message(b"abc", length=100),
        "4 GiB": message(b"abc", length=0xFFFFFFFF),
        "compressed, it says": message(b"\x1f\x8b\x08" + b"\0" * 50, compressed=1),
        "compressed in a way that there is not": message(b"abc", compressed=255),
        "two messages where one is expected": message(b"") * 2,
        "a field that breaks off": message(b"\x0a\xff\xff\xff\xff\x07abc"),
        "a length of 2^64": message(b"\x0a" + b"\xff" * 9 + b"\x01"),
        "a number that does not end": message(b"\x08" + b"\xff" * 40),
        "wire types that there are not": message(b"\x0f\x0f\x0e\x0e"),
        "text that is not UTF-8": message(text_field(1, b"\xff\xfe\x80" * 10)),
        "groups without an end": message(b"\x0b" * 10_000),
        "groups within groups": message(b"\x0b" * 50_000 + b"\x0c" * 50_000),
        "nested 5,000 times": message(nested(5000)),
        "field number 0": message(b"\x00\x00"),
    }
    sweep_calls = ["Submit", "Plan", "List", "Get", "Watch", "UploadInput", "Verify", "ReadArtifact"]
    worker_calls = ["Session", "UploadPartial", "UploadCheckpoint", "ReadInput"]
    calls = [(SWEEPS + name, target.token) for name in sweep_calls]
    calls += [(WORKERS + name, target.worker_token) for name in worker_calls] + [(HEALTH, "")]
    number = 0
    for path, token in calls:
        with Http2(target.address) as line:
            sent = {line.call(path, None, token): body for _ in range(2) for body in bodies.values()}
            line.send_bodies(sent, 5)
            ended = line.answered(sent, 5)
            assert line.closed or ended == len(sent), f"{path}: only {ended} of {len(sent)} calls were answered"
            number += len(sent)
    return f"{number:,} calls of {len(calls)} methods, with {len(bodies)} kinds of wrong messages"


def swell(target: Target, path: str, token: str, body: bytes) -> None:
    """Makes ``TIMES`` calls at once, each with a message as large as a message may be. What it says to them is short."""
    with ExitStack() as stack:
        made = [stack.enter_context(Http2(target.address)) for _ in range(2)]
        calls = [{line.call(path, None, token): message(body) for _ in range(TIMES // 2)} for line in made]
        sent = sum(line.send_bodies(bodies, 10) for line, bodies in zip(made, calls, strict=True))
        assert sent >= TIMES * len(body), f"only {sent >> 20} MiB could be sent"
        for line, bodies in zip(made, calls, strict=True):
            line.answered(bodies, 5)
            said = line.received_bytes / len(bodies)
            assert said < REFUSAL, f"{said / 1000:.0f} kB were said to each call"


@attack("empty files by the million")
def empty_inputs(target: Target) -> str:
    """Two bytes in the message are an entry in memory."""
    for method, field in (("Submit", 3), ("Plan", 2)):
        swell(target, SWEEPS + method, target.token, text_field(field, b"") * (MESSAGE // 2 - 8))
    return f"{TIMES} calls each of Submit and Plan with 2,000,000 empty files in 4 MiB"


@attack("a hello of millions of shards")
def swollen_hello(target: Target) -> str:
    held, precisions = text_field(7, b"") * (MESSAGE // 2 - 64), text_field(8, b"") * (MESSAGE // 2 - 64)
    for field in (held, precisions):
        swell(target, WORKERS + "Session", target.worker_token, text_field(1, text_field(1, b"w-1") + field)[:MESSAGE])
    return f"{TIMES} sessions each whose hello has 2,000,000 empty shards or precisions"


@attack("steps by the million")
def swollen_steps(target: Target) -> str:
    steps = text_field(6, b"") * (MESSAGE // 2 - 64)
    swell(target, WORKERS + "Session", target.worker_token, text_field(8, steps))
    header = text_field(7, b"") * (MESSAGE // 2 - 64)
    swell(target, WORKERS + "UploadPartial", target.worker_token, text_field(1, header))
    return f"{TIMES} results and {TIMES} uploads with 2,000,000 empty steps"


@attack("ids of megabytes")
def long_ids(target: Target) -> str:
    long = b"i" * (MESSAGE - 128)
    asked = {method: text_field(1, long) for method in ("Get", "Cancel", "Explain", "Watch", "Verify")}
    asked["List"] = text_field(2, long)
    asked["ReadArtifact"] = text_field(1, target.complete.encode()) + text_field(2, long)
    for method, text in asked.items():
        swell(target, SWEEPS + method, target.token, text)
    return f"{TIMES} calls of each of {len(asked)} methods with an id, a page or a name of 4 MiB"


@attack("answers not read: List")
def unread_lists(target: Target) -> str:
    """Whoever opens no window makes the coordinator keep what it has to say."""
    calls = 0
    with ExitStack() as stack:
        for _ in range(8):
            line = stack.enter_context(Http2(target.address, window=0))
            page = struct.pack("BBB", 8, 0xE8, 7)
            for _ in range(240):
                line.call(SWEEPS + "List", page, target.token)
                calls += 1
        time.sleep(1.0)
    return f"{calls:,} calls of List on 8 connections, with a window of 0"


@attack("answers not read: Watch")
def unread_watches(target: Target) -> str:
    with Http2(target.address, window=0) as line:
        for _ in range(250):
            line.call(SWEEPS + "Watch", text_field(1, target.sweep.encode()), target.token)
        time.sleep(1.5)
    return "250 streams of Watch with a window of 0"


@attack("answers not read: files")
def unread_files(target: Target) -> str:
    with ExitStack() as stack:
        for _ in range(2):
            line = stack.enter_context(Http2(target.address, window=0))
            asked = text_field(1, target.complete.encode()) + text_field(2, b"nads/lenet/nads.npy")
            for _ in range(240):
                line.call(SWEEPS + "ReadArtifact", asked, target.token)
            line = stack.enter_context(Http2(target.address, window=0))
            for _ in range(240):
                line.call(WORKERS + "ReadInput", text_field(1, target.file.encode()), target.worker_token)
        time.sleep(1.5)
    return "480 streams each of ReadArtifact and ReadInput with a window of 0"


@attack("uploads without a header")
def empty_uploads(target: Target) -> str:
    with ExitStack() as stack:
        for _ in range(8):
            line = stack.enter_context(Http2(target.address))
            for _ in range(120):
                line.call(SWEEPS + "UploadInput", None, target.token)
                line.call(WORKERS + "UploadPartial", None, target.worker_token)
        time.sleep(1.0)
    return "960 uploads each of files and partials that never say of what"


@attack("sessions without a hello")
def silent_sessions(target: Target) -> str:
    with ExitStack() as stack:
        for _ in range(8):
            line = stack.enter_context(Http2(target.address))
            for _ in range(240):
                line.call(WORKERS + "Session", None, target.worker_token)
        time.sleep(1.0)
    return "1,920 sessions that never say a word"
