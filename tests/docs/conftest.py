"""What was run of the guide and what was not is listed at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

# The hook shows the clusters' logs with a failure.
from cluster import Cluster
from cluster import pytest_runtest_makereport as pytest_runtest_makereport

#: Place of each block and what became of it; filled by tests.
RAN: dict[str, str] = {}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A coordinator with one worker, for the tests of a file."""
    with Cluster(workers=1) as cluster:
        yield cluster


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if RAN:
        terminalreporter.section("blocks of the guide")
        for place, what in sorted(RAN.items(), key=lambda entry: (entry[0].split(":")[0], int(entry[0].split(":")[1]))):
            terminalreporter.write_line(f"{place:<32} {what}")
        not_run = sum(what.startswith("not run") for what in RAN.values())
        terminalreporter.write_line(f"{len(RAN) - not_run} ran, {not_run} did not")
