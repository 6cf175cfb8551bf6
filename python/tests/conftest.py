"""One cluster with a worker for the tests that only use it; others start their own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from cluster import Cluster, clusters

# The hook shows the clusters' logs with a failure.
from cluster import pytest_runtest_makereport as pytest_runtest_makereport

import nadgrid

#: Takes a moment.
NADS = {
    "name": "small",
    "architectures": ["lenet"],
    "input": {"height": 16, "width": 16},
    "nads": {"networks": 64, "block_size": 8},
}
#: Stays queued: CPUs compute fp32 alone.
QUEUED = {**NADS, "name": "queued", "precision": "bf16"}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests say themselves what a client is told."""
    for name in [name for name in os.environ if name.startswith("NADGRID_") and name != "NADGRID_BIN_DIR"]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    yield from clusters(workers=1)


@pytest.fixture
def grid(cluster: Cluster) -> Iterator[nadgrid.Client]:
    with nadgrid.connect(cluster.url) as client:
        yield client


@pytest.fixture(scope="session")
def sweep(cluster: Cluster) -> Iterator[nadgrid.Sweep]:
    """A complete sweep of NADs, and of runs along the first of them."""
    spec = {
        **NADS,
        "directional": {
            "directions": {"kind": "nads", "indices": [0, 20]},
            "seeds": 2,
            "train_samples": 300,
            "test_samples": 200,
            "training": {"epochs": 2},
            "block_size": 1,
        },
    }
    with nadgrid.connect(cluster.url) as client:
        yield client.submit(spec).wait(timeout=120)
