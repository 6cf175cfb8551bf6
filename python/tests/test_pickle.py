"""Results travel: to another process, and into a file for another day."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cluster import Cluster
from conftest import NADS

import nadgrid


def travelled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def test_results_are_whole_without_their_coordinator() -> None:
    with Cluster(workers=1) as cluster, nadgrid.connect(cluster.url) as grid:
        results = grid.submit({**NADS, "directional": ALONG}).wait(timeout=60).results()
        expected, runs = results.nads["lenet"].nads, results.runs()
        pickled = pickle.dumps(results)
    again = pickle.loads(pickled)
    assert (again.spec, again.artifacts, again.jobs, repr(again)) == (
        results.spec,
        results.artifacts,
        results.jobs,
        repr(results),
    )
    assert np.array_equal(again.nads["lenet"].nads, expected)
    pd.testing.assert_frame_equal(again.runs(), runs)
    assert again.pictures == ()
    with pytest.raises(nadgrid.NotFound, match="results that were pickled bring no pictures"):
        again.picture("nads/lenet/figure")
    # And on.
    assert travelled(again).artifact("nads/lenet/mean.npy") == again.artifact("nads/lenet/mean.npy")


ALONG = {"directions": {"kind": "random", "count": 1}, "train_samples": 100, "training": {"epochs": 1}}


def test_what_results_give_travels_too(sweep: nadgrid.Sweep, grid: nadgrid.Client) -> None:
    results = sweep.results()
    nads = results.nads["lenet"]
    again = travelled(nads)
    for name in ("nads", "nad_images", "eigenvalues", "singular_values", "standard_errors", "mean"):
        assert getattr(again, name).tobytes() == getattr(nads, name).tobytes()
    assert again.spectrum == nads.spectrum
    assert travelled(results.nads)["lenet"].shape == nads.shape
    assert travelled(sweep.jobs) == sweep.jobs
    assert travelled(grid.workers())[0].name == grid.workers()[0].name
    picture = results.picture("directional/curve")
    assert travelled(picture) == picture


def test_no_token_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    with Cluster(workers=1, tokens=["ada"]) as cluster:
        token = cluster.token("ada").read_text().strip()
        with nadgrid.connect(cluster.url, token=token) as grid:
            sweep = grid.submit(NADS).wait(timeout=60)
            for value in (sweep, sweep.results(), sweep.results().nads["lenet"]):
                assert token.encode() not in pickle.dumps(value)


def test_a_sweep_and_its_errors_tell_what_was_known(grid: nadgrid.Client, sweep: nadgrid.Sweep) -> None:
    again = travelled(sweep)
    assert (again, again.digest, again.jobs) == (sweep, sweep.digest, sweep.jobs)
    for call in (again.results, again.cancel, lambda: again.artifact("nads/lenet/mean.npy")):
        with pytest.raises(nadgrid.SettingsError, match="came from another process"):
            call()
    cancelled = grid.submit({**NADS, "precision": "bf16"})
    with pytest.raises(nadgrid.SweepUnfinished) as unfinished:
        cancelled.results()
    cancelled.cancel()
    with pytest.raises(nadgrid.SweepCancelled) as ended:
        cancelled.results()
    for error in (unfinished.value, ended.value):
        copy = travelled(error)
        assert (type(copy), str(copy), copy.sweep) == (type(error), str(error), cancelled)
