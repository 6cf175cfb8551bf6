"""HTTP/2 by hand (RFC 9113), so that frames can be wrong, too many or too slow.

Deliberately absent: decoding of headers and the checks that a proper client makes. What a call is answered with is asked of
grpcio, in the tests.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import time
from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum
from typing import Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#: Where attackers come from: Linux answers for all of 127.0.0.0/8. The bystander comes from 127.0.0.1.
ATTACKER = "127.0.0.2"
ACCOMPLICE = "127.0.0.3"

#: Linux's IP_BIND_ADDRESS_NO_PORT.
BIND_WITHOUT_PORT = 24

HEALTH = "/grpc.health.v1.Health/Check"
SWEEPS = "/nadgrid.v1.SweepService/"
WORKERS = "/nadgrid.v1.WorkerService/"

#: Bytes of answers that are kept.
_KEPT = 1 << 20
#: Of a ping whose answer says that all before it was taken.
_LAST_WORD = b"the end!"


class Kind(IntEnum):
    """Types of frames."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


END_STREAM = ACK = 0x1
END_HEADERS = 0x4
INITIAL_WINDOW_SIZE = 4
#: Bytes that either side takes before it has said more.
DEFAULT_WINDOW = 65_535
#: Bytes in a DATA frame at most.
MOST_DATA = 16_384


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(Kind.SETTINGS, payload=b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window_update(stream: int, increment: int) -> bytes:
    return frame(Kind.WINDOW_UPDATE, stream=stream, payload=struct.pack(">I", increment))


def reset(stream: int) -> bytes:
    return frame(Kind.RST_STREAM, stream=stream, payload=struct.pack(">I", 8))


def integer(value: int, prefix: int, first: int = 0) -> bytes:
    """An integer of HPACK (RFC 7541, 5.1) whose first byte has ``prefix`` bits left."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes([first | value])
    coded = [first | most]
    value -= most
    while value >= 128:
        coded.append(value % 128 + 128)
        value //= 128
    return bytes([*coded, value])


def literal(name: bytes, value: bytes, first: int = 0) -> bytes:
    """A header that is written out; with 0x40 as the first byte it enters the dynamic table."""
    return bytes([first]) + integer(len(name), 7) + name + integer(len(value), 7) + value


def headers(path: str, token: str | None = None, further: Sequence[tuple[str, str]] = ()) -> bytes:
    """The header block of a call."""
    pairs = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    pairs += [("content-type", "application/grpc"), ("te", "trailers")]
    pairs += [("authorization", f"Bearer {token}")] if token else []
    return b"".join(literal(name.encode(), value.encode()) for name, value in [*pairs, *further])


def message(protobuf: bytes, compressed: int = 0, length: int | None = None) -> bytes:
    """A gRPC message; its prefix can say something else of its length."""
    return struct.pack(">BI", compressed, len(protobuf) if length is None else length) + protobuf


def text_field(number: int, text: bytes) -> bytes:
    """A field of protobuf that is a string, bytes or a message, of any length."""
    return _varint(number << 3 | 2) + _varint(len(text)) + text


def _varint(value: int) -> bytes:
    coded = []
    while value >= 128:
        coded.append(value % 128 + 128)
        value //= 128
    return bytes([*coded, value])


class Line:
    """A connection of an attacker: it sends what it is given for as long as the other side takes it."""

    #: Bytes of received data that are kept to be looked at.
    kept = 1 << 16

    def __init__(self, address: str, source: str = ATTACKER, buffer: int | None = None) -> None:
        host, port = address.rsplit(":", 1)
        #: Whether the other side has ended it.
        self.closed = False
        #: The first bytes that came.
        self.received = bytearray()
        self.received_bytes = 0
        self._last = b""
        self._socket = socket.socket()
        try:
            if buffer is not None:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            # The port is chosen when the other side is known, so that connections to others do not use it up.
            self._socket.setsockopt(socket.IPPROTO_IP, BIND_WITHOUT_PORT, 1)
            self._socket.bind((source, 0))
            self._socket.settimeout(10)
            self._socket.connect((host, int(port)))
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def abort(self) -> None:
        """Ends it with a reset instead of a farewell."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def send(self, data: bytes, seconds: float = 5.0, read: bool = True) -> int:
        """Sends until all is sent, the other side has ended the connection, or time is up; how many bytes went."""
        view, sent, until = memoryview(data), 0, time.monotonic() + seconds
        events = select.POLLOUT | (select.POLLIN if read else 0)
        while sent < len(view) and not self.closed:
            left = until - time.monotonic()
            ready = self._wait(events, left)
            if read and ready & ~select.POLLOUT:
                self._take()
            if ready & select.POLLOUT and not self.closed:
                try:
                    sent += self._socket.send(view[sent : sent + (64 << 10)])
                except BlockingIOError:
                    continue
                except OSError:
                    self.closed = True
            if left <= 0:
                break
        return sent

    def _wait(self, events: int, seconds: float) -> int:
        # Not `select`, which knows no more than 1,024 files.
        poll = select.poll()
        poll.register(self._socket, events)
        return next((ready for _, ready in poll.poll(1000 * max(0.0, seconds))), 0)

    def _take(self) -> None:
        try:
            data = self._socket.recv(256 << 10)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.closed |= not data
        self.received_bytes += len(data)
        self.received += data[: self.kept - len(self.received)]
        self._last = (self._last + data)[-4096:]

    def read(self, seconds: float, least: int | None = None) -> None:
        """Reads for so long, or until so many bytes have come altogether or the other side has ended the connection."""
        until = time.monotonic() + seconds
        while not self.closed and (least is None or self.received_bytes < least):
            left = until - time.monotonic()
            # What is there already is read even without any time.
            if self._wait(select.POLLIN, left):
                self._take()
            elif left <= 0:
                return

    def ends(self, seconds: float) -> bool:
        """Whether the other side ends the connection within so many seconds."""
        self.read(seconds)
        return self.closed


class Http2(Line):
    """A connection that has begun to speak HTTP/2.

    It takes ``window`` bytes of each answer, and never more.
    """

    #: Until they are taken up.
    kept = 64 << 20

    def __init__(
        self,
        address: str,
        source: str = ATTACKER,
        window: int = 1 << 30,
        buffer: int | None = None,
    ) -> None:
        super().__init__(address, source, buffer)
        #: Streams that the other side has ended.
        self.ended: set[int] = set()
        #: What calls were answered with, until it is asked for.
        self._data = bytearray()
        #: The error code of the other side's GOAWAY, when it has sent one.
        self.farewell: int | None = None
        self._stream = -1
        #: Bytes that the other side takes on the connection (0) and on streams.
        self._windows = {0: DEFAULT_WINDOW}
        self._initial_window = DEFAULT_WINDOW
        self.send(
            PREFACE + settings((INITIAL_WINDOW_SIZE, window)) + frame(Kind.SETTINGS, ACK) + window_update(0, 1 << 30)
        )

    def next_stream(self) -> int:
        self._stream += 2
        return self._stream

    def call(self, path: str, body: bytes | None = b"", token: str | None = None) -> int:
        """Makes a call; with ``None`` as its body only its headers are sent, and more is to follow. The stream's number."""
        stream = self.next_stream()
        sent = frame(Kind.HEADERS, END_HEADERS, stream, headers(path, token))
        if body is not None:
            sent += frame(Kind.DATA, END_STREAM, stream, message(body))
        self.send(sent)
        return stream

    def send_bodies(self, bodies: Mapping[int, bytes], seconds: float, end: bool = True) -> int:
        """Sends the bodies of streams that are open in turns, as fast as the other side takes them; how many bytes went."""
        left, until, sent = {stream: memoryview(body) for stream, body in bodies.items()}, time.monotonic() + seconds, 0
        while left and not self.closed and self.farewell is None and time.monotonic() < until:
            self.look()
            pieces = []
            for stream, body in list(left.items()):
                window = self._windows.setdefault(stream, self._initial_window)
                piece = body[: max(0, min(MOST_DATA, window, self._windows[0]))]
                over = len(piece) == len(body)
                if stream in self.ended or over:
                    del left[stream]
                else:
                    left[stream] = body[len(piece) :]
                if stream not in self.ended and (piece or over):
                    self._windows[0] -= len(piece)
                    self._windows[stream] -= len(piece)
                    sent += len(piece)
                    pieces.append(frame(Kind.DATA, END_STREAM if over and end else 0, stream, bytes(piece)))
            if pieces:
                self.send(b"".join(pieces), until - time.monotonic())
            else:
                self.read(0.02, self.received_bytes + 1)
        return sent

    def answered(self, streams: Collection[int], seconds: float) -> int:
        """Waits until these streams, or the connection, have been ended; how many were."""
        until = time.monotonic() + seconds
        self.look()
        while not self.ended.issuperset(streams) and not self.closed and time.monotonic() < until:
            self.read(0.02, self.received_bytes + 1)
            self.look()
        return len(self.ended.intersection(streams))

    def ids_in_answers(self) -> list[bytes]:
        """The ids of sweeps in what has been answered since this was last asked for."""
        found = list(
            dict.fromkeys(re.findall(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", self._data))
        )
        self._data.clear()
        return found

    def settle(self, seconds: float) -> bool:
        """Waits until the other side has taken all that was sent; a connection that is ended has settled, too."""
        until = time.monotonic() + seconds
        self.send(frame(Kind.PING, payload=_LAST_WORD), seconds)
        while not self.closed and _LAST_WORD not in self._last and time.monotonic() < until:
            self.read(0.01)
        return self.closed or _LAST_WORD in self._last

    def look(self) -> None:
        """Takes up what has come."""
        at = 0
        while at + 9 <= len(self.received):
            length = int.from_bytes(self.received[at : at + 3], "big")
            kind, flags, stream = struct.unpack(">BBI", self.received[at + 3 : at + 9])
            if at + 9 + length > len(self.received):
                break
            self._take_frame(kind, flags, stream, bytes(self.received[at + 9 : at + 9 + length]))
            at += 9 + length
        del self.received[:at]

    def _take_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == Kind.RST_STREAM or (kind in (Kind.HEADERS, Kind.DATA) and flags & END_STREAM):
            self.ended.add(stream)
        if kind == Kind.DATA:
            self._data += payload[: _KEPT - len(self._data)]
        elif kind == Kind.WINDOW_UPDATE:
            self._windows[stream] = self._windows.get(stream, self._initial_window) + int.from_bytes(payload, "big")
        elif kind == Kind.GOAWAY:
            self.farewell = int.from_bytes(payload[4:8], "big")
        elif kind == Kind.SETTINGS and not flags & ACK:
            for number, value in struct.iter_unpack(">HI", payload):
                if number == INITIAL_WINDOW_SIZE:
                    for known in self._windows.keys() - {0}:
                        self._windows[known] += value - self._initial_window
                    self._initial_window = value


def connect_many(address: str, count: int, source: str = ATTACKER) -> list[Line]:
    """So many connections, or as many as the other side takes."""
    lines = []
    with contextlib.suppress(OSError):
        for _ in range(count):
            lines.append(Line(address, source))
    return lines
