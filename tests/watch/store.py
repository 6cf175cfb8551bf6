"""A store of traces that others wrote: rotel receives spans by OTLP over gRPC and sends them on, by OTLP over HTTP, to
AgentMesh, which keeps them in SQLite. So what is read back was understood by two foreign programs.
"""

from __future__ import annotations

import importlib.util
import json
import socket
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cluster import PATIENCE
from services import Service, eventually, free_port, missing, read


@dataclass(frozen=True)
class Span:
    """A span as the store has it; times in seconds since 1970."""

    trace: str
    id: str
    parent: str | None
    name: str
    kind: str
    service: str
    #: Which process it is from.
    instance: str
    attributes: dict[str, Any]
    #: What it failed with.
    error: str | None
    begin: float
    end: float


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        missing(f"the package {name} is not installed: `pip install -r tests/requirements.txt`")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


class Store:
    """Both programs, for a ``with`` block; ``url`` is what programs are given as ``--otlp``."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "spans.db"
        agent = _package("rotel") / "rotel-agent"
        _package("agentmesh")
        ui, grpc, http = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{grpc}"
        self._api = f"http://127.0.0.1:{ui}"
        keep: list[str | Path] = [
            sys.executable,
            "-m",
            "agentmesh.cli",
            "--db",
            self._file,
            "dashboard",
            "--host",
            "127.0.0.1",
            "--port",
            str(ui),
        ]
        receive: list[str | Path] = [
            agent,
            "start",
            "--otlp-grpc-endpoint",
            f"127.0.0.1:{grpc}",
            "--otlp-http-endpoint",
            f"127.0.0.1:{http}",
        ]
        receive += ["--exporter", "otlp", "--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", self._api]
        receive += ["--batch-timeout", "200ms"]
        with ExitStack() as stack:
            stack.enter_context(Service(keep, folder / "store.log"))
            eventually(lambda: read(self._api + "/readyz"), "the store is ready")
            stack.enter_context(Service(receive, folder / "receiver.log"))
            # It listens on both ports at once; this one can be asked.
            eventually(lambda: _listens(grpc), "the receiver listens")
            self._stack = stack.pop_all()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def spans(self) -> list[Span]:
        """All spans."""
        with sqlite3.connect(f"file:{self._file}?mode=ro", uri=True) as base:
            rows = base.execute(
                "select trace_id, span_id, parent_span_id, name, span_kind, status, error_message, started_at, ended_at,"
                " metadata_json from spans"
            ).fetchall()
        base.close()
        found = []
        for trace, span, parent, name, kind, status, error, begin, end, more in rows:
            more = json.loads(more)
            resource = more["resource"]
            found.append(
                Span(
                    trace,
                    span,
                    parent,
                    name,
                    kind,
                    resource["service.name"],
                    resource["service.instance.id"],
                    more["attributes"],
                    error if status == "failed" else None,
                    _moment(begin),
                    _moment(end),
                )
            )
        return found

    def links(self) -> dict[str, list[tuple[str, str]]]:
        """From spans to what they are linked with: (trace, span)."""
        with sqlite3.connect(f"file:{self._file}?mode=ro", uri=True) as base:
            rows = base.execute("select span_id, linked_trace_id, linked_span_id from span_links").fetchall()
        base.close()
        links: dict[str, list[tuple[str, str]]] = {}
        for span, *other in rows:
            links.setdefault(span, []).append((other[0], other[1]))
        return links

    def trace(self, trace: str) -> list[dict[str, Any]]:
        """One trace, as the store's own API tells it."""
        told: list[dict[str, Any]] = json.loads(read(f"{self._api}/api/traces/{trace}/spans"))
        return told

    def settled(self, reached: Callable[[list[Span]], bool]) -> list[Span]:
        """All spans, once something holds of them and no more come: programs send every second."""
        until = time.monotonic() + PATIENCE
        before: list[Span] = []
        since = time.monotonic()
        while True:
            spans = self.spans()
            if len(spans) != len(before):
                before, since = spans, time.monotonic()
            if time.monotonic() - since > 4 and reached(spans):
                return spans
            assert time.monotonic() < until, (
                f"not in the store: {sorted({span.name for span in spans})}, {len(spans)} spans"
            )
            time.sleep(0.5)


def _listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
