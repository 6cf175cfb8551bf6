"""Results are the very bytes that the command line fetches."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pandas as pd
import pytest
from blake3 import blake3
from cluster import REPOSITORY, Cluster

import nadgrid
from nadgrid import _tables
from nadgrid._untrusted import plain_path
from nadgrid.v1 import nadgrid_pb2 as pb
from nadgrid.v1.nadgrid_pb2_grpc import SweepServiceServicer, add_SweepServiceServicer_to_server


@pytest.fixture(scope="module")
def fetched(cluster: Cluster, sweep: nadgrid.Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command line fetches of the same sweep."""
    folder = tmp_path_factory.mktemp("fetched")
    cluster.nadgrid("fetch", sweep.id, "--out", folder)
    return folder


def test_artifacts_are_what_the_command_line_fetches(sweep: nadgrid.Sweep, fetched: Path) -> None:
    results = sweep.results()
    assert "nads/lenet/nads.npy" in results.artifacts
    assert "directional/lenet.csv" in results.artifacts
    for name, artifact in results.artifacts.items():
        content = (fetched / name).read_bytes()
        assert sweep.artifact(name) == results.artifact(name) == content
        assert (len(content), blake3(content).hexdigest()) == (artifact.size, artifact.digest)


def test_nads_are_arrays(sweep: nadgrid.Sweep, fetched: Path) -> None:
    results = sweep.results()
    assert (list(results.nads), results.shape, results.jobs) == (
        ["lenet"],
        (1, 16, 16),
        ("nads/lenet", "directional/lenet"),
    )
    nads, folder = results.nads["lenet"], fetched / "nads" / "lenet"
    for name in ("nads", "eigenvalues", "singular_values", "standard_errors", "mean"):
        array, expected = getattr(nads, name), np.load(folder / f"{name}.npy")
        assert array.dtype == expected.dtype
        assert array.shape == expected.shape
        assert array.tobytes() == expected.tobytes()
    assert nads.nads.shape == (63, 256)
    assert nads.nad_images.shape == (63, 1, 16, 16)
    assert np.array_equal(nads.nad_images[5, 0, 2], nads.nads[5, 32:48])
    # Rows are orthonormal, and what stands beside them belongs to them.
    assert np.allclose(nads.nads @ nads.nads.T, np.eye(63), atol=1e-5)
    assert np.allclose(nads.singular_values**2 / 63, nads.eigenvalues)
    assert np.allclose(nads.standard_errors, nads.singular_values / np.sqrt(2 * 63))
    assert (nads.spectrum.gradients, nads.spectrum.dimension) == (64, 256)
    assert np.isclose(nads.spectrum.total_variance, nads.eigenvalues.sum())
    assert vars(nads.spectrum) == json.loads((folder / "spectrum.json").read_bytes())


def test_runs_are_frames(sweep: nadgrid.Sweep, fetched: Path) -> None:
    runs = sweep.results().runs("directional", "lenet")
    header, *lines = (fetched / "directional" / "lenet.csv").read_text().splitlines()
    columns = header.split(",")
    assert [name for name in runs.columns if name in columns] == columns
    assert {name: str(kind) for name, kind in runs.dtypes.items()} == {
        **{"architecture": "string", "direction": "string", "kind": "string"},
        **{"index": "Int64", "k1": "Int64", "k2": "Int64", "seed": "int64"},
        **{"train_accuracy": "float64", "test_accuracy": "float64", "train_loss": "float64", "test_loss": "float64"},
        **{"epochs": "int64", "seconds": "float64", "diverged_at": "Int64"},
    }
    assert len(runs) == 4
    assert list(runs["direction"]) == ["nad 0", "nad 0", "nad 20", "nad 20"]
    assert list(runs["seed"]) == [0, 1, 0, 1]
    assert runs["test_accuracy"].between(0, 100).all()
    assert runs["diverged_at"].isna().all()
    # Every bit: the shortest text that reads as a number is the number's own.
    for line, loss in zip(lines, runs["test_loss"]):
        assert float(line.split(",")[columns.index("test_loss")]) == loss


