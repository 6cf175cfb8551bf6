"""A client that does nobody harm, in a process of its own: it asks every 50 ms and keeps how long its slowest call took.

In a process of its own because the attacker's threads share one interpreter's lock: its waits would be taken for the
coordinator's. Every fourth question comes on a new connection, as that of a newcomer would. It takes words from standard
input: at ``begin`` it forgets what was, at ``end`` it prints what has been since.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import grpc

#: Seconds between questions.
PAUSE = 0.05
#: Seconds after which a question that was not answered is given up.
PATIENCE = 30.0


class Bystander:
    """The process, seen from the test."""

    def __init__(self, address: str, token: str, authority: Path | None = None) -> None:
        # Whatever pytest found on its path is found there, too.
        script = "import sys; sys.path[:] = sys.argv[4].split(':'); import bystander; bystander.main()"
        self._child = subprocess.Popen(
            [sys.executable, "-c", script, address, token, str(authority or ""), ":".join(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "asking", "the bystander could not ask even before an attack"

    def _line(self) -> str:
        assert self._child.stdout is not None
        return self._child.stdout.readline().strip()

    def _say(self, word: str) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(word + "\n")
        self._child.stdin.flush()

    def begin(self) -> None:
        self._say("begin")
        assert self._line() == "begun"

    def end(self) -> dict[str, Any]:
        """Since ``begin``: ``asked`` and ``worst``, how often it asked and its longest wait in seconds; ``errors`` and ``error``,
        how many questions failed and why the first did.
        """
        self._say("end")
        told: dict[str, Any] = json.loads(self._line())
        return told

    def close(self) -> None:
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()
        self._child.kill()
        self._child.wait()


class _Asking:
    """What has been since ``begin``. One thread asks, another takes the words."""

    def __init__(self, address: str, token: str) -> None:
        self.address = address
        self.metadata = (("authorization", f"Bearer {token}"),)
        self.lock = threading.Lock()
        self.began = time.monotonic()
        self.under_way: float | None = None
        self.waits: list[float] = []
        self.errors: list[str] = []

    def begin(self) -> None:
        with self.lock:
            self.began = time.monotonic()
            self.waits, self.errors = [], []

    def told(self) -> dict[str, Any]:
        with self.lock:
            # A question that is not answered yet has waited at least until now.
            now = time.monotonic()
            open_ = [now - self.under_way] if self.under_way is not None else []
            worst = max([*self.waits, *open_], default=0.0)
            first = self.errors[0] if self.errors else ""
            return {"asked": len(self.waits), "worst": worst, "errors": len(self.errors), "error": first}

    def ask(self, call: Any) -> None:
        begin = time.monotonic()
        with self.lock:
            self.under_way = begin
        error = None
        try:
            call()
        except Exception as problem:
            details = getattr(problem, "details", None)
            error = f"{type(problem).__name__}: {details() if details else problem}"
        end = time.monotonic()
        with self.lock:
            self.under_way = None
            if error and begin >= self.began:
                self.errors.append(error)
            self.waits.append(end - max(begin, self.began))


def main() -> None:
    """The program: address, token and, for TLS, authority of a coordinator as arguments."""
    # Here, so that a test that imports this module does not load all of it.
    import grpc
    from nadgrid.v1.nadgrid_pb2 import ListRequest
    from nadgrid.v1.nadgrid_pb2_grpc import SweepServiceStub

    address, token, authority = sys.argv[1:4]
    asking = _Asking(address, token)

    def channel() -> grpc.Channel:
        options = [("grpc.use_local_subchannel_pool", 1)]
        options += [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100)]
        return open_channel(address, Path(authority) if authority else None, options)

    def list_on(open_channel: grpc.Channel) -> None:
        SweepServiceStub(open_channel).List(ListRequest(page_size=10), metadata=asking.metadata, timeout=PATIENCE)

    def health_on(open_channel: grpc.Channel) -> None:
        check: Callable[..., bytes] = open_channel.unary_unary("/grpc.health.v1.Health/Check")
        check(b"", metadata=asking.metadata, timeout=PATIENCE)

    def newcomer() -> None:
        with channel() as new:
            list_on(new)

    def ask_for_ever() -> None:
        with channel() as kept:
            kinds = [lambda: list_on(kept), lambda: health_on(kept), lambda: list_on(kept), newcomer]
            while True:
                for kind in kinds:
                    asking.ask(kind)
                    time.sleep(PAUSE)

    list_on_first = channel()
    list_on(list_on_first)
    list_on_first.close()
    print("asking", flush=True)
    threading.Thread(target=ask_for_ever, daemon=True).start()
    for line in sys.stdin:
        if line.strip() == "begin":
            asking.begin()
            print("begun", flush=True)
        else:
            print(json.dumps(asking.told()), flush=True)


def open_channel(address: str, authority: Path | None, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
    """A channel to a coordinator; with TLS where there is an authority that has signed its certificate."""
    import grpc

    options = [("grpc.enable_http_proxy", 0), *options]
    if authority is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority.read_bytes()), options=options)


def token_of(path: Path) -> str:
    """The token in a file."""
    return path.read_text().strip()
