"""Other people's programs for the tests: they are started on loopback, asked by HTTP, and ended with the test."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
from cluster import PATIENCE, REPOSITORY

DEPLOY = REPOSITORY / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"

T = TypeVar("T")


def missing(what: str) -> None:
    """Skips the test, or fails it where all servers must be there."""
    if os.environ.get("NADGRID_REQUIRE_SERVERS"):
        pytest.fail(what)
    pytest.skip(what)


def executable(name: str, package: str) -> str:
    """Where a program of the system is."""
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not installed: `apt-get install {package}`")
    assert found is not None
    return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def eventually(ask: Callable[[], T | None], what: str, patience: float = PATIENCE) -> T:
    """Asks again and again until there is an answer; a connection that is refused is none."""
    until = time.monotonic() + patience
    while True:
        try:
            if answer := ask():
                return answer
        except (urllib.error.URLError, ConnectionError):
            pass
        assert time.monotonic() < until, f"not within {patience:.0f} s: {what}"
        time.sleep(0.2)


def read(url: str, headers: Mapping[str, str] | None = None) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers or {})), timeout=30) as answer:
        text: str = answer.read().decode()
        return text


class Service:
    """A program that runs until the end of a ``with`` block."""

    def __init__(self, command: Sequence[str | Path], log: Path, variables: Mapping[str, str] | None = None) -> None:
        self.log = log
        # It ends with the test's own process too, however that ends.
        tied = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [*tied, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(variables or {})},
                cwd=log.parent,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.terminate()
        try:
            self._child.wait(20)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def is_running(self) -> bool:
        return self._child.poll() is None


def soon(rules: str) -> str:
    """The alerts once more, named ...Soon, without the time for which a condition must hold."""
    for_none = re.sub(r"\n +for: \S+", "", rules)
    return (
        re.sub(r"alert: (\w+)", r"alert: \1Soon", for_none)
        .replace("- name: nadgrid", "- name: soon")
        .replace("stalled1h", "stalled1h:soon")
    )


class Prometheus(Service):
    """A Prometheus with the configuration of deploy/, which looks at one coordinator every second."""

    def __init__(
        self, folder: Path, coordinator: str, token: Path | None = None, tls: Mapping[str, Path] | None = None
    ) -> None:
        program = executable("prometheus", "prometheus")
        config = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
        replaced = {
            '"127.0.0.1:7400"': f'"{coordinator}"',
            "scrape_interval: 5s": "scrape_interval: 1s",
            "evaluation_interval: 15s": "evaluation_interval: 1s",
            "  - alerts.yml": f"  - {ALERTS}\n  - {folder}/soon.yml",
        }
        if token is not None:
            replaced["    # authorization:"] = "    authorization:"
            replaced["    #   credentials_file: /etc/prometheus/nadgrid.token"] = f"      credentials_file: {token}"
        if tls is not None:
            replaced |= {"    # scheme:": "    scheme:", "    # tls_config:": "    tls_config:"}
            for key, path in tls.items():
                [comment] = re.findall(rf"^    # .*\b{key}: .*$", config, re.MULTILINE)
                replaced[comment] = f"      {key}: {path}"
        for old, new in replaced.items():
            assert config.count(old) == 1, f"{old!r} is not once in prometheus.yml"
            config = config.replace(old, new)
        (folder / "prometheus.yml").write_text(config)
        (folder / "soon.yml").write_text(soon(ALERTS.read_text()))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(
            [
                program,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/prometheus",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            folder / "prometheus.log",
        )
        try:
            eventually(lambda: read(self.url + "/-/ready"), "Prometheus is ready")
        except BaseException:
            self.__exit__()
            raise

    def api(self, path: str, **parameters: object) -> Any:
        words = urllib.parse.urlencode(parameters, doseq=True)
        try:
            answer = json.loads(read(f"{self.url}/api/v1/{path}?{words}"))
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from error
        assert (answer["status"], answer.get("warnings")) == ("success", None), answer
        return answer["data"]

    def query(self, expr: str, at: float | None = None) -> list[dict[str, Any]]:
        moment = {} if at is None else {"time": at}
        result: list[dict[str, Any]] = self.api("query", query=expr, **moment)["result"]
        return result

    def range(self, expr: str, start: float, end: float) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = self.api("query_range", query=expr, start=start, end=end, step=1)["result"]
        return result

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self.api("rules")["groups"] for rule in group["rules"]]

    def firing(self, name: str) -> list[dict[str, str]]:
        """Labels of what fires of an alert."""
        alerts = self.api("alerts")["alerts"]
        return [
            alert["labels"] for alert in alerts if alert["labels"]["alertname"] == name and alert["state"] == "firing"
        ]
