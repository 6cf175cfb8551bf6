"""A coordinator that lies: a gRPC server that answers as a test has it answer, and honestly where the test says nothing.

Honest is a coordinator with one complete sweep of logistic regression on 4 x 4 pixels, whose files can be fetched and drawn,
and one worker. What a lie returns is sent as it is: messages, or bytes that need be none. Requests are kept for the tests to
look at.
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from types import TracebackType
from typing import Any, Union

import grpc
import numpy as np
from blake3 import blake3
from google.protobuf.message import Message
from nadgrid.v1 import nadgrid_pb2 as v1

#: The honest sweep, and another.
SWEEP = "0199b6f0-7d2c-7000-8000-000000000001"
OTHER = "0199b6f0-7d2c-7000-8000-000000000002"
SPEC = """\
name = "small"
seed = 1
input = { channels = 1, height = 4, width = 4 }
architectures = ["logreg"]

[nads]
networks = 64
block_size = 8
"""
#: Bytes of a chunk.
CHUNK = 64 << 10
#: Largest message that the server sends.
MESSAGE_LIMIT = 64 << 20

Answer = Union[Message, bytes]
#: What a method answers: one message, or several of a stream. A lie may also end the call with a status by its context.
Lie = Callable[[Any, grpc.ServicerContext], Any]

#: Name, whether requests are a stream, whether answers are, and the request's class.
_SWEEPS = {
    "Plan": (False, False, v1.PlanRequest),
    "UploadInput": (True, True, v1.UploadInputRequest),
    "Submit": (False, False, v1.SubmitRequest),
    "Get": (False, False, v1.GetRequest),
    "List": (False, False, v1.ListRequest),
    "Watch": (False, True, v1.WatchRequest),
    "Cancel": (False, False, v1.CancelRequest),
    "Pause": (False, False, v1.PauseRequest),
    "Resume": (False, False, v1.ResumeRequest),
    "Explain": (False, False, v1.ExplainRequest),
    "Verify": (False, True, v1.VerifyRequest),
    "ReadArtifact": (False, True, v1.ReadArtifactRequest),
    "ListWorkers": (False, False, v1.ListWorkersRequest),
}
_WORKERS = {
    "Session": (True, True, v1.SessionRequest),
    "ReadInput": (False, True, v1.ReadInputRequest),
    "UploadPartial": (True, True, v1.UploadPartialRequest),
    "UploadCheckpoint": (True, True, v1.UploadCheckpointRequest),
}


def digest(content: bytes) -> str:
    """BLAKE3, hexadecimal."""
    return blake3(content).hexdigest()


def npy(array: Any) -> bytes:
    """An array as a .npy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def honest_files() -> dict[str, bytes]:
    """The files of the honest sweep."""
    facts = {
        "gradients": 64,
        "dimension": 16,
        "total_variance": 2.0,
        "effective_rank": 9.5,
        "anisotropy": 0.4,
        "standard_errors": "gaussian",
    }
    values = np.linspace(1.0, 0.1, 16)
    arrays = {
        "nads": np.eye(16, dtype=np.float32),
        "eigenvalues": values**2,
        "singular_values": values,
        "standard_errors": values / 10,
        "mean": np.zeros(16),
    }
    files = {f"nads/logreg/{name}.npy": npy(array) for name, array in arrays.items()}
    return {**files, "nads/logreg/spectrum.json": json.dumps(facts).encode()}


def artifact(name: str, content: bytes) -> v1.Artifact:
    """As a sweep and the file's own stream announce it."""
    return v1.Artifact(name=name, size=len(content), digest=digest(content))


