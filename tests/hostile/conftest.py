"""A coordinator with tokens, a client that must not notice the attacks, and the table of what they cost.

A module whose coordinator needs other arguments names them in ``COORDINATOR``, for example
``COORDINATOR = ("--limit", "unused_inputs=16")``. A test that needs one of its own makes a ``Cluster`` and a ``Guard`` of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from cluster import Cluster, clusters

# The hook shows the clusters' logs with a failure.
from cluster import pytest_runtest_makereport as pytest_runtest_makereport
from guard import BYSTANDER, Attack, Guard
from measure import write_table
from scene import Honest, Scene, Truth

from target import ATTACKERS, Target

#: Users that a coordinator of these tests knows. Attackers who have a token are mallory.
USERS = (BYSTANDER, ATTACKERS, "ada")


@pytest.fixture(scope="module")
def coordinator(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A coordinator that a module's tests share: it has tokens and a data folder, and no workers."""
    yield from clusters(*getattr(request.module, "COORDINATOR", ()), tokens=USERS)


@pytest.fixture(scope="module")
def guard(coordinator: Cluster) -> Iterator[Guard]:
    with Guard(coordinator) as guard:
        yield guard


@pytest.fixture
def guarded(guard: Guard) -> Callable[..., AbstractContextManager[Attack]]:
    """``with guarded("rapid reset", "50,000 streams, each reset"):`` around an attack; see ``Guard.attack``."""
    return guard.attack


@pytest.fixture(scope="module")
def target(coordinator: Cluster) -> Target:
    """The module's coordinator as an attacker sees it, who has sweeps and a file there."""
    return Target.furnished(coordinator)


@pytest.fixture(scope="module")
def honest(coordinator: Cluster) -> Honest:
    for name in ("mallory", "trudy"):
        coordinator.token(name, role="worker")
    # A coordinator that starts knows all tokens at once.
    coordinator.crash_coordinator()
    honest = Honest(coordinator)
    honest.come()
    return honest


@pytest.fixture(scope="module")
def truth(honest: Honest) -> Truth:
    return Truth.of(honest.cluster)


@pytest.fixture
def scene(coordinator: Cluster, honest: Honest, truth: Truth, guard: Guard) -> Iterator[Scene]:
    assert coordinator.coordinator.is_running(), "an earlier lie has ended the coordinator"
    coordinator.wait_for_workers(1)
    scene = Scene(coordinator, truth, guard, honest)
    yield scene
    scene.tidy_up()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A hook of pytest: what has been waiting since the beginning is looked at last."""
    items.sort(key=lambda item: item.name == "test_half_an_answer_is_no_answer")


def pytest_sessionfinish() -> None:
    """A hook of pytest: the table is written when all attacks are over."""
    write_table()
