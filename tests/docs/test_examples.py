"""Every example is accepted as it stands in a clone, tells what it takes, and its commands run, with less to compute."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomllib
from cluster import EXAMPLES, REPOSITORY, Cluster, clean_environment, program
from session import images

SPECS = sorted(EXAMPLES.rglob("*.toml"))
#: What the examples read that a clone does not hold: all of CIFAR-10, and what another example yields.
NOT_IN_A_CLONE = {
    "data/cifar-10-batches-bin": {"flipping", "margins", "poisoning"},
    "out/nads_all/nads/resnet18/nads.npy": {"poisoning"},
}

#: Less to compute, by the tables that a spec has.
_TRAINING = ["training.epochs=1"]
LESS = {
    "nads": ["networks=64"],
    "directional": ["train_samples=100", "test_samples=100", *_TRAINING],
    "poisoning": ["indices=[0, 10]", *_TRAINING],
    "flipping": _TRAINING,
    "margins": ["images=4", "stride=500", *_TRAINING],
}
#: The same, and what else is not at hand, for an example.
LESS_OF = {
    "accuracy_along_nads_sigma1": ["directional.directions.indices=[0, 14, 62]"],
    "accuracy_along_nads_sigma3": ["directional.directions.indices=[0, 14, 62]", 'architectures=["logreg"]'],
    "dft": ['architectures=["logreg"]'],
    "flipping": ['architectures=["logreg"]'],
    "lenet_dft_subset": ["directional.directions.frequencies=[[0, 0], [2, 2]]"],
    "lenet_nads_published": ["directional.directions.indices=[0, 1002]", "directional.seeds=1"],
    "nads_all": ['architectures=["logreg"]', "nads.block_size=32"],
    "nads_laptop": ["nads.networks=256"],
    "poisoning": ['architectures=["logreg"]', 'poisoning.basis.path="tests/data/published/LeNet_NADs.npy"'],
}


def read(spec: Path) -> dict[str, Any]:
    return tomllib.loads(spec.read_text())


def header(spec: Path) -> str:
    """The comment at a spec's beginning, as one line."""
    lines = spec.read_text().splitlines()
    return " ".join(line.removeprefix("# ") for line in lines[: lines.index("")])


def commands(spec: Path) -> list[list[str]]:
    """The commands of a spec's header, one that is to be added to the first added to it."""
    found = [words.split() for words in re.findall(r"`(nadgrid (?:run|submit|fetch|compare) [^`]*)`", header(spec))]
    added = [words.split() for words in re.findall(r"`(--set [^`]*)`", header(spec)) if "cifar10" in words]
    return [*found, *([*found[0], *words] for words in added)]


def paths(value: Any) -> Iterator[str]:
    """Every path that a spec names."""
    for key, inside in value.items() if isinstance(value, dict) else ():
        if key == "path":
            yield inside
        yield from paths(inside)


