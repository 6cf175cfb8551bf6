"""Whether an attack hurt anybody: what every attack is held against.

While an attack runs, a bystander with a token of its own asks the coordinator all the time. Afterwards its slowest call took
less than a second and none failed, the coordinator's memory is back, a sweep that was acknowledged before is listed as it was,
and a new one is taken.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bystander import PAUSE, Bystander, open_channel, token_of
from cluster import Cluster
from measure import MIB, Cost, Row, memory, record
from nadgrid.v1.nadgrid_pb2 import (
    CancelRequest,
    ListRequest,
    PauseRequest,
    SubmitRequest,
    Sweep,
)
from nadgrid.v1.nadgrid_pb2_grpc import SweepServiceStub

#: Whose token the bystander has; attackers have others.
BYSTANDER = "bystander"
#: Seconds within which the bystander must be answered.
MOST_WAIT = 1.0
#: Bytes that an attack may leave behind.
LEFT_BEHIND = 64 * MIB
#: Bytes that an attack may take while it lasts: a coordinator on a machine of 1 GiB is not ended by it.
MOST_TAKEN = 512 * MIB
#: Seconds until memory must be back.
SETTLE = 10.0
#: Seconds for which the bystander asks at the least, however short the attack is.
LEAST = 0.5

SPEC = """\
name = "{name}"
seed = 1
input = { height = 16, width = 16 }
architectures = ["lenet"]
precision = "{precision}"

[nads]
networks = 16
"""


def authority_of(cluster: Cluster) -> Path | None:
    """The authority that a cluster with TLS gives to its command line."""
    access = cluster.access
    return Path(access[access.index("--tls-ca") + 1]) if "--tls-ca" in access else None


@dataclass
class Attack:
    """An attack under way, and in the end what came of it."""

    cost: Cost
    #: For the table; an attack that finds out only then how much it could send says it here.
    sent: str
    #: Of the bystander's slowest call, seconds; known in the end.
    worst_wait: float = 0.0
    #: How often the bystander asked; known in the end.
    asked: int = 0


class Guard:
    """Guards one cluster, which has tokens; for a ``with`` block."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        token = token_of(cluster.token(BYSTANDER))
        self._metadata = (("authorization", f"Bearer {token}"),)
        with ExitStack() as stack:
            channel = open_channel(cluster.address, authority := authority_of(cluster))
            self._stub = SweepServiceStub(stack.enter_context(channel))
            #: A sweep of the bystander's. No worker changes its state: CPUs do not compute its precision, and it is paused.
            self.acknowledged = self._submit("acknowledged", "bf16")
            self._stub.Pause(PauseRequest(sweep_id=self.acknowledged), metadata=self._metadata, timeout=30)
            self._bystander = stack.enter_context(closing(Bystander(cluster.address, token, authority)))
            self._stack = stack.pop_all()
        #: Bytes of memory before all attacks.
        self.began = memory(cluster.coordinator.pid)

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _submit(self, name: str, precision: str = "fp32") -> str:
        request = SubmitRequest(spec=SPEC.replace("{name}", name).replace("{precision}", precision))
        return str(self._stub.Submit(request, metadata=self._metadata, timeout=30).sweep.id)

    def _listed(self) -> Sweep | None:
        response = self._stub.List(ListRequest(page_size=1000), metadata=self._metadata, timeout=30)
        return next((sweep for sweep in response.sweeps if sweep.id == self.acknowledged), None)

    @contextmanager
    def attack(
        self,
        name: str,
        sent: str = "",
        *,
        most_wait: float = MOST_WAIT,
        left_behind: int = LEFT_BEHIND,
        most_taken: int = MOST_TAKEN,
        settle: float = SETTLE,
    ) -> Iterator[Attack]:
        """An attack, for a ``with`` block; ``sent`` says for the table what the attacker sends.

        When the block has ended the attacker must have closed what it opened. Then everything is checked.
        """
        before = self._listed()
        assert before is not None, "lost before the attack"
        cost = Cost(self.cluster.coordinator.pid)
        attack = Attack(cost, sent)
        cost.begin()
        began = time.monotonic()
        self._bystander.begin()
        failures = []
        try:
            yield attack
            time.sleep(max(0.0, began + LEAST - time.monotonic()))
            assert self.cluster.coordinator.is_running(), "the coordinator has ended"
        except BaseException as problem:
            # The attack itself found something: the table has it with what was measured.
            failures.append(str(problem).splitlines()[0] if str(problem) else type(problem).__name__)
            raise
        finally:
            told, took = self._bystander.end(), time.monotonic() - began
            if self.cluster.coordinator.is_running():
                cost.end(left_behind, settle)
            cost.stop()
            attack.worst_wait, attack.asked = told["worst"], told["asked"]
            if told["errors"]:
                failures.append(f"{told['errors']} of the bystander's {attack.asked} calls failed: {told['error']}")
            if attack.worst_wait >= most_wait:
                failures.append(f"the bystander waited for {attack.worst_wait:.2f} s")
            # As often as it asks when every call takes as long as it may.
            elif attack.asked < max(3, took / (most_wait + PAUSE) - 1):
                failures.append(f"the bystander asked only {attack.asked} times in {took:.1f} s")
            if cost.after > cost.before + left_behind:
                failures.append(f"memory went from {cost.before / MIB:.0f} to {cost.after / MIB:.0f} MiB")
            if cost.peak > cost.before + most_taken:
                failures.append(f"memory went from {cost.before / MIB:.0f} up to {cost.peak / MIB:.0f} MiB")
            failed = "; ".join(failures)
            record(Row(name, attack.sent, attack.worst_wait, cost.before, cost.peak, cost.after, cost.cpu, failed))
        assert not failures, failed
        self.check(before)

    def check(self, before: Sweep) -> None:
        """Nothing acknowledged is lost, and new work is taken."""
        after = self._listed()
        assert after is not None, f"sweep {self.acknowledged} is lost"
        assert (after.state, after.paused) == (before.state, before.paused)
        assert after.submitted_at == before.submitted_at
        new = self._submit("afterwards")
        self._stub.Cancel(CancelRequest(sweep_id=new), metadata=self._metadata, timeout=30)
