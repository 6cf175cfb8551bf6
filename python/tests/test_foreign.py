"""The text of docs/foreign-clients.md, as a reader would use it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import REPOSITORY, Cluster

import nadgrid

PAGE = REPOSITORY / "docs" / "foreign-clients.md"


def block(language: str) -> str:
    """The page's one block of a language."""
    [text] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert isinstance(text, str)
    return text


def test_python_submits_over_reflection(cluster: Cluster, grid: nadgrid.Client, tmp_path: Path) -> None:
    program = tmp_path / "submit.py"
    program.write_text(block("python"))
    assert "import nadgrid" not in program.read_text()
    # As for a reader who has no clone of the repository.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(program), cluster.address]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)
    assert ran.returncode == 0, ran.stderr
    [sweep_id] = re.findall(r"^submitted (\S+)$", ran.stdout, re.MULTILINE)
    [digest] = re.findall(r"^digest ([0-9a-f]{64})$", ran.stdout, re.MULTILINE)
    sweep = grid.sweep(sweep_id)
    assert (sweep.name, sweep.state, sweep.digest) == ("foreign", "complete", digest)


@pytest.mark.skipif(shutil.which("grpcurl") is None, reason="grpcurl is not in the path")
def test_grpcurl_submits_by_hand(cluster: Cluster, grid: nadgrid.Client, tmp_path: Path) -> None:
    *commands, watch = block("sh").replace("127.0.0.1:7400", cluster.address).rstrip().split("\ngrpcurl")
    script = "\ngrpcurl".join(commands)
    ran = subprocess.run(["sh", "-e", "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert "nadgrid.v1.WorkerService" in ran.stdout
    assert "rpc Submit" in ran.stdout
    [sweep_id] = re.findall(r'"id": "([^"]+)"', ran.stdout)
    followed = f"grpcurl{watch}".replace('"ID"', f'"{sweep_id}"')
    ran = subprocess.run(["sh", "-c", followed], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert "SWEEP_STATE_COMPLETE" in ran.stdout
    assert grid.sweep(sweep_id).state == "complete"
