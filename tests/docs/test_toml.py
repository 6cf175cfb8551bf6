"""Every block of TOML is taken by the program that it is for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import tomllib
from cluster import Cluster, clean_environment, program
from conftest import RAN
from pages import GUIDE, Block, blocks, read
from session import prepare

BLOCKS = [block for page in GUIDE for block in blocks(page, "toml")]
EXPERIMENTS = {"nads", "directional", "poisoning", "flipping", "margins"}
#: A reader puts a digest where the page has dots.
DOTS = ("…", "0" * 64)


def kind(block: Block) -> str:
    """What a block claims to be, by its keys."""
    keys = set(tomllib.loads(block.text))
    if keys & EXPERIMENTS or "architectures" in keys:
        return "spec"
    if keys == {"token"}:
        return "tokens"
    return "worker" if "coordinator" in keys else "coordinator"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as the guide uses it."""
    folder = tmp_path_factory.mktemp("reader")
    prepare(folder, 0)
    return folder / "nadgrid"


@pytest.fixture(scope="module")
def earlier(cluster: Cluster) -> str:
    """A complete sweep with LeNet's NADs."""
    sweep = cluster.submit("lenet.toml", "nads.networks=128")
    cluster.wait(sweep)
    return sweep


@pytest.mark.parametrize("block", [block for block in BLOCKS if kind(block) == "spec"], ids=lambda block: block.place)
def test_specs_are_planned(block: Block, reader: Path, cluster: Cluster, earlier: str) -> None:
    text = block.text.replace('"ID"', f'"{earlier}"')
    if "architectures" not in tomllib.loads(text):
        text = f'name = "part"\narchitectures = ["lenet"]\n{text}'
    spec = reader / "block.toml"
    spec.write_text(text)
    arguments = ["--coordinator", cluster.url] if earlier in text else []
    done = subprocess.run(
        [program("nadgrid"), *arguments, "plan", spec],
        cwd=reader,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{block.place}: {done.stderr}"
    assert "total: " in done.stdout, block.place
    RAN[block.place] = "planned"


@pytest.mark.parametrize("block", [block for block in BLOCKS if kind(block) == "tokens"], ids=lambda block: block.place)
def test_files_of_tokens_are_taken(block: Block, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(re.sub(r"20\d\d-", "2999-", block.text.replace(*DOTS)))
    with Cluster("--tokens", tokens) as cluster:
        done = cluster.run("list")
        # It knows that this caller is none of those in the file.
        assert done.returncode == 6, done.stderr
    RAN[block.place] = "taken as a file of tokens"


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if kind(block) == "coordinator"], ids=lambda block: block.place
)
def test_configurations_of_coordinators_are_taken(block: Block, tmp_path: Path) -> None:
    config = tmp_path / "coordinator.toml"
    config.write_text(block.text)
    with Cluster("--config", config) as cluster:
        assert cluster.run("list").returncode == 0
    RAN[block.place] = "started a coordinator"


@pytest.mark.parametrize("block", [block for block in BLOCKS if kind(block) == "worker"], ids=lambda block: block.place)
def test_configurations_of_workers_are_taken(block: Block, tmp_path: Path, cluster: Cluster) -> None:
    config = tmp_path / "worker.toml"
    config.write_text(block.text)
    with Cluster() as empty:
        # The cluster's own flags say where the coordinator is.
        empty.add_worker("--config", config)
        slots = tomllib.loads(block.text).get("slots")
        assert empty.wait_for_workers(1)[0]["slots"] == slots
    RAN[block.place] = "started a worker"


def test_keys_of_the_tables_are_the_coordinators(tmp_path: Path) -> None:
    """Those of docs/configuration.md, with the defaults that stand beside them."""
    table = read("docs/configuration.md").split("<!-- keys of nadgrid-coordinator -->")[1].split("<!-- end -->")[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]*) \|", table, re.MULTILINE)
    assert len(rows) >= 20
    keys = {name: default.strip() for name, default in rows}
    config = tmp_path / "coordinator.toml"
    config.write_text(
        "".join(f"{name} = {default}\n" for name, default in keys.items() if re.fullmatch(r"\d+", default))
    )
    with Cluster("--config", config) as cluster:
        assert cluster.run("list").returncode == 0
    said = subprocess.run([program("nadgrid-coordinator"), "--help"], capture_output=True, text=True, check=True).stdout
    for name, default in keys.items():
        flag = "--" + name.replace("_", "-")
        assert flag in said, name
        if re.fullmatch(r"\d+", default):
            stated = re.search(rf"{flag} <\w+>\s+.*\[default: ([^\]]+)\]", said)
            assert stated and stated[1] == default, name
