#!/usr/bin/env python3
"""What tracing costs: the LeNet demo's sweep with and without a collector, in turns in one run.

    python tests/watch/overhead.py [--pairs 8] [--networks 2048] [--target-shard-seconds 20]

Each sweep runs on a new cluster of one worker with all cores, started with or without `--otlp`; the collector is a real one
(store.py) on the same machine, so what it takes of the processor counts as well. A pair is one sweep of each, the first of them
alternating; its ratio is time with tracing over time without. Times are the coordinator's, from submission to result, and the
processor's, which say more on a machine that others use. Programs are those of target/release, else of NADGRID_BIN_DIR; it
says which.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Took:
    """One sweep's cost, and what it yielded."""

    wall: float
    processor: float
    digest: str


def processor(cluster: Cluster) -> float:
    """Seconds of processor time that the cluster's programs have used."""
    ticks = 0
    for process in (cluster.coordinator, *cluster.workers):
        # What follows the program's name, which is in brackets: state, ..., utime and stime as the 12th and 13th.
        words = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(words[11]) + int(words[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def sweep(cluster: Cluster, networks: int, seed: int) -> Took:
    before = processor(cluster)
    changes = ("--set", f"nads.networks={networks}", "--set", f"seed={seed}")
    sweep = cluster.nadgrid("submit", EXAMPLES / "lenet.toml", *changes)
    # Followed by its stream, not asked again and again: answers take time too.
    cluster.nadgrid("watch", sweep)
    status = cluster.status(sweep)
    begin, end = (datetime.fromisoformat(status[key].replace("Z", "+00:00")) for key in ("submitted_at", "ended_at"))
    return Took((end - begin).total_seconds(), processor(cluster) - before, status["jobs"][0]["digest"])


def told(what: str, ratios: list[float]) -> str:
    error = statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else float("nan")
    middle, mean = statistics.median(ratios), statistics.mean(ratios)
    return (
        f"{what}: with / without = {middle:.4f} (median of {len(ratios)} pairs), mean {mean:.4f} +- {error:.4f} (standard error), "
        f"{min(ratios):.4f} to {max(ratios):.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What tracing costs the LeNet demo.")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--networks", type=int, default=2048)
    parser.add_argument("--target-shard-seconds", default="20")
    arguments = parser.parse_args()
    release = REPOSITORY / "target" / "release"
    if (release / "nadgrid-worker").is_file():
        os.environ["NADGRID_BIN_DIR"] = str(release)
    print(f"programs: {program('nadgrid').parent}")
    wall, busy = [], []
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)) as store:
        for pair in range(arguments.pairs):
            # New programs for each pair: two processes differ by a percent for as long as they live, in how their memory lies.
            with (
                start(arguments.target_shard_seconds) as plain,
                start(arguments.target_shard_seconds, "--otlp", store.url) as traced,
            ):
                clusters = {"without": plain, "with": traced}
                order = ["without", "with"] if pair % 2 == 0 else ["with", "without"]
                # A first sweep tells the worker's rate, which sizes the shards of the second.
                for name in order:
                    sweep(clusters[name], 256, 0)
                took = {name: sweep(clusters[name], arguments.networks, pair) for name in order}
            one, other = took["without"], took["with"]
            assert one.digest == other.digest, "tracing changed a result"
            wall.append(other.wall / one.wall)
            busy.append(other.processor / one.processor)
            print(
                f"pair {pair + 1}: {one.wall:.3f} s without, {other.wall:.3f} s with, ratio {wall[-1]:.4f}; "
                f"processor {one.processor:.2f} s, {other.processor:.2f} s, ratio {busy[-1]:.4f}",
                flush=True,
            )
        spans = len(store.spans())
    print(told("seconds", wall))
    print(told("processor seconds of coordinator and worker", busy))
    print(f"{spans} spans stored")


if __name__ == "__main__":
    main()
