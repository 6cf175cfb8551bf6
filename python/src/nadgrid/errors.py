"""What can go wrong. Every error keeps its class, so that a program can act on it.

::

    NadgridError
    ├── SettingsError         a token, a certificate or an address is of no use; nothing was sent
    ├── SpecError             the spec is wrong; ``violations`` says where
    ├── RequestError          another argument is wrong
    ├── InputMissing          the coordinator does not have a file that the spec names: submit again
    ├── KeyTaken              the idempotency key belongs to another spec
    ├── NotFound              no such sweep, artifact or result
    ├── AccessDenied          the token may not do this
    │   └── Unauthenticated   no token, or one that is not (any longer) known
    ├── Full                  the coordinator takes no more for now
    ├── DamagedPayload        bytes did not arrive as they were sent
    ├── Unreachable           nobody answers there, or the connection broke
    ├── CoordinatorError      the coordinator could not do it, or is of another version
    ├── TimedOut              it took longer than you wanted to wait
    ├── SweepUnfinished       the sweep has no result yet
    └── SweepEnded            the sweep ended without a whole result
        ├── SweepFailed
        ├── SweepIncomplete
        └── SweepCancelled

Where Python has a word for it, they are that too: a ``SpecError`` is a ``ValueError``, ``Unreachable`` a ``ConnectionError``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from nadgrid._text import clean

if TYPE_CHECKING:
    from nadgrid.sweep import Sweep

#: Violations of a spec that are told; a coordinator has fewer.
_MOST_VIOLATIONS = 100
#: The domain of nadgrid's reasons.
DOMAIN = "nadgrid"


class NadgridError(Exception):
    """The base of all errors."""

    #: What it is about, where one thing is at fault: a key of the spec (``nads.networks``) or an argument. Else empty.
    field: str
    #: The coordinator's word for the cause, for example ``SWEEP_UNKNOWN``; empty where the cause is on this side.
    reason: str

    def __init__(self, message: str, *, field: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.reason = reason


class SettingsError(NadgridError, ValueError):
    """A token, a certificate or an address is of no use. Nothing was sent."""


@dataclass(frozen=True)
class Violation:
    """One thing that is wrong with a spec."""

    #: The key, for example ``nads.networks``; empty when the text is no TOML at all.
    field: str
    #: What is wrong, and what would be accepted.
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class SpecError(NadgridError, ValueError):
    """The spec is wrong, or a file that it names; ``field`` is that of the first violation."""

    #: Everything that is wrong with it, at least one thing.
    violations: tuple[Violation, ...]

    def __init__(self, violations: Sequence[Violation], *, reason: str = "") -> None:
        message = "the spec is refused: " + "; ".join(map(str, violations))
        super().__init__(message, field=violations[0].field, reason=reason)
        self.violations = tuple(violations)

    def __reduce__(self) -> tuple[object, ...]:
        # As it travels between processes.
        return type(self), (self.violations,), {"reason": self.reason}


class RequestError(NadgridError, ValueError):
    """An argument other than the spec is wrong."""


class InputMissing(NadgridError):
    """The coordinator does not have a file that the spec names. Submit again: that uploads it again."""


class KeyTaken(NadgridError):
    """The idempotency key belongs to a sweep with another spec."""


class NotFound(NadgridError, LookupError):
    """There is no such sweep, artifact or result, or not yet."""


class AccessDenied(NadgridError, PermissionError):
    """The token is not for this: it is a worker's, or the sweep is somebody else's."""


class Unauthenticated(AccessDenied):
    """The coordinator wants a token and got none, or one that it does not know, or knows no longer."""


class Full(NadgridError):
    """The coordinator takes no more at present: requests a second, open sweeps, files. docs/limits.md has the limits."""


class DamagedPayload(NadgridError):
    """Bytes did not arrive as they were sent, or are no longer what they were. Nothing of them was used."""


class Unreachable(NadgridError, ConnectionError):
    """Nobody answers at the address, or the connection broke. Trying again may help."""


class CoordinatorError(NadgridError):
    """The coordinator is there and could not do it, or its answer is of another version."""


class TimedOut(NadgridError, TimeoutError):
    """It took longer than was to be waited. A sweep goes on all the same."""


class SweepUnfinished(NadgridError):
    """The sweep has no result yet."""

    sweep: Sweep

    def __init__(self, message: str, sweep: Sweep) -> None:
        super().__init__(message)
        self.sweep = sweep

    def __reduce__(self) -> tuple[object, ...]:
        # As it travels between processes.
        return type(self), (self.message, self.sweep)


class SweepEnded(NadgridError):
    """The sweep ended without a whole result."""

    sweep: Sweep

    def __init__(self, message: str, sweep: Sweep) -> None:
        super().__init__(message)
        self.sweep = sweep

    def __reduce__(self) -> tuple[object, ...]:
        # As it travels between processes.
        return type(self), (self.message, self.sweep)


class SweepFailed(SweepEnded):
    """The sweep failed; the message says why."""


class SweepIncomplete(SweepEnded):
    """Some blocks failed for good; ``sweep.failures`` has them, ``sweep.results(partial=True)`` what is there."""


class SweepCancelled(SweepEnded):
    """Somebody cancelled the sweep."""


_BY_REASON: dict[str, type[NadgridError]] = {
    "REQUEST_INVALID": RequestError,
    "SWEEP_UNKNOWN": NotFound,
    "ARTIFACT_UNKNOWN": NotFound,
    "INPUT_MISSING": InputMissing,
    "KEY_TAKEN": KeyTaken,
    "FULL": Full,
    "TOKEN_MISSING": Unauthenticated,
    "TOKEN_UNKNOWN": Unauthenticated,
    "TOKEN_EXPIRED": Unauthenticated,
    "ROLE_WRONG": AccessDenied,
    "NOT_YOURS": AccessDenied,
    "PAYLOAD_DAMAGED": DamagedPayload,
    "PAYLOAD_INVALID": DamagedPayload,
    "SHUTTING_DOWN": Unreachable,
}

_BY_CODE: dict[grpc.StatusCode, type[NadgridError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: RequestError,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: KeyTaken,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Full,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.DATA_LOSS: DamagedPayload,
    grpc.StatusCode.UNAVAILABLE: Unreachable,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
}

#: Codes that a transport gives to a connection that broke.
_BROKEN = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED)


def from_status(url: str, error: grpc.RpcError) -> NadgridError:
    """The error that a status of the coordinator at ``url`` means."""
    # Whatever a coordinator says may be shown on a terminal.
    code, details = _code(error), clean(str(_of(error, "details") or ""))
    reason, violations = _details(error)
    if violations or reason == "SPEC_INVALID":
        return SpecError(violations or [Violation("", details)], reason=reason)
    kind = _BY_REASON.get(reason) if reason else _BY_CODE.get(code)
    if not reason and code in _BROKEN:
        # The coordinator gives a reason with each of its own.
        kind = Unreachable
    if kind is Unreachable:
        return Unreachable(f"the coordinator at {url} cannot be reached: {details}", reason=reason)
    if kind is None and code is grpc.StatusCode.UNIMPLEMENTED:
        return CoordinatorError(f"{url} does not serve nadgrid.v1, or an older version of it: {details}")
    if kind is None:
        return CoordinatorError(f"the coordinator at {url} says: {details or code.name}", reason=reason)
    return kind(details or code.name.lower(), field=_blamed(kind, details), reason=reason)


def from_reason(url: str, reason: str, words: str) -> NadgridError:
    """The error that a reason of the page of the coordinator at ``url`` stands for."""
    kind = _BY_REASON.get(reason, CoordinatorError)
    if kind is CoordinatorError:
        return CoordinatorError(f"the coordinator at {url} says: {words}", reason=reason)
    return kind(words, reason=reason)


def _blamed(kind: type[NadgridError], details: str) -> str:
    """The argument that a refused request names first: ``priority = 101: from -100 to 100``."""
    word = details.replace("=", " ").replace(":", " ").split(" ", 1)[0]
    return word if kind is RequestError and word.replace("_", "").isalpha() and word.islower() else ""


def _details(error: grpc.RpcError) -> tuple[str, list[Violation]]:
    """Reason and violations, where the status carries any of nadgrid's."""
    reason, violations = "", []
    for key, value in _of(error, "trailing_metadata") or ():
        if key != "grpc-status-details-bin":
            continue
        status = status_pb2.Status()
        try:
            status.ParseFromString(value)
            for detail in status.details:
                info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
                if detail.Unpack(info) and info.domain == DOMAIN:
                    reason = clean(info.reason)
                elif detail.Unpack(request):
                    found = request.field_violations[:_MOST_VIOLATIONS]
                    violations += [Violation(clean(v.field), clean(v.description)) for v in found]
        except DecodeError:
            # Somebody else's; the code and the text remain.
            continue
    return reason, violations


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    code = _of(error, "code")
    return code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN


def _of(error: grpc.RpcError, what: str) -> Any:
    # The class of what is raised is grpc's secret; only its methods are documented.
    method = getattr(error, what, None)
    return method() if callable(method) else None
