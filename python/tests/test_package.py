"""The package as such: generated code, types, and what a wheel holds."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).resolve().parents[1]


def generator() -> ModuleType:
    spec = spec_from_file_location("generate", PACKAGE / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generating_again_changes_nothing(tmp_path: Path) -> None:
    generated = {path.name: path.read_text() for path in generator().generate(tmp_path)}
    committed = {path.name: path.read_text() for path in (PACKAGE / "src/nadgrid/v1").glob("*_pb2*")}
    assert set(generated) == {"nadgrid_pb2.py", "nadgrid_pb2.pyi", "nadgrid_pb2_grpc.py", "nadgrid_pb2_grpc.pyi"}
    assert generated == committed, "the contract has changed: run python/generate.py"


def test_types_are_right_to_the_strictest() -> None:
    checked = subprocess.run([sys.executable, "-m", "mypy"], cwd=PACKAGE, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_wheel_holds_what_users_need(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=PACKAGE, check=True, capture_output=True)
    [wheel] = tmp_path.glob("nadgrid-*.whl")
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
        [metadata] = [name for name in names if name.endswith("METADATA")]
        text = content.read(metadata).decode()
    for name in ("py.typed", "v1/nadgrid_pb2.py", "v1/nadgrid_pb2.pyi", "v1/nadgrid_pb2_grpc.py"):
        assert f"nadgrid/{name}" in names
    assert not any("test" in name for name in names)
    assert "License-Expression: Apache-2.0" in text
    assert "Requires-Python: >=3.9" in text


def test_the_words_are_those_of_python_3_9() -> None:
    checked = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=PACKAGE, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
