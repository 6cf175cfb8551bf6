"""Alerts: silent while all is well, and heard when something is wrong."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from cluster import REPOSITORY, Cluster
from conftest import SPECS, Run, command
from foreign_worker import FailingWorker, numerics_class
from services import ALERTS, DEPLOY, Prometheus, eventually, executable

NAMES = re.findall(r"alert: (\w+)", ALERTS.read_text())


def promtool() -> str:
    return executable("promtool", "prometheus")


def test_rules_and_configuration_are_well_formed() -> None:
    command(promtool(), "check", "rules", ALERTS)
    command(promtool(), "check", "config", DEPLOY / "prometheus" / "prometheus.yml")


def test_variants_of_the_configuration_are_well_formed(tmp_path: object) -> None:
    """With a token and TLS, as the comments have them."""
    config = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    # Lines that would be configuration without their signs: a key and a colon, at most two signs before it.
    whole = re.sub(r"^    # ( *)(?:# )?(\w+:(?: \S+)?)$", r"    \1\2", config, flags=re.MULTILINE)
    assert all(
        f"\n{key}" in whole
        for key in ("    authorization:", "    scheme: https", "    tls_config:", "      cert_file:")
    )
    path = DEPLOY.joinpath(str(tmp_path), "prometheus.yml")
    # Whether the files exist is somebody else's question: they would have to lie where the comments say.
    names = sorted(set(re.findall(r"/etc/prometheus/[\w.-]+", whole)))
    assert len(names) == 4
    for name in names:
        there = path.parent / name.rsplit("/", 1)[1]
        there.write_text("")
        whole = whole.replace(name, str(there))
    path.write_text(whole.replace("alerts.yml", str(ALERTS)))
    said = command(promtool(), "check", "config", "--syntax-only", path)
    assert "SUCCESS" in said


def certified(folder: Path, name: str, by: str | None = None) -> tuple[Path, Path]:
    """A new certificate for 127.0.0.1 and its key, signed by another of the folder or, as an authority, by itself."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    words: list[str | Path] = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-days", "2", "-subj", f"/CN={name}", "-keyout", key, "-out", certificate]
    if by is not None:
        words += ["-CA", folder / f"{by}.pem", "-CAkey", folder / f"{by}.key"]
        words += ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
    command(executable("openssl", "openssl"), *words)
    return certificate, key


def test_a_coordinator_with_tls_is_watched(tmp_path: Path) -> None:
    """With mutual TLS and a token, by what the comments of the configuration say."""
    ca, _ = certified(tmp_path, "ca")
    certificate, key = certified(tmp_path, "grid", by="ca")
    own, own_key = certified(tmp_path, "prometheus", by="ca")
    arguments = ("--tls-certificate", certificate, "--tls-key", key, "--tls-client-ca", ca)
    with Cluster(*arguments, tokens=True) as cluster:
        tls = {"ca_file": ca, "cert_file": own, "key_file": own_key}
        with Prometheus(cluster.folder, cluster.address, cluster.token("tests"), tls) as prometheus:
            (version,) = eventually(partial(prometheus.query, "nadgrid_build_info"), "a scrape")
            assert version["metric"]["instance"] == cluster.address


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    tests = REPOSITORY / "tests" / "watch" / "alerts_test.yml"
    assert {name for name in NAMES if name not in tests.read_text()} == set(), "tried by no test"
    command(promtool(), "test", "rules", tests)


def test_each_alert_says_what_to_do() -> None:
    guide = (REPOSITORY / "docs" / "operations.md").read_text()
    headings = {heading.lower() for heading in re.findall(r"^#+ (\S+)$", guide, re.MULTILINE)}
    rules = [rule for rule in re.split(r"\n(?=      - )", ALERTS.read_text()) if "- alert:" in rule]
    assert len(rules) == len(NAMES) == len(set(NAMES))
    for name, rule in zip(NAMES, rules, strict=True):
        assert re.search(r"severity: (critical|warning|info)\b", rule), name
        assert all(f"\n          {key}: " in rule for key in ("summary", "description")), name
        assert f"runbook_url: docs/operations.md#{name.lower()}\n" in rule + "\n", name
        assert name.lower() in headings, f"docs/operations.md says nothing of {name}"


