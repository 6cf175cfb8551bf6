"""What a coordinator tells, as plain values: plans, jobs, workers, failures, explanations, checks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timezone
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pandas as pd

from nadgrid import _html
from nadgrid.v1 import nadgrid_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp


#: Rows of a table in a notebook.
MOST_SHOWN = 100


class State(str, Enum):
    """Where a sweep stands. Compares equal to its text: ``sweep.state == "complete"``."""

    #: Accepted; nothing leased yet.
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETE = "complete"
    #: Everything that could be computed was; some blocks failed for good.
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self not in (State.QUEUED, State.RUNNING)

    def __str__(self) -> str:
        return self.value


def state_of(sweep: pb.Sweep) -> State:
    """The state of a message. One that is not known here is taken for one that goes on."""
    name = pb.SweepState.Name(sweep.state) if sweep.state in pb.SweepState.values() else ""
    try:
        return State(name.replace("SWEEP_STATE_", "").lower())
    except ValueError:
        return State.RUNNING


def moment(message: pb.Sweep, field: str) -> datetime | None:
    """A moment of a message in UTC, if it has come."""
    if not message.HasField(field):
        return None
    stamp: Timestamp = getattr(message, field)
    return stamp.ToDatetime(timezone.utc)


@dataclass(frozen=True)
class Job:
    """One architecture of one experiment of a sweep."""

    #: ``nads``, ``directional``, ``poisoning``, ``flipping`` or ``margins``.
    experiment: str
    architecture: str
    #: ``waiting`` (for the NADs of another job), ``computing``, ``reducing``, ``complete`` or ``incomplete``.
    state: str
    #: Networks N, or training runs.
    members: int
    #: Members committed.
    members_done: int
    #: Members computed of shards that are still leased.
    members_in_flight: int
    #: Members of shards that failed for good.
    members_failed: int
    #: Share of its work that is done, from 0 to 1: members, audits, and what is computed from them.
    progress: float
    #: Estimated, until it ends; ``None`` where nothing can be said.
    seconds_left: float | None
    #: On the slots that have its shards now; 0 while nothing is measured or no slot has any.
    members_per_second: float
    #: Input pixels D.
    dimension: int
    #: Shards committed.
    shards: int
    #: Shards given out again after a loss or failure.
    retries: int
    #: Speculative leases of shards that took too long elsewhere.
    speculative: int
    #: Shards that a second worker is to compute, and has computed with the same bits.
    audits_due: int
    audits_passed: int
    #: Partials in the store: those that were merged with their neighbours are not counted.
    partials: int
    #: Spent on committed shards.
    slot_seconds: float
    #: BLAKE3 of the merged moments, or of the runs; empty until complete.
    digest: str

    @property
    def name(self) -> str:
        """For example ``nads/lenet``."""
        return f"{self.experiment}/{self.architecture}"

    @classmethod
    def of(cls, job: pb.Job) -> Job:
        known = job.state in pb.JobState.values()
        state = pb.JobState.Name(job.state).replace("JOB_STATE_", "").lower() if known else str(job.state)
        apart: dict[str, Any] = {
            "state": state,
            "seconds_left": job.seconds_left if job.HasField("seconds_left") else None,
        }
        same = {f.name: getattr(job, f.name) for f in fields(cls) if f.name not in apart}
        return cls(**apart, **same)


@dataclass(frozen=True)
class Artifact:
    """A file of a sweep's result."""

    #: For example ``nads/lenet/nads.npy``.
    name: str
    #: Bytes.
    size: int
    #: BLAKE3, hexadecimal.
    digest: str


@dataclass(frozen=True)
class Failure:
    """A shard that failed on so many workers that it is not tried again."""

    #: The job's name, for example ``nads/lenet``.
    job: str
    first_block: int
    blocks: int
    attempts: int
    #: Names of the workers that it failed on.
    workers: tuple[str, ...]
    #: What the last one said.
    message: str


@dataclass(frozen=True)
class Worker:
    """A worker that the coordinator knows."""

    id: str
    name: str
    #: For example ``cpu``, or a GPU's architecture.
    device: str
    #: Shards it computes at once: cores of a CPU, or GPUs.
    slots: int
    #: Shards it holds.
    leases: int
    connected: bool
    #: Takes no more shards and will leave.
    draining: bool
    #: Why it is set aside; empty when it is fit.
    unfit: str
    #: Networks or training runs of its shards that were committed.
    members_done: int
    #: On all its slots, by its last committed shards; 0 before the first.
    members_per_second: float
    #: Of what that rate is, for example ``nads/lenet``.
    rate_of: str
    #: What it last failed with; empty when it never did.
    last_error: str
    #: Since it was last heard.
    silent_seconds: float
    #: Payloads for which the coordinator has no place yet, and since when the first of them waits.
    transfers_waiting: int
    waiting_seconds: float
    #: Payloads on their way to or from it, and the bytes a second of all of them.
    transfers: int
    transfer_bytes_per_second: float
    version: str

    @classmethod
    def of(cls, worker: pb.Worker) -> Worker:
        apart: dict[str, Any] = {
            "device": worker.numerics_class.device,
            "silent_seconds": worker.silent_ms / 1000,
            "waiting_seconds": worker.transfers_waiting_ms / 1000,
        }
        same = {f.name: getattr(worker, f.name) for f in fields(cls) if f.name not in apart}
        return cls(**apart, **same)