def sweep_of(files: Mapping[str, bytes], **changed: Any) -> v1.Sweep:
    """The honest sweep with these files, complete unless something else is said."""
    told: dict[str, Any] = {
        "id": SWEEP,
        "name": "small",
        "state": v1.SWEEP_STATE_COMPLETE,
        "spec": SPEC,
        "digest": "ab" * 32,
        "numerics_class": v1.NumericsClass(device="cpu", arithmetic="portable", libtorch="2.9.0", precision="fp32"),
        "jobs": [job()],
        "artifacts": [artifact(name, content) for name, content in files.items()],
        "progress": 1.0,
        "weight": 1.0,
        "coordinator_version": "0.1.0",
    }
    sweep = v1.Sweep(**{**told, **changed})
    for moment in ("submitted_at", "started_at", "ended_at"):
        if moment not in changed:
            getattr(sweep, moment).FromSeconds(1_700_000_000)
    return sweep


def job(**changed: Any) -> v1.Job:
    """The honest sweep's job."""
    told: dict[str, Any] = {
        "experiment": "nads",
        "architecture": "logreg",
        "state": v1.JOB_STATE_COMPLETE,
        "members": 64,
        "members_done": 64,
        "dimension": 16,
        "progress": 1.0,
        "digest": "cd" * 32,
    }
    return v1.Job(**{**told, **changed})


def worker(**changed: Any) -> v1.Worker:
    """The honest coordinator's worker."""
    told: dict[str, Any] = {"id": "w-1", "name": "box", "slots": 2, "connected": True, "version": "0.1.0"}
    return v1.Worker(**{**told, **changed})


def chunks(name: str, content: bytes) -> Iterator[v1.ReadArtifactResponse]:
    """A file as it is sent."""
    yield v1.ReadArtifactResponse(artifact=artifact(name, content))
    for start in range(0, len(content), CHUNK):
        yield v1.ReadArtifactResponse(data=content[start : start + CHUNK])


def assignment(spec: str = SPEC, **changed: Any) -> v1.SessionResponse:
    """A shard for a worker: the first of the honest sweep."""
    told: dict[str, Any] = {
        "shard": v1.Shard(sweep_id=SWEEP, first_block=0, blocks=1),
        "spec": spec,
        "experiment": "nads",
        "architecture": "logreg",
    }
    return v1.SessionResponse(assignment=v1.Assignment(**{**told, **changed}))


def welcome(**changed: Any) -> v1.SessionResponse:
    """The first message of a session."""
    told: dict[str, Any] = {"coordinator_version": "0.1.0", "heartbeat_interval_ms": 200}
    return v1.SessionResponse(welcome=v1.Welcome(**{**told, **changed}))


