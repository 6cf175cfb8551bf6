#!/usr/bin/env python3
"""What tracing costs: the LeNet demo's sweep with and without a collector, in turns in one run.

    python tests/watch/overhead.py [--pairs 8] [--networks 2048] [--target-shard-seconds 20]

Each sweep runs on a cluster of one worker with all cores, started once with and once without `--otlp`; the collector is a real one
(store.py) on the same machine, so what it takes of the processor counts as well. A pair is one sweep of each, the first of them
alternating; its ratio is time with tracing over time without. Times are the coordinator's, from submission to result. Programs are
those of target/release, else of NADGRID_BIN_DIR; it says which.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

from cluster import EXAMPLES, REPOSITORY, Cluster, program  # noqa: E402
from store import Store  # noqa: E402


def start(target: str, *telemetry: str) -> Cluster:
    cluster = Cluster("--target-shard-seconds", target, *telemetry)
    cluster.add_worker(*telemetry)
    cluster.wait_for_workers(1)
    return cluster


def seconds(cluster: Cluster, networks: int, seed: int) -> tuple[float, str]:
    """How long a sweep took, and what it yielded."""
    sweep = cluster.nadgrid(
        "submit", EXAMPLES / "lenet.toml", "--set", f"nads.networks={networks}", "--set", f"seed={seed}"
    )
    # Asked for its stream, not again and again: looking takes time too.
    cluster.nadgrid("watch", sweep)
    status = cluster.status(sweep)
    begin, end = (datetime.fromisoformat(status[key].replace("Z", "+00:00")) for key in ("submitted_at", "ended_at"))
    return (end - begin).total_seconds(), status["jobs"][0]["digest"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--networks", type=int, default=2048)
    parser.add_argument("--target-shard-seconds", default="20")
    arguments = parser.parse_args()
    release = REPOSITORY / "target" / "release"
    if (release / "nadgrid-worker").is_file():
        os.environ["NADGRID_BIN_DIR"] = str(release)
    print(f"programs: {program('nadgrid').parent}")
    with (
        tempfile.TemporaryDirectory() as folder,
        Store(Path(folder)) as store,
        start(arguments.target_shard_seconds) as plain,
        start(arguments.target_shard_seconds, "--otlp", store.url) as traced,
    ):
        clusters = {"without": plain, "with": traced}
        # The first sweep of each tells its worker's rate, which sizes the shards of the others.
        for cluster in clusters.values():
            seconds(cluster, arguments.networks, 0)
        ratios = []
        for pair in range(arguments.pairs):
            order = ["without", "with"] if pair % 2 == 0 else ["with", "without"]
            took = {name: seconds(clusters[name], arguments.networks, pair) for name in order}
            assert took["with"][1] == took["without"][1], "tracing changed a result"
            ratios.append(took["with"][0] / took["without"][0])
            print(
                f"pair {pair + 1}: without {took['without'][0]:.3f} s, with {took['with'][0]:.3f} s, ratio {ratios[-1]:.4f}",
                flush=True,
            )
        spans = len(store.spans())
    middle = statistics.median(ratios)
    spread = statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else float("nan")
    print(
        f"ratio: median {middle:.4f}, mean {statistics.mean(ratios):.4f} +- {spread:.4f} (standard error), "
        f"{min(ratios):.4f} to {max(ratios):.4f}, {len(ratios)} pairs, {spans} spans stored"
    )


if __name__ == "__main__":
    main()
