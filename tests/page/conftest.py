"""Chromium looks at the page of a real cluster."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, clusters
from cluster import pytest_runtest_makereport as pytest_runtest_makereport
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

SPECS = Path(__file__).parent / "specs"

#: Changes filling.toml so that it runs for as long as a test may look at it.
WITHOUT_END = "directional.seeds=1000"

#: A worker's name is free text, and this one would be code if it were read as markup.
MARKUP = '<img src=x onerror="document.body.remove()">'

#: Milliseconds until the page must show something. Longer than any wait on a busy machine.
PATIENCE = 90_000

expect.set_options(timeout=PATIENCE)


def chromium() -> str:
    """The browser of the system: the one that Playwright would download is not needed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("NADGRID_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    assert found, "Chromium is not installed: `apt-get install chromium`, or name one in NADGRID_CHROMIUM"
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    # Chromium's sandbox cannot be had as root, as which CI runs.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield running
        running.close()


class Viewer:
    """One tab, and all that went wrong or was sent in it."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.base = base
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE)
        #: What Chromium logged as an error; refused requests and violations of the content security policy among it.
        self.errors: list[str] = []
        #: (method, address) of all requests.
        self.requests: list[tuple[str, str]] = []
        self.page.on("console", self._logged)
        self.page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        self.page.on("request", lambda request: self.requests.append((request.method, request.url)))

    def _logged(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def open(self, route: str = "#/sweeps") -> Page:
        """Opens an address of the page, as a bookmark would."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.base}/{route}")
        return self.page

    @property
    def writes(self) -> list[str]:
        """Requests that may change something."""
        return [f"{method} {url.removeprefix(self.base)}" for method, url in self.requests if method != "GET"]

    def expect_errors(self, pattern: str) -> None:
        """Takes off the errors that a test provokes, of which there must be one."""
        provoked = [error for error in self.errors if re.search(pattern, error)]
        assert provoked, f"no {pattern!r} among {self.errors}"
        self.errors = [error for error in self.errors if error not in provoked]

    def check(self) -> None:
        """Nothing went wrong, and nobody but the coordinator was asked for anything."""
        assert self.errors == []
        foreign = [url for _, url in self.requests if not url.startswith((self.base, "blob:", "data:", "about:"))]
        assert foreign == []


View = Callable[..., Viewer]


@pytest.fixture
def view(browser: Browser) -> Iterator[View]:
    """Makes tabs, each with a storage of its own, and checks them all in the end."""
    contexts: list[BrowserContext] = []
    viewers: list[Viewer] = []

    def make(cluster: Cluster, **options: Any) -> Viewer:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", **options})
        contexts.append(context)
        viewers.append(Viewer(context, cluster.url))
        return viewers[-1]

    yield make
    for viewer in viewers:
        viewer.check()
    for context in contexts:
        context.close()


def page_token(cluster: Cluster) -> str:
    """The token in the page's address that the coordinator prints."""
    pattern = r"/#token=(\S+)"
    found = re.findall(pattern, "\n".join(cluster.coordinator.output))
    return str(found[-1] if found else cluster.coordinator.wait_for_line(pattern).group(1))


def picture(page: Page, name: str) -> Locator:
    """The picture of this name."""
    return page.locator(f"figure[data-name='{name}'] img")


def is_drawn(image: Locator) -> bool:
    """Whether an image has pixels to show."""
    return bool(image.evaluate("(image) => image.complete && image.naturalWidth > 0"))


class Library:
    """A cluster with sweeps in several states that nobody changes any more."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        cluster.add_worker("--slots", "1", "--name", MARKUP)
        cluster.add_worker("--slots", "1", "--name", "second")
        self.complete = cluster.submit(SPECS / "directions.toml")
        cluster.wait(self.complete)
        self.other = cluster.submit("lenet.toml", "nads.networks=64", "input={height=16, width=16}", 'name="other"')
        cluster.wait(self.other)
        self.cancelled = cluster.submit(SPECS / "filling.toml", 'name="given_up"')
        cluster.wait(self.cancelled, lambda status: status["jobs"][0]["members_done"] > 0)
        cluster.nadgrid("cancel", self.cancelled)
        self.paused = cluster.submit(SPECS / "filling.toml")
        cluster.wait(self.paused, lambda status: status["jobs"][0]["members_done"] >= 48)
        cluster.nadgrid("pause", self.paused)
        # What was leased before is still computed.
        cluster.wait(self.paused, lambda status: status["jobs"][0]["members_in_flight"] == 0)


@pytest.fixture(scope="session")
def library() -> Iterator[Library]:
    for cluster in clusters("--most-shard-blocks", "4"):
        yield Library(cluster)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster of the test's own, with a worker of one slot."""
    for fresh in clusters("--most-shard-blocks", "1"):
        fresh.add_worker("--slots", "1")
        yield fresh
