"""Attacks on the one port that everything is served on, with the bytes of HTTP and of gRPC.

Each is run by itself against a coordinator that they share.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import floods
import heavy
import malformed
import pytest
import slow
from guard import LEFT_BEHIND, Attack, Guard
from measure import MIB, memory

from target import ATTACKS, NamedAttack, Target

#: That they are imported is what puts their attacks on the list.
MODULES = (floods, slow, malformed, heavy)


@pytest.mark.parametrize("named", ATTACKS, ids=lambda named: named.name)
def test_attack(named: NamedAttack, guarded: Callable[..., AbstractContextManager[Attack]], target: Target) -> None:
    with guarded(named.name) as attack:
        attack.sent = named.run(target)


def test_all_of_them_together_leave_little(guard: Guard) -> None:
    """What each leaves behind is within bounds; so is the sum of it."""
    pid = guard.cluster.coordinator.pid
    more = (memory(pid) - guard.began) / MIB
    assert memory(pid) < guard.began + LEFT_BEHIND, f"{more:.0f} MiB more than before the first attack"
