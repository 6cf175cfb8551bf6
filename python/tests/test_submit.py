"""Specs and their files, in every form that they may have."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from cluster import EXAMPLES, Cluster
from conftest import NADS

import nadgrid
from nadgrid._spec import CHUNK_BYTES, SpecText


def test_a_dict_text_and_a_path_are_one_spec(grid: nadgrid.Client, tmp_path: Path) -> None:
    text = tomli_w.dumps(NADS)
    path = tmp_path / "spec.toml"
    path.write_text(text)
    one_line = "name = 'small'\narchitectures = ['lenet']"
    assert SpecText.of(one_line).text == one_line
    sweeps = [grid.submit(spec, key="one of three forms") for spec in (NADS, text, path, str(path))]
    assert [sweep.created for sweep in sweeps] == [True, False, False, False]
    assert len(set(sweeps)) == 1
    # Without a key, each submission is a sweep of its own.
    assert grid.submit(NADS) != grid.submit(NADS)


def test_the_command_line_submits_the_same(cluster: Cluster, grid: nadgrid.Client) -> None:
    theirs = cluster.submit("lenet.toml", "nads.networks=64", "name=beside")
    spec = (EXAMPLES / "lenet.toml").read_text().replace('name = "lenet"', 'name = "beside"')
    ours = grid.submit(spec.replace("networks = 2048", "networks = 64")).wait(timeout=60)
    assert ours.spec == grid.sweep(theirs).spec
    assert ours.digest == grid.sweep(theirs).wait(timeout=60).digest


def test_a_dict_may_hold_what_numpy_gives() -> None:
    class Estimator(Enum):
        CENTRAL = "central-difference"

    spec = {
        "name": np.str_("x"),
        "architectures": ("lenet", np.str_("logreg")),
        "seed": np.uint64(2**60 + 1),
        "audit": np.float64(0.1),
        "nads": {"networks": np.int32(64), "step": np.float32(0.5), "estimator": Estimator.CENTRAL, "points": None},
        "poisoning": {"indices": np.arange(3), "basis": {"path": Path("a") / "b.npy"}},
        "flag": np.True_,
        "range": range(2),
    }
    text = SpecText.of(spec).text
    assert SpecText(text, None)._parsed() == {
        "name": "x",
        "architectures": ["lenet", "logreg"],
        "seed": 2**60 + 1,
        "audit": 0.1,
        "nads": {"networks": 64, "step": 0.5, "estimator": "central-difference"},
        "poisoning": {"indices": [0, 1, 2], "basis": {"path": "a/b.npy"}},
        "flag": True,
        "range": [0, 1],
    }


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"nads": {"step": 1j}}, "nads.step", "complex"),
        ({"architectures": ["lenet", {"x": b"y"}]}, "architectures[1].x", "bytes"),
        ({"nads": {3: 1}}, "nads.3", "keys are text"),
        ("/no/such/spec.toml", "", "/no/such/spec.toml: cannot read the spec"),
        (3, "", "a dict, not int"),
    ],
)
def test_what_is_no_spec_is_refused_here(grid: nadgrid.Client, spec: Any, field: str, words: str) -> None:
    with pytest.raises(nadgrid.SpecError) as error:
        grid.submit(spec)
    assert error.value.field == field
    assert words in str(error.value)


def test_a_refused_spec_names_its_fields(grid: nadgrid.Client) -> None:
    wrong = {**NADS, "architectures": ["lennet"], "nads": {"networks": 1}}
    for call in (grid.submit, grid.plan):
        with pytest.raises(nadgrid.SpecError) as error:
            call(wrong)
        assert (error.value.field, error.value.reason) == ("architectures[0]", "SPEC_INVALID")
        assert [violation.field for violation in error.value.violations] == ["architectures[0]", "nads.networks"]
        assert 'did you mean "lenet"?' in str(error.value.violations[0])
        assert isinstance(error.value, ValueError)
    with pytest.raises(nadgrid.SpecError, match="line 1, column") as error:
        grid.submit("name = \n")
    assert error.value.reason == "SPEC_INVALID"


def test_refused_arguments_are_named(grid: nadgrid.Client) -> None:
    for argument, value in [("priority", 101), ("priority", 2**40), ("priority", "high"), ("weight", 1000.0)]:
        arguments: dict[str, Any] = {argument: value}
        with pytest.raises(nadgrid.RequestError) as error:
            grid.submit(NADS, **arguments)
        assert error.value.field == argument
    with pytest.raises(nadgrid.RequestError):
        grid.submit(NADS, key="k" * 1000)


def test_priority_and_weight_arrive(grid: nadgrid.Client) -> None:
    sweep = grid.submit(NADS, priority=-3, weight=np.float64(2.5))
    assert (sweep.priority, sweep.weight) == (-3, 2.5)


def test_a_key_belongs_to_its_spec(grid: nadgrid.Client) -> None:
    grid.submit(NADS, key="taken")
    with pytest.raises(nadgrid.KeyTaken) as error:
        grid.submit({**NADS, "seed": 1}, key="taken")
    assert error.value.reason == "KEY_TAKEN"


def test_a_plan_tells_what_it_takes(grid: nadgrid.Client) -> None:
    plan = grid.plan({**NADS, "architectures": ["lenet", "logreg"]})
    assert [(job.architecture, job.members, job.blocks) for job in plan.jobs] == [("lenet", 64, 8), ("logreg", 64, 8)]
    # By the definition: two passes a pixel and network.
    assert plan.jobs[0].forward_passes == 64 * 2 * 16 * 16
    assert list(plan.frame()["dimension"]) == [256, 256]
    assert plan.seconds > 0


def rows(count: int, length: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(0).normal(size=(count, length))


def along(path: str, indices: list[int], side: int = 4) -> dict[str, Any]:
    """Runs along rows of a file."""
    return {
        "name": "rows",
        "architectures": ["logreg"],
        "input": {"height": side, "width": side},
        "directional": {
            "directions": {"kind": "file", "path": path, "indices": indices},
            "train_samples": 100,
            "test_samples": 100,
            "training": {"epochs": 1},
        },
    }


def test_files_are_found_beside_the_spec_then_here_then_given(
    grid: nadgrid.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, here = tmp_path / "beside", tmp_path / "here"
    for folder, seed in ((beside, 1), (here, 2)):
        folder.mkdir()
        np.save(folder / "rows.npy", rows(3, 16) + seed)
    monkeypatch.chdir(here)
    (beside / "spec.toml").write_text(tomli_w.dumps(along("rows.npy", [0, 2])))

    def digest(spec: Any, files: Any = None) -> str:
        [file] = SpecText.of(spec).files(files)
        assert file.name == "rows.npy"
        return file.digest

    given = rows(3, 16) + 1
    assert digest(beside / "spec.toml") == digest(along("rows.npy", [0, 2]), {"rows.npy": given})
    assert digest(along("rows.npy", [0, 2])) == digest(along("rows.npy", [0, 2]), {"rows.npy": here / "rows.npy"})
    content = (beside / "rows.npy").read_bytes()
    assert digest(along("rows.npy", [0, 2]), {"rows.npy": content}) == digest(beside / "spec.toml")
    sweeps = [grid.submit(beside / "spec.toml"), grid.submit(along("rows.npy", [0, 2]), {"rows.npy": given})]
    assert len({sweep.wait(timeout=60).digest for sweep in sweeps}) == 1
    assert list(sweeps[0].results().runs("directional", "logreg")["direction"]) == ["row 0", "row 2"]


#: What TOML 1.1 has and TOML 1.0 has not: inline tables of several lines, with a comma at the end, and new escapes.
OF_TODAY = """
name = "today"
architectures = ["\\x6cogreg"]
input = { height = 4, width = 4 }
[directional]
directions = {
    kind = "file",  # of two rows
    path = "rows.npy",
    indices = [0, 1],
}
train_samples = 100
test_samples = 100
training = { epochs = 1, }
"""


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
def test_a_spec_is_read_as_coordinators_read_it(
    cluster: Cluster, grid: nadgrid.Client, tmp_path: Path, mark: str
) -> None:
    np.save(tmp_path / "rows.npy", rows(2, 16))
    spec = tmp_path / "spec.toml"
    spec.write_text(mark + OF_TODAY, encoding="utf-8")
    theirs = cluster.submit(spec)
    ours = [grid.submit(spec), grid.submit(mark + OF_TODAY, {"rows.npy": rows(2, 16)})]
    assert {sweep.spec for sweep in ours} == {grid.sweep(theirs).spec}
    assert {sweep.wait(timeout=60).digest for sweep in ours} == {grid.sweep(theirs).wait(timeout=60).digest}


@pytest.mark.parametrize("text", ["x = " + "[" * 5000, "x = " + "9" * 5000, 'x = "\udcff"', "\ufeff\ufeffx = 1"])
def test_what_python_cannot_read_is_refused_by_the_coordinator(grid: nadgrid.Client, text: str) -> None:
    with pytest.raises(nadgrid.SpecError):
        grid.plan(text)


def test_masked_arrays_and_arrays_of_objects_are_refused_by_name(grid: nadgrid.Client) -> None:
    masked = np.ma.masked_less(rows(3, 16), 0)
    objects = np.array([[1.0] * 16, [None] * 16], dtype=object)
    records = np.zeros(3, dtype=[("a", object)])
    for array, words in ((masked, "a masked array"), (objects, "Python objects"), (records, "Python objects")):
        with pytest.raises(nadgrid.SettingsError, match=rf"files\['rows.npy'\]: .*{words}") as error:
            grid.submit(along("rows.npy", [0]), {"rows.npy": array})
        assert error.value.field == "files"
    for value in (np.ma.masked_array([1, 2], [False, True]), np.ma.masked):
        spec = {**NADS, "directional": {"directions": {"kind": "random", "count": value}}}
        with pytest.raises(nadgrid.SpecError, match="a masked array") as refused:
            grid.submit(spec)
        assert refused.value.field == "directional.directions.count"
    # One that could be numbers is text and numbers, entry by entry.
    assert SpecText.of({"x": np.array(["a", 1], dtype=object)})._parsed() == {"x": ["a", 1]}
    with pytest.raises(nadgrid.SpecError) as refused:
        SpecText.of({"x": np.array(["a", None], dtype=object)})
    assert refused.value.field == "x[1]"


def test_files_of_many_chunks_travel_whole(grid: nadgrid.Client) -> None:
    large = rows(700, 1024)
    assert large.nbytes > 5 * CHUNK_BYTES
    sweep = grid.submit(along("large.npy", [0, 699], side=32), {"large.npy": large}).wait(timeout=60)
    assert len(sweep.results().runs("directional", "logreg")) == 2


def test_files_that_are_missing_are_named_with_where_they_were_looked_for(grid: nadgrid.Client, tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text(
        "name = 'x'\narchitectures = ['lenet']\ninput = { channels = 3 }\ncifar10 = { path = 'cifar' }\n"
        "[poisoning]\nbasis = { path = 'nads.npy' }\nindices = [0]\n[flipping]\nbasis = { path = 'nads.npy' }"
    )
    with pytest.raises(nadgrid.SpecError) as error:
        grid.plan(spec)
    assert [v.field for v in error.value.violations] == ["poisoning.basis", "flipping.basis", "cifar10.path"]
    assert f"no such file: looked for {tmp_path / 'nads.npy'} and {Path.cwd() / 'nads.npy'}" in str(error.value)
    (tmp_path / "cifar").mkdir()
    with pytest.raises(nadgrid.SpecError, match=r"cifar holds no data_batch_N\.bin"):
        grid.plan(spec)
    (tmp_path / "cifar" / "data_batch_1.bin").write_bytes(b"")
    with pytest.raises(nadgrid.SpecError, match=r"cifar holds no test_batch\.bin"):
        grid.plan(spec)
    with pytest.raises(nadgrid.SettingsError, match="names no such file") as setting:
        grid.plan(NADS, {"other.npy": b""})
    assert setting.value.field == "files"


def test_what_a_file_holds_is_looked_at_before_anything_runs(grid: nadgrid.Client) -> None:
    contents: list[tuple[Any, str]] = [
        (b"no array", "not a .npy file"),
        (rows(3, 15), "3 x 15"),
        (rows(1, 16), "row 2 is requested"),
        (np.zeros((3, 16)), "zero"),
    ]
    for content, words in contents:
        with pytest.raises(nadgrid.SpecError) as error:
            grid.submit(along("rows.npy", [0, 2]), {"rows.npy": content})
        assert error.value.field.startswith("directional.directions")
        assert words in str(error.value)


def images(count: int) -> bytes:
    """Images of no meaning in CIFAR-10's binary format, labels in turn."""
    pixels = np.random.default_rng(1).integers(0, 256, size=(count, 3073), dtype=np.uint8)
    pixels[:, 0] = np.arange(count) % 10
    return pixels.tobytes()