def less(spec: Path) -> list[str]:
    """Arguments that leave less to compute."""
    keys = [f"{table}.{key}" for table in LESS if table in read(spec) for key in LESS[table]]
    return [word for key in [*keys, *LESS_OF.get(spec.stem, [])] for word in ("--set", key)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples use of a clone, and the images that a reader has fetched."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("examples", "tests"):
        (folder / name).symlink_to(REPOSITORY / name)
    images(folder / "data" / "cifar-10-batches-bin")
    return folder


@pytest.fixture(scope="module")
def earlier(cluster: Cluster) -> str:
    """A complete sweep with logistic regression's NADs."""
    sweep = cluster.submit("logreg.toml", "nads.networks=1100")
    cluster.wait(sweep)
    return sweep


def nadgrid(folder: Path, *words: str | Path) -> str:
    """Runs the command line in a folder; what it prints."""
    done = subprocess.run(
        [program("nadgrid"), *words], cwd=folder, env=clean_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, f"nadgrid {shlex.join(map(str, words))}: {done.stderr}"
    return done.stdout


def test_there_are_examples() -> None:
    assert len(SPECS) >= 17
    told = (EXAMPLES / "README.md").read_text()
    for spec in SPECS:
        assert f"`{spec.relative_to(EXAMPLES)}`" in told, f"examples/README.md does not tell of {spec.name}"


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_paths_stay_in_the_clone(spec: Path) -> None:
    for path in paths(read(spec)):
        if spec.stem in NOT_IN_A_CLONE.get(path, ()):
            continue
        found = (spec.parent / path).resolve()
        assert found.is_relative_to(REPOSITORY), f"{spec}: {path} is outside of the repository"
        assert found.exists(), f"{spec}: {path} is not there"


def test_what_is_not_in_a_clone_is_still_read() -> None:
    for path, names in NOT_IN_A_CLONE.items():
        assert {spec.stem for spec in SPECS if path in paths(read(spec))} == names
    assert "flipping" in {spec.stem for spec in SPECS if 'sweep = "ID"' in spec.read_text()}


@pytest.mark.parametrize(
    "spec",
    [spec for spec in SPECS if not any(spec.stem in names for names in NOT_IN_A_CLONE.values())],
    ids=lambda spec: spec.stem,
)
def test_a_plan_takes_what_the_header_says(spec: Path, clone: Path) -> None:
    jobs = json.loads(nadgrid(clone, "plan", spec, "--json"))["jobs"]
    if "nadgrid plan" not in header(spec):
        return
    for unit, counted in (("networks?", "nads"), ("runs?", "")):
        members = sum(job["members"] for job in jobs if (job["experiment"] == "nads") == bool(counted))
        told = re.search(rf"([\d,]+) {unit}\b", header(spec).split("nadgrid plan")[1].split(" forward passes")[0])
        assert (int(told[1].replace(",", "")) if told else 0) == members, spec.stem
    told = re.search(r"([\d,]+) forward passes", header(spec))
    assert told
    assert int(told[1].replace(",", "")) == sum(job["forward_passes"] for job in jobs)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_its_commands_run(spec: Path, clone: Path, cluster: Cluster, earlier: str) -> None:
    told = commands(spec)
    assert told or spec.stem == "logreg", f"{spec}: no command"
    submitted = ""
    for _, name, *words in told or [["nadgrid", "run", "examples/logreg.toml", "--out", "out/logreg"]]:
        if name == "run":
            nadgrid(clone, name, *(word.replace("DIR", "data/cifar-10-batches-bin") for word in words), *less(spec))
        elif name == "submit":
            # The id of an earlier sweep stands in its spec.
            words = [word.replace("ID", earlier) for word in words]
            said = nadgrid(clone, "--coordinator", cluster.url, name, *words, *less(spec), "--json")
            submitted = re.findall(r'"id": *"([^"]+)"', said)[0]
            assert cluster.status(submitted)["state"] == "complete"
        elif name == "fetch":
            words = [word.replace("ID", submitted).replace("DIR", f"out/{spec.stem}") for word in words]
            nadgrid(clone, "--coordinator", cluster.url, name, *words)
        else:
            nadgrid(clone, name, *words)


def test_one_file_has_one_setting() -> None:
    """SCIENCE: along NADs LeNet's published values are of sigma 1, VGG11's of sigma 3; those of frequencies of 3."""
    found = {
        (architecture, tables["directional"]["directions"]["kind"], tables["directional"]["sigma"])
        for spec in SPECS
        if "directional" in (tables := read(spec))
        for architecture in tables["architectures"]
    }
    assert {sigma for name, kind, sigma in found if kind in ("nads", "file") and name == "lenet"} == {1.0}
    assert {sigma for name, kind, sigma in found if kind in ("nads", "file") and name == "vgg11_bn"} == {3.0}
    assert {sigma for _, kind, sigma in found if kind == "dft"} == {3.0}
