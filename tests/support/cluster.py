"""A cluster of the built programs on loopback, for tests in Python.

Real processes, real gRPC, a temporary folder; everything is ended when the cluster is closed, and when the test's own
process dies. Only Python's standard library is needed. Deliberately absent: anything that reaches into a program instead
of talking to it.

The programs are those of the folder in the variable ``NADGRID_BIN_DIR``, or of ``target/debug`` of this repository.
``NADGRID_BIN_DIR`` is for tests alone: no program sees it, nor any other ``NADGRID_`` variable of the caller.

A ``conftest.py`` that imports ``pytest_runtest_makereport`` from here has the logs of all clusters shown with a failure.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples"
#: Published NADs; tests/data/README.md says whose.
PUBLISHED = REPOSITORY / "tests" / "data" / "published"

#: Seconds until a program must have come up, a sweep reached a state, a log said something.
PATIENCE = 120.0
#: Seconds between two looks at something that tells nobody when it changes.
_PAUSE = 0.05

_open_clusters: WeakSet[Cluster] = WeakSet()


def program(name: str) -> Path:
    """A built program, ``nadgrid``, ``nadgrid-coordinator`` or ``nadgrid-worker``."""
    folder = Path(os.environ.get("NADGRID_BIN_DIR") or REPOSITORY / "target" / "debug")
    path = folder.resolve() / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not built: run `cargo build --workspace --bins`, or set NADGRID_BIN_DIR")
    return path


def clean_environment() -> dict[str, str]:
    """The caller's environment without its ``NADGRID_`` variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith("NADGRID_")}


