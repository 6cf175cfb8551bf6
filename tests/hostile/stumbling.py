"""A way to PostgreSQL on which a coordinator is killed at a chosen statement of a compaction."""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

#: Of a first message that asks for TLS, which the server here refuses in one byte.
_TLS_ASKED = 80_877_103
#: Messages that end with an answer of the server: a query, and the end of a prepared one.
_ENDS = (b"Q", b"S")


class StumblingLine:
    """Passes on what is said on each of its connections, and kills the victim after a statement; for a ``with`` block.

    The statements of a compaction are counted from its BEGIN, which is number 0 and the first to be stumbled at. The server has
    answered the one at which the victim is killed, who hears of no answer.
    """

    def __init__(self, port: int) -> None:
        self._to, self._step = port, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._victim: queue.SimpleQueue[int] = queue.SimpleQueue()
        #: Whether the victim has been killed.
        self.stumbled = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> StumblingLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def stumble_at(self, step: int) -> None:
        """Chooses the next statement."""
        self._step = step
        self.stumbled.clear()

    def kill_when_it_comes(self, victim: int) -> None:
        """Names the process; the line waits for its name at that statement."""
        self._victim.put(victim)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                connection = _Connection(self, client, server)
                for pump in (connection.ask, connection.answer):
                    threading.Thread(target=pump, daemon=True).start()

    def is_last(self, step: int) -> bool:
        """Whether the victim hears no answer to the statement of this number."""
        return self._step == step and not self.stumbled.is_set()

    def kill(self) -> None:
        os.kill(self._victim.get(), signal.SIGKILL)
        self.stumbled.set()


class _Connection:
    """One connection; one thread takes what the client says, another what the server answers."""

    def __init__(self, line: StumblingLine, client: socket.socket, server: socket.socket) -> None:
        self._line, self._client, self._server = line, client, server
        self._step: int | None = None
        #: The server's next answer is the last that the client would hear.
        self._last = False

    def ask(self) -> None:
        with suppress(OSError), self._client.makefile("rb") as said:
            begun = False
            while head := said.read(5 if begun else 8):
                length = int.from_bytes(head[1:5] if begun else head[:4], "big")
                message = head + said.read(length - 4 if begun else length - 8)
                if not begun:
                    begun = int.from_bytes(head[4:8], "big") != _TLS_ASKED
                elif head[:1] in _ENDS:
                    self._statement(message)
                self._server.sendall(message)
        self._end()

    def _statement(self, message: bytes) -> None:
        if self._step is not None:
            self._step += 1
        elif message.startswith(b"Q") and b"BEGIN" in message and b"COMMIT" not in message:
            self._step = 0
        if self._step is None:
            return
        self._last = self._line.is_last(self._step)
        if b"COMMIT" in message:
            self._step = None

    def answer(self) -> None:
        with suppress(OSError):
            while answer := self._server.recv(1 << 16):
                if self._last:
                    self._line.kill()
                    break
                self._client.sendall(answer)
        self._end()

    def _end(self) -> None:
        """Ends both sides. What another thread reads from would stay open if it were closed alone."""
        for side in (self._client, self._server):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()
