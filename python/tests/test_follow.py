"""Following, steering and ending of sweeps, through restarts of their coordinator."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from cluster import Cluster
from conftest import NADS, QUEUED
from foreign_worker import FailingWorker, numerics_class

import nadgrid
from nadgrid.v1 import nadgrid_pb2 as pb


def test_waiting_ends_with_the_sweep(grid: nadgrid.Client) -> None:
    sweep = grid.submit(NADS)
    assert sweep.wait(timeout=60) is sweep
    assert sweep.state == "complete"
    assert sweep.state is nadgrid.State.COMPLETE
    assert sweep.state.has_ended
    assert len(sweep.digest) == 64
    [job] = sweep.jobs
    assert (job.name, job.state, job.members, job.members_done, job.dimension) == (
        "nads/lenet",
        "complete",
        64,
        64,
        256,
    )
    moments = [moment for moment in (sweep.submitted_at, sweep.started_at, sweep.ended_at) if moment is not None]
    assert len(moments) == 3
    assert moments == sorted(moments)
    assert moments[0].tzinfo is not None
    # What has ended is told without the coordinator.
    assert sweep.wait(timeout=60).digest == grid.sweep(sweep.id).digest


def test_a_bar_for_each_job(grid: nadgrid.Client, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = grid.submit({**NADS, "architectures": ["lenet", "logreg"]})
    assert sweep.follow(timeout=60) == "complete"
    shown = capsys.readouterr().err
    for words in ("nads/lenet: 100%", "nads/logreg: 100%", "whole: 100%", "64/64 networks", "complete"):
        assert words in shown
    assert (sweep.progress, sweep.seconds_left, sweep.notices) == (1.0, None, ())
    assert [(job.progress, job.seconds_left) for job in sweep.jobs] == [(1.0, None)] * 2
    assert sweep.wait(progress=True).state == "complete"


def test_what_takes_too_long_is_no_longer_waited_for() -> None:
    # Without a worker nothing is computed before the pause.
    with Cluster() as cluster, nadgrid.connect(cluster.url) as grid:
        sweep = grid.submit(NADS, priority=-100)
        sweep.pause()
        cluster.add_worker()
        assert sweep.paused
        assert (sweep.progress, sweep.seconds_left) == (0.0, None)
        assert any("paused" in notice for notice in sweep.notices)
        with pytest.raises(nadgrid.TimedOut, match=r"after 0\.5 s") as error:
            sweep.wait(timeout=0.5)
        assert isinstance(error.value, TimeoutError)
        with pytest.raises(nadgrid.SweepUnfinished, match="there are results once it is complete") as unfinished:
            sweep.results()
        assert unfinished.value.sweep is sweep
        assert any("paused" in reason for reason in sweep.explain("nads/lenet", 3).reasons)
        sweep.resume()
        assert not sweep.paused
        assert sweep.wait(timeout=60).state == "complete"
        assert grid.explain(sweep.id).state == "complete"


def test_a_cancelled_sweep_has_no_result(grid: nadgrid.Client) -> None:
    sweep = grid.submit(QUEUED)
    sweep.cancel()
    sweep.cancel()
    assert sweep.follow() == "cancelled"
    for call in (sweep.wait, sweep.results):
        with pytest.raises(nadgrid.SweepCancelled, match="was cancelled") as error:
            call()
        assert error.value.sweep is sweep


def test_what_is_not_there_is_not_found(grid: nadgrid.Client, sweep: nadgrid.Sweep) -> None:
    with pytest.raises(nadgrid.NotFound) as error:
        grid.sweep("no-such-sweep")
    assert error.value.reason == "SWEEP_UNKNOWN"
    assert isinstance(error.value, LookupError)
    with pytest.raises(nadgrid.RequestError, match="there are nads/lenet, directional/lenet") as job:
        sweep.explain("nads/vgg11")
    assert job.value.field == "job"
    with pytest.raises(nadgrid.RequestError) as place:
        sweep.explain(7)
    assert place.value.reason == "REQUEST_INVALID"
    with pytest.raises(nadgrid.RequestError) as block:
        sweep.explain(block=-1)
    assert block.value.field == "block"
    with pytest.raises(nadgrid.RequestError):
        sweep.verify(0)


def test_blocks_are_computed_again_and_compared(grid: nadgrid.Client, sweep: nadgrid.Sweep) -> None:
    checks = grid.verify(sweep, sample=3, seed=5)
    assert len(checks) >= 1
    for check in checks:
        assert check.agrees, check.message
        assert check.committed == check.recomputed
        assert check.job in ("nads/lenet", "directional/lenet")
    assert list(checks.frame()["agrees"]) == [True] * len(checks)
    again = grid.verify(sweep.id, sample=3, seed=5)
    # They come as they are computed.
    assert sorted((c.job, c.first_block) for c in again) == sorted((c.job, c.first_block) for c in checks)


def test_lists_are_newest_first_and_as_long_as_wanted(grid: nadgrid.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = [grid.submit({**NADS, "name": f"list-{n}"}) for n in range(5)]
    # More than a page.
    monkeypatch.setattr("nadgrid.client._PAGE", 2)
    assert list(grid.sweeps(5)) == mine[::-1]
    assert list(grid.sweeps(3)) == mine[:1:-1]
    assert list(grid.sweeps(3).frame()["name"]) == ["list-4", "list-3", "list-2"]
    [worker] = grid.workers()
    assert (worker.device, worker.connected, worker.unfit) == ("cpu", True, "")
    assert worker.name in str(grid.workers())


def test_a_wait_survives_a_crash_of_the_coordinator(capsys: pytest.CaptureFixture[str]) -> None:
    with Cluster(workers=1) as cluster, nadgrid.connect(cluster.url) as grid:
        undisturbed = grid.submit(NADS).wait(timeout=60).digest
        cluster.workers.pop().stop()
        # Of the same numbers, which nobody computes before the crash.
        sweep = grid.submit({**NADS, "audit": 0.0})
        outcome: list[Any] = []

        def wait() -> None:
            try:
                outcome.append(grid.sweep(sweep.id).wait(progress=True, timeout=120).digest)
            except BaseException as error:
                outcome.append(error)

        shown = ""
        waiting = threading.Thread(target=wait)
        waiting.start()
        shown = until_shown(capsys, "nads/lenet:", shown)
        cluster.crash_coordinator(restart=False)
        shown = until_shown(capsys, "the coordinator is away, trying again", shown)
        cluster.start_coordinator()
        cluster.add_worker()
        waiting.join()
        assert outcome == [undisturbed]
        # The connection that broke is used again.
        assert sweep.state == "complete"


def until_shown(capsys: pytest.CaptureFixture[str], words: str, shown: str) -> str:
    """What is shown, once these words are."""
    for _ in range(1200):
        shown += capsys.readouterr().err
        if words in shown:
            return shown
        time.sleep(0.05)
    raise AssertionError(f"{words!r} is not shown: {shown!r}")


def test_patience_ends() -> None:
    with Cluster() as cluster, nadgrid.connect(cluster.url) as grid:
        sweep = grid.submit(NADS)
        jobs = sweep.watch(patience=0.6)
        assert [job.name for job in next(jobs)] == ["nads/lenet"]
        cluster.stop_coordinator()
        with pytest.raises(nadgrid.Unreachable):
            list(jobs)
        with pytest.raises(nadgrid.Unreachable):
            print(sweep.state)
        # What was known is shown all the same, and why it may be old.
        assert "queued" in sweep._repr_html_()
        assert "cannot be reached" in sweep._repr_html_()


def test_a_sweep_that_fails_in_part_and_one_that_fails() -> None:
    message = "<script>alert('5 > 3')</script>"
    with Cluster("--attempts", "1", workers=1) as cluster, nadgrid.connect(cluster.url) as grid:
        cluster.wait_for_workers(1)
        numerics = numerics_class(cluster)
        cluster.workers.pop().stop()
        both = {**NADS, "architectures": ["lenet", "logreg"], "nads": {"networks": 8, "block_size": 8}}
        sweep = grid.submit(both)
        with FailingWorker(cluster, numerics, message) as worker:
            worker.fail(1)
        cluster.add_worker()
        with pytest.raises(nadgrid.SweepIncomplete) as error:
            sweep.wait(timeout=60)
        assert error.value.sweep is sweep
        [failure] = sweep.failures
        assert (failure.job, failure.first_block, failure.workers) == ("nads/lenet", 0, ("foreign",))
        assert message in failure.message
        assert [job.state for job in sweep.jobs] == ["incomplete", "complete"]
        with pytest.raises(nadgrid.SweepIncomplete):
            sweep.results()
        part = sweep.results(partial=True)
        assert part.jobs == ("nads/logreg",)
        assert part.nads["logreg"].nads.shape == (7, 256)
        for shown in (sweep._repr_html_(), sweep.failures._repr_html_(), sweep.explain(0, 0)._repr_html_()):
            assert "<script" not in shown
        assert "&lt;script&gt;alert(&#x27;5 &gt; 3&#x27;)" in sweep.failures._repr_html_()

        cluster.workers.pop().stop()
        sweep = grid.submit(both)
        with FailingWorker(cluster, numerics, "no such layer", pb.FAILURE_KIND_SPEC) as worker:
            worker.fail(1)
        with pytest.raises(nadgrid.SweepFailed, match=r"failed: .*no such layer"):
            sweep.wait(timeout=60)