class Process:
    """A program of the cluster, which ends with it."""

    def __init__(self, command: Sequence[str | Path], log: Path, variables: Mapping[str, str] | None = None) -> None:
        self.log = log
        #: Lines of standard output so far.
        self.output: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        with log.open("ab") as stderr:
            self._child = subprocess.Popen(
                # The pipe to its standard input closes when this process ends, however it ends.
                [*map(str, command), "--until-stdin-closes"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**clean_environment(), **(variables or {})},
                text=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self.output.append(line.rstrip("\n"))
            self._lines.put(self.output[-1])
        self._lines.put(None)

    def wait_for_line(self, pattern: str) -> re.Match[str]:
        """The first line of standard output, among those not looked at before, in which the pattern is found."""
        until = time.monotonic() + PATIENCE
        while True:
            line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            if line is None:
                raise EOFError(f"the program ended before it said {pattern!r}")
            if found := re.search(pattern, line):
                return found

    @property
    def pid(self) -> int:
        return self._child.pid

    def is_running(self) -> bool:
        return self._child.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def kill(self) -> None:
        """Ends it at once, as a crash would."""
        self._child.kill()
        self._close()

    def stop(self) -> int:
        """Asks it to end, as ``kill`` in a shell does; its exit code."""
        self._child.terminate()
        self._child.wait(PATIENCE)
        return self._close()

    def _close(self) -> int:
        code = self._child.wait()
        self._reader.join()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()
        return code


class Cluster:
    """A coordinator with its workers, for a ``with`` block.

    ``arguments`` are further arguments of the coordinator, ``variables`` its ``NADGRID_`` variables. With ``tokens=True``,
    or names of users, it has a file of tokens: those users', and one each for the cluster's own workers and command line.
    """

    def __init__(
        self,
        *arguments: str | Path,
        workers: int = 0,
        tokens: bool | Sequence[str] = False,
        variables: Mapping[str, str] | None = None,
        listen: str = "127.0.0.1:0",
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="nadgrid-test-")
        #: Of the logs, the coordinator's data and the tokens; a test may write here too.
        self.folder = Path(self._temporary.name)
        self._arguments = [str(argument) for argument in arguments]
        self._variables = dict(variables or {})
        #: What the command line and workers are given to show, for example ``--tls-ca FILE``.
        self.access: list[str] = []
        self.workers: list[Process] = []
        self.url = ""
        self._coordinator: Process | None = None
        self._tokens: dict[tuple[str, str], Path] = {}
        self._has_tokens = bool(tokens)
        _open_clusters.add(self)
        try:
            if tokens:
                (self.folder / "tokens.toml").touch()
                self._arguments += ["--tokens", str(self.folder / "tokens.toml")]
                self.token("tests", admin=True)
                self.token("tests", role="worker")
                for name in tokens if isinstance(tokens, Sequence) else ():
                    self.token(name)
            self.start_coordinator(listen)
            for _ in range(workers):
                self.add_worker()
        except BaseException:
            print(self.logs())
            self.close()
            raise

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all programs and removes the folder."""
        _open_clusters.discard(self)
        processes = [*self.workers, *filter(None, [self._coordinator])]
        self.workers, self._coordinator = [], None
        for process in processes:
            process.kill()
        self._temporary.cleanup()

    # The coordinator

    @property
    def coordinator(self) -> Process:
        assert self._coordinator is not None, "the coordinator is stopped"
        return self._coordinator

    @property
    def address(self) -> str:
        """The coordinator's host and port."""
        return self.url.split("://")[1]

    def start_coordinator(self, listen: str | None = None) -> None:
        """Starts a coordinator that was crashed or stopped, on the same port and data."""
        assert self._coordinator is None, "it is running"
        command: list[str | Path] = [program("nadgrid-coordinator"), "--data", self.folder / "data"]
        command += ["--listen", listen or self.address, *self._arguments]
        self._coordinator = Process(command, self.folder / "coordinator.log", self._variables)
        self.url = self._coordinator.wait_for_line(r"listening on (https?://[^\s/#]+)").group(1)

    def crash_coordinator(self, restart: bool = True) -> None:
        """Kills the coordinator as a crash would, and starts it again unless told otherwise."""
        self.coordinator.kill()
        self._coordinator = None
        if restart:
            self.start_coordinator()

    def stop_coordinator(self) -> None:
        """Ends the coordinator in order."""
        code = self.coordinator.stop()
        self._coordinator = None
        assert code == 0, f"the coordinator ended with code {code}"

    # Workers

    def add_worker(self, *arguments: str | Path) -> Process:
        """Starts a worker on the CPU."""
        command: list[str | Path] = [program("nadgrid-worker"), "--coordinator", self.url, "--device", "cpu"]
        if self._has_tokens:
            command += ["--token-file", self.token("tests", role="worker")]
        log = self.folder / f"worker-{len(self.workers)}.log"
        self.workers.append(Process([*command, *self.access, *arguments], log))
        return self.workers[-1]

    def wait_for_workers(self, count: int) -> list[dict[str, Any]]:
        """Waits until this many workers are connected; what ``nadgrid workers --json`` says of all that are known."""
        until = time.monotonic() + PATIENCE
        while True:
            workers: list[dict[str, Any]] = json.loads(self.nadgrid("workers", "--json"))
            if sum(worker["connected"] for worker in workers) == count:
                return workers
            assert time.monotonic() < until, f"still {json.dumps(workers, indent=2)}"
            time.sleep(_PAUSE)

    # Access

    def token(self, name: str, role: str = "user", admin: bool = False) -> Path:
        """The file with a token of this name and role, made with ``nadgrid token new`` when first asked for.

        The coordinator takes up a new one within seconds.
        """
        if path := self._tokens.get((name, role)):
            return path
        made = subprocess.run(
            [program("nadgrid"), "token", "new", name, "--role", role],
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        path = self.folder / f"{name}-{role}.token"
        path.write_text(made.stdout)
        path.chmod(0o600)
        entry = made.stderr.rstrip() + ("\nadmin = true\n\n" if admin else "\n\n")
        with (self.folder / "tokens.toml").open("a") as tokens:
            tokens.write(entry)
        self._tokens[name, role] = path
        return path

    # The command line

    def run(self, *arguments: str | Path, token: str = "tests") -> subprocess.CompletedProcess[str]:
        """Runs ``nadgrid`` on this cluster to its end, with the token of that name where there are tokens."""
        command: list[str | Path] = [program("nadgrid"), "--coordinator", self.url, *self.access]
        if self._has_tokens:
            command += ["--token-file", self.token(token)]
        return subprocess.run([*command, *arguments], env=clean_environment(), capture_output=True, text=True)

    def nadgrid(self, *arguments: str | Path, token: str = "tests") -> str:
        """Runs ``nadgrid``, which must succeed; what it prints."""
        done = self.run(*arguments, token=token)
        assert done.returncode == 0, f"nadgrid {arguments} failed: {done.stderr}"
        return done.stdout.strip()

    def submit(self, spec: str | Path, *overrides: str, token: str = "tests") -> str:
        """Submits an example by its name, or a spec by its path, with changed keys (``nads.networks=256``); its id."""
        path = EXAMPLES / spec if isinstance(spec, str) else spec
        changes = [word for override in overrides for word in ("--set", override)]
        return self.nadgrid("submit", path, *changes, token=token)

    def status(self, sweep: str, token: str = "tests") -> dict[str, Any]:
        """A sweep as ``nadgrid status --json`` shows it."""
        view: dict[str, Any] = json.loads(self.nadgrid("status", sweep, "--json", token=token))
        return view

    def wait(self, sweep: str, reached: Callable[[dict[str, Any]], bool] | None = None) -> dict[str, Any]:
        """Waits until something holds of a sweep's status, or until it is complete."""
        until = time.monotonic() + PATIENCE
        while True:
            status = self.status(sweep)
            if reached(status) if reached else status["state"] not in ("queued", "running"):
                break
            assert time.monotonic() < until, f"still {json.dumps(status, indent=2)}"
            time.sleep(_PAUSE)
        assert reached or status["state"] == "complete", json.dumps(status, indent=2)
        return status

    # Logs

    def logs(self) -> str:
        """What all programs have logged."""
        if not self.folder.is_dir():
            return ""
        logs = sorted(self.folder.glob("*.log"))
        return "".join(f"== {log.name}\n{log.read_text(errors='replace')}" for log in logs)

    def wait_for_log(self, words: str) -> None:
        """Waits until the logs hold these words."""
        until = time.monotonic() + PATIENCE
        while words not in self.logs():
            assert time.monotonic() < until, f"nobody said {words!r}"
            time.sleep(_PAUSE)


def pytest_runtest_makereport(item: Any, call: Any) -> None:
    """A hook of pytest: with a failure it shows the logs of the clusters there are."""
    if call.excinfo is not None and call.excinfo.typename not in ("Skipped", "Exit"):
        for cluster in list(_open_clusters):
            item.add_report_section(call.when, f"logs of {cluster.url}", cluster.logs())


def clusters(*arguments: str | Path, **options: Any) -> Iterator[Cluster]:
    """For the body of a fixture: ``yield from clusters(workers=1)``."""
    with Cluster(*arguments, **options) as cluster:
        yield cluster
