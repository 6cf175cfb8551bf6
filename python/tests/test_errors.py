"""Every status keeps its class, whoever made it."""

from __future__ import annotations

import pickle

import grpc
import pytest
from cluster import Cluster
from conftest import NADS
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

import nadgrid
from nadgrid.errors import from_status
from nadgrid.v1 import nadgrid_pb2 as pb
from nadgrid.v1.nadgrid_pb2_grpc import SweepServiceStub


class Status(grpc.RpcError):
    """As grpc raises it."""

    def __init__(self, code: grpc.StatusCode, message: str, details: bytes | None = None) -> None:
        self._code, self._message, self._details = code, message, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._message

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:  # type: ignore[override]
        return (("other-bin", b"?"),) if self._details is None else (("grpc-status-details-bin", self._details),)


def described(reason: str, domain: str = "nadgrid") -> bytes:
    detail = AnyMessage()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain))
    content: bytes = status_pb2.Status(details=[detail]).SerializeToString()
    return content


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (grpc.StatusCode.FAILED_PRECONDITION, "INPUT_MISSING", nadgrid.InputMissing),
        (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", nadgrid.Unreachable),
        # It is there, and says what ails it.
        (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", nadgrid.CoordinatorError),
        (grpc.StatusCode.INTERNAL, "INTERNAL", nadgrid.CoordinatorError),
        (grpc.StatusCode.FAILED_PRECONDITION, "OF_A_LATER_VERSION", nadgrid.CoordinatorError),
        # Made on the way, by a transport or a proxy.
        (grpc.StatusCode.INTERNAL, "", nadgrid.Unreachable),
        (grpc.StatusCode.UNAVAILABLE, "", nadgrid.Unreachable),
        (grpc.StatusCode.PERMISSION_DENIED, "", nadgrid.AccessDenied),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "", nadgrid.Full),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", nadgrid.TimedOut),
        (grpc.StatusCode.UNIMPLEMENTED, "", nadgrid.CoordinatorError),
        (grpc.StatusCode.OUT_OF_RANGE, "", nadgrid.CoordinatorError),
    ],
)
def test_every_status_keeps_its_class(code: grpc.StatusCode, reason: str, kind: type[nadgrid.NadgridError]) -> None:
    error = from_status("http://x", Status(code, "words", described(reason) if reason else None))
    assert type(error) is kind
    assert error.reason == reason
    assert "words" in str(error)


def test_reasons_of_others_are_none_of_ours() -> None:
    for details in (described("SWEEP_UNKNOWN", "elsewhere"), b"\xff\xff no message"):
        error = from_status("http://x", Status(grpc.StatusCode.RESOURCE_EXHAUSTED, "words", details))
        assert type(error) is nadgrid.Full
        assert error.reason == ""
    assert type(from_status("http://x", grpc.RpcError())) is nadgrid.Unreachable


def test_a_file_that_was_not_uploaded_is_missing(cluster: Cluster) -> None:
    spec = (
        "name = 'x'\narchitectures = ['logreg']\ninput = { height = 4, width = 4 }\n"
        "[directional]\ndirections = { kind = 'file', path = 'a.npy', indices = [0] }"
    )
    request = pb.SubmitRequest(spec=spec, inputs=[pb.Input(name="a.npy", size=1, digest="0" * 64)])
    with grpc.insecure_channel(cluster.address) as channel, pytest.raises(grpc.RpcError) as raised:
        SweepServiceStub(channel).Submit(request)
    error = from_status(cluster.url, raised.value)
    assert error.reason == "INPUT_MISSING"
    assert "a.npy" in str(error)


def test_a_coordinator_may_be_full() -> None:
    with Cluster("--limit", "open_sweeps=1") as cluster, nadgrid.connect(cluster.url) as grid:
        grid.submit(NADS)
        with pytest.raises(nadgrid.Full, match="1 sweeps are open") as error:
            grid.submit(NADS)
        assert error.value.reason == "FULL"


def test_errors_travel_between_processes(grid: nadgrid.Client) -> None:
    with pytest.raises(nadgrid.SpecError) as refused:
        grid.plan({**NADS, "nads": {"networks": 1}})
    with pytest.raises(nadgrid.NotFound) as unknown:
        grid.sweep("x")
    for error in (refused.value, unknown.value):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
