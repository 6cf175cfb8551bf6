#!/usr/bin/env python3
"""Writes the dashboards beside it: `python3 deploy/grafana/dashboards.py`. A test says so when they are out of date.

One file for all of them, so that the same thing looks the same everywhere: colours, units, widths, names of series. Only Python's
standard library is needed; Grafana needs nothing but the JSON.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"

#: The label with a job of a sweep, for example nads/lenet. Prometheus has a label `job` of its own, and renames ours.
JOB = "part"

HERE = 'instance=~"$instance"'
ONE = f'{HERE}, sweep=~"$sweep"'
SWEEP = f'{HERE}, sweep=~"$sweep", {JOB}=~"$job"'
WORKER = f'{HERE}, worker_id=~"$worker"'
RATE = "[$__rate_interval]"

GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "#8e8e8e"
#: What a state looks like, wherever it is shown.
COLOURS = {
    "fit": GREEN,
    "draining": BLUE,
    "away": ORANGE,
    "unfit": RED,
    "running": GREEN,
    "queued": BLUE,
    "paused": GREY,
    "complete": GREEN,
    "incomplete": ORANGE,
    "failed": RED,
    "cancelled": GREY,
}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, Any]


def target(expr: str, legend: str = "", *, instant: bool = False, table: bool = False) -> Json:
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": expr,
        "format": "table" if table else "time_series",
        "instant": instant or table,
        "legendFormat": legend or "__auto",
        "range": not (instant or table),
    }


def thresholds(*steps: tuple[float | None, str]) -> Json:
    return {"mode": "absolute", "steps": [{"color": colour, "value": value} for value, colour in steps]}


NO_THRESHOLD = thresholds((None, GREEN))
#: None is well, one is not.
NONE_IS_WELL = thresholds((None, GREEN), (1, RED))


def panel(kind: str, title: str, description: str, targets: list[Json], width: int, height: int, **more: Any) -> Json:
    defaults: Json = {
        "color": more.pop("color", {"mode": "palette-classic-by-name"}),
        "custom": more.pop("custom", {}),
        "mappings": more.pop("mappings", []),
        "thresholds": more.pop("limits", NO_THRESHOLD),
        "unit": more.pop("unit", "short"),
    }
    defaults |= more.pop("defaults", {})
    states = [
        {
            "matcher": {"id": "byName", "options": state},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for state, colour in COLOURS.items()
    ]
    overrides = more.pop("overrides", states if more.pop("states", False) else [])
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": [{**entry, "refId": chr(ord("A") + place)} for place, entry in enumerate(targets)],
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        "gridPos": {"w": width, "h": height},
        **more,
    }


def stat(title: str, description: str, targets: list[Json], width: int, *, graph: bool = True, **more: Any) -> Json:
    options = {
        "colorMode": "value",
        "graphMode": "area" if graph else "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": more.pop("text", "auto"),
    }
    more.setdefault("color", {"mode": "thresholds"})
    return panel("stat", title, description, targets, width, 4, options=options, **more)


def graph(
    title: str,
    description: str,
    targets: list[Json],
    width: int,
    *,
    stacked: bool = False,
    bars: bool = False,
    **more: Any,
) -> Json:
    custom = {
        "drawStyle": "bars" if bars else "line",
        "fillOpacity": 70 if bars else 25 if stacked else 8,
        "lineInterpolation": "linear",
        "lineWidth": 0 if bars else 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked or bars else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if "limits" in more else "off"},
    }
    options = {
        "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    defaults = {"min": 0} | more.pop("defaults", {})
    return panel(
        "timeseries", title, description, targets, width, 8, custom=custom, options=options, defaults=defaults, **more
    )


def bars(title: str, description: str, targets: list[Json], width: int, **more: Any) -> Json:
    options = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showUnfilled": True,
        "valueMode": "color",
    }
    return panel("bargauge", title, description, targets, width, 8, options=options, **more)


def column(name: str, **properties: Any) -> Json:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": k, "value": v} for k, v in properties.items()],
    }


def table(
    title: str,
    description: str,
    columns: list[tuple[str, str]],
    labels: dict[str, str],
    width: int,
    overrides: list[Json],
) -> Json:
    """One row for each set of labels; `columns` are (expression, name), `labels` are the labels that are shown and their names."""
    letters = [chr(ord("A") + place) for place in range(len(columns))]
    names = {f"Value #{letter}": name for letter, (_, name) in zip(letters, columns, strict=True)} | labels
    order = [*labels, *(f"Value #{letter}" for letter in letters)]
    transformations = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True},
                "indexByName": {name: place for place, name in enumerate(order)},
                "renameByName": names,
            },
        },
    ]
    return panel(
        "table",
        title,
        description,
        [target(expr, table=True) for expr, _ in columns],
        width,
        8,
        options={"cellHeight": "sm", "footer": {"show": False}, "showHeader": True},
        custom={"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True},
        transformations=transformations,
        overrides=overrides,
    )


def variable(
    name: str, label: str, query: str, *, regex: str = "", multi: bool = True, sort: int = 1, hide: int = 0
) -> Json:
    whole = {"includeAll": True, "allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}}
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "refresh": 2,
        "regex": regex,
        "sort": sort,
        "hide": hide,
        "multi": multi,
        **(whole if multi else {"includeAll": False, "current": {}}),
        "options": [],
    }


SOURCE = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
    "refresh": 1,
    "regex": "",
    "hide": 0,
    "multi": False,
    "includeAll": False,
    "current": {},
    "options": [],
}
COORDINATOR = variable("instance", "Coordinator", "label_values(nadgrid_build_info, instance)")


def named(metric: str, name: str, identity: str) -> tuple[str, str]:
    """A variable's query, which shows a name with its id and stands for the id, and its regular expression."""
    each = f"max by ({name}, {identity}) ({metric}{{{HERE}}})"
    query = f'query_result(sort(label_join({each}, "entry", " · ", "{name}", "{identity}")))'
    return query, f'/entry="(?<text>[^"]+)".*{identity}="(?<value>[^"]+)"/'


