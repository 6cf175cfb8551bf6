"""A worker that lies: it speaks the wire contract by hand, and says whatever a test has it say.

What it says by default is true of a worker that does nothing: a lie changes one field, so that a test shows what is sent.
Payloads are built here byte by byte, from docs and not from nadgrid's own code.
"""

from __future__ import annotations

import queue
import struct
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import grpc
from blake3 import blake3
from nadgrid.v1 import nadgrid_pb2 as v1
from nadgrid.v1.nadgrid_pb2_grpc import WorkerServiceStub

#: Of the wire contract that this coordinator speaks.
PROTOCOL_VERSION = 3
#: Seconds until the coordinator must have answered the liar.
PATIENCE = 20.0
#: What a shard yields travels in the session up to this many bytes.
MAX_INLINE = 1024


def digest(payload: bytes) -> str:
    """BLAKE3, hexadecimal."""
    return blake3(payload).hexdigest()


def moments(dimension: int, count: int, mean: float = 0.0, scatter: float = 0.0) -> bytes:
    """A partial of gradients: magic, D, count, D means, D(D + 1)/2 numbers of scatter; here all alike."""
    head = b"NADPART1" + struct.pack("<QQ", dimension, count)
    triangle = dimension * (dimension + 1) // 2
    return head + struct.pack("<d", mean) * dimension + struct.pack("<d", scatter) * triangle


def runs(*outcomes: Sequence[float]) -> bytes:
    """A partial of training runs: magic, runs, further numbers (none), and seven numbers a run: two accuracies, two losses,
    epochs, the step at which it diverged, seconds."""
    numbers = b"".join(struct.pack("<7d", *outcome) for outcome in outcomes)
    return b"NADRUNS1" + struct.pack("<QQ", len(outcomes), 0) + numbers