def test_experiments_on_images(grid: nadgrid.Client, tmp_path: Path) -> None:
    folder = tmp_path / "cifar"
    folder.mkdir()
    (folder / "data_batch_1.bin").write_bytes(images(60))
    (folder / "data_batch_2.bin").write_bytes(images(40))
    (folder / "test_batch.bin").write_bytes(images(30))
    (folder / "batches.meta.txt").write_text("left out")
    spec: dict[str, Any] = {
        "name": "images",
        "architectures": ["logreg"],
        "input": {"channels": 3},
        "cifar10": {"path": "cifar"},
        "poisoning": {"basis": {"path": "nads.npy"}, "indices": [0, 500], "training": {"epochs": 1}},
        "margins": {
            "basis": {"path": "nads.npy"},
            "subspace": 8,
            "stride": 500,
            "images": 4,
            "training": {"epochs": 1},
        },
    }
    nads = np.eye(1024, dtype=np.float32)
    sweep = grid.submit(spec, {"nads.npy": nads, "cifar": folder}).wait(timeout=120)
    results = sweep.results()
    poisoned = results.runs("poisoning", "logreg")
    assert list(poisoned["set"]) == ["clean", "nad 0", "nad 500"]
    margins, quartiles = results.margins("logreg"), results.margin_quartiles("logreg")
    # (1024 - 8)/500 + 1 blocks.
    assert margins.shape == (1, 3, 4)
    assert list(quartiles["first_nad"]) == [0, 500, 1000]
    assert np.isclose(np.median(margins[0, 1]), quartiles["median"][1])
    # The same files as bytes, named as the spec would name them.
    names = ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin")
    given: dict[str, Any] = {f"cifar/{name}": (folder / name).read_bytes() for name in names}
    assert grid.submit(spec, {"nads.npy": nads, **given}).wait(timeout=120).digest == sweep.digest
