"""All attacks at once, for as many minutes as the variable ``NADGRID_HOSTILE_MINUTES`` says."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager

import floods
import heavy
import malformed
import pytest
import slow
from guard import Attack

from target import ATTACKS, Target

MINUTES = float(os.environ.get("NADGRID_HOSTILE_MINUTES") or 0)
#: Attacks at once.
THREADS = 6
#: Seconds within which the bystander is answered among all of them, on a machine that they and the coordinator share.
MOST_WAIT = 5.0
MODULES = (floods, slow, malformed, heavy)


@pytest.mark.skipif(not MINUTES, reason="takes minutes: set NADGRID_HOSTILE_MINUTES")
def test_everything_at_once(guarded: Callable[..., AbstractContextManager[Attack]], target: Target) -> None:
    """Memory is back within 64 MiB of before, and the bystander is answered all the while."""
    until = time.monotonic() + 60 * MINUTES
    done: Counter[str] = Counter()
    # What an attacker is told or cut off from among so many others is no finding; each attack is looked at by itself elsewhere.
    stopped: Counter[str] = Counter()

    def attack_on(seed: int) -> None:
        chosen = random.Random(seed)
        while time.monotonic() < until:
            named = chosen.choice(ATTACKS)
            try:
                named.run(target)
                done[named.name] += 1
            except (AssertionError, OSError, LookupError, ValueError) as problem:
                stopped[f"{named.name}: {type(problem).__name__}"] += 1

    name = f"everything at once for {MINUTES:g} minutes"
    with guarded(name, most_wait=MOST_WAIT, most_taken=3 << 29, settle=60.0) as attack:
        threads = [threading.Thread(target=attack_on, args=(seed,)) for seed in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        attack.sent = f"{sum(done.values()):,} attacks of {len(done)} kinds, {THREADS} at once"
        print(done, stopped)
    assert len(done) > len(ATTACKS) / 2, stopped
