"""Bars for a sweep that runs: one for each job, in a notebook its own kind.

How much is done and how long it will take is what the coordinator says: tqdm's own rate and estimate are left out.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from nadgrid.views import Job

if TYPE_CHECKING:
    from nadgrid.v1 import nadgrid_pb2 as pb

_FORMAT = "{desc}: {percentage:3.0f}% {bar}{postfix}"


class Bars:
    """For a ``with`` block; drawn when something is first shown."""

    def __init__(self) -> None:
        self._bars: dict[str, tqdm[Any]] = {}

    def __enter__(self) -> Bars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for bar in self._bars.values():
            bar.close()

    def show(self, sweep: pb.Sweep) -> None:
        """Shows the shares of all jobs, of several also the share of the whole, and what keeps the sweep back."""
        jobs = [Job.of(job) for job in sweep.jobs]
        for job in jobs:
            self._set(job.name, job.progress, _remarks(job))
        if len(jobs) > 1:
            whole = [_left(sweep.seconds_left)] if sweep.HasField("seconds_left") else []
            self._set("whole", sweep.progress, [*whole, *sweep.notices])
        elif jobs and sweep.notices:
            self._set(jobs[0].name, jobs[0].progress, [*_remarks(jobs[0]), *sweep.notices])

    def _set(self, name: str, share: float, remarks: list[str]) -> None:
        if name not in self._bars:
            self._bars[name] = tqdm(total=100, desc=name, bar_format=_FORMAT, position=len(self._bars))
        bar = self._bars[name]
        bar.n = int(100 * share + 1e-9)
        bar.set_postfix_str(", ".join(remarks), refresh=False)
        bar.refresh()

    def away(self, reason: str) -> None:
        """Says that the coordinator is away and tried again."""
        for bar in self._bars.values():
            bar.set_postfix_str("the coordinator is away, trying again")
        if not self._bars:
            tqdm.write(f"{reason}; trying again")


def duration(seconds: float) -> str:
    """Seconds in the words of the command line: ``0.4 s``, ``12 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _left(seconds: float) -> str:
    return f"{duration(seconds)} left"


def _remarks(job: Job) -> list[str]:
    unit = "networks" if job.experiment == "nads" else "runs"
    remarks = [f"{job.members_done + job.members_in_flight:,}/{job.members:,} {unit}"]
    remarks += [] if job.state == "computing" else [job.state]
    remarks += [f"{job.members_per_second:,.1f} {unit}/s"] if job.members_per_second else []
    remarks += [] if job.seconds_left is None else [_left(job.seconds_left)]
    remarks += [f"{job.members_failed} failed"] if job.members_failed else []
    remarks += [f"{job.retries} given out again"] if job.retries else []
    return remarks
