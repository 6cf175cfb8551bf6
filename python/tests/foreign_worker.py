"""A worker that computes nothing and fails as it is told: a real one does not fail on demand."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from types import TracebackType

import grpc
from cluster import Cluster

from nadgrid.v1 import nadgrid_pb2 as pb
from nadgrid.v1.nadgrid_pb2_grpc import SweepServiceStub, WorkerServiceStub


def numerics_class(cluster: Cluster) -> pb.NumericsClass:
    """That of a worker which is there, so that the coordinator takes ours for one of its kind."""
    with grpc.insecure_channel(cluster.address) as channel:
        [worker, *_] = SweepServiceStub(channel).ListWorkers(pb.ListWorkersRequest()).workers
        return worker.numerics_class


class FailingWorker:
    """For a ``with`` block. Shards of these architectures fail with the message; others are kept without an answer."""

    def __init__(
        self,
        cluster: Cluster,
        numerics: pb.NumericsClass,
        message: str,
        kind: pb.FailureKind = pb.FAILURE_KIND_TASK,
        architectures: tuple[str, ...] = ("lenet",),
    ) -> None:
        self._channel = grpc.insecure_channel(cluster.address)
        self._requests: queue.Queue[pb.SessionRequest | None] = queue.Queue()
        hello = pb.Hello(
            worker_id="foreign",
            name="foreign",
            protocol_version=3,
            version="0",
            numerics_class=numerics,
            slots=2,
            precisions=["fp32"],
        )
        self._requests.put(pb.SessionRequest(hello=hello))
        self._message, self._kind, self._architectures = message, kind, architectures

    def _outgoing(self) -> Iterator[pb.SessionRequest]:
        while (request := self._requests.get()) is not None:
            yield request

    def fail(self, times: int) -> None:
        """Takes assignments until this many have failed."""
        architecture, failed = "", 0
        responses = WorkerServiceStub(self._channel).Session(self._outgoing())
        for response in responses:
            if not response.HasField("assignment"):
                continue
            assignment = response.assignment
            # Left out where it is that of the assignment before.
            architecture = assignment.architecture or architecture
            if architecture in self._architectures:
                failure = pb.Failure(shard=assignment.shard, kind=self._kind, message=self._message)
                self._requests.put(pb.SessionRequest(failure=failure))
                failed += 1
            if failed == times:
                break
        self._requests.put(pb.SessionRequest(goodbye=pb.Goodbye()))
        self._requests.put(None)
        for _ in responses:
            pass

    def __enter__(self) -> FailingWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._requests.put(None)
        self._channel.close()
