"""A reader at a shell: one page of the guide, from top to bottom, with the built programs.

The blocks of a page are one session of bash, so what one leaves (files, variables) is there for the next. What a reader would
start in a terminal of its own, a coordinator or a worker, is started in the background and waited for until it is up; it
ends with the session. The blocks are run as they stand but for ``SUBSTITUTIONS``.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cluster import REPOSITORY, clean_environment, program
from exceptions import left_out, why_not
from pages import Block

#: Seconds for a whole page.
PATIENCE = 540.0

#: What is changed in a block, and why. @PORT@ is the session's own.
SUBSTITUTIONS = [
    (
        "cargo xtask demo",
        "nadgrid run examples/lenet.toml --out out/demo",
        "its last step; those before build the programs",
    ),
    ("grid.example:7400", "localhost:@PORT@", "there is no such machine; the certificate is good for localhost, too"),
    (":7400", ":@PORT@", "another coordinator may be running on this machine"),
    ("nads.networks=1024", "nads.networks=850", "less to compute; the largest index of a direction is 800"),
    (
        "--set directional.training.epochs=5",
        "--set directional.training.epochs=1 --set directional.train_samples=500 --set directional.test_samples=500",
        "less to compute",
    ),
    ("nadgrid run first.toml", "nadgrid run first.toml --set nads.networks=64", "less to compute"),
]
#: The same in copies of the examples.
IN_EXAMPLES = [("networks = 2048", "networks = 256", "less to compute; eight blocks are enough to explain the seventh")]

#: Programs of others that the guide's commands use; Debian's packages have the same names.
TOOLS = ("bash", "jq", "openssl")
#: Folders that a reader's home has.
FOLDERS = [".local/share/bash-completion/completions", ".config/fish/completions", ".zfunc", ".config/elvish"]

#: ``nadgrid`` speaks to the session's coordinator where a reader's would speak to the one on port 7400.
_CLIENT = """#!/bin/sh
case "$1" in doctor | plan | run) ;; *) export NADGRID_COORDINATOR="${NADGRID_COORDINATOR:-http://ADDRESS}" ;; esac
exec PROGRAM "$@"
"""
#: The programs that stay: back as soon as they are up, or with their exit code if they end before. They live as long as the pipe.
_SERVER = """#!/bin/bash
case "$1" in bench | --help | --version) exec PROGRAM "$@" ;; esac
log=$(mktemp LOGS/NAME.XXXXXX)
PROGRAM "$@" --until-stdin-closes <&$SESSION_PIPE >"$log" 2>&1 &
until grep -q "page at\\|INFO connected" "$log"; do
    kill -0 $! 2>/dev/null || { wait $!; code=$?; cat "$log" >&2; exit $code; }
    sleep 0.05
done
cat "$log"
"""


@dataclass
class Outcome:
    """What became of a page's blocks."""

    code: int
    output: str
    #: The block that failed.
    failed: Block | None
    folder: Path


def script(blocks: list[Block], port: int) -> str:
    """The session as a script of bash, which stops at the first command that fails."""
    lines = ["set -euo pipefail", "cd REPO"]
    for number, block in enumerate(blocks):
        if why_not(block):
            continue
        text = "\n".join(line for line in block.text.splitlines() if not left_out(block, line))
        if block.language == "python":
            text = f"NADGRID_COORDINATOR=http://127.0.0.1:@PORT@ {sys.executable} - <<'PYTHON'\n{text}\nPYTHON"
        lines += [f"echo {number} >&$SESSION_MARK", text]
    return substituted("\n".join(lines), port) + "\n"


def substituted(text: str, port: int) -> str:
    for old, new, _ in SUBSTITUTIONS:
        text = text.replace(old, new)
    return text.replace("@PORT@", str(port))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def prepare(folder: Path, port: int) -> Path:
    """A copy of what the guide uses of the repository, a home, and the programs' stand-ins; the path to these."""
    repository, stand_ins, logs = folder / "nadgrid", folder / "bin", folder / "logs"
    for made in (repository, stand_ins, logs, *(folder / "home" / name for name in FOLDERS)):
        made.mkdir(parents=True)
    for name in ("docs", "proto", "python", "tests", "xtask"):
        (repository / name).symlink_to(REPOSITORY / name)
    for example in (REPOSITORY / "examples").rglob("*.toml"):
        text = example.read_text()
        for old, new, _ in IN_EXAMPLES:
            text = text.replace(old, new)
        copy = repository / example.relative_to(REPOSITORY)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(text)
    images(repository / "data" / "cifar-10-batches-bin")
    for name, text in {"nadgrid": _CLIENT, "nadgrid-coordinator": _SERVER, "nadgrid-worker": _SERVER}.items():
        filled = text.replace("PROGRAM", str(program(name))).replace("ADDRESS", f"127.0.0.1:{port}")
        stand_in = stand_ins / name
        stand_in.write_text(filled.replace("LOGS", str(logs)).replace("NAME", name))
        stand_in.chmod(0o755)
    return stand_ins


def images(folder: Path, count: int = 100) -> None:
    """Images of no meaning in CIFAR-10's format, labels in turn."""
    folder.mkdir(parents=True)
    record = b"".join(
        bytes([number % 10]) + bytes((number + place) % 256 for place in range(3072)) for number in range(count)
    )
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        (folder / name).write_bytes(record)


def run(blocks: list[Block], folder: Path) -> Outcome:
    """Runs the blocks of a page in a folder that is empty."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    assert not missing, f"the guide uses programs that are not installed: apt-get install {' '.join(missing)}"
    port = free_port()
    stand_ins = prepare(folder, port)
    text = script(blocks, port).replace("cd REPO", f"cd {folder / 'nadgrid'}")
    (folder / "session.sh").write_text(text)
    alive, held = os.pipe()
    variables = {
        **clean_environment(),
        "HOME": str(folder / "home"),
        "PATH": f"{stand_ins}:{os.environ['PATH']}",
        "PROFILE": str(folder / "home" / "profile.ps1"),
        "PYTHONPATH": str(REPOSITORY / "python" / "src"),
        "SESSION_PIPE": str(alive),
    }
    with (folder / "output").open("wb") as output, (folder / "marks").open("wb") as marks:
        variables["SESSION_MARK"] = str(marks.fileno())
        child = subprocess.Popen(
            ["bash", folder / "session.sh"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=variables,
            pass_fds=(alive, marks.fileno()),
            start_new_session=True,
        )
        try:
            code = child.wait(PATIENCE)
        finally:
            # Whatever the session started ends with its pipe, or is in its group.
            os.close(held)
            os.close(alive)
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    begun = [int(number) for number in (folder / "marks").read_text().split()]
    logs = "".join(f"== {log.name}\n{log.read_text(errors='replace')}" for log in sorted((folder / "logs").iterdir()))
    said = (folder / "output").read_text(errors="replace") + logs
    return Outcome(code, said, blocks[begun[-1]] if code and begun else None, folder / "nadgrid")


def promised_files(text: str, under: str) -> list[str]:
    """Files in the first column of a page's tables that lie in a folder of results, as ``under`` begins them."""
    cells = re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
    names = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    return [name for name in names if name.startswith(under)]