def test_all_is_quiet_while_all_is_well(run: Run) -> None:
    rules = run.prometheus.rules()
    assert {rule["name"] for rule in rules if rule["type"] == "alerting"} >= set(NAMES)
    assert [rule for rule in rules if rule["health"] != "ok"] == []
    ours = "|".join(NAMES)
    fired = run.prometheus.range(f'ALERTS{{alertname=~"{ours}", alertstate="firing"}}', run.start, run.end)
    assert fired == []


@pytest.fixture(scope="module")
def trouble() -> Iterator[tuple[Cluster, Prometheus]]:
    with Cluster("--target-shard-seconds", "1") as cluster:
        for name in ("one", "two"):
            cluster.add_worker("--name", name, "--slots", "1")
        cluster.wait_for_workers(2)
        with Prometheus(cluster.folder, cluster.address) as prometheus:
            yield cluster, prometheus


def test_trouble_is_told(trouble: tuple[Cluster, Prometheus]) -> None:
    """One after the other: a worker that is stopped, all workers gone, the coordinator gone. Without the times to wait."""
    cluster, prometheus = trouble
    sweep = cluster.submit(SPECS / "all.toml", "nads.networks=100000")
    cluster.wait(sweep, lambda status: status["state"] == "running")
    eventually(lambda: prometheus.query('sum(nadgrid_sweeps_open{state="running"}) == 1'), "the sweep is seen")
    # Before the first scrape there is no coordinator.
    eventually(lambda: not any(prometheus.firing(f"{name}Soon") for name in NAMES), "all is well")

    hung, other = cluster.workers
    hung.signal(signal.SIGSTOP)
    silent = eventually(lambda: prometheus.firing("NadgridWorkerSilent"), "a silent worker")
    assert [alert["worker"] for alert in silent] == ["one"]
    eventually(lambda: prometheus.firing("NadgridWorkersLostSoon"), "a worker less")
    assert prometheus.firing("NadgridNoFitWorkerSoon") == []

    hung.kill()
    other.kill()
    (none,) = eventually(lambda: prometheus.firing("NadgridNoFitWorkerSoon"), "no fit worker")
    assert none["severity"] == "critical"
    # The sweep is open and waits; with somebody to compute it, all is well again.
    cluster.add_worker("--name", "three")
    cluster.wait_for_workers(1)
    eventually(lambda: not prometheus.firing("NadgridNoFitWorkerSoon"), "a worker is seen")

    cluster.crash_coordinator(restart=False)
    eventually(lambda: prometheus.firing("NadgridCoordinatorDownSoon"), "no coordinator")
    # What fires is told in words, with the labels in their places.
    (told,) = [
        alert
        for alert in prometheus.api("alerts")["alerts"]
        if alert["labels"]["alertname"] == "NadgridCoordinatorDownSoon"
    ]
    assert told["annotations"]["summary"] == f"The coordinator {cluster.address} does not answer."
    cluster.start_coordinator()
    eventually(lambda: not prometheus.firing("NadgridCoordinatorDownSoon"), "the coordinator is back")


def test_failures_are_told() -> None:
    """A worker on which everything fails, then one on which nothing does. These alerts wait for nothing."""
    with Cluster("--attempts", "1", workers=1) as cluster, Prometheus(cluster.folder, cluster.address) as prometheus:
        cluster.wait_for_workers(1)
        numerics = numerics_class(cluster)
        cluster.workers.pop().stop()
        eventually(lambda: prometheus.query('nadgrid_shards_failed_total{kind="task"} == 0'), "counters at zero")
        sweep = cluster.submit("lenet.toml", "nads.networks=64", "nads.block_size=8")
        with FailingWorker(cluster, numerics, "out of luck") as worker:
            worker.fail(5)
        cluster.add_worker()
        cluster.wait(sweep, lambda status: status["state"] == "incomplete")
        for name in ("NadgridShardsFailing", "NadgridShardsQuarantined", "NadgridSweepsFailing"):
            (alert,) = eventually(partial(prometheus.firing, name), name)
            assert alert["instance"] == cluster.address
        assert alert["state"] == "incomplete"
        (failed,) = prometheus.query('nadgrid_shards_failed_total{kind="task"}')
        assert float(failed["value"][1]) == 5
