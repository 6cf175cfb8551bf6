"""A sweep as a folder of files, as ``nadgrid fetch`` writes it, without its pictures.

A folder that holds ``sweep.json`` is whole: the record of an earlier sweep goes first, the new one comes last. Until every file is
there and undamaged, nothing of the folder is touched. Nothing is written or taken away through a symbolic link in it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Callable

from nadgrid import _toml
from nadgrid._text import clean
from nadgrid._untrusted import plain_path, refuse_links
from nadgrid.errors import CoordinatorError
from nadgrid.results import RECORD_FILE
from nadgrid.v1 import nadgrid_pb2 as pb
from nadgrid.views import Artifact, Job

try:
    import fcntl
except ImportError:  # Windows has none.
    fcntl = None  # type: ignore[assignment]

#: How folders begin in which this package puts files until all are there; the command line's begin otherwise.
STAGING = ".nadgrid-python-"
#: Raised when a key of the record changes its meaning.
RECORD_FORMAT = 2
#: Of the wire, which workers must speak; a part of the record.
PROTOCOL_VERSION = 3


def write(sweep: pb.Sweep, read: Callable[[Artifact], bytes], folder: Path, version: str) -> list[Path]:
    """Fetches all files, writes them and their record; the files, the record first."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        return _write(sweep, read, folder, version)
    except BaseException:
        # Innermost first; one that holds something stays, and those around it.
        with suppress(OSError):
            for path in made:
                path.rmdir()
        raise


def _write(sweep: pb.Sweep, read: Callable[[Artifact], bytes], folder: Path, version: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    artifacts = [Artifact(plain_path(a.name), a.size, a.digest) for a in sweep.artifacts]
    size, free = sum(artifact.size for artifact in artifacts), shutil.disk_usage(folder).free
    if size > free:
        raise CoordinatorError(f"the sweep's files have {size:,} bytes, and {free:,} are free in {folder}")
    for artifact in artifacts:
        refuse_links(folder, artifact.name)
    told = json.dumps(record(sweep, version), indent=2)
    with _staging(folder) as staged:
        for artifact in artifacts:
            path = staged / artifact.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read(artifact))
        (staged / RECORD_FILE).write_text(told + "\n", encoding="utf-8")
        _remove_earlier(folder)
        for artifact in artifacts:
            refuse_links(folder, artifact.name)
            target = folder / artifact.name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(staged / artifact.name, target)
        os.replace(staged / RECORD_FILE, folder / RECORD_FILE)
    return [folder / RECORD_FILE, *(folder / artifact.name for artifact in artifacts)]


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """Makes a hidden folder within this one, which goes at the end; at the beginning those go that killed processes left.

    Whoever uses one holds a lock on it, which ends with its process.
    """
    with ExitStack() as held:
        with ExitStack() as alone:
            _hold(alone, folder, waits=True)
            for left in folder.glob(f"{STAGING}*"):
                with ExitStack() as checked:
                    # A file system without locks keeps what was left.
                    if not left.is_symlink() and _hold(checked, left):
                        shutil.rmtree(left, ignore_errors=True)
            hidden = Path(held.enter_context(tempfile.TemporaryDirectory(prefix=STAGING, dir=folder)))
            _hold(held, hidden)
        yield hidden


def _hold(stack: ExitStack, folder: Path, waits: bool = False) -> bool:
    """Takes the lock of a folder until the stack ends; whether it could be taken."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        stack.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def record(sweep: pb.Sweep, version: str) -> dict[str, Any]:
    """What is needed to understand the folder, or to compute it again."""
    numerics = sweep.numerics_class
    return {
        "format": RECORD_FORMAT,
        "name": sweep.name,
        "id": sweep.id,
        "digest": sweep.digest,
        "spec": _read(sweep),
        "spec_toml": sweep.spec,
        "inputs": [{"name": i.name, "size": i.size, "digest": i.digest} for i in sweep.inputs],
        "numerics_class": {field.name: getattr(numerics, field.name) for field in numerics.DESCRIPTOR.fields},
        "versions": {
            "client": version,
            "coordinator": sweep.coordinator_version,
            "libtorch": numerics.libtorch,
            "protocol": PROTOCOL_VERSION,
        },
        "timings": _timings(sweep),
        "jobs": [_job(job) for job in sweep.jobs],
        "artifacts": [{"name": a.name, "size": a.size, "digest": a.digest} for a in sweep.artifacts],
        "figures": [],
    }


def _read(sweep: pb.Sweep) -> dict[str, Any]:
    try:
        return _toml.read(sweep.spec)
    except (ValueError, RecursionError) as error:
        raise CoordinatorError(clean(f"the spec of sweep {sweep.id} is of another version: {error}")) from None


def _job(job: pb.Job) -> dict[str, Any]:
    rate = job.members_per_second or None
    return {**vars(Job.of(job)), "digest": job.digest or None, "members_per_second": rate}


def _timings(sweep: pb.Sweep) -> dict[str, Any]:
    names = ("submitted_at", "started_at", "ended_at")
    stamps = {name: getattr(sweep, name) for name in names if sweep.HasField(name)}

    def seconds(start: str, end: str) -> float | None:
        if start not in stamps or end not in stamps:
            return None
        nanoseconds: int = stamps[end].ToNanoseconds() - stamps[start].ToNanoseconds()
        return max(0, nanoseconds) / 1e9

    return {
        **{name: stamps[name].ToJsonString() if name in stamps else None for name in names},
        "queued_seconds": seconds("submitted_at", "started_at"),
        "seconds": seconds("started_at", "ended_at"),
        "slot_seconds": sum(job.slot_seconds for job in sweep.jobs),
    }


def _remove_earlier(folder: Path) -> None:
    """Takes away what an earlier sweep left here; a record that is not understood, or a link, stands for no file but itself."""
    path = folder / RECORD_FILE
    try:
        if path.is_symlink():
            raise ValueError("it may lead anywhere")
        earlier = json.loads(path.read_bytes())
        names = [*(artifact["name"] for artifact in earlier["artifacts"]), *earlier["figures"]]
        files = [plain_path(name) for name in names]
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, CoordinatorError):
        files = []
    for file in files:
        refuse_links(folder, file)
    path.unlink()
    for file in files:
        (folder / file).unlink(missing_ok=True)