def test_what_a_direction_says_is_typed() -> None:
    labels = ["nad 12", "row 3", "pixel 1023", "random 7", "cos 2 -4", "sin -16 0"]
    frame = _tables.runs(table("direction", labels))
    assert list(frame.columns[:7]) == ["architecture", "direction", "kind", "index", "k1", "k2", "seed"]
    assert list(frame["kind"]) == ["nad", "row", "pixel", "random", "cos", "sin"]
    assert list(frame["index"].dropna()) == [12, 3, 1023, 7]
    assert list(frame.loc[4:, ["k1", "k2"]].itertuples(index=False, name=None)) == [(2, -4), (-16, 0)]
    assert frame.loc[4:, "index"].isna().all()
    assert frame.loc[:3, ["k1", "k2"]].isna().all().all()
    frame = _tables.runs(table("set", ["clean", "nad 10", "original", "a word of 3 tomorrow", f"nad {10**18}"]))
    assert list(frame["kind"]) == ["clean", "nad", "original", "a word of 3 tomorrow", f"nad {10**18}"]
    assert list(frame["index"].fillna(-1)) == [-1, 10, -1, -1, -1]


def test_columns_that_the_coordinator_writes_are_taken_as_they_are() -> None:
    lines = "architecture,direction,kind,index,k1,k2,seed,new\nlenet,nad 3,nad,3,,,0,x\nlenet,cos 1 2,cos,,1,2,0,y\n"
    frame = _tables.runs(lines.encode())
    assert list(frame.columns) == ["architecture", "direction", "kind", "index", "k1", "k2", "seed", "new"]
    assert frame["index"].fillna(-1).tolist() == [3, -1]
    assert [str(frame[name].dtype) for name in ("kind", "index", "k1", "k2")] == ["string", "Int64", "Int64", "Int64"]
    with pytest.raises(nadgrid.CoordinatorError, match="neither a column direction nor a column set"):
        _tables.runs(b"seed\n0\n")


def table(label: str, labels: list[str]) -> bytes:
    """A table of runs as coordinators of version 0.1.0 write it."""
    header = f"architecture,{label},seed,train_accuracy,test_accuracy,train_loss,test_loss,epochs,seconds,diverged_at\n"
    return (header + "".join(f"lenet,{text},0,100,50.5,0.1,0.7,20,0.250,\n" for text in labels)).encode()


