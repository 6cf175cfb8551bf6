"""The dashboards as Grafana reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services import DEPLOY, Prometheus

FOLDER = DEPLOY / "grafana" / "dashboards"
BOARDS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}

#: Names of metrics in an expression; names of sums in brackets are labels.
_NAME = re.compile(r"\b(?:nadgrid|process)_[a-z0-9_]+\b|\bup\b")


@dataclass(frozen=True)
class Target:
    """One query of a panel."""

    board: str
    panel: str
    number: int
    expr: str
    instant: bool

    def __str__(self) -> str:
        return f"{self.board} / {self.panel} / {self.number}"


def panels(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def targets() -> Iterator[Target]:
    for name, board in BOARDS.items():
        for panel in panels(board):
            for number, target in enumerate(panel["targets"]):
                yield Target(name, panel["title"], number, target["expr"], target["instant"])


def metrics_in(expr: str) -> set[str]:
    """Names of the metrics that an expression looks at."""
    bare = re.sub(r'"[^"]*"|\b(?:by|on|without|group_left|group_right) *\([^)]*\)', "", expr)
    return set(_NAME.findall(bare))


def substitute(expr: str, values: Mapping[str, str], seconds: float) -> str:
    """Puts values in the place of a dashboard's variables."""
    own = {"__rate_interval": "10s", "__interval": "1s", "__range": f"{seconds:.0f}s"}
    replaced = re.sub(r"\$(\w+)", lambda found: {**own, **values}[found[1]], expr)
    assert "$" not in replaced, replaced
    return replaced


def choices(variable: Mapping[str, Any], values: Mapping[str, str], prometheus: Prometheus) -> list[tuple[str, str]]:
    """What a variable offers, as (text, value), by the rules of Grafana's Prometheus data source."""
    query = substitute(variable["query"]["query"], values, 60)
    if found := re.fullmatch(r"label_values\((.*), *(\w+)\)", query):
        offered = [(value, value) for value in prometheus.api(f"label/{found[2]}/values", **{"match[]": found[1]})]
        assert not variable["regex"]
        return offered
    found = re.fullmatch(r"query_result\((.*)\)", query)
    assert found, f"neither label_values nor query_result: {query}"
    offered = []
    for sample in prometheus.query(found[1]):
        labels = ",".join(f'{name}="{value}"' for name, value in sample["metric"].items())
        line = f"{{{labels}}} {sample['value'][1]} {sample['value'][0]}"
        named = re.search(variable["regex"].strip("/").replace("(?<", "(?P<"), line)
        assert named, f"{variable['regex']} does not fit {line}"
        offered.append((named["text"], named["value"]))
    return offered
