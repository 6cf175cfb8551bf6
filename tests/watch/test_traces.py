"""Traces and logs of sweeps, read back from a store of somebody else's."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import EXAMPLES, Cluster
from conftest import SPECS
from foreign_worker import FailingWorker, numerics_class
from services import eventually
from store import Span, Store

#: Which span is a part of which.
PARENTS = {
    "lease": "shard",
    "compute": "lease",
    "inputs": "compute",
    "block": "compute",
    "blocks": "compute",
    "upload": "lease",
    "UploadPartial": "upload",
    "Submit": "nadgrid submit",
    "submitted": "Submit",
}
KINDS = {
    "lease": "PRODUCER",
    "upload": "CLIENT",
    "UploadPartial": "SERVER",
    "nadgrid submit": "CLIENT",
    "Submit": "SERVER",
}
OF_WORKERS = {"compute", "inputs", "block", "blocks", "upload"}
#: Spans that are part of none.
ROOTS = {"shard", "sweep", "nadgrid submit"}

#: Steps of one shard that a worker tells of singly; then they are told of together.
MOST_STEPS = 48


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(tmp_path_factory.mktemp("store")) as store:
        yield store


def traced(store: Store, *arguments: str) -> Cluster:
    """A cluster of two workers that sends its spans to the store and logs JSON."""
    telemetry = ("--otlp", store.url, "--log-format", "json")
    cluster = Cluster(*telemetry, "--log", "nadgrid_coordinator=debug,info", *arguments)
    try:
        for name in ("one", "two"):
            cluster.add_worker("--name", name, "--slots", "1", *telemetry)
        cluster.wait_for_workers(2)
    except BaseException:
        cluster.close()
        raise
    return cluster


def of_sweep(spans: list[Span], links: dict[str, list[tuple[str, str]]], sweep: str) -> tuple[Span, list[Span]]:
    """The sweep's own span, and all spans of its shards' traces."""
    (whole,) = [span for span in spans if span.name == "sweep" and span.attributes["sweep.id"] == sweep]
    traces = {span.trace for span in spans if (whole.trace, whole.id) in links.get(span.id, [])}
    return whole, [span for span in spans if span.trace in traces]


def ended(sweep: str) -> Callable[[list[Span]], bool]:
    """Whether the sweep's own span is there, which comes last."""
    return lambda spans: any(span.name == "sweep" and span.attributes["sweep.id"] == sweep for span in spans)