def cells(x: int, y: int, w: int, h: int) -> set[tuple[int, int]]:
    return set(itertools.product(range(x, x + w), range(y, y + h)))


def dashboard(
    name: str, title: str, description: str, variables: list[Json], rows: list[tuple[str, list[Json]]]
) -> Json:
    """Each panel takes the first place of 24 columns that is free, below its row's heading."""
    panels: list[Json] = []
    y = 0
    for heading, members in rows:
        place = {"x": 0, "y": y, "w": 24, "h": 1}
        panels.append({"type": "row", "title": heading, "collapsed": False, "panels": [], "gridPos": place})
        taken: set[tuple[int, int]] = set()
        top = y + 1
        for member in members:
            w, h = member["gridPos"]["w"], member["gridPos"]["h"]
            corners = ((x, line) for line in itertools.count(top) for x in range(25 - w))
            x, line = next(at for at in corners if taken.isdisjoint(cells(*at, w, h)))
            taken |= cells(x, line, w, h)
            member["gridPos"] = {"x": x, "y": line, "w": w, "h": h}
            panels.append(member)
            y = max(y, line + h)
    for number, member in enumerate(panels, 1):
        member["id"] = number
    others = {
        "type": "dashboards",
        "title": "nadgrid",
        "tags": ["nadgrid"],
        "asDropdown": False,
        "keepTime": True,
        "includeVars": True,
    }
    return {
        "uid": f"nadgrid-{name}",
        "title": f"nadgrid / {title}",
        "description": description,
        "tags": ["nadgrid"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [{**others, "icon": "external link", "targetBlank": False, "tooltip": "", "url": ""}],
        "annotations": {
            "list": [
                {
                    "name": "Coordinator started",
                    "datasource": DATASOURCE,
                    "enable": True,
                    "hide": False,
                    "iconColor": ORANGE,
                    "expr": f"changes(process_start_time_seconds{{{HERE}}}[$__interval]) > 0",
                    "step": "10s",
                    "titleFormat": "The coordinator started",
                }
            ]
        },
        "templating": {"list": [SOURCE, *variables]},
        "panels": panels,
    }


def quantile(of: float, metric: str, by: str, selector: str = HERE) -> str:
    labels = ", ".join(filter(None, ["le", by]))
    return f"histogram_quantile({of}, sum by ({labels}) (rate({metric}_bucket{{{selector}}}{RATE})))"


def events(metric: str, by: str, window: str = "$__rate_interval") -> str:
    """How often something happened, as whole numbers."""
    return f"round(sum by ({by}) (increase({metric}{{{HERE}}}[{window}])))"


def overview() -> Json:
    now = [
        stat(
            "Coordinator",
            "Version of the coordinator that was scraped last.",
            [target(f"nadgrid_build_info{{{HERE}}}", "{{version}}")],
            3,
            graph=False,
            text="name",
        ),
        stat(
            "Up for",
            "Time since the coordinator started. It may be restarted at any time: workers go on meanwhile.",
            [target(f"time() - process_start_time_seconds{{{HERE}}}", "{{instance}}")],
            3,
            graph=False,
            unit="s",
        ),
        stat(
            "Open sweeps",
            "Sweeps that have not ended.",
            [target(f"sum by (state) (nadgrid_sweeps_open{{{HERE}}})", "{{state}}")],
            6,
            graph=False,
            states=True,
        ),
        stat(
            "Fit workers",
            "Workers that are connected and may be given shards. Without any, nothing is computed.",
            [target(f'sum(nadgrid_workers{{{HERE}, state="fit"}})', "fit")],
            3,
            limits=thresholds((None, RED), (1, GREEN)),
        ),
        stat(
            "Workers in trouble",
            "Workers that were set aside (unfit) or whose connection is lost (away).",
            [target(f'sum(nadgrid_workers{{{HERE}, state=~"unfit|away"}})', "unfit or away")],
            3,
            limits=thresholds((None, GREEN), (1, ORANGE)),
        ),
        stat(
            "Per second",
            "Networks evaluated and training runs committed per second, now.",
            [target(f"sum(rate(nadgrid_members_committed_total{{{HERE}}}{RATE}))", "committed")],
            3,
        ),
        stat(
            "Given up",
            "Blocks that failed everywhere within the time shown and are not tried again: their sweeps end as "
            "incomplete.",
            [target(f"round(sum(increase(nadgrid_shards_quarantined_total{{{HERE}}}[$__range])))", "quarantined")],
            3,
            graph=False,
            limits=NONE_IS_WELL,
        ),
    ]
    ids = "sweep, name"
    sweeps = table(
        "Newest sweeps",
        "The fifty newest sweeps, open or ended. A name leads to the sweep.",
        [
            (f"max by ({ids}) (nadgrid_sweep_age_seconds{{{HERE}}})", "Age"),
            (f"max by ({ids}) (nadgrid_sweep_progress_ratio{{{HERE}}})", "Done"),
            (f"max by ({ids}) (nadgrid_sweep_seconds_left{{{HERE}}})", "Time left"),
            (f"sum by ({ids}) (nadgrid_sweep_members{{{HERE}}})", "Networks or runs"),
            (f"sum by ({ids}) (nadgrid_sweep_members_failed{{{HERE}}})", "Failed"),
            (f"sum by ({ids}) (nadgrid_sweep_retries{{{HERE}}})", "Retries"),
            (f"min by ({ids}) (nadgrid_sweep_complete{{{HERE}}})", "Complete"),
        ],
        {"name": "Name", "sweep": "Sweep"},
        24,
        [
            column(
                "Name",
                links=[
                    {
                        "title": "Show this sweep",
                        "url": "/d/nadgrid-sweep?var-sweep=${__data.fields.Sweep}&${datasource:queryparam}",
                    }
                ],
            ),
            column("Age", unit="s"),
            column("Time left", unit="s"),
            column(
                "Done", unit="percentunit", min=0, max=1, **{"custom.cellOptions": {"type": "gauge", "mode": "basic"}}
            ),
            column(
                "Failed",
                thresholds=NONE_IS_WELL,
                **{"custom.cellOptions": {"type": "color-text"}, "color": {"mode": "thresholds"}},
            ),
            column("Complete", mappings=YES_NO, **{"custom.cellOptions": {"type": "color-text"}}),
        ],
    )
    work = [
        graph(
            "Networks and runs per second",
            "Committed, by experiment and architecture.",
            [
                target(
                    f"sum by (experiment, architecture) (rate(nadgrid_members_committed_total{{{HERE}}}{RATE}))",
                    "{{experiment}}/{{architecture}}",
                )
            ],
            12,
            stacked=True,
            unit="cps",
        ),
        graph(
            "Open sweeps",
            "Sweeps that have not ended, by state.",
            [target(f"sum by (state) (nadgrid_sweeps_open{{{HERE}}})", "{{state}}")],
            6,
            stacked=True,
            states=True,
        ),
        graph(
            "Sweeps submitted and ended",
            "Sweeps that were accepted; and that ended, by how they ended.",
            [
                target(f"round(sum(increase(nadgrid_sweeps_submitted_total{{{HERE}}}{RATE})))", "submitted"),
                target(events("nadgrid_sweeps_ended_total", "state"), "{{state}}"),
            ],
            6,
            bars=True,
            states=True,
        ),
        graph(
            "Seconds per shard",
            "How long committed shards took their slots. The coordinator aims at target_shard_seconds, 20 "
            "unless configured, once a worker's rate is known.",
            [
                target(quantile(0.5, "nadgrid_shard_seconds", "experiment"), "{{experiment}}, half of them"),
                target(quantile(0.95, "nadgrid_shard_seconds", "experiment"), "{{experiment}}, 95 %"),
            ],
            12,
            unit="s",
        ),
        graph(
            "Shards per second",
            "Given to workers, speculative leases and audits included; and committed. Far more of the first than of the "
            "second means work done twice or in vain.",
            [
                target(f"sum(rate(nadgrid_shards_leased_total{{{HERE}}}{RATE}))", "leased"),
                target(f"sum(rate(nadgrid_shards_committed_total{{{HERE}}}{RATE}))", "committed"),
            ],
            12,
            unit="cps",
        ),
    ]
    workers = [
        graph(
            "Workers",
            "By state. Unfit workers were set aside; workers away have lost their connection and may come back.",
            [target(f"sum by (state) (nadgrid_workers{{{HERE}}})", "{{state}}")],
            12,
            stacked=True,
            states=True,
        ),
        graph(
            "Slots and leases",
            "Slots of fit workers, and shards that workers hold. Fewer leases than slots while sweeps are open: "
            "some slots idle. Workers hold shards beyond their slots while results are on the way.",
            [target(f"sum(nadgrid_slots{{{HERE}}})", "slots"), target(f"sum(nadgrid_leases{{{HERE}}})", "leases")],
            12,
        ),
    ]
    trouble = [
        graph(
            "Failures of shards",
            "Reported by workers, by what is at fault: the spec, the worker (unfit), the shard (task), or "
            "nothing that lasts (transient). Each is tried elsewhere.",
            [target(events("nadgrid_shards_failed_total", "kind"), "{{kind}}")],
            8,
            bars=True,
        ),
        graph(
            "Given up, and reductions that failed",
            "Blocks that are not tried again, and reductions that did not come to their end.",
            [
                target(f"round(sum(increase(nadgrid_shards_quarantined_total{{{HERE}}}{RATE})))", "quarantined"),
                target(f"round(sum(increase(nadgrid_reductions_failed_total{{{HERE}}}{RATE})))", "reductions failed"),
            ],
            8,
            bars=True,
        ),
        graph(
            "Refusals",
            "Requests and connections refused, by cause: a token, a role, a limit.",
            [
                target(
                    f"round(sum by (cause) (increase(nadgrid_refusals_total{{{HERE}}}{RATE}))) or vector(0)",
                    "{{cause}}",
                )
            ],
            8,
            bars=True,
        ),
    ]
    coordinator = [
        graph(
            "Journal",
            "Seconds until a batch of records was durable. Everything waits for it: a slow disk or database "
            "shows here first.",
            [
                target(quantile(0.5, "nadgrid_journal_append_seconds", ""), "half of them"),
                target(quantile(0.99, "nadgrid_journal_append_seconds", ""), "99 %"),
            ],
            8,
            unit="s",
            limits=thresholds((None, GREEN), (0.5, RED)),
        ),
        graph(
            "Journal records",
            "Records made durable per second.",
            [target(f"sum(rate(nadgrid_journal_records_total{{{HERE}}}{RATE}))", "records")],
            8,
            unit="cps",
        ),
        graph(
            "Merges",
            "Partials that were merged with their neighbours while their job was computed, per second, and merges that did not come "
            "to their end.",
            [
                target(f"sum(rate(nadgrid_merged_partials_total{{{HERE}}}{RATE}))", "partials"),
                target(f"sum(rate(nadgrid_merges_failed_total{{{HERE}}}{RATE}))", "failed merges"),
            ],
            8,
            unit="cps",
        ),
        graph(
            "Time of a merge",
            "Seconds that one merge took.",
            [
                target(quantile(0.5, "nadgrid_merge_seconds", ""), "half of them"),
                target(quantile(0.99, "nadgrid_merge_seconds", ""), "99 %"),
            ],
            8,
            unit="s",
        ),
        graph(
            "Payloads",
            "Bytes per second of results, checkpoints and files: through the coordinator (in, out), by presigned requests "
            "(put, get), and those that merges read and wrote.",
            [
                target(f"sum by (way) (rate(nadgrid_transfer_bytes_total{{{HERE}}}{RATE}))", "{{way}}"),
                target(f"sum by (direction) (rate(nadgrid_merge_bytes_total{{{HERE}}}{RATE}))", "merges {{direction}}"),
            ],
            8,
            unit="Bps",
        ),
        graph(
            "Reductions",
            "Seconds to merge a job's partials and compute its results, of all reductions since the coordinator started: "
            "they are few.",
            [
                target(
                    f"sum(nadgrid_reduction_seconds_sum{{{HERE}}}) / sum(nadgrid_reduction_seconds_count{{{HERE}}})",
                    "mean",
                ),
                target(
                    f"histogram_quantile(0.95, sum by (le) (nadgrid_reduction_seconds_bucket{{{HERE}}}))",
                    "95 %",
                ),
            ],
            8,
            unit="s",
        ),
        graph(
            "Requests",
            "Requests per second, by method. Page and metrics count as page.",
            [target(f"sum by (method) (rate(nadgrid_requests_total{{{HERE}}}{RATE}))", "{{method}}")],
            12,
            stacked=True,
            unit="reqps",
        ),
        graph(
            "Seconds per request",
            "95 % of the requests were answered within this time; of streams, until they began; of uploads, "
            "with their bytes.",
            [target(quantile(0.95, "nadgrid_request_seconds", "method"), "{{method}}")],
            12,
            unit="s",
        ),
        graph(
            "Memory",
            "Resident memory of the coordinator. It is bounded: it grows with sweeps that are open, not with "
            "their length.",
            [target(f"process_resident_memory_bytes{{{HERE}}}", "{{instance}}")],
            8,
            unit="bytes",
        ),
        graph(
            "Processor",
            "Cores in use. Reductions are what needs them.",
            [target(f"rate(process_cpu_seconds_total{{{HERE}}}{RATE})", "{{instance}}")],
            8,
        ),
        graph(
            "Open files",
            "Connections and files, as a share of what the system allows. Beyond that new connections are refused.",
            [target(f"process_open_fds{{{HERE}}} / process_max_fds{{{HERE}}}", "{{instance}}")],
            8,
            unit="percentunit",
            defaults={"max": 1},
            limits=thresholds((None, GREEN), (0.8, RED)),
        ),
    ]
    return dashboard(
        "overview",
        "Overview",
        "A coordinator with all its sweeps and workers at a glance.",
        [COORDINATOR],
        [
            ("Now", now),
            ("Sweeps", [sweeps]),
            ("Work", work),
            ("Workers", workers),
            ("Trouble", trouble),
            ("Coordinator", coordinator),
        ],
    )


YES_NO = [
    {
        "type": "value",
        "options": {
            "0": {"text": "no", "color": GREY, "index": 0},
            "1": {"text": "yes", "color": GREEN, "index": 1},
        },
    }
]
FIT = [
    {
        "type": "value",
        "options": {
            "0": {"text": "not fit", "color": RED, "index": 0},
            "1": {"text": "fit", "color": GREEN, "index": 1},
        },
    }
]


def sweep() -> Json:
    def total(metric: str) -> str:
        return f"sum(nadgrid_sweep_{metric}{{{SWEEP}}})"

    def by_job(metric: str) -> str:
        return f"sum by ({JOB}) (nadgrid_sweep_{metric}{{{SWEEP}}})"

    legend = "{{" + JOB + "}}"
    speed = f"sum(deriv(nadgrid_sweep_members_done{{{SWEEP}}}{RATE}))"
    left = f"{total('members')} - {total('members_done')} - {total('members_failed')}"
    now = [
        panel(
            "gauge",
            "Done",
            "Share of the sweep's work that is done, each job weighted by what it costs.",
            [target(f"max(nadgrid_sweep_progress_ratio{{{ONE}}})", "done")],
            4,
            8,
            unit="percentunit",
            defaults={"min": 0, "max": 1},
            color={"mode": "thresholds"},
            limits=thresholds((None, BLUE), (1, GREEN)),
            options={
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                "showThresholdLabels": False,
                "showThresholdMarkers": True,
            },
        ),
        stat("Networks or runs", "Of all jobs shown.", [target(total("members"), "all")], 4, graph=False),
        stat("Committed", "Networks or runs whose result counts.", [target(total("members_done"), "committed")], 4),
        stat(
            "Failed for good",
            "Networks or runs of blocks that failed everywhere. `nadgrid explain` says why.",
            [target(total("members_failed"), "failed")],
            4,
            limits=NONE_IS_WELL,
        ),
        stat(
            "Retries",
            "Shards that were given out again after a failure or a lost worker.",
            [target(total("retries"), "retries")],
            4,
            limits=thresholds((None, GREEN), (1, YELLOW)),
        ),
        stat(
            "Jobs complete",
            "Jobs of the sweep whose results are computed.",
            [target(total("complete"), "complete"), target(f"count(nadgrid_sweep_complete{{{SWEEP}}})", "all")],
            4,
            graph=False,
        ),
        stat(
            "Age",
            "Time since it was submitted, until it ended.",
            [target(f"max(nadgrid_sweep_age_seconds{{{ONE}}})", "age")],
            4,
            graph=False,
            unit="s",
        ),
        stat(
            "Per second",
            "Networks or runs committed per second, now.",
            [target(f"clamp_min({speed}, 0)", "committed")],
            4,
        ),
        stat(
            "Left",
            "Networks or runs that are neither committed nor failed for good.",
            [target(left, "left")],
            4,
            graph=False,
        ),
        stat(
            "Time left",
            "As the coordinator estimates it and every client shows it. Nothing is said before anything is measured, without "
            "workers, and while the sweep is paused.",
            [target(f"max(nadgrid_sweep_seconds_left{{{ONE}}} >= 0)", "left")],
            4,
            graph=False,
            unit="s",
        ),
        stat(
            "Waiting to be reduced",
            "Jobs all of whose networks or runs are committed, and whose results are not yet computed.",
            [
                target(
                    f"count(nadgrid_sweep_members_done{{{SWEEP}}} == nadgrid_sweep_members{{{SWEEP}}}"
                    f" unless nadgrid_sweep_complete{{{SWEEP}}} == 1) or vector(0)",
                    "jobs",
                )
            ],
            4,
            graph=False,
        ),
    ]
    progress = [
        bars(
            "Progress of jobs",
            "Share of each job's networks or runs that are committed.",
            [target(f"{by_job('members_done')} / {by_job('members')}", legend)],
            12,
            unit="percentunit",
            defaults={"min": 0, "max": 1},
        ),
        graph(
            "Progress",
            "Share of each job's networks or runs that are committed. A job that needs the NADs of another "
            "begins when that one is complete.",
            [target(f"{by_job('members_done')} / {by_job('members')}", legend)],
            12,
            unit="percentunit",
            defaults={"max": 1},
        ),
        graph(
            "Progress of the work",
            "Share of the sweep's work that is done, each job weighted by what it costs.",
            [target(f"max(nadgrid_sweep_progress_ratio{{{ONE}}})", "done")],
            12,
            unit="percentunit",
            defaults={"max": 1},
        ),
        graph(
            "Time left",
            "As the coordinator estimated it.",
            [target(f"max(nadgrid_sweep_seconds_left{{{ONE}}} >= 0)", "left")],
            12,
            unit="s",
        ),
        graph(
            "Networks and runs per second",
            "Committed, by job.",
            [target(f"clamp_min(sum by ({JOB}) (deriv(nadgrid_sweep_members_done{{{SWEEP}}}{RATE})), 0)", legend)],
            12,
            stacked=True,
            unit="cps",
        ),
        graph(
            "Rate by worker",
            "Networks or runs per second of each worker's last committed shards, of these jobs (of any sweep).",
            [
                target(
                    f'sum by (worker, worker_id, {JOB}) (nadgrid_worker_members_per_second{{{HERE}, {JOB}=~"$job"}})',
                    "{{worker}} {{worker_id}} " + legend,
                )
            ],
            12,
            unit="cps",
        ),
    ]
    trouble = [
        graph("Retries", "Shards given out again, since the sweep began.", [target(by_job("retries"), legend)], 12),
        graph(
            "Failed for good",
            "Networks or runs of blocks that failed everywhere.",
            [target(by_job("members_failed"), legend)],
            12,
        ),
    ]
    jobs = table(
        "Jobs",
        "One row for each job of the sweep.",
        [
            (by_job("members"), "Networks or runs"),
            (by_job("members_done"), "Committed"),
            (f"{by_job('members_done')} / {by_job('members')}", "Done"),
            (by_job("members_failed"), "Failed"),
            (by_job("retries"), "Retries"),
            (f"min by ({JOB}) (nadgrid_sweep_complete{{{SWEEP}}})", "Complete"),
        ],
        {JOB: "Job"},
        24,
        [
            column(
                "Done", unit="percentunit", min=0, max=1, **{"custom.cellOptions": {"type": "gauge", "mode": "basic"}}
            ),
            column(
                "Failed",
                thresholds=NONE_IS_WELL,
                color={"mode": "thresholds"},
                **{"custom.cellOptions": {"type": "color-text"}},
            ),
            column("Complete", mappings=YES_NO, **{"custom.cellOptions": {"type": "color-text"}}),
        ],
    )
    query, regex = named("nadgrid_sweep_age_seconds", "name", "sweep")
    variables = [
        COORDINATOR,
        variable("sweep", "Sweep", query, regex=regex, multi=False, sort=0),
        variable("job", "Job", f'label_values(nadgrid_sweep_members{{{HERE}, sweep=~"$sweep"}}, {JOB})'),
    ]
    return dashboard(
        "sweep",
        "Sweep",
        "One sweep: its jobs, how fast they go, and what fails.",
        variables,
        [("Now", now), ("Progress", progress), ("Jobs", [jobs]), ("Trouble", trouble)],
    )


def workers() -> Json:
    legend = "{{worker}} {{worker_id}}"

    def each(metric: str) -> str:
        return f"max by (worker, worker_id) (nadgrid_worker_{metric}{{{WORKER}}})"

    now = [
        stat(
            "Workers",
            "All workers of the coordinator, by state.",
            [target(f"sum by (state) (nadgrid_workers{{{HERE}}})", "{{state}}")],
            8,
            graph=False,
            states=True,
        ),
        stat("Slots", "Shards that the workers shown compute at once.", [target(f"sum({each('slots')})", "slots")], 4),
        stat("Leases", "Shards that the workers shown hold.", [target(f"sum({each('leases')})", "leases")], 4),
        stat(
            "Per second",
            "Networks and runs committed per second of the workers shown, now.",
            [target(f"sum(rate(nadgrid_worker_members{{{WORKER}}}{RATE}))", "committed")],
            4,
        ),
        stat(
            "Longest silence",
            "Workers are heard every few seconds, however busy they are; one that is silent for lease_ttl (15 "
            "s) loses its shards.",
            [target(f"max({each('silence_seconds')})", "silence")],
            4,
            unit="s",
            limits=thresholds((None, GREEN), (10, RED)),
        ),
    ]
    all_of_them = table(
        "Workers",
        "One row for each worker. What a worker last failed with is on the coordinator's page and in `nadgrid "
        "workers`.",
        [
            (f"max by (worker, worker_id, device) (nadgrid_worker_slots{{{WORKER}}})", "Slots"),
            (each("fit"), "Fit"),
            (each("leases"), "Leases"),
            (each("silence_seconds"), "Silence"),
            (each("members"), "Networks and runs"),
        ],
        {"worker": "Name", "worker_id": "Worker", "device": "Device"},
        24,
        [
            column("Fit", mappings=FIT, **{"custom.cellOptions": {"type": "color-text"}}),
            column(
                "Silence",
                unit="s",
                decimals=1,
                thresholds=thresholds((None, GREEN), (10, RED)),
                color={"mode": "thresholds"},
                **{"custom.cellOptions": {"type": "color-text"}},
            ),
        ],
    )
    work = [
        graph(
            "Networks and runs per second",
            "Committed, by worker.",
            [target(f"sum by (worker, worker_id) (rate(nadgrid_worker_members{{{WORKER}}}{RATE}))", legend)],
            12,
            stacked=True,
            unit="cps",
        ),
        graph(
            "Rate of the last shards",
            "Of each worker's last committed shards, all its slots: what the coordinator sizes its next shards by.",
            [
                target(
                    f"max by (worker, worker_id, {JOB}) (nadgrid_worker_members_per_second{{{WORKER}}})",
                    legend + " {{" + JOB + "}}",
                )
            ],
            12,
            unit="cps",
        ),
        graph(
            "Slots in use",
            "Shards that each worker holds, for each of its slots. More than 100 %: results are on the way.",
            [target(f"{each('leases')} / {each('slots')}", legend)],
            12,
            unit="percentunit",
        ),
        bars(
            "Networks and runs",
            "Of each worker's committed shards, since it came.",
            [target(each("members"), legend)],
            12,
        ),
    ]
    health = [
        panel(
            "state-timeline",
            "Fit",
            "Whether each worker is connected and may be given shards.",
            [target(each("fit"), legend)],
            12,
            8,
            mappings=FIT,
            custom={"fillOpacity": 70, "lineWidth": 0},
            color={"mode": "thresholds"},
            limits=thresholds((None, RED), (1, GREEN)),
            options={
                "alignValue": "left",
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                "mergeValues": True,
                "rowHeight": 0.8,
                "showValue": "never",
                "tooltip": {"mode": "single", "sort": "none"},
            },
        ),
        graph(
            "Silence",
            "Seconds since each worker was last heard. One that is silent for lease_ttl (15 s) loses its shards "
            "to others.",
            [target(each("silence_seconds"), legend)],
            12,
            unit="s",
            limits=thresholds((None, GREEN), (10, RED)),
        ),
        graph(
            "Failures of shards",
            "Reported by all workers, by what is at fault.",
            [target(events("nadgrid_shards_failed_total", "kind"), "{{kind}}")],
            12,
            bars=True,
        ),
        graph(
            "Workers that left",
            "Sessions that ended: drained, as after SIGTERM, or lost, so that what they held is computed again unless they "
            "come back.",
            [target(events("nadgrid_workers_left_total", "how"), "{{how}}")],
            12,
            bars=True,
        ),
    ]
    query, regex = named("nadgrid_worker_slots", "worker", "worker_id")
    return dashboard(
        "workers",
        "Workers",
        "Who computes, how fast, and who is in trouble.",
        [COORDINATOR, variable("worker", "Worker", query, regex=regex)],
        [("Now", now), ("All of them", [all_of_them]), ("Work", work), ("Health", health)],
    )


def texts() -> dict[str, str]:
    """The dashboards by their file's name."""
    made = {"overview": overview(), "sweep": sweep(), "workers": workers()}
    return {f"{name}.json": json.dumps(board, indent=2, ensure_ascii=False) + "\n" for name, board in made.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, text in texts().items():
        (FOLDER / file).write_text(text)
