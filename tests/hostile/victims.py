"""What a coordinator that lies has to do with: the programs as users run them, and what must hold of whatever they say.

Also the lies that several of the tests tell.
"""

from __future__ import annotations

import http.server
import math
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from cluster import clean_environment, program
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from nadgrid.v1 import nadgrid_pb2 as v1

from lying_coordinator import SPEC, SWEEP, Lie, LyingCoordinator, job, sweep_of, worker
from measure import MIB

#: A line that no program says of itself.
FORGED = "error: forged by the coordinator"

#: Writes to the clipboard, rings, asks for the cursor, takes the mouse, forges a line and turns the direction of writing.
PAINT = f"\x1b]52;c;cm0gLXJm\x07\x1b[6n\x1b[?1000h\r\n{FORGED}\n\u202e\u2066x\x9b2J\x7f"

#: What is left of it in a program's own sequences: nothing.
PAINTED = ("\x1b]", "\x07", "\x1b[6n", "\x1b[?1000h", "\x9b", "\x7f", "\u202e", "\u2066", f"\n{FORGED}", f"\r{FORGED}")

#: Whatever a terminal obeys, but the end of a line.
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

#: Seconds within which a command ends.
BOUND = 20.0

#: Memory that a program takes of an honest coordinator, and the bound besides.
MOST_MEMORY = (128 + 256) * MIB

LONG = "x" * 10_000

NAN, INF = math.nan, math.inf

HUGE = 2**64 - 1


@dataclass
class Told:
    """What a command said, and what it took."""

    code: int
    out: str
    err: str
    peak: int
    seconds: float

    def check(self, code: int | None = None, words: str = "") -> Told:
        """It ended within its bounds, as it should, and nothing that it said is obeyed by a terminal."""
        said = self.out + self.err
        assert self.seconds < BOUND, f"{self.seconds:.1f} s; {said[-500:]}"
        assert self.peak < MOST_MEMORY, f"{self.peak / MIB:.0f} MiB"
        assert code is None or self.code == code, f"exit code {self.code}: {said[-1000:]!r}"
        assert not (found := OBEYED.search(said)), f"{found} in {said[:3000]!r}"
        assert not any(line.startswith(FORGED) for line in said.splitlines()), said[:3000]
        assert "panicked" not in said, said[-3000:]
        assert words in said, said[-3000:]
        return self


