"""What the guide says that comes out does come out: result files, columns, keys of JSON."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cluster import PUBLISHED, REPOSITORY, clean_environment, program
from pages import read
from session import images

#: All experiments, each as small as it can be.
SPECS = {
    "pixels": """
        name = "pixels"
        architectures = ["lenet", "logreg"]
        [nads]
        networks = 16
        [directional]
        directions = { kind = "nads", indices = [0, 1] }
        train_samples = 64
        test_samples = 64
        training = { epochs = 1 }
    """,
    "map": """
        name = "map"
        architectures = ["logreg"]
        [directional]
        directions = { kind = "dft", frequencies = [[0, 0], [0, 2], [2, 0], [2, 2]] }
        train_samples = 64
        test_samples = 64
        training = { epochs = 1 }
    """,
    "images": """
        name = "images"
        architectures = ["logreg"]
        input = { channels = 3 }
        [cifar10]
        path = "cifar10"
        [poisoning]
        basis = { path = "nads.npy" }
        indices = [0, 10]
        training = { epochs = 1 }
        [flipping]
        basis = { path = "nads.npy" }
        training = { epochs = 1 }
        [margins]
        basis = { path = "nads.npy" }
        subspace = 512
        stride = 512
        images = 2
        training = { epochs = 1 }
    """,
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A result folder of each spec."""
    folder = tmp_path_factory.mktemp("results")
    images(folder / "cifar10")
    (folder / "nads.npy").symlink_to(PUBLISHED / "LeNet_NADs.npy")
    for name, text in SPECS.items():
        (folder / f"{name}.toml").write_text(text)
        done = nadgrid("run", folder / f"{name}.toml", "--out", folder / name, "--device", "cpu", "--json", cwd=folder)
        (folder / f"{name}.jsonl").write_text(done)
    return {name: folder / name for name in SPECS}


