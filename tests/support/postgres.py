"""A PostgreSQL of a test's own, from Debian's package, in a temporary folder and on a free port; as ``tests/src/postgres.rs``.

It does not run as root: root starts it as the package's user. Only Python's standard library is needed. Deliberately absent:
any other server that may run here, and a driver, since ``psql`` says all that tests ask.
"""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

#: Its only user, and the password.
USER, PASSWORD = "nadgrid", "correct-horse"
#: Seconds until it must have started or ended.
PATIENCE = 60.0


def programs() -> Path:
    """Where Debian puts the programs of the newest release; without them a test is skipped, or fails where all must be there."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").is_file()]
    if not found:
        missing = "PostgreSQL is not installed: `apt-get install postgresql`"
        if os.environ.get("NADGRID_REQUIRE_SERVERS"):
            pytest.fail(missing)
        pytest.skip(missing)
    return max(found, key=lambda path: int(path.parent.name))


class Postgres:
    """A server, for a ``with`` block, at whose end it and its data are gone."""

    def __init__(self) -> None:
        self._programs = programs()
        self._user = _other_user()
        self._temporary = tempfile.TemporaryDirectory(prefix="nadgrid-postgres-")
        self._folder = Path(self._temporary.name)
        self._server: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        password = self._folder / "password"
        password.write_text(PASSWORD)
        if self._user is not None:
            for path in (self._folder, password):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        command = ["-D", self._data, "--pwfile", password, "-U", USER, "-A", "scram-sha-256", "-E", "UTF8"]
        self._run("initdb", *map(str, command), "--no-locale", "--no-sync")
        self.start()

    def __enter__(self) -> Postgres:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self.crash()
        self._temporary.cleanup()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def url(self, database: str = "postgres") -> str:
        """The URL of a database, password included."""
        return f"postgres://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Starts the server on the data it has; returns when it answers."""
        # Nothing here outlives the machine, and a process that is killed leaves what it has written to the system.
        options = ["-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"]
        command = [self._programs / "postgres", "-D", self._data, "-k", self._folder, "-p", str(self.port), *options]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [*map(str, command)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._as_user()
            )
        until = time.monotonic() + PATIENCE
        ask = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run([*map(str, ask)], **self._as_user()).returncode:
            assert time.monotonic() < until, f"PostgreSQL does not answer: {(self._folder / 'log').read_text()}"
            time.sleep(0.02)

    def crash(self) -> None:
        """Kills the server and all its processes at once, so that it must recover when it starts again."""
        assert self._server is not None
        server, self._server = self._server, None
        pid = server.pid
        # The first one is stopped while the others are killed, so that it starts no more of them.
        os.kill(pid, signal.SIGSTOP)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in [*map(int, children), pid]:
            os.kill(each, signal.SIGKILL)
        server.wait()
        # They share memory, without which there is no second server on the data.
        until = time.monotonic() + PATIENCE
        while any(_runs(int(child)) for child in children):
            assert time.monotonic() < until, "a process of PostgreSQL goes on"
            time.sleep(0.01)

    def sql(self, sql: str, database: str = "postgres") -> str:
        """Runs SQL as its user; returns what it prints, unaligned."""
        words = ["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql, self.url(database)]
        return self._run("psql", *words).strip()

    def dump(self, database: str) -> str:
        """A database as it is at one instant, as SQL, whoever writes to it meanwhile: as a backup does."""
        return self._run("pg_dump", "--no-owner", self.url(database))

    def restore(self, dump: str, database: str) -> None:
        """Makes a new database of a dump."""
        self.sql(f"CREATE DATABASE {database}")
        self._run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", self.url(database), text=dump)

    def _run(self, name: str, *arguments: str, text: str = "") -> str:
        command = [str(self._programs / name), *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, **self._as_user())
        assert done.returncode == 0, f"{name} failed: {done.stderr}"
        said: str = done.stdout
        return said

    def _as_user(self) -> dict[str, Any]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        options: dict[str, Any] = {"cwd": self._folder, "env": environment}
        if self._user is not None:
            options |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        return options


def _other_user() -> pwd.struct_passwd | None:
    """For root, the package's user, else nobody."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError("there is no user but root")


def _runs(pid: int) -> bool:
    """Whether a process is there that is not over yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
