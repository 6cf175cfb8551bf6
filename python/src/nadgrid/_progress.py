"""Bars for a sweep that runs: one for each job, in a notebook its own kind."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

if TYPE_CHECKING:
    from nadgrid.views import Job


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

    def show(self, jobs: tuple[Job, ...]) -> None:
        """Members that are computed, of all jobs."""
        for job in jobs:
            if job.name not in self._bars:
                unit = " networks" if job.experiment == "nads" else " runs"
                self._bars[job.name] = tqdm(total=job.members, desc=job.name, unit=unit, position=len(self._bars))
            bar = self._bars[job.name]
            bar.n = job.members_done + job.members_in_flight
            bar.set_postfix_str(_remarks(job), refresh=False)
            bar.refresh()

    def away(self, reason: str) -> None:
        """Says that the coordinator is away and tried again."""
        for bar in self._bars.values():
            bar.set_postfix_str("the coordinator is away, trying again")
        if not self._bars:
            tqdm.write(f"{reason}; trying again")


def _remarks(job: Job) -> str:
    remarks = [] if job.state == "computing" else [job.state]
    remarks += [f"{job.members_failed} failed"] if job.members_failed else []
    remarks += [f"{job.retries} given out again"] if job.retries else []
    return ", ".join(remarks)