@dataclass(frozen=True)
class JobPlan:
    """What one architecture of one experiment will take."""

    experiment: str
    architecture: str
    #: Networks, or training runs.
    members: int
    blocks: int
    shards: int
    #: By the definition, of all members; backward passes not counted.
    forward_passes: int
    #: Of one network.
    parameters: int
    #: Input pixels D.
    dimension: int
    #: What a shard yields.
    partial_bytes: int
    seconds: float
    #: Whether the estimate comes from measured rates.
    measured: bool
    #: Seconds on one GPU at an assumed speed, whatever was measured.
    gpu_seconds: float


@dataclass(frozen=True)
class Plan:
    """What a sweep will take."""

    jobs: tuple[JobPlan, ...]
    #: Slots (a CPU core or a GPU) the estimate is for.
    slots: int
    #: Workers connected; with none, the estimate is for one slot at an assumed rate.
    workers: int
    #: Estimated, of the whole sweep.
    seconds: float

    @classmethod
    def of(cls, plan: pb.PlanResponse) -> Plan:
        def job(job: pb.JobPlan) -> JobPlan:
            return JobPlan(**{f.name: getattr(job, f.name) for f in fields(JobPlan)})

        return cls(tuple(map(job, plan.jobs)), plan.slots, plan.workers, plan.seconds)

    def frame(self) -> pd.DataFrame:
        """The jobs as a table."""
        return Rows(self.jobs).frame()

    def _repr_html_(self) -> str:
        summary = f"{self.seconds:,.1f} s on {self.slots} slots of {self.workers} workers"
        return _html.paragraph(summary) + Rows(self.jobs)._repr_html_()


@dataclass(frozen=True)
class Explanation:
    """Where a sweep, a job or a block stands, and why it does not run."""

    #: What was asked for, in words.
    subject: str
    #: For example ``pending``, ``leased``, ``committed`` or ``quarantined``.
    state: str
    #: The most important first.
    reasons: tuple[str, ...]
    #: What keeps each worker from it, by the worker's name.
    workers: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, response: pb.ExplainResponse) -> Explanation:
        workers = tuple((worker.name, worker.reason) for worker in response.workers)
        return cls(response.subject, response.state, tuple(response.reasons), workers)

    def __str__(self) -> str:
        lines = [f"{self.subject} is {self.state}", *self.reasons]
        return "\n".join([*lines, *(f"{name}: {reason}" for name, reason in self.workers)])

    def _repr_html_(self) -> str:
        reasons = [*self.reasons, *(f"{name}: {reason}" for name, reason in self.workers)]
        return _html.paragraph(f"{self.subject} is {self.state}") + _html.bullets(reasons)


@dataclass(frozen=True)
class Check:
    """A shard that was computed again, for comparison."""

    #: The job's name, for example ``nads/lenet``.
    job: str
    first_block: int
    blocks: int
    #: Whether the bits are the same.
    agrees: bool
    #: BLAKE3 of what was committed, and of what was computed now; empty when it could not be.
    committed: str
    recomputed: str
    #: Workers' ids.
    committed_by: str
    recomputed_by: str
    #: Why it could not be computed again; empty when it was.
    message: str

    @classmethod
    def of(cls, response: pb.VerifyResponse) -> Check:
        apart: dict[str, Any] = {"first_block": response.shard.first_block, "blocks": response.shard.blocks}
        same = {f.name: getattr(response, f.name) for f in fields(cls) if f.name not in apart}
        return cls(**apart, **same)


Row = TypeVar("Row")


class Rows(tuple[Row, ...], Generic[Row]):
    """Several values of one kind, a table in a notebook."""

    __slots__ = ()

    def frame(self) -> pd.DataFrame:
        """A row for each, and a column for each of their fields."""
        names = [field.name for field in fields(self[0])] if self else []  # type: ignore[arg-type]
        return pd.DataFrame({name: [getattr(row, name) for row in self] for name in names})

    def __str__(self) -> str:
        return self.frame().to_string(index=False) if self else "none"

    def _repr_html_(self) -> str:
        if not self:
            return _html.paragraph("none")
        shown = type(self)(self[:MOST_SHOWN])
        frame = shown.frame()
        rest = _html.paragraph(f"and {len(self) - len(shown):,} more") if len(self) > len(shown) else ""
        return _html.table(list(frame.columns), frame.to_numpy(dtype=object).tolist()) + rest
