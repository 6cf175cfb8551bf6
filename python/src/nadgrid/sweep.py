"""A sweep at its coordinator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from nadgrid import _folder, _html, _presigned
from nadgrid._connection import Detached, assign
from nadgrid._digest import check
from nadgrid._pictures import PagePictures
from nadgrid._progress import Bars
from nadgrid._untrusted import MOST_BYTES
from nadgrid._version import VERSION
from nadgrid.errors import (
    CoordinatorError,
    DamagedPayload,
    NadgridError,
    NotFound,
    RequestError,
    SweepCancelled,
    SweepEnded,
    SweepFailed,
    SweepIncomplete,
    SweepUnfinished,
    TimedOut,
    Unreachable,
)
from nadgrid.results import Results
from nadgrid.v1 import nadgrid_pb2 as pb
from nadgrid.views import Artifact, Check, Explanation, Failure, Job, Rows, State, moment, state_of

if TYPE_CHECKING:
    from os import PathLike

    from nadgrid._connection import Connection

#: Seconds for which a coordinator may be away at a stretch while a sweep is followed.
PATIENCE = 300.0
#: The first pause before it is tried again, and the longest; each is twice the last.
_PAUSES = (0.25, 5.0)

_ENDED: dict[State, tuple[type[SweepEnded], str]] = {
    State.FAILED: (SweepFailed, "failed"),
    State.INCOMPLETE: (SweepIncomplete, "is incomplete"),
    State.CANCELLED: (SweepCancelled, "was cancelled"),
}


def about(id: str, message: pb.Sweep) -> pb.Sweep:
    """The message, if it is about the sweep that was asked for."""
    if message.id != id:
        raise CoordinatorError(f"sweep {id} was requested, but {message.id!r} was received")
    return message


class Sweep:
    """A sweep at its coordinator. What is asked of it is asked of the coordinator, until the sweep has ended."""

    def __init__(self, connection: Connection, message: pb.Sweep, created: bool = False) -> None:
        self._connection = connection
        self._message = message
        #: Whether this submission created it; ``False`` too for one that an earlier submission with the same key had created.
        self.created = created

    # What it is

    @property
    def id(self) -> str:
        """Its id at the coordinator."""
        return self._message.id

    @property
    def name(self) -> str:
        """Its name, from the spec."""
        return self._message.name

    @property
    def spec(self) -> str:
        """The spec with every default filled in, TOML."""
        if not self._message.spec:
            # Lists leave it out.
            self._take(self._connection.call(self._connection.stub.Get, pb.GetRequest(sweep_id=self.id)))
        return self._message.spec

    @property
    def owner(self) -> str:
        """Whose it is; empty without access control."""
        return self._message.owner

    @property
    def priority(self) -> int:
        """Sweeps of a higher priority go first."""
        return self._message.priority

    @property
    def weight(self) -> float:
        """Sweeps of one priority share the slots by weight."""
        return self._message.weight

    @property
    def submitted_at(self) -> datetime | None:
        """In UTC."""
        return moment(self._message, "submitted_at")

    # Where it stands

    @property
    def state(self) -> State:
        """``queued``, ``running``, ``complete``, ``incomplete``, ``failed`` or ``cancelled``."""
        return state_of(self._now())

    @property
    def progress(self) -> float:
        """The share of its work that is done, from 0 to 1, each job weighted by what it costs."""
        return self._now().progress

    @property
    def seconds_left(self) -> float | None:
        """Estimated, until it ends with the slots it has now; ``None`` where nothing can be said."""
        now = self._now()
        return now.seconds_left if now.HasField("seconds_left") else None

    @property
    def notices(self) -> tuple[str, ...]:
        """What it waits for or what keeps it back at the moment, the most important first."""
        return tuple(self._now().notices)

    @property
    def paused(self) -> bool:
        """Whether no more shards are given out for now."""
        return self._now().paused

    @property
    def jobs(self) -> Rows[Job]:
        """One for each experiment and architecture, in the spec's order."""
        return Rows(map(Job.of, self._now().jobs))

    @property
    def digest(self) -> str:
        """BLAKE3 of the result: a function of the spec and the numerics class alone. Empty until complete."""
        return self._now().digest

    @property
    def message(self) -> str:
        """Why it failed or is incomplete."""
        return self._now().message

    @property
    def failures(self) -> Rows[Failure]:
        """Shards that failed for good, at most a hundred of them."""
        now = self._now()
        names = [Job.of(job).name for job in now.jobs]
        return Rows(
            Failure(
                names[f.job] if f.job < len(names) else "",
                f.first_block,
                f.blocks,
                f.attempts,
                tuple(f.workers),
                f.message,
            )
            for f in now.failures
        )

    @property
    def workers(self) -> int:
        """Workers connected that can take its shards."""
        return self._now().workers

    @property
    def artifacts(self) -> Rows[Artifact]:
        """Its files, once complete; of an incomplete sweep, those of its complete jobs."""
        return Rows(Artifact(a.name, a.size, a.digest) for a in self._now().artifacts)

    @property
    def started_at(self) -> datetime | None:
        """When its first shard was given out, in UTC."""
        return moment(self._now(), "started_at")

    @property
    def ended_at(self) -> datetime | None:
        """In UTC."""
        return moment(self._now(), "ended_at")

    def explain(self, job: int | str | None = None, block: int | None = None) -> Explanation:
        """Where it, a job of it (a place or a name such as ``nads/lenet``) or a block stands, and why it does not run."""
        if isinstance(job, str):
            names = [Job.of(one).name for one in self._message.jobs]
            if job not in names:
                raise RequestError(f"job = {job!r}: there are {', '.join(names)}", field="job")
            job = names.index(job)
        request = pb.ExplainRequest(sweep_id=self.id)
        assign(request, job=job, block=block)
        return Explanation.of(self._connection.call(self._connection.stub.Explain, request))

    # Steering

    def cancel(self) -> None:
        """Cancels it; cancelling an ended sweep changes nothing."""
        self._take(self._connection.call(self._connection.stub.Cancel, pb.CancelRequest(sweep_id=self.id)))

    def pause(self) -> None:
        """Gives out no more shards; those given out are still computed."""
        self._take(self._connection.call(self._connection.stub.Pause, pb.PauseRequest(sweep_id=self.id)))

    def resume(self) -> None:
        """Goes on after a pause."""
        self._take(self._connection.call(self._connection.stub.Resume, pb.ResumeRequest(sweep_id=self.id)))

    # Following

    def wait(self, progress: bool = False, timeout: float | None = None, patience: float = PATIENCE) -> Sweep:
        """Waits until it is complete, and returns it.

        ``progress`` shows a bar for each job. ``timeout`` is in seconds; ``patience`` is how long, in seconds, the coordinator
        may be away at a stretch, as when it restarts.

        Raises :class:`SweepFailed`, :class:`SweepIncomplete` or :class:`SweepCancelled` when it ends otherwise, :class:`TimedOut`
        and :class:`Unreachable` when it goes on without us.
        """
        if progress:
            self.follow(timeout, patience)
        else:
            for _ in self.watch(timeout, patience):
                pass
        self._ensure_complete()
        return self

    def follow(self, timeout: float | None = None, patience: float = PATIENCE) -> State:
        """Shows a bar for each job until it has ended; how it ended."""
        with Bars() as bars:
            for away in self._follow(timeout, patience):
                if away is None:
                    bars.show(self._message)
                else:
                    bars.away(str(away))
        return state_of(self._message)

    def watch(self, timeout: float | None = None, patience: float = PATIENCE) -> Iterator[Rows[Job]]:
        """Its jobs as they stand now and whenever they change, until it has ended."""
        for away in self._follow(timeout, patience):
            if away is None:
                yield Rows(map(Job.of, self._message.jobs))

    def _follow(self, timeout: float | None, patience: float) -> Iterator[Unreachable | None]:
        """``None`` for each change of the message, or why the coordinator is away and is tried again after a pause."""
        until = None if timeout is None else time.monotonic() + timeout
        pause, away_since, told = _PAUSES[0], None, False
        while True:
            remaining = None if until is None else until - time.monotonic()
            if timeout is not None and remaining is not None and remaining <= 0:
                raise self._timed_out(timeout)
            try:
                request = pb.WatchRequest(sweep_id=self.id)
                opened = time.monotonic()
                for message in self._connection.stream(self._connection.stub.Watch, request, remaining):
                    changed = message != self._message or not told
                    self._take(message)
                    told, away_since = True, None
                    # A stream that says a word and closes, again and again, is asked for ever less often.
                    pause = _PAUSES[0] if time.monotonic() - opened >= _PAUSES[1] else pause
                    if changed:
                        yield None
                    if state_of(message).has_ended:
                        return
                # The coordinator shuts down in order.
                reason = Unreachable(f"the coordinator at {self._connection.url} closed the stream")
            except Unreachable as error:
                reason = error
            except TimedOut as error:
                if timeout is not None:
                    raise self._timed_out(timeout) from None
                # Not ours: something on the way does not keep a stream open for long.
                reason = Unreachable(str(error), reason=error.reason)
            now = time.monotonic()
            away_since = now if away_since is None else away_since
            if now - away_since + pause > patience:
                raise reason
            yield reason
            time.sleep(pause if until is None else max(0.0, min(pause, until - now)))
            pause = min(2 * pause, _PAUSES[1])

    def _timed_out(self, timeout: float) -> TimedOut:
        return TimedOut(f"sweep {self.id} is still {state_of(self._message)} after {timeout:g} s", field="timeout")

    # Results

    def results(self, partial: bool = False) -> Results:
        """Its results; with ``partial``, those of the complete jobs of an incomplete sweep too.

        Raises :class:`SweepUnfinished` before its end, and :class:`SweepEnded` when it has no whole result.
        """
        self._ensure_complete(partial)
        pictures = PagePictures(self._connection.page, self.id)
        return Results(self.spec, tuple(self.artifacts), self._fetch, f"sweep {self.name}", pictures)

    def artifact(self, name: str) -> bytes:
        """The bytes of one of its files, for example ``nads/lenet/nads.npy``, which have the digest that was announced."""
        for artifact in self.artifacts:
            if artifact.name == name:
                return self._fetch(artifact)
        has = ", ".join(artifact.name for artifact in self.artifacts) or "none"
        raise NotFound(f"sweep {self.id} has no artifact {name!r}, or not yet; it has: {has}", field=name)

    def fetch(self, folder: str | PathLike[str]) -> list[Path]:
        """Writes all its files and their record into a folder, as ``nadgrid fetch`` does, without pictures; the paths.

        The folder is made when it is not there, and is as before when something goes wrong on the way. :func:`nadgrid.load`
        reads it.
        """
        self._ensure_complete()
        return _folder.write(self._now(), self._fetch, Path(folder).expanduser(), VERSION)

    def verify(self, sample: int = 1, seed: int = 0) -> Rows[Check]:
        """Has the shards computed again that hold this many random blocks; whether each has the same bits.

        The same seed draws the same blocks. Workers must be there, and the sweep complete.
        """
        request = pb.VerifyRequest(sweep_id=self.id)
        assign(request, sample=sample, seed=seed)
        answers = self._connection.stream(self._connection.stub.Verify, request)
        return Rows(Check.of(answer) for answer in answers if answer.HasField("shard"))

    def _fetch(self, artifact: Artifact) -> bytes:
        if self._connection.reaches_store:
            content = self._read(artifact, presigned=True)
            if content is not None:
                return check(artifact, content)
            self._connection.reaches_store = False
        return check(artifact, self._read(artifact, presigned=False) or b"")

    def _read(self, artifact: Artifact, presigned: bool) -> bytes | None:
        """What comes for an artifact; nothing when it was to be read from a shared store and that does not give it."""
        name = artifact.name
        if artifact.size > MOST_BYTES:
            wrong = f"{name}: a payload of {artifact.size} bytes was announced, at most {MOST_BYTES} are accepted"
            raise DamagedPayload(wrong, field=name)
        request = pb.ReadArtifactRequest(sweep_id=self.id, name=name, presigned=presigned)
        content = bytearray()
        for place, part in enumerate(self._connection.stream(self._connection.stub.ReadArtifact, request)):
            if part.HasField("get"):
                return _presigned.read(part.get, artifact)
            if place > 0 and not part.data:
                # They would never end.
                raise CoordinatorError(f"{name} comes in chunks without a byte")
            content += part.data
            if len(content) > artifact.size:
                break
        return bytes(content)

    def _now(self) -> pb.Sweep:
        if not state_of(self._message).has_ended:
            self._take(self._connection.call(self._connection.stub.Get, pb.GetRequest(sweep_id=self.id)))
        return self._message

    def _take(self, message: pb.Sweep) -> None:
        """Takes in how it stands now, if that is said of it."""
        self._message = about(self.id, message)

    def _ensure_complete(self, partial: bool = False) -> None:
        state = self.state
        if state is State.COMPLETE or (partial and state is State.INCOMPLETE):
            return
        if not state.has_ended:
            raise SweepUnfinished(f"sweep {self.id} is {state}; there are results once it is complete", self)
        kind, words = _ENDED[state]
        why = f": {self.message}" if self.message else ""
        raise kind(f"sweep {self.id} {words}{why}", self)

    # In a notebook

    def __repr__(self) -> str:
        return f"<sweep {self.name!r} {self.id}: {state_of(self._message)}>"

    def _repr_html_(self) -> str:
        try:
            self._now()
            note = ""
        except NadgridError as error:
            # What was known last is better than nothing.
            note = _html.paragraph(error)
        message, state = self._message, str(state_of(self._message))
        state += ", paused" if message.paused else ""
        text = f"{message.id} is {state}" + (f": {message.message}" if message.message else "")
        jobs = map(Job.of, message.jobs)
        rows = [
            (j.name, j.state, f"{int(100 * j.progress + 1e-9)} %", j.members, j.members_done, j.members_failed)
            for j in jobs
        ]
        columns = ["job", "state", "progress", "members", "done", "failed"]
        note += "".join(map(_html.paragraph, message.notices))
        digest = _html.paragraph(f"digest {message.digest}") if message.digest else ""
        return _html.heading(message.name, text) + note + _html.table(columns, rows) + digest

    def __reduce__(self) -> tuple[object, ...]:
        # As it was known last, which is what an error of another process tells.
        return type(self), (Detached(self._connection.url), self._message, self.created)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sweep) and (self.id, self._connection.url) == (other.id, other._connection.url)

    def __hash__(self) -> int:
        return hash(self.id)


class Sweeps(Rows[Sweep]):
    """Several sweeps, a table in a notebook. It shows what was known when they were listed."""

    __slots__ = ()

    def frame(self) -> pd.DataFrame:
        """A row for each."""

        def row(sweep: Sweep) -> dict[str, object]:
            message = sweep._message
            done = sum(job.members_done for job in message.jobs)
            members = sum(job.members for job in message.jobs)
            state = "paused" if message.paused else str(state_of(message))
            return {
                "id": message.id,
                "name": message.name,
                "state": state,
                "progress": message.progress,
                "seconds_left": message.seconds_left if message.HasField("seconds_left") else None,
                "members_done": done,
                "members": members,
                "submitted_at": sweep.submitted_at,
            }

        columns = ["id", "name", "state", "progress", "seconds_left", "members_done", "members", "submitted_at"]
        return pd.DataFrame([row(sweep) for sweep in self], columns=columns)
