"""A cluster whose sweep is watched by a Prometheus."""

from __future__ import annotations

import subprocess
import time
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster import Cluster

# The hook shows the clusters' logs with a failure.
from cluster import pytest_runtest_makereport as pytest_runtest_makereport
from services import Prometheus, eventually, read

SPECS = Path(__file__).parent / "specs"


@dataclass
class Run:
    """A sweep that went well, and what Prometheus has seen of it."""

    prometheus: Prometheus
    cluster: Cluster
    sweep: str
    start: float
    end: float
    #: What the coordinator said at the end.
    text: str

    @property
    def seconds(self) -> float:
        return self.end - self.start


@pytest.fixture(scope="session")
def run() -> Iterator[Run]:
    with Cluster("--target-shard-seconds", "0.5", tokens=True) as cluster:
        cluster.add_worker("--name", "one", "--slots", "1")
        cluster.add_worker("--name", "two", "--slots", "1")
        cluster.wait_for_workers(2)
        admin = cluster.token("tests")
        with Prometheus(cluster.folder, cluster.address, admin) as prometheus:
            # Counters are seen before anything is counted.
            eventually(lambda: prometheus.query("nadgrid_build_info"), "the first scrape")
            start = time.time()
            sweep = cluster.submit(SPECS / "all.toml")
            # One refusal, so that there is one to show.
            with pytest.raises(urllib.error.HTTPError, match="401"):
                read(cluster.url + "/metrics")
            cluster.wait(sweep)
            done = "sum(nadgrid_sweeps_ended_total) == 1 and sum(nadgrid_sweep_complete) == 2"
            eventually(lambda: prometheus.query(done), "a scrape after the end")
            headers = {"authorization": f"Bearer {admin.read_text().strip()}"}
            text = read(cluster.url + "/metrics", headers)
            # A second more, for the last scrape to be within.
            yield Run(prometheus, cluster, sweep, start, time.time() + 1, text)


def command(*words: str | Path, text: str | None = None) -> str:
    """Runs a program, which must succeed; what it said."""
    done = subprocess.run([*map(str, words)], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