class Session:
    """A session that says what it is told to, and hears what it is answered unless it ``reads`` nothing."""

    def __init__(
        self, stub: WorkerServiceStub, metadata: Any, first: v1.SessionRequest | None, reads: bool = True
    ) -> None:
        self._said: queue.SimpleQueue[v1.SessionRequest | None] = queue.SimpleQueue()
        self._heard: queue.Queue[v1.SessionResponse | grpc.RpcError | None] = queue.Queue()
        self._beating = threading.Event()
        if first is not None:
            self._said.put(first)
        self._call: Any = stub.Session(iter(self._said.get, None), metadata=metadata)
        self._reader = threading.Thread(target=self._read if reads else lambda: None, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            for response in self._call:
                self._heard.put(response)
            self._heard.put(None)
        except grpc.RpcError as error:
            self._heard.put(error)

    def has_said_all(self) -> bool:
        """Whether all that it was told to say is on its way, or nobody listens any more."""
        return self._said.empty() or not self._call.is_active()

    def say(self, **message: Any) -> None:
        """Says one message, named as in the contract: ``say(heartbeat=v1.Heartbeat())``."""
        self._said.put(v1.SessionRequest(**message))

    def hear(self, kind: str, within: float = PATIENCE) -> Any:
        """The next message of a kind; others are skipped. Raises ``grpc.RpcError`` when the session is refused."""
        while True:
            try:
                response = self._heard.get(timeout=within)
            except queue.Empty:
                raise TimeoutError(f"no {kind} within {within} s") from None
            if response is None:
                raise EOFError(f"the session ended before {kind}")
            if isinstance(response, grpc.RpcError):
                raise response
            if response.WhichOneof("message") == kind:
                return getattr(response, kind)

    def shard(self) -> v1.Shard:
        """The shard of the next assignment."""
        shard: v1.Shard = self.hear("assignment").shard
        return shard

    def result(self, shard: v1.Shard, payload: bytes, numerics: v1.NumericsClass, **changes: Any) -> v1.Answer:
        """Reports in the session, and returns the answer."""
        told: dict[str, Any] = {"data": payload, "digest": digest(payload), "seconds": 0.01, **changes}
        self.say(result=v1.ShardResult(shard=shard, numerics_class=numerics, **told))
        answer: v1.Answer = self.hear("answer")
        return answer

    def stay_alive(self) -> None:
        """Sends heartbeats from now on, as a worker does whose slots hang."""

        def beat() -> None:
            while not self._beating.wait(0.3):
                self.say(heartbeat=v1.Heartbeat())

        threading.Thread(target=beat, daemon=True).start()

    def leave(self) -> None:
        """Says goodbye: what it holds goes to others at once."""
        self._beating.set()
        self.say(goodbye=v1.Goodbye())
        self._said.put(None)
        self._reader.join(PATIENCE)

    def break_off(self) -> None:
        """Ends without a word: what it holds goes to others when its leases have expired."""
        self._beating.set()
        self._said.put(None)
        self._call.cancel()
        self._reader.join(PATIENCE)


class Upload:
    """An upload by hand: its parts are those of the contract, in whatever order."""

    def __init__(self, call: Any, request: Any, metadata: Any) -> None:
        self._request = request
        self._said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers: Any = call(iter(self._said.get, None), metadata=metadata, timeout=PATIENCE)

    def say(self, **part: Any) -> None:
        self._said.put(self._request(**part))

    def end(self) -> None:
        self._said.put(None)

    def answer(self) -> Any:
        """The next answer. Raises ``grpc.RpcError`` when the upload is refused."""
        return next(self._answers)

    def cancel(self) -> None:
        self._said.put(None)
        self._answers.cancel()

    def send(self, header: Any, payload: bytes) -> Any:
        """A whole upload as it ought to be: header, grant, bytes, end; returns the last answer."""
        self.say(header=header)
        answer = self.answer()
        if answer.WhichOneof("message") == "grant":
            for start in range(0, len(payload), 1 << 20):
                self.say(data=payload[start : start + (1 << 20)])
            self.end()
            answer = self.answer()
        else:
            self.end()
        return answer


class Liar:
    """A worker of one id and token; for a ``with`` block, at whose end it is gone."""

    def __init__(self, address: str, token: str, numerics: v1.NumericsClass, worker_id: str = "a-liar") -> None:
        self.worker_id = worker_id
        #: The numerics class that it says it has: by default that of the honest worker.
        self.numerics = numerics
        self.metadata = (("authorization", f"Bearer {token}"),)
        self._channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.enable_http_proxy", 0),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_metadata_size", 1 << 20),
                ("grpc.max_receive_message_length", 64 << 20),
            ],
        )
        self._stub = WorkerServiceStub(self._channel)

    def __enter__(self) -> Liar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def hello(self, **changes: Any) -> v1.Hello:
        """A true hello, with changes."""
        told: dict[str, Any] = {
            "worker_id": self.worker_id,
            "name": "liar",
            "protocol_version": PROTOCOL_VERSION,
            "version": "0",
            "numerics_class": self.numerics,
            "slots": 1,
            "precisions": ["fp32"],
            **changes,
        }
        return v1.Hello(**told)

    def session(self, **changes: Any) -> Session:
        """A session that was welcomed. Raises ``grpc.RpcError`` when its hello is refused."""
        session = self.begin(v1.SessionRequest(hello=self.hello(**changes)))
        session.hear("welcome")
        return session

    def begin(self, first: v1.SessionRequest | None, reads: bool = True) -> Session:
        """A session that begins with this message, or says nothing."""
        return Session(self._stub, self.metadata, first, reads)

    def header(self, shard: v1.Shard, payload: bytes, **changes: Any) -> v1.PartialHeader:
        """A true header of a partial, with changes."""
        told: dict[str, Any] = {
            "worker_id": self.worker_id,
            "shard": shard,
            "numerics_class": self.numerics,
            "size": len(payload),
            "digest": digest(payload),
            "seconds": 0.01,
            **changes,
        }
        return v1.PartialHeader(**told)

    def offer(self) -> Upload:
        """An upload of a partial that has said nothing yet."""
        return Upload(self._stub.UploadPartial, v1.UploadPartialRequest, self.metadata)

    def upload(self, shard: v1.Shard, payload: bytes, **changes: Any) -> int:
        """Uploads a partial as it ought to be, but for changes of its header; returns the verdict."""
        answer = self.offer().send(self.header(shard, payload, **changes), payload)
        return int(answer.verdict)

    def checkpoint(self, shard: v1.Shard | None, payload: bytes, **changes: Any) -> bool:
        """Uploads a checkpoint; returns whether the shard is still this worker's."""
        told: dict[str, Any] = {
            "worker_id": self.worker_id,
            "shard": shard,
            "numerics_class": self.numerics,
            "size": len(payload),
            "digest": digest(payload),
            "members_done": 0,
            "epochs": 1,
            **changes,
        }
        upload = Upload(self._stub.UploadCheckpoint, v1.UploadCheckpointRequest, self.metadata)
        return bool(upload.send(v1.CheckpointHeader(**told), payload).wanted)

    def read(self, **request: Any) -> Iterator[v1.ReadInputResponse]:
        """Reads a file of the store."""
        responses: Iterator[v1.ReadInputResponse] = self._stub.ReadInput(
            v1.ReadInputRequest(**request), metadata=self.metadata, timeout=PATIENCE
        )
        return responses
