"""A coordinator that lies, in streams: they are begun ever less often, and end with Ctrl-C or by themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import nadgrid
import pytest
from nadgrid.v1 import nadgrid_pb2 as v1

from lying_coordinator import SWEEP, LyingCoordinator, job, sweep_of
from victims import PAINT, always, ask, tree


def test_a_watch_that_ends_at_once_is_begun_ever_less_often() -> None:
    running = sweep_of({}, state=v1.SWEEP_STATE_RUNNING)

    def in_a_notebook(coordinator: LyingCoordinator) -> None:
        with nadgrid.connect(coordinator.url) as grid:
            [sweep] = grid.sweeps()
            sweep._message.state = v1.SWEEP_STATE_RUNNING
            with pytest.raises(nadgrid.TimedOut):
                sweep.wait(timeout=2.5)

    with ExitStack() as stack:
        coordinators = [
            stack.enter_context(LyingCoordinator(Watch=always(answer))) for answer in ([running], [], [running])
        ]
        says, ends, noted = coordinators
        with ThreadPoolExecutor() as pool:
            watched = [pool.submit(ask, coordinator, "watch", SWEEP, interrupt=2.5) for coordinator in (says, ends)]
            pool.submit(in_a_notebook, noted).result()
        for told in watched:
            told.result().check(130)
        for coordinator in coordinators:
            # 0.25, 0.5, 1 and 2 s lie between them.
            assert 3 <= len(coordinator.times("Watch")) <= 5


def test_a_watch_that_says_nothing_or_too_much_ends_with_ctrl_c(tmp_path: Path) -> None:
    def silent(_: Any, context: grpc.ServicerContext) -> Iterator[v1.Sweep]:
        while context.is_active():
            time.sleep(0.05)
        yield from ()

    def flood(_: Any, context: grpc.ServicerContext) -> Iterator[v1.Sweep]:
        for count in range(1 << 40):
            yield sweep_of(
                {}, state=v1.SWEEP_STATE_RUNNING, jobs=[job(members_done=count % 64)], notices=[f"{count}{PAINT}"]
            )

    with (
        LyingCoordinator(Watch=silent) as says_nothing,
        LyingCoordinator(Watch=flood) as says_too_much,
        LyingCoordinator(ReadArtifact=silent, UploadInput=silent) as sends_nothing,
    ):
        ask(sends_nothing, "watch", SWEEP).check(0)
        # At the same time: they wait for Ctrl-C.
        with ThreadPoolExecutor() as pool:
            told = [pool.submit(ask, of, "watch", SWEEP, interrupt=3.0) for of in (says_nothing, says_too_much)]
            fetch = ("fetch", SWEEP, "--out", tmp_path / "none")
            told.append(pool.submit(ask, sends_nothing, *fetch, interrupt=2.0))
        for each in told:
            each.result().check(130)
    assert tree(tmp_path) == {}


def test_checks_without_end_end() -> None:
    shard = v1.Shard(sweep_id=SWEEP, blocks=1)

    def flood(_: Any, __: grpc.ServicerContext) -> Iterator[v1.VerifyResponse]:
        while True:
            yield v1.VerifyResponse(total=2, done=1, shard=shard, agrees=True)

    def repeat(_: Any, __: grpc.ServicerContext) -> Iterator[v1.VerifyResponse]:
        while True:
            yield v1.VerifyResponse(total=2)

    for lie in (flood, repeat):
        with LyingCoordinator(Verify=lie) as coordinator:
            ask(coordinator, "verify", SWEEP).check(1, "more shards were reported than the 2 announced")
