"""What an attack costs a program: its memory before, at the peak and after, and its CPU time; and the table of all attacks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
#: Seconds between two looks at a program's memory.
_LOOK = 0.02
_TICKS = os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """Bytes of a process that are in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"process {pid} has ended")


def cpu_seconds(pid: int) -> float:
    """Seconds of CPU time that a process has used, all threads together."""
    # The name of the program, in brackets, may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Cost:
    """Measures a process from ``begin`` to ``end``."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.before = self.peak = self.after = memory(pid)
        self.cpu = 0.0
        self._cpu_before = cpu_seconds(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def begin(self) -> None:
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(_LOOK):
            try:
                self.peak = max(self.peak, memory(self.pid))
            except (AssertionError, OSError):
                return

    def end(self, within: int, seconds: float) -> None:
        """Waits until memory is back within so many bytes of what it was, for so many seconds at most."""
        until = time.monotonic() + seconds
        self.after = memory(self.pid)
        self.cpu = cpu_seconds(self.pid) - self._cpu_before
        while self.after > self.before + within and time.monotonic() < until:
            time.sleep(0.1)
            self.after = memory(self.pid)
        self.stop()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()


@dataclass
class Row:
    """An attack in the table."""

    attack: str
    sent: str
    #: Seconds that the bystander's slowest call took.
    worst_wait: float
    #: Bytes.
    before: int
    peak: int
    after: int
    cpu: float
    #: Empty when all went well.
    failed: str = ""

    def markdown(self) -> str:
        memory = " | ".join(f"{bytes_ / MIB:.0f}" for bytes_ in (self.before, self.peak, self.after))
        attack = f"{self.attack} (FAILED: {self.failed})" if self.failed else self.attack
        return f"| {attack} | {self.sent} | {1000 * self.worst_wait:.0f} | {memory} | {self.cpu:.1f} |"


_HEAD = """\
| attack | what was sent | other client's worst wait, ms | memory before, MiB | peak | after | CPU, s |
|---|---|---|---|---|---|---|
"""
_rows: list[Row] = []


def record(row: Row) -> None:
    """Puts an attack into the table."""
    _rows.append(row)


def write_table() -> None:
    """Appends the attacks of this run to the file that ``NADGRID_HOSTILE_TABLE`` names, if it names one."""
    path = os.environ.get("NADGRID_HOSTILE_TABLE")
    if not path or not _rows:
        return
    file = Path(path)
    head = "" if file.is_file() and file.stat().st_size else _HEAD
    with file.open("a") as table:
        table.write(head + "".join(row.markdown() + "\n" for row in _rows))


def eventually(holds: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Waits until something holds."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.05)
