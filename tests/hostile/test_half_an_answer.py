"""A command whose answer begins and never ends. It may take its time, during which the other tests go on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from cluster import program

from lying_coordinator import SWEEP
from victims import Told, run


@pytest.fixture(scope="session")
def half_an_answer() -> Iterator[Callable[[], Told]]:
    """A command whose answer begins and never ends; it is asked first and looked at last, since it may take its time."""

    told: list[Told] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        command = (program("nadgrid"), "--coordinator", url, "status", SWEEP)
        threading.Thread(target=answer_halves, args=(server,), daemon=True).start()
        thread = threading.Thread(target=lambda: told.append(run(*command, seconds=70.0)))
        thread.start()

        def wait() -> Told:
            thread.join()
            return told[0]

        yield wait


def answer_halves(server: socket.socket) -> None:
    """HTTP/2 by hand, since a server of gRPC's holds itself to the caller's deadline: heads of answers, and nothing after them."""
    connection, _ = server.accept()
    head = bytes([0x88, 0x00]) + b"\x0ccontent-type" + b"\x10application/grpc"

    def send(kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        connection.sendall(len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload)

    with connection, connection.makefile("rb") as asked:
        asked.read(len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
        send(4, 0, 0)
        while frame := asked.read(9):
            size, kind, flags, stream = (
                int.from_bytes(frame[:3], "big"),
                frame[3],
                frame[4],
                int.from_bytes(frame[5:], "big"),
            )
            payload = asked.read(size)
            if kind == 1:
                send(1, 4, stream, head)
            elif kind in (4, 6) and not flags & 1:
                # Settings and pings are acknowledged.
                send(kind, 1, 0, payload if kind == 6 else b"")


@pytest.mark.usefixtures("half_an_answer")
def test_half_an_answer_is_waited_for_later() -> None:
    """Begins the wait; its end is looked at by the last test."""


def test_half_an_answer_is_no_answer(half_an_answer: Callable[[], Told]) -> None:
    told = half_an_answer()
    assert (told.code, told.seconds < 60) == (3, True), told
    assert "no complete answer within" in told.err
