"""Dashboards and their queries: well formed, and none without data after a run that went well."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from boards import BOARDS, FOLDER, Target, choices, panels, substitute, targets
from cluster import REPOSITORY
from conftest import Run
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from services import DEPLOY


@pytest.fixture(params=sorted(BOARDS))
def board(request: pytest.FixtureRequest) -> dict[str, Any]:
    return BOARDS[request.param]


def test_there_are_three_and_they_are_as_written() -> None:
    assert sorted(BOARDS) == ["overview", "sweep", "workers"]
    texts = "import dashboards, json, sys; json.dump(dashboards.texts(), sys.stdout)"
    made = subprocess.run(
        [sys.executable, "-c", texts], cwd=DEPLOY / "grafana", capture_output=True, text=True, check=True
    )
    for name, text in json.loads(made.stdout).items():
        assert (FOLDER / name).read_text() == text, f"{name} is out of date: run deploy/grafana/dashboards.py"
    assert len({board["uid"] for board in BOARDS.values()}) == 3


def test_panels_have_their_own_numbers_and_places(board: dict[str, Any]) -> None:
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    cells: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24, panel["title"]
        for cell in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        ):
            assert cell not in cells, f"{panel['title']} lies over {cells[cell]}"
            cells[cell] = panel["title"]
    # Nothing stands in the middle of nowhere: each line of cells has something in it.
    lines = {y for _, y in cells}
    assert lines == set(range(len(lines)))


def test_every_panel_says_what_it_shows_and_whose_data(board: dict[str, Any]) -> None:
    source = {"type": "prometheus", "uid": "${datasource}"}
    assert any(
        variable["name"] == "datasource" and variable["type"] == "datasource"
        for variable in board["templating"]["list"]
    )
    for panel in panels(board):
        title = panel["title"]
        assert title
        assert panel["description"].endswith("."), title
        assert panel["datasource"] == source, title
        assert panel["targets"], title
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]), title
        assert all(target["datasource"] == source for target in panel["targets"]), title
        assert panel["fieldConfig"]["defaults"]["unit"], title
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert steps[0]["value"] is None, title
        assert [step["value"] for step in steps[1:]] == sorted(step["value"] for step in steps[1:]), title
        assert panel["type"] in {"stat", "gauge", "bargauge", "timeseries", "table", "state-timeline"}, title
        if panel["type"] == "table":
            named = panel["transformations"][-1]["options"]["renameByName"].values()
            shown = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
            assert shown <= set(named), f"{title}: {shown - set(named)} are no columns"
    for variable in board["templating"]["list"][1:]:
        assert variable["datasource"] == source, variable["name"]
        assert variable["label"], variable["name"]


def lost(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Where two JSON values differ in what the first one has."""
    if isinstance(before, dict):
        for key, value in before.items():
            yield from lost(value, after.get(key), f"{path}/{key}") if isinstance(after, dict) else [path]
    elif isinstance(before, list):
        if not isinstance(after, list) or len(before) != len(after):
            yield path
        else:
            for old, new in zip(before, after, strict=True):
                yield from lost(old, new, path)
    elif before != after:
        yield path


def test_grafana_knows_every_key(board: dict[str, Any]) -> None:
    """Grafana's own types, of release 11.6, read a dashboard and write it; a key that they do not know is gone then."""
    register_default_plugins()
    again = json.loads(json.dumps(Dashboard.from_json(board), cls=JSONEncoder))
    # Known to the data source, and to the editor of variables.
    other = {"/annotations/list/step", "/annotations/list/titleFormat", "/templating/list/definition"}
    assert set(lost(board, again)) == other
    misspelt = json.loads(json.dumps(board).replace('"gridPos"', '"gridPosition"'))
    assert "/panels/gridPosition" in set(
        lost(misspelt, json.loads(json.dumps(Dashboard.from_json(misspelt), cls=JSONEncoder)))
    )


def test_links_lead_to_dashboards() -> None:
    uids = {board["uid"] for board in BOARDS.values()}
    found = 0
    for board in BOARDS.values():
        for panel in panels(board):
            for override in panel["fieldConfig"]["overrides"]:
                for entry in override["properties"]:
                    for link in entry["value"] if entry["id"] == "links" else ():
                        uid = link["url"].removeprefix("/d/").split("?")[0]
                        assert uid in uids, link
                        found += 1
    assert found == 1


def test_provisioning_names_what_is_there() -> None:
    source = (DEPLOY / "grafana/provisioning/datasources/nadgrid.yml").read_text()
    boards = (DEPLOY / "grafana/provisioning/dashboards/nadgrid.yml").read_text()
    assert "type: prometheus" in source
    assert "type: file" in boards
    interval = "scrape_interval: 5s"
    assert interval in (DEPLOY / "prometheus/prometheus.yml").read_text()
    assert "timeInterval: 5s" in source
    assert (REPOSITORY / "deploy/grafana/dashboards").is_dir()