def peak_of(pid: int) -> int:
    """The most bytes that a process had in memory so far; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return max((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), default=0)


def run(*command: str | Path, seconds: float = BOUND, interrupt: float | None = None) -> Told:
    """Runs a command to its end. ``interrupt``: after so many seconds it gets Ctrl-C."""
    began = time.monotonic()
    child = subprocess.Popen(
        [*map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
    )
    timers = [threading.Timer(seconds, child.kill)]
    if interrupt is not None:
        timers.append(threading.Timer(interrupt, child.send_signal, (signal.SIGINT,)))
    peaks = [0]

    def look() -> None:
        while child.poll() is None:
            peaks.append(peak_of(child.pid))
            time.sleep(0.02)

    for timer in timers:
        timer.start()
    watch = threading.Thread(target=look)
    watch.start()
    said: dict[str, bytes] = {}
    assert child.stdout is not None
    assert child.stderr is not None
    with child.stdout as out, child.stderr as err:
        reader = threading.Thread(target=lambda: said.update(err=err.read()))
        reader.start()
        said["out"] = out.read()
        reader.join()
    watch.join()
    for timer in timers:
        timer.cancel()
    out_text, err_text = said["out"].decode(), said["err"].decode()
    return Told(child.returncode, out_text, err_text, max(peaks), time.monotonic() - began)


def ask(coordinator: LyingCoordinator, *arguments: str | Path, **options: Any) -> Told:
    """Runs ``nadgrid`` with this coordinator."""
    return run(program("nadgrid"), "--coordinator", coordinator.url, *arguments, **options)


def always(answer: Any) -> Lie:
    """The same answer, whatever is asked."""
    return lambda _, __: iter(answer) if isinstance(answer, list) else answer


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, links not followed."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(root, name)
            if path.is_symlink():
                found[str(path.relative_to(folder))] = b"-> " + os.readlink(path).encode()
            elif path.is_file():
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def painted() -> v1.Sweep:
    """A sweep whose every word paints."""
    failure = v1.ShardFailure(workers=[PAINT], message=PAINT, blocks=1, attempts=3)
    return sweep_of(
        {},
        name=PAINT,
        digest=PAINT,
        message=PAINT,
        owner=PAINT,
        state=v1.SWEEP_STATE_RUNNING,
        coordinator_version=PAINT,
        numerics_class=v1.NumericsClass(
            device=PAINT, arithmetic=PAINT, evaluation=PAINT, libtorch=PAINT, precision=PAINT
        ),
        jobs=[job(experiment=PAINT, architecture=PAINT, digest=PAINT, state=v1.JOB_STATE_COMPUTING, retries=2)],
        artifacts=[v1.Artifact(name=PAINT, size=1, digest=PAINT)],
        inputs=[v1.Input(name=PAINT, size=1, digest=PAINT)],
        failures=[failure],
        notices=[PAINT],
        spec=SPEC + f"# \u202e{PAINT}",
    )


def painted_worker() -> v1.Worker:
    return worker(
        id=PAINT,
        name=PAINT,
        version=PAINT,
        unfit=PAINT,
        rate_of=PAINT,
        last_error=PAINT,
        members_per_second=1.0,
        numerics_class=v1.NumericsClass(device=PAINT, arithmetic=PAINT),
    )


def ended(message: v1.Sweep) -> v1.Sweep:
    message.state = v1.SWEEP_STATE_FAILED
    return message


def every(message: Callable[[], v1.Sweep]) -> dict[str, Lie]:
    """Every answer that has a sweep has this one."""
    one = always(message())
    lies = dict.fromkeys(("Get", "Cancel", "Pause", "Resume"), one)
    return {
        **lies,
        "List": always(v1.ListResponse(sweeps=[message()], notices=[PAINT])),
        "Watch": always([message(), ended(message())]),
        "ListWorkers": always(v1.ListWorkersResponse(workers=[painted_worker()], notices=[PAINT])),
    }


def refusing(code: grpc.StatusCode, reason: str, *violations: tuple[str, str]) -> Lie:
    """Ends every call with words that paint, in the status and in its details."""
    details = [error_details_pb2.ErrorInfo(domain="nadgrid", reason=reason)]
    if violations:
        found = [error_details_pb2.BadRequest.FieldViolation(field=f, description=d) for f, d in violations]
        details.append(error_details_pb2.BadRequest(field_violations=found))
    packed = []
    for detail in details:
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    rich = status_pb2.Status(code=code.value[0], message=PAINT, details=packed).SerializeToString()

    def lie(_: Any, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata((("grpc-status-details-bin", rich),))
        context.abort(code, PAINT)

    return lie


def long_names() -> v1.Sweep:
    jobs = [job(experiment=LONG, architecture=LONG)] * 3
    failure = v1.ShardFailure(workers=[LONG] * 200, message=LONG)
    return sweep_of(
        {},
        state=v1.SWEEP_STATE_RUNNING,
        name=LONG,
        owner=LONG,
        message=LONG,
        notices=[LONG] * 2,
        jobs=jobs,
        failures=[failure],
    )


def wild_numbers(value: float) -> Callable[[], v1.Sweep]:
    def sweep() -> v1.Sweep:
        counts = dict.fromkeys(
            ("members", "members_done", "members_in_flight", "members_failed", "shards", "retries"), HUGE
        )
        counts |= dict.fromkeys(("speculative", "audits_due", "audits_passed", "partials"), HUGE)
        rates = {"progress": value, "seconds_left": value, "slot_seconds": value, "members_per_second": value}
        wild = job(**{**counts, **rates, "state": v1.JOB_STATE_COMPUTING})
        failure = v1.ShardFailure(job=7, first_block=HUGE, blocks=HUGE, attempts=2**32 - 1)
        message = sweep_of({}, jobs=[wild] * 3, failures=[failure], progress=value, seconds_left=value, weight=value)
        message.state, message.workers, message.priority = v1.SWEEP_STATE_RUNNING, 2**32 - 1, -(2**31)
        message.submitted_at.seconds, message.started_at.seconds = 2**63 - 1, -(2**63)
        message.ended_at.nanos = -1
        return message

    return sweep


def unknown_values() -> v1.Sweep:
    """Values of enumerations that nobody knows, and none of the messages within."""
    return v1.Sweep(id=SWEEP, state=99, jobs=[v1.Job(state=-7), v1.Job()], failures=[v1.ShardFailure(job=2**32 - 1)])  # type: ignore[arg-type]


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """Something on the user's network that is none of the coordinator's."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/secret")
        else:
            self.send_response(403)
        self.end_headers()
        self.wfile.write(b"SECRET of this network \x1b]52;c;x\x07\r\n" + FORGED.encode())

    do_PUT = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """Its address, and what it was asked."""
    asked: list[str] = []
    handler = type("Handler", (Elsewhere,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()
