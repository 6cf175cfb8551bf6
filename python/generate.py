#!/usr/bin/env python3
"""Generates ``nadgrid.v1`` from ``proto/nadgrid/v1/nadgrid.proto``.

    pip install grpcio-tools==1.76.0 mypy-protobuf==5.1.0
    python generate.py              # into src/
    python generate.py FOLDER       # elsewhere, to compare

Newer generators write code that wants a newer protobuf than notebooks have.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROTO = HERE.parent / "proto"
FILE = "nadgrid/v1/nadgrid.proto"


def generate(into: Path) -> list[Path]:
    """Writes the generated files below ``into``, and says which they are."""
    into.mkdir(parents=True, exist_ok=True)
    outputs = [f"--{kind}_out={into}" for kind in ("python", "pyi", "grpc_python", "mypy_grpc")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", *outputs, FILE]
    # protoc looks for the plugin of mypy-protobuf in the path; it is beside this Python, active environment or not.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    subprocess.run(command, env={**os.environ, "PATH": path}, check=True, stderr=subprocess.DEVNULL)
    return sorted(into.glob("nadgrid/v1/*_pb2*"))


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "src"
    for written in generate(target):
        print(written)