def test_a_frame_may_have_a_hundred_thousand_rows() -> None:
    labels = [f"cos {place % 331} {-(place // 331)}" for place in range(100_000)]
    frame = _tables.runs(table("direction", labels))
    assert len(frame) == 100_000
    assert (int(frame["k1"].iloc[-1]), int(frame["k2"].iloc[-1])) == (99_999 % 331, -(99_999 // 331))
    both = _tables.stacked([("directional", frame), ("poisoning", _tables.runs(table("set", ["clean"])))])
    assert len(both) == 100_001
    checks = nadgrid.Rows(nadgrid.Artifact(f"{place}.npy", place, "") for place in range(100_000))
    assert checks.frame()["size"].sum() == sum(range(100_000))
    # A notebook is not to show them all.
    html = checks._repr_html_()
    assert html.count("<tr>") == 101
    assert html.endswith("<p>and 99,900 more</p>")


def test_all_runs_are_in_one_frame(grid: nadgrid.Client) -> None:
    training = {"epochs": 1}
    spec = {
        "name": "all",
        "architectures": ["logreg", "lenet"],
        "input": {"channels": 3},
        "cifar10": {"path": "cifar"},
        "directional": {
            "directions": {"kind": "dft", "frequencies": [[0, 1]]},
            "train_samples": 100,
            "test_samples": 100,
            "training": training,
        },
        "flipping": {"basis": {"path": "nads.npy"}, "training": training},
    }
    images = (REPOSITORY / "tests" / "data" / "cifar10").resolve()
    results = grid.submit(spec, {"nads.npy": np.eye(1024), "cifar": images}).wait(timeout=120).results()
    runs = results.runs()
    assert list(runs.columns) == ["experiment", *_tables.RUNS]
    jobs = list(dict.fromkeys(zip(runs["experiment"], runs["architecture"])))
    assert jobs == [(experiment, name) for experiment in ("directional", "flipping") for name in ("logreg", "lenet")]
    assert list(runs["kind"]) == ["cos", "cos", *["original", "flipped"] * 2]
    assert runs.loc[:1, "set"].isna().all()
    assert list(runs.loc[:1, "direction"]) == ["cos 0 1"] * 2
    assert runs.loc[2:, "direction"].isna().all()
    assert runs.loc[runs["experiment"] == "directional", "k2"].tolist() == [1, 1]
    assert set(results.runs("flipping")["architecture"]) == {"logreg", "lenet"}
    assert set(results.runs(architecture="lenet")["experiment"]) == {"directional", "flipping"}
    assert {str(kind) for kind in results.runs("flipping").dtypes} == {"string", "Int64", "int64", "float64"}
    for wanted in ({"experiment": "margins"}, {"architecture": "vgg11"}):
        with pytest.raises(nadgrid.NotFound, match=r"there are no runs of .*directional/logreg, directional/lenet"):
            results.runs(**wanted)


def test_a_sweep_without_runs_has_an_empty_frame(tmp_path: Path) -> None:
    record = {"spec_toml": "", "name": "x", "artifacts": []}
    (tmp_path / "sweep.json").write_text(json.dumps(record))
    runs = nadgrid.load(tmp_path).runs()
    assert (len(runs), list(runs.columns)) == (0, ["experiment", *_tables.RUNS])
    assert str(runs["index"].dtype) == "Int64"


def test_a_run_that_diverged_has_no_accuracy(grid: nadgrid.Client) -> None:
    spec = {
        "name": "wild",
        "architectures": ["lenet"],
        "input": {"height": 16, "width": 16},
        "directional": {
            "directions": {"kind": "random", "count": 1},
            "train_samples": 200,
            "test_samples": 100,
            "training": {"epochs": 2, "learning_rate": 1e9, "gradient_clip": 0},
        },
    }
    runs = grid.submit(spec).wait(timeout=60).results().runs("directional", "lenet")
    assert runs["diverged_at"].notna().all()
    assert runs["test_accuracy"].isna().all()


def test_a_folder_is_that_of_the_command_line(sweep: nadgrid.Sweep, fetched: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    written = sweep.fetch(out)
    assert written[0] == out / "sweep.json"
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == {
        path.relative_to(out).as_posix() for path in written
    }
    for path in written[1:]:
        assert path.read_bytes() == (fetched / path.relative_to(out)).read_bytes()
    ours, theirs = (json.loads((folder / "sweep.json").read_bytes()) for folder in (out, fetched))
    assert ours.pop("figures") == []
    assert theirs.pop("figures") != []
    assert ours["versions"].pop("client") == nadgrid.__version__
    del theirs["versions"]["client"]
    assert ours == theirs


def test_the_command_line_reads_our_folder_and_we_read_its(
    cluster: Cluster, sweep: nadgrid.Sweep, fetched: Path, tmp_path: Path
) -> None:
    sweep.fetch(tmp_path)
    compared = cluster.nadgrid("compare", tmp_path / "nads" / "lenet", fetched / "nads" / "lenet")
    assert "64" in compared
    loaded, results = nadgrid.load(fetched), sweep.results()
    assert loaded.artifacts == results.artifacts
    assert np.array_equal(loaded.nads["lenet"].nads, results.nads["lenet"].nads)
    pd.testing.assert_frame_equal(loaded.runs("directional", "lenet"), results.runs("directional", "lenet"))


def test_a_folder_that_is_filled_again_holds_the_new_sweep_alone(
    grid: nadgrid.Client, sweep: nadgrid.Sweep, tmp_path: Path
) -> None:
    sweep.fetch(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    other = grid.submit({"name": "other", "architectures": ["logreg"], "nads": {"networks": 4}}).wait(timeout=60)
    written = other.fetch(tmp_path)
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {*written, tmp_path / "notes.txt"}
    assert nadgrid.load(tmp_path).jobs == ("nads/logreg",)


def test_what_a_killed_process_left_goes_with_the_next_fetch(sweep: nadgrid.Sweep, tmp_path: Path) -> None:
    sweep.fetch(tmp_path / "whole")
    killed = (
        "import os, signal, sys, pathlib; from nadgrid import _folder\n"
        "with _folder._staging(pathlib.Path(sys.argv[1])) as staged:\n"
        "    (staged / 'half.npy').write_bytes(b'x')\n"
        "    {}\n"
    )
    command = [sys.executable, "-c", killed.format("os.kill(os.getpid(), signal.SIGKILL)"), str(tmp_path / "whole")]
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY / "python" / "src")}
    assert subprocess.run(command, env=variables).returncode == -signal.SIGKILL
    assert len(list((tmp_path / "whole").glob(".nadgrid-*"))) == 1
    # One that is in use stays, and what is none of ours.
    (tmp_path / "whole" / ".nadgrid-x").mkdir()
    command = [sys.executable, "-c", killed.format("print(flush=True); sys.stdin.read()"), str(tmp_path / "whole")]
    with subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as busy:
        assert busy.stdout
        busy.stdout.readline()
        # It has removed the first one's.
        [used] = (tmp_path / "whole").glob(".nadgrid-python-*")
        sweep.fetch(tmp_path / "whole")
        assert (used / "half.npy").is_file()
    assert [path.name for path in (tmp_path / "whole").glob(".nadgrid-*")] == [".nadgrid-x"]


def test_a_damaged_folder_is_not_taken(sweep: nadgrid.Sweep, tmp_path: Path) -> None:
    with pytest.raises(nadgrid.NotFound, match=r"no sweep\.json"):
        nadgrid.load(tmp_path)
    sweep.fetch(tmp_path)
    results = nadgrid.load(tmp_path)
    mean = tmp_path / "nads" / "lenet" / "mean.npy"
    content = bytearray(mean.read_bytes())
    content[-1] ^= 1
    mean.write_bytes(content)
    with pytest.raises(nadgrid.DamagedPayload, match=r"mean\.npy: the payload is damaged") as error:
        print(results.nads["lenet"].mean)
    assert error.value.field == "nads/lenet/mean.npy"
    mean.unlink()
    with pytest.raises(nadgrid.NotFound):
        print(results.nads["lenet"].mean)
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(nadgrid.SettingsError, match="not understood"):
        nadgrid.load(tmp_path)


def test_what_there_is_not_is_answered_with_what_there_is(sweep: nadgrid.Sweep) -> None:
    results = sweep.results()
    with pytest.raises(nadgrid.NotFound, match="there are those of: lenet"):
        results.nads["vgg11"]
    assert "vgg11" not in results.nads
    with pytest.raises(nadgrid.NotFound, match=r"there are: .*directional/lenet\.csv"):
        results.runs("poisoning", "lenet")
    with pytest.raises(nadgrid.NotFound, match=r"has no artifact 'x'.*directional/lenet\.csv"):
        sweep.artifact("x")


def test_results_larger_than_a_message_arrive(grid: nadgrid.Client) -> None:
    spec = {"name": "large", "architectures": ["logreg"], "nads": {"networks": 1056, "block_size": 32}}
    nads = grid.submit(spec).wait(timeout=120).results().nads["logreg"].nads
    # k x D = 1024 x 1024: with its header more than 4 MiB.
    assert nads.shape == (1024, 1024)


def test_what_the_store_has_lost_is_said(tmp_path: Path) -> None:
    with Cluster(workers=1) as cluster, nadgrid.connect(cluster.url) as grid:
        spec = {"name": "lost", "architectures": ["logreg"], "nads": {"networks": 4}}
        sweep = grid.submit(spec).wait(timeout=60)
        digest = sweep.results().artifacts["nads/logreg/nads.npy"].digest
        [stored] = cluster.folder.rglob(f"*{digest}")
        stored.write_bytes(b"something else")
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / "notes.txt").write_text("mine")
        for folder in (tmp_path / "deep" / "out", tmp_path / "old"):
            with pytest.raises(nadgrid.DamagedPayload) as error:
                sweep.fetch(folder)
            assert error.value.reason == "PAYLOAD_DAMAGED"
        # Everything is as before.
        assert [path.name for path in tmp_path.rglob("*") if cluster.folder not in path.parents] == ["old", "notes.txt"]


class Careless(SweepServiceServicer):
    """A coordinator that announces an artifact and sends something else: a real one does not."""

    def __init__(self, announced: bytes, sent: bytes) -> None:
        artifact = pb.Artifact(name="a.bin", size=len(announced), digest=blake3(announced).hexdigest())
        self._sweep = pb.Sweep(id="s", state=pb.SWEEP_STATE_COMPLETE, artifacts=[artifact])
        self._sent = sent

    def List(  # noqa: N802
        self, request: pb.ListRequest, context: grpc.ServicerContext
    ) -> pb.ListResponse:
        return pb.ListResponse(sweeps=[self._sweep])

    def ReadArtifact(  # noqa: N802
        self, request: pb.ReadArtifactRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ReadArtifactResponse]:
        yield pb.ReadArtifactResponse(artifact=self._sweep.artifacts[0])
        for start in range(0, len(self._sent), 100):
            yield pb.ReadArtifactResponse(data=self._sent[start : start + 100])


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (bytes(range(250)), ""),
        (bytes(range(249)), "truncated: 249 of 250 bytes were received"),
        (bytes(range(251)), "longer than the 250 bytes announced"),
        (bytes(range(249)) + b"?", "the payload is damaged: its digest is"),
    ],
)
def test_only_the_very_payload_comes_through(sent: bytes, words: str) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    careless = Careless(bytes(range(250)), sent)  # type: ignore[abstract]
    add_SweepServiceServicer_to_server(careless, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with nadgrid.connect(f"127.0.0.1:{port}") as grid:
            [sweep] = grid.sweeps()
            if words:
                with pytest.raises(nadgrid.DamagedPayload, match=words):
                    sweep.artifact("a.bin")
            else:
                assert sweep.artifact("a.bin") == sent
            # What this coordinator does not serve is no fault of the caller's.
            with pytest.raises(nadgrid.CoordinatorError, match=r"does not serve nadgrid\.v1"):
                grid.workers()
    finally:
        server.stop(None).wait()


class Shared(Careless):
    """A coordinator whose artifacts are in a shared store, at this address."""

    url = ""
    asked = 0

    def ReadArtifact(  # noqa: N802
        self, request: pb.ReadArtifactRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ReadArtifactResponse]:
        self.asked += 1
        if request.presigned:
            get = pb.PresignedRequest(method="GET", url=self.url, headers={"x-test": "yes"}, expires_in_ms=1000)
            yield pb.ReadArtifactResponse(artifact=self._sweep.artifacts[0], get=get)
        else:
            yield from super().ReadArtifact(request, context)


class _Store(http.server.BaseHTTPRequestHandler):
    content = b""

    def do_GET(self) -> None:
        assert self.headers["x-test"] == "yes"
        if self.path == "/elsewhere":
            self.send_response(307)
            self.send_header("Location", "/there")
            self.end_headers()
            return
        self.send_response(403 if self.path == "/expired" else 200)
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize(
    ("path", "content", "asked"),
    [
        ("/there", bytes(range(250)), 1),
        ("/there", bytes(range(249)), 2),
        ("/there", bytes(range(251)), 2),
        ("/expired", bytes(range(250)), 2),
        ("/elsewhere", bytes(range(250)), 2),
        (None, b"", 2),
    ],
)
def test_artifacts_come_from_a_shared_store_or_else_from_the_coordinator(
    path: str | None, content: bytes, asked: int
) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    shared = Shared(bytes(range(250)), bytes(range(250)))  # type: ignore[abstract]
    add_SweepServiceServicer_to_server(shared, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    handler = type("Handler", (_Store,), {"content": content})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as store:
        threading.Thread(target=store.serve_forever, daemon=True).start()
        shared.url = "ftp://127.0.0.1/there" if path is None else f"http://127.0.0.1:{store.server_port}{path}"
        try:
            with nadgrid.connect(f"127.0.0.1:{port}") as grid:
                [sweep] = grid.sweeps()
                assert sweep.artifact("a.bin") == bytes(range(250))
                assert shared.asked == asked
                # A store that failed once is not tried again.
                assert sweep.artifact("a.bin") == bytes(range(250))
                assert shared.asked == asked + 1
        finally:
            store.shutdown()
            server.stop(None).wait()


def test_names_do_not_lead_out_of_a_folder() -> None:
    assert plain_path("nads/lenet/nads.npy") == "nads/lenet/nads.npy"
    for name in ("", "/etc/passwd", "../x", "nads/../../x", ".nadgrid-1/x", "nads/.x", "a\\b", "a\nb"):
        with pytest.raises(nadgrid.CoordinatorError):
            plain_path(name)
