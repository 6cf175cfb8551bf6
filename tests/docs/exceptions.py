"""The commands of the guide that are not run here, and why. Each is a line as it stands in a page, or a line's beginning."""

from __future__ import annotations

from dataclasses import dataclass

from pages import Block


@dataclass(frozen=True)
class NotRun:
    """Commands that are left out."""

    page: str
    #: How the lines begin; an empty one is every line of the page's blocks of this language.
    beginning: str
    why: str
    language: str = "sh"


NOT_RUN = [
    NotRun("README.md", "cargo xtask test", "runs all tests, these among them"),
    NotRun("docs/quick-start.md", "pip install", "installs; python/tests/test_package.py installs the package's wheel"),
    NotRun("docs/python.md", "pip install", "installs; python/tests/test_package.py installs the package's wheel"),
    NotRun("docs/python.md", "", "run from top to bottom by python/tests/test_pages.py", "python"),
    NotRun("docs/foreign-clients.md", "", "run by python/tests/test_foreign.py", "python"),
    NotRun("docs/foreign-clients.md", "", "run by python/tests/test_foreign.py where grpcurl is installed"),
    NotRun("docs/operations.md", "", "for a Prometheus and a Grafana that stay; tests/watch tries the same files"),
    NotRun("docs/performance.md", "", "measures for minutes beside a peer that takes a download of 3 GB"),
]


def why_not(block: Block) -> str | None:
    """Why nothing of a block is run, if nothing is."""
    reasons = [left_out(block, line) for line in block.text.splitlines() if line.strip()]
    return reasons[0] if all(reasons) else None


def left_out(block: Block, line: str) -> str | None:
    """Why a line of a block is not run, if it is not."""
    for known in NOT_RUN:
        if known.page == block.page and known.language == block.language and line.startswith(known.beginning):
            return known.why
    return None