def nadgrid(*arguments: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [program("nadgrid"), *arguments], env=clean_environment(), capture_output=True, text=True, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def section(page: str, heading: str) -> str:
    return read(page).split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_result_files_are_those_of_the_reference(results: dict[str, Path]) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", section("docs/spec.md", "Result files"), re.MULTILINE)
    assert {name for name, _, _ in rows} == {"nads", "directional", "poisoning", "flipping", "margins"}
    files = {
        str(file.relative_to(folder)) for folder in results.values() for file in folder.rglob("*") if file.is_file()
    }
    told = {
        "sweep.json",
        *re.findall(r"`(nads/lenet/[\w.]+)`", section("docs/quick-start.md", "What is in the folder")),
    }
    for _, arrays, pictures in rows:
        told |= set(re.findall(r"`(\w+/[\w/.]+\.\w+)`", arrays))
        told |= {f"{name}.{kind}" for name in re.findall(r"`(\w+/[\w/]+)`", pictures) for kind in ("png", "svg")}
    filled = {name.replace("ARCH", arch).replace("lenet", arch) for name in told for arch in ("lenet", "logreg")}
    # Everything that came is told, and everything that is told came, of one architecture or the other.
    assert files <= filled, files - filled
    for name in told:
        assert {name.replace("ARCH", "lenet"), name.replace("ARCH", "logreg")} & files, name


def test_columns_are_those_of_the_reference(results: dict[str, Path]) -> None:
    told = re.search(r"has a line for each run: (.+?)\. A run", section("docs/spec.md", "Result files"), re.DOTALL)
    assert told
    columns = re.findall(r"`(\w+)`", told[1])
    for name, variant in (("pixels", "direction"), ("images", "set")):
        experiment = "directional" if name == "pixels" else "poisoning"
        with (results[name] / experiment / "logreg.csv").open() as table:
            header = next(csv.reader(table))
        assert header == [column for column in columns if column not in {"direction", "set"} - {variant}]


def test_shapes_are_those_of_the_science(results: dict[str, Path]) -> None:
    numpy = pytest.importorskip("numpy")
    folder = results["pixels"] / "nads" / "lenet"
    nads, s = numpy.load(folder / "nads.npy"), numpy.load(folder / "singular_values.npy")
    spectrum = json.loads((folder / "spectrum.json").read_text())
    eigenvalues, n, d = numpy.load(folder / "eigenvalues.npy"), spectrum["gradients"], spectrum["dimension"]
    assert nads.shape == (min(d, n - 1), d)
    assert nads.dtype == numpy.float32
    assert numpy.load(folder / "mean.npy").shape == (d,)
    # The formulas of docs/science.md; 1e-12 is rounding in float64.
    numpy.testing.assert_allclose(eigenvalues, s**2 / (n - 1), rtol=1e-12)
    numpy.testing.assert_allclose(numpy.load(folder / "standard_errors.npy"), s / numpy.sqrt(2 * (n - 1)), rtol=1e-12)
    p = eigenvalues / eigenvalues.sum()
    rank = numpy.exp(-(p[p > 0] * numpy.log(p[p > 0])).sum())
    numpy.testing.assert_allclose(spectrum["effective_rank"], rank, rtol=1e-12)
    numpy.testing.assert_allclose(spectrum["anisotropy"], 1 - (rank - 1) / (d - 1), rtol=1e-12)
    assert numpy.load(results["images"] / "margins" / "logreg_margins.npy").shape == (1, 2, 2)


def test_json_has_the_keys_of_the_guide(results: dict[str, Path]) -> None:
    told = section("docs/terminal.md", "For scripts: `--json`")
    lines: list[dict[str, Any]] = [
        json.loads(line) for line in results["pixels"].with_suffix(".jsonl").read_text().splitlines()
    ]
    *changes, summary = lines
    assert changes
    assert {change["event"] for change in changes} == {"sweep"}
    keys = re.search(r'`"event": "summary"`: (.+?) \|', told)
    assert keys
    assert summary["event"] == "summary"
    assert set(re.findall(r"`(\w+)`", keys[1])) == set(summary) - {"event"}
    of_sweep, of_job = (
        set(re.findall(r"`(\w+)`", listed))
        for listed in re.findall(r"(?:A sweep|Each of its `jobs`) has the keys (.+?)\. ", " ".join(told.split()))
    )
    for change in changes:
        assert of_sweep == set(change) - {"event"}
        # Both experiments of two architectures.
        assert [set(job) for job in change["jobs"]] == [of_job] * 4
        assert all(0 <= part["progress"] <= 1 for part in (change, *change["jobs"]))
    last = changes[-1]
    assert (last["state"], last["progress"], last["seconds_left"], last["notices"]) == ("complete", 1, None, [])
    found = json.loads(nadgrid("doctor", "--json"))
    shown = re.search(r"\| `doctor` \| `(.+?)`", told)
    assert shown
    assert set(re.findall(r'"(\w+)"', shown[1])) == set(found) | set(found["findings"][0])


@pytest.mark.parametrize("example", sorted((REPOSITORY / "examples").rglob("*.toml")), ids=lambda path: path.stem)
def test_examples_are_planned(example: Path, tmp_path: Path) -> None:
    """And cost what they say they cost."""
    images(tmp_path / "images")
    text = example.read_text()
    arguments: list[str | Path] = ["--set", f"cifar10.path={tmp_path / 'images'}"] if "[cifar10]" in text else []
    # These want the NADs of an earlier sweep.
    for experiment in re.findall(r"^\[(\w+)\]\nbasis = \{ (?:sweep = \"ID\"|path = \"out/)", text, re.MULTILINE):
        arguments += ["--set", f'{experiment}.basis={{ path = "{PUBLISHED / "LeNet_NADs.npy"}" }}']
    planned = nadgrid("plan", example, *arguments)
    assert "total: " in planned
    comment = "".join(re.findall(r"^# `nadgrid plan`, .+", text, re.MULTILINE))
    for members in re.findall(r"([\d,]+) (?:networks|runs?)\b", comment):
        assert int(members.replace(",", "")) in sums(planned), f"{example.name} says {members}:\n{planned}"


def sums(planned: str) -> set[int]:
    """Members of each experiment."""
    sums: dict[str, int] = {}
    for experiment, members in re.findall(r"^(\w+) +\w+ +([\d,]+)", planned, re.MULTILINE):
        sums[experiment] = sums.get(experiment, 0) + int(members.replace(",", ""))
    return set(sums.values())