def chosen(run: Run, name: str) -> dict[str, str]:
    """Values of a dashboard's variables: the first of what each offers, once it is known what the ones before it say."""
    values: dict[str, str] = {}
    for variable in BOARDS[name]["templating"]["list"]:
        if variable["type"] == "datasource":
            continue
        offered = choices(variable, values, run.prometheus)
        assert offered, f"{name}: nothing to choose for {variable['name']}"
        # Where all may be chosen, they are at first.
        values[variable["name"]] = variable["allValue"] if variable["multi"] else offered[0][1]
    return values


def test_variables_offer_what_there_is(run: Run) -> None:
    def offered(board: str, name: str, **values: str) -> list[tuple[str, str]]:
        variable = next(v for v in BOARDS[board]["templating"]["list"] if v["name"] == name)
        return choices(variable, {"instance": ".*", **values}, run.prometheus)

    assert offered("overview", "instance") == [(run.cluster.address, run.cluster.address)]
    assert offered("sweep", "sweep") == [(f"watched · {run.sweep}", run.sweep)]
    jobs = [value for _, value in offered("sweep", "job", sweep=run.sweep)]
    assert jobs == ["directional/lenet", "nads/lenet"]
    names = sorted(text.split(" · ")[0] for text, _ in offered("workers", "worker"))
    assert names == ["one", "two"]


def has_data(series: list[dict[str, Any]]) -> bool:
    samples = [float(sample[1]) for entry in series for sample in entry.get("values", [entry.get("value")])]
    return any(math.isfinite(value) for value in samples)


@pytest.mark.parametrize("target", list(targets()), ids=str)
def test_no_panel_is_empty(run: Run, target: Target) -> None:
    expr = substitute(target.expr, chosen(run, target.board), run.seconds)
    series = run.prometheus.query(expr, run.end) if target.instant else run.prometheus.range(expr, run.start, run.end)
    assert series, f"{target} has no series: {expr}"
    assert has_data(series), f"{target} has no number: {expr}"


def test_panels_show_one_job_or_worker_too(run: Run) -> None:
    for name, variable, value, other in (
        ("sweep", "job", "nads/lenet", "directional/lenet"),
        ("sweep", "job", "directional/lenet", "nads/lenet"),
    ):
        values = {**chosen(run, name), variable: value}
        shown = str(
            [
                run.prometheus.range(substitute(t.expr, values, run.seconds), run.start, run.end)
                for t in targets()
                if t.board == name
            ]
        )
        assert value in shown
        assert other not in shown


def test_what_is_shown_is_what_happened(run: Run) -> None:
    """Numbers of the run, through the very queries of the panels."""

    def last(board: str, panel: str, number: int = 0) -> list[tuple[dict[str, str], float]]:
        target = next(t for t in targets() if (t.board, t.panel, t.number) == (board, panel, number))
        expr = substitute(target.expr, chosen(run, board), run.seconds)
        return [(entry["metric"], float(entry["value"][1])) for entry in run.prometheus.query(expr, run.end)]

    def number(board: str, panel: str, place: int = 0) -> float:
        ((_, value),) = last(board, panel, place)
        return value

    status = run.cluster.status(run.sweep)
    members = sum(int(job["members"]) for job in status["jobs"])
    assert number("sweep", "Networks or runs") == members == 1024 + 12
    assert number("sweep", "Done") == 1
    assert number("sweep", "Left") == number("sweep", "Time left") == number("sweep", "Failed for good") == 0
    assert number("sweep", "Jobs complete") == number("sweep", "Jobs complete", 1) == 2
    assert number("sweep", "Waiting to be reduced") == 0
    assert number("overview", "Fit workers") == 2
    assert number("overview", "Workers in trouble") == number("overview", "Given up") == 0
    assert sum(value for _, value in last("overview", "Open sweeps")) == 0
    assert [value for _, value in last("overview", "Newest sweeps", 1)] == [1]
    assert number("workers", "Slots") == 2
    assert sum(value for _, value in last("workers", "Workers", 0)) == 2
    done = last("workers", "Networks and runs")
    assert {labels["worker"] for labels, _ in done} == {"one", "two"}
    assert sum(value for _, value in done) == members
    assert all(value > 0 for _, value in done), "a worker did nothing"


def test_annotations_are_queries(run: Run) -> None:
    for name, board in BOARDS.items():
        for annotation in board["annotations"]["list"]:
            run.prometheus.query(substitute(annotation["expr"], chosen(run, name), run.seconds))