def logged(log: Path) -> list[dict[str, Any]]:
    """Lines of a log, each a JSON object."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def traces_in(log: Path) -> set[str]:
    lines = logged(log)
    return {found for line in lines if (found := line.get("trace_id") or line.get("span", {}).get("trace_id"))}


def test_a_sweep_of_two_workers_is_told_whole(store: Store) -> None:
    with traced(store, "--target-shard-seconds", "0.5") as cluster:
        sweep = cluster.submit(SPECS / "all.toml")
        status = cluster.wait(sweep)
        worker_logs = [cluster.folder / f"worker-{number}.log" for number in (0, 1)]
        everything, links = store.settled(ended(sweep)), store.links()
        whole, spans = of_sweep(everything, links, sweep)
        by_id = {span.id: span for span in everything}
        assert len(by_id) == len(everything)

        # No orphan, and every parent is of the right kind, in the same trace.
        for span in everything:
            if span.parent is None:
                assert span.name in ROOTS, span
            else:
                parent = by_id.get(span.parent)
                assert parent is not None, f"an orphan: {span}"
                assert (parent.name, parent.trace) == (PARENTS[span.name], span.trace), span
        for span in spans:
            assert span.kind == KINDS.get(span.name, "INTERNAL"), span
            assert span.service == ("nadgrid-worker" if span.name in OF_WORKERS else "nadgrid-coordinator"), span
            assert span.error is None, span
        counts = Counter(span.name for span in spans)

        # Every network and every run is in a shard's trace, and each trace is of one shard.
        shards = [span for span in spans if span.name == "shard"]
        assert len({shard.trace for shard in shards}) == len(shards) > 4
        members = Counter[str]()
        for shard in shards:
            assert shard.attributes["outcome"] == "committed"
            assert shard.attributes["sweep.id"] == sweep
            assert links[shard.id] == [(whole.trace, whole.id)]
            members[shard.attributes["job"]] += shard.attributes["members"]
        assert members == {"nads/lenet": 1024, "directional/lenet": 12}
        assert sum(members.values()) == sum(int(job["members"]) for job in status["jobs"])
        assert whole.attributes["outcome"] == "complete"
        assert whole.attributes["sweep.name"] == "watched"

        # Under each shard its leases, under these what the worker did, block by block.
        children: dict[str, list[Span]] = {}
        for span in spans:
            children.setdefault(span.parent or "", []).append(span)
        for shard in shards:
            leases = children[shard.id]
            committed = [lease for lease in leases if lease.attributes["outcome"] == "committed"]
            assert len(committed) == 1, shard
            below = Counter(span.name for span in children[committed[0].id])
            assert below["compute"] == 1
            (compute,) = [span for span in children[committed[0].id] if span.name == "compute"]
            blocks = [span for span in children[compute.id] if span.name == "block"]
            assert len(blocks) == shard.attributes["blocks"] < MOST_STEPS
            # What fits into the session's messages is not uploaded.
            assert below["upload"] == (1 if shard.attributes["job"] == "nads/lenet" else 0)
            assert shard.begin <= committed[0].begin <= compute.begin
            assert committed[0].end <= shard.end
            assert all(compute.begin <= block.begin <= block.end <= compute.end + 1e-5 for block in blocks)
        assert counts["upload"] == counts["UploadPartial"] > 0

        # Two workers, each of which says the same of itself as the coordinator says of it.
        processes = {
            (by_id[span.parent or ""].attributes["worker.name"], span.instance)
            for span in spans
            if span.name == "compute"
        }
        assert {name for name, _ in processes} == {"one", "two"}
        assert len(processes) == 2

        # Logs carry the traces that are in the store.
        traces = {shard.trace for shard in shards}
        assert set.union(*map(traces_in, worker_logs)) == traces
        leased = [line for line in logged(cluster.folder / "coordinator.log") if line.get("message") == "leased"]
        assert {line["trace_id"] for line in leased} == traces

        # The store's own interface tells the same of one of them.
        told = store.trace(shards[0].trace)
        assert {span["span_id"] for span in told} == {span.id for span in spans if span.trace == shards[0].trace}


def test_a_failure_is_told_where_it_was(store: Store) -> None:
    with traced(store, "--attempts", "1") as cluster:
        numerics = numerics_class(cluster)
        while cluster.workers:
            cluster.workers.pop().stop()
        sweep = cluster.submit("lenet.toml", "nads.networks=32", "nads.block_size=32")
        with FailingWorker(cluster, numerics, "out of luck") as worker:
            worker.fail(1)
        cluster.wait(sweep, lambda status: status["state"] == "incomplete")
        whole, spans = of_sweep(store.settled(ended(sweep)), store.links(), sweep)
        assert whole.attributes["outcome"] == "incomplete"
        assert "out of luck" in (whole.error or "")
        (shard,) = [span for span in spans if span.name == "shard"]
        (lease,) = [span for span in spans if span.name == "lease"]
        assert (lease.parent, lease.attributes["worker.name"]) == (shard.id, "foreign")
        assert (lease.attributes["outcome"], shard.attributes["outcome"]) == ("failed", "failed")
        assert lease.error == "out of luck"
        # The log's line of it leads here.
        log = logged(cluster.folder / "coordinator.log")
        (line,) = [line for line in log if "out of luck" in line.values() and "trace_id" in line]
        assert line["trace_id"] == shard.trace


def test_a_submission_leads_to_its_sweep(store: Store) -> None:
    with traced(store) as cluster:
        sweep = cluster.nadgrid("--otlp", store.url, "submit", EXAMPLES / "lenet.toml", "--set", "nads.networks=64")
        cluster.wait(sweep)

        def arrived(spans: list[Span]) -> bool:
            names = {span.name for span in spans if span.attributes.get("sweep.id") == sweep}
            return {"sweep", "submitted", "shard"} <= names

        spans, links = store.settled(arrived), store.links()
        by_id = {span.id: span for span in spans}
        (whole,) = [span for span in spans if span.name == "sweep" and span.attributes["sweep.id"] == sweep]
        (submitted,) = [span for span in spans if span.name == "submitted" and span.attributes["sweep.id"] == sweep]
        assert links[submitted.id] == [(whole.trace, whole.id)]
        submit = by_id[submitted.parent or ""]
        typed = by_id[submit.parent or ""]
        assert (submit.name, submit.kind, submit.service) == ("Submit", "SERVER", "nadgrid-coordinator")
        assert (typed.name, typed.kind, typed.service, typed.parent) == ("nadgrid submit", "CLIENT", "nadgrid", None)
        assert {submitted.trace, submit.trace} == {typed.trace} != {whole.trace}
        assert typed.begin <= submit.begin <= submitted.begin
        assert submit.end <= typed.end
        (line,) = [line for line in logged(cluster.folder / "coordinator.log") if line.get("message") == "submitted"]
        assert (line["trace_id"], line["sweep"]) == (typed.trace, sweep)


def test_a_coordinator_that_crashes_goes_on_with_the_same_traces(store: Store) -> None:
    with traced(store, "--target-shard-seconds", "2") as cluster:
        sweep = cluster.submit("lenet.toml", "nads.networks=4096", "nads.block_size=8")
        # Some of what the first coordinator had to tell has arrived.
        told = lambda: [s for s in store.spans() if s.name == "shard" and s.attributes["sweep.id"] == sweep]  # noqa: E731
        eventually(told, "shards of the first coordinator")
        assert cluster.status(sweep)["state"] == "running"
        crashed = time.time()
        cluster.crash_coordinator()
        cluster.wait(sweep)
        everything = store.settled(ended(sweep))
        by_id = {span.id: span for span in everything}
        _, spans = of_sweep(everything, store.links(), sweep)

        # Shards that were computed when it crashed have a lease whose span the new coordinator sent: its id comes from names.
        across = [span for span in everything if span.name == "compute" and span.begin < crashed < span.end]
        assert across, "no shard was under way"
        for span in across:
            lease = by_id[span.parent or ""]
            assert lease.name == "lease"
            assert by_id[lease.parent or ""].name == "shard"
        assert len({span.instance for span in spans if span.name == "lease"}) == 2, "both coordinators told of leases"

        # A coordinator sends every second. What ended within the last one before the crash died with it:
        # shards that were committed, with their leases. What their workers sent of these is without a parent; nothing else is.
        orphans = [span for span in everything if span.parent is not None and span.parent not in by_id]
        for span in orphans:
            trace = [other for other in everything if other.trace == span.trace]
            assert not any(other.name in ("shard", "lease") for other in trace), f"only a part is lost: {trace}"
            assert span.name in ("compute", "upload"), span
            computed = [other.end for other in trace if other.name == "compute"]
            assert all(crashed - 5 < end < crashed for end in computed), f"lost at another time: {trace}"
        assert len({span.trace for span in orphans}) < len({span.trace for span in spans}) / 2


def test_without_a_sample_nothing_is_sent(store: Store) -> None:
    with traced(store, "--trace-sample", "0", "--target-shard-seconds", "0.5") as cluster:
        sweep = cluster.submit("lenet.toml", "nads.networks=64")
        cluster.wait(sweep)
        time.sleep(3)
        assert not [span for span in store.spans() if span.attributes.get("sweep.id") == sweep]
        # What the workers would have sent is of these traces, which they log all the same.
        traces = set.union(*(traces_in(cluster.folder / f"worker-{number}.log") for number in (0, 1)))
        assert traces
        assert not traces & {span.trace for span in store.spans()}


def test_a_store_that_is_away_costs_spans_alone() -> None:
    telemetry = ("--otlp", "http://127.0.0.1:1")
    with Cluster(*telemetry) as cluster:
        cluster.add_worker(*telemetry)
        cluster.wait_for_workers(1)
        traced = cluster.wait(cluster.submit("lenet.toml", "nads.networks=64"))
    with Cluster() as cluster:
        cluster.add_worker()
        plain = cluster.wait(cluster.submit("lenet.toml", "nads.networks=64"))
    assert traced["jobs"][0]["digest"] == plain["jobs"][0]["digest"]