class LyingCoordinator:
    """A server on loopback, for a ``with`` block. Lies are named as the methods are: ``LyingCoordinator(Get=...)``.

    ``files``: those of the honest sweep, by name.
    """

    def __init__(self, **lies: Any) -> None:
        self.files: dict[str, bytes] = lies.pop("files", None) or honest_files()
        self.sweep = sweep_of(self.files)
        #: Every request, with the method's name and when it came; the messages of a stream one by one.
        self.heard: list[tuple[str, float, Any]] = []
        self._lies: dict[str, Lie] = lies
        #: Set when the coordinator ends: lies that wait, wait for this.
        self.over = threading.Event()
        self._server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=32),
            options=[("grpc.max_send_message_length", MESSAGE_LIMIT), ("grpc.max_receive_message_length", -1)],
        )
        for service, methods in (("SweepService", _SWEEPS), ("WorkerService", _WORKERS)):
            handlers = {name: self._handler(name, *kind) for name, kind in methods.items()}
            handler = grpc.method_handlers_generic_handler(f"nadgrid.v1.{service}", handlers)
            self._server.add_generic_rpc_handlers((handler,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> LyingCoordinator:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self._server.stop(0).wait()

    def _handler(self, name: str, asks_stream: bool, answers_stream: bool, request: type[Message]) -> Any:
        def unary(asked: Any, context: grpc.ServicerContext) -> Any:
            return self._answer(name, asked, context)

        def stream(asked: Any, context: grpc.ServicerContext) -> Iterator[Answer]:
            answers: Iterable[Answer] = self._answer(name, asked, context)
            for answer in answers:
                if self.over.is_set() or not context.is_active():
                    return
                yield answer

        kinds = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }
        behaviour: Any = stream if answers_stream else unary
        return kinds[asks_stream, answers_stream](behaviour, request.FromString, _bytes_of)

    def _answer(self, name: str, asked: Any, context: grpc.ServicerContext) -> Any:
        if isinstance(asked, Message):
            self.heard.append((name, time.monotonic(), asked))
        else:
            self.heard.append((name, time.monotonic(), None))
            asked = self._noted(name, asked)
        lie = self._lies.get(name) or getattr(self, f"_{name.lower()}", None)
        if lie is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "nobody lies here")
        return lie(asked, context)

    def _noted(self, name: str, asked: Iterator[Any]) -> Iterator[Any]:
        for message in asked:
            self.heard.append((name, time.monotonic(), message))
            yield message

    def times(self, name: str) -> list[float]:
        """When a method was called."""
        return [
            at for method, at, message in self.heard if method == name and not isinstance(message, v1.SessionRequest)
        ]

    def said(self, name: str) -> list[Any]:
        """The messages of a method so far."""
        return [message for method, _, message in list(self.heard) if method == name and message is not None]

    # What is honest

    def _plan(self, _: v1.PlanRequest, __: grpc.ServicerContext) -> v1.PlanResponse:
        planned = v1.JobPlan(experiment="nads", architecture="logreg", members=64, blocks=8, shards=1, seconds=1.0)
        return v1.PlanResponse(jobs=[planned], slots=2, workers=1, seconds=1.0)

    def _submit(self, _: v1.SubmitRequest, __: grpc.ServicerContext) -> v1.SubmitResponse:
        return v1.SubmitResponse(sweep=self.sweep, created=True)

    def _get(self, _: v1.GetRequest, __: grpc.ServicerContext) -> v1.Sweep:
        return self.sweep

    _cancel = _pause = _resume = _get

    def _list(self, _: v1.ListRequest, __: grpc.ServicerContext) -> v1.ListResponse:
        return v1.ListResponse(sweeps=[self.sweep])

    def _watch(self, _: v1.WatchRequest, __: grpc.ServicerContext) -> Iterator[v1.Sweep]:
        yield self.sweep

    def _explain(self, _: v1.ExplainRequest, __: grpc.ServicerContext) -> v1.ExplainResponse:
        return v1.ExplainResponse(subject=f"sweep {SWEEP}", state="complete")

    def _listworkers(self, _: v1.ListWorkersRequest, __: grpc.ServicerContext) -> v1.ListWorkersResponse:
        return v1.ListWorkersResponse(workers=[worker()])

    def _readartifact(
        self, asked: v1.ReadArtifactRequest, _: grpc.ServicerContext
    ) -> Iterator[v1.ReadArtifactResponse]:
        return chunks(asked.name, self.files[asked.name])

    def _session(self, asked: Iterator[v1.SessionRequest], _: grpc.ServicerContext) -> Iterator[v1.SessionResponse]:
        next(asked)
        yield welcome()
        for _message in asked:
            pass


def _bytes_of(answer: Answer) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def session(*messages: v1.SessionResponse, closes: bool = False) -> Lie:
    """A session that says these messages after its welcome, and then nothing more, or closes."""

    def serve(asked: Iterator[v1.SessionRequest], _: grpc.ServicerContext) -> Iterator[v1.SessionResponse]:
        next(asked)
        yield welcome()
        yield from messages
        if not closes:
            for _message in asked:
                pass

    return serve


def one_by_one(messages: Sequence[v1.SessionResponse]) -> Lie:
    """A session that says each of these messages when the one before has been answered with a failure."""

    def serve(asked: Iterator[v1.SessionRequest], _: grpc.ServicerContext) -> Iterator[v1.SessionResponse]:
        next(asked)
        yield welcome()
        for said in messages:
            yield said
            next((message for message in asked if message.HasField("failure")), None)
        for _message in asked:
            pass

    return serve
