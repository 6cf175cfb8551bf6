"""Metrics as Prometheus wants them: named, typed and described."""

from __future__ import annotations

import re

from boards import BOARDS, metrics_in, targets
from cluster import REPOSITORY
from conftest import Run, command
from services import ALERTS, executable

#: Series of a histogram.
_PARTS = re.compile(r"_(?:bucket|sum|count)$")


def named() -> dict[str, str]:
    """Names and kinds as coordinator/src/metrics.rs has them."""
    source = (REPOSITORY / "coordinator/src/metrics.rs").read_text()
    table = source.split("const METRICS:")[1].split("\n];")[0]
    found = dict(re.findall(r'\(\s*"(nadgrid_\w+)",\s*(Counter|Gauge|Histogram),', table))
    assert len(found) == table.count('"nadgrid_')
    return {name: kind.lower() for name, kind in found.items()}


def used() -> dict[str, str]:
    """Metrics that dashboards and alerts look at, each with a place where."""
    places: dict[str, str] = {}
    for target in targets():
        places |= dict.fromkeys(metrics_in(target.expr), str(target))
    for board in BOARDS.values():
        for variable in board["templating"]["list"][1:]:
            places |= dict.fromkeys(metrics_in(variable["query"]["query"]), f"{board['title']} / {variable['name']}")
    rules = re.sub(r"annotations:.*?(?=\n\n|\Z)", "", ALERTS.read_text(), flags=re.DOTALL)
    expressions = re.findall(r"expr: (\|\n(?: {10}.*\n)+|.*)", rules)
    assert len(expressions) == rules.count("expr:")
    for expr in expressions:
        places |= dict.fromkeys(metrics_in(expr), f"an alert: {expr}")
    return places


def test_metrics_are_well_formed(run: Run) -> None:
    command(executable("promtool", "prometheus"), "check", "metrics", text=run.text)


def test_every_metric_is_described_and_typed(run: Run) -> None:
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", run.text, re.MULTILINE))
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", run.text, re.MULTILINE))
    samples = {match[1] for match in re.finditer(r"^([a-z_]+)[{ ]", run.text, re.MULTILINE)}
    offered = {name if name in types else _PARTS.sub("", name) for name in samples}
    assert offered == set(types) == set(helps)
    kinds = named()
    assert {name: types[name] for name in offered if name.startswith("nadgrid_")} == kinds
    assert {name for name, kind in kinds.items() if kind == "counter"} == {
        name for name in kinds if name.endswith("_total")
    }


def test_dashboards_and_alerts_use_metrics_that_exist(run: Run) -> None:
    types = set(re.findall(r"^# TYPE (\S+)", run.text, re.MULTILINE))
    for metric, place in used().items():
        assert metric in {"up", *types} or _PARTS.sub("", metric) in types, f"{metric} of {place} is none"


def test_every_metric_is_shown_or_watched(run: Run) -> None:
    seen = {metric if metric in named() else _PARTS.sub("", metric) for metric in used()}
    assert set(named()) - seen == set(), "nobody looks at these"


def test_what_is_expected_is_found() -> None:
    expr = 'sum by (le) (rate(nadgrid_shard_seconds_bucket{instance="up"}[5m])) / on (process_x) up > nadgrid_slots'
    assert metrics_in(expr) == {"nadgrid_shard_seconds_bucket", "up", "nadgrid_slots"}
