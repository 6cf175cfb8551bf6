"""Attacks with requests of a user's: specs that are long, deep or full of faults, and what legal ones leave behind."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import grpc
import numpy as np
import pytest
from cluster import Cluster
from conftest import USERS
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from guard import LEFT_BEHIND, SETTLE, Attack, Guard
from heavy import many_ranges
from measure import MIB, eventually, memory
from nadgrid.v1.nadgrid_pb2 import Input, ListRequest, ListResponse, PlanRequest, SubmitRequest
from nadgrid.v1.nadgrid_pb2_grpc import SweepServiceStub
from wire import SWEEPS, Http2, text_field

from target import Target, metadata, upload

Guarded = Callable[..., AbstractContextManager[Attack]]

#: Bytes with which a spec is refused, at most.
REFUSAL = 16_000
#: Violations that a refusal names at most, and one that says that there are more.
VIOLATIONS = 21
#: A client takes no longer message unless it is told to.
ANSWER = 4 * MIB
#: What refusals and answers are is to be seen, however long they are.
OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_metadata_size", 64 * MIB),
    ("grpc.absolute_max_metadata_size", 64 * MIB),
    ("grpc.max_receive_message_length", 1024 * MIB),
]


class Mallory:
    """A user who means harm."""

    def __init__(self, target: Target) -> None:
        self._channel = grpc.insecure_channel(target.address, options=OPTIONS)
        self.stub = SweepServiceStub(self._channel)
        self.metadata = metadata(target.token)

    def __enter__(self) -> Mallory:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def refusal(self, spec: str, plan: bool = False) -> grpc.Call:
        """How a spec is refused, which it must be."""
        call: grpc.Call
        if plan:
            call = self.stub.Plan.future(PlanRequest(spec=spec), metadata=self.metadata, timeout=60)
        else:
            call = self.stub.Submit.future(SubmitRequest(spec=spec), metadata=self.metadata, timeout=60)
        assert call.code() != grpc.StatusCode.OK, "the spec was accepted"
        return call

    def submit(self, spec: str, inputs: Sequence[Input] = ()) -> str | None:
        """The sweep's id; nothing where it is refused, as a spec or because this user has too much."""
        request = SubmitRequest(spec=spec, inputs=inputs)
        call = self.stub.Submit.future(request, metadata=self.metadata, timeout=60)
        if call.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED):
            return None
        return str(call.result().sweep.id)

    def pages(self, size: int = 1000) -> Iterator[ListResponse]:
        """All pages of the list."""
        token = ""
        while True:
            request = ListRequest(page_size=size, page_token=token)
            page = self.stub.List(request, metadata=self.metadata, timeout=60)
            yield page
            if not (token := page.next_page_token):
                return


@pytest.fixture
def mallory(target: Target) -> Iterator[Mallory]:
    with Mallory(target) as mallory:
        yield mallory


def length(refused: grpc.Call) -> int:
    """Bytes with which a call was refused."""
    return sum(len(key) + len(value) for key, value in [*refused.initial_metadata(), *refused.trailing_metadata()])


def details(refused: grpc.Call) -> Status:
    """What a status says besides its message."""
    found = next(value for key, value in refused.trailing_metadata() if key == "grpc-status-details-bin")
    assert isinstance(found, bytes)
    return Status.FromString(found)


def violations(refused: grpc.Call) -> int:
    bad = BadRequest()
    found = [detail for detail in details(refused).details if detail.Unpack(bad)]
    return len(bad.field_violations) if found else 0


def reason(refused: grpc.Call) -> str:
    info = ErrorInfo()
    assert any(detail.Unpack(info) for detail in details(refused).details), "no ErrorInfo"
    return str(info.reason)


GOOD = 'name = "x"\narchitectures = ["lenet"]\n[nads]\nnetworks = 16\n'


def with_architectures(names: str) -> str:
    return GOOD.replace('["lenet"]', f"[{names}]")


def directional(directions: str) -> str:
    return f'name = "x"\narchitectures = ["lenet"]\n[nads]\nnetworks = 16\n[directional]\ndirections = {{ {directions} }}\n'


NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZghijklmno"

#: What is refused; most of these have nearly a million bytes.
REFUSED: dict[str, str] = {
    "140,000 architectures": with_architectures(
        ",".join(f'"{first}{turn:03x}"' for first in NAMES for turn in range(4000))
    ),
    "the same architecture 110,000 times": with_architectures(",".join(['"lenet"'] * 110_000)),
    "300,000 architectures without a name": with_architectures(",".join(['""'] * 300_000)),
    "a name of 1 MB": GOOD.replace('"x"', '"' + "x" * 1_000_000 + '"'),
    "an architecture of 1 MB": with_architectures('"' + "x" * 1_000_000 + '"'),
    "a key of 1 MB": "x" * 1_000_000 + " = 1\n" + GOOD,
    "a key of control characters": '"' + "\\u0007\\u001b" * 60_000 + '" = 1\n' + GOOD,
    "1,000 unknown keys": "".join(f"key{turn} = {turn}\n" for turn in range(1000)) + GOOD,
    "1,000 unknown keys of a table": GOOD + "".join(f"key{turn} = {turn}\n" for turn in range(1000)),
    "80,000 unknown keys": "".join(f"k{turn} = 1\n" for turn in range(80_000)) + GOOD,
    "a thousand wrong architectures": with_architectures(",".join(f'"wrong{turn}"' for turn in range(1000))),
    "a number of 1,000,000 digits": GOOD + "step = 1" + "0" * 1_000_000,
    "400,000 indices": directional('kind = "nads", indices = [' + ",".join(["0"] * 400_000) + "]"),
    "40,000 ranges": directional('kind = "nads", indices = [' + ",".join(["{start=0,end=15}"] * 40_000) + "]"),
    "a range without an end": directional('kind = "nads", indices = [{ start = 0, end = 9223372036854775807 }]'),
    "150,000 frequencies": directional('kind = "dft", frequencies = [' + ",".join(["[0,1]"] * 150_000) + "]"),
    "arrays within arrays": "name = " + "[" * 500_000,
    "closed arrays within arrays": "name = " + "[" * 500_000 + "]" * 500_000,
    "inline tables within inline tables": "name = " + "{a=" * 200_000,
    "a path of 300,000 keys": ".".join(["a"] * 300_000) + " = 1",
    "ever deeper tables": "".join(f"[{'.'.join(['a'] * depth)}]\n" for depth in range(1, 700)),
    "150,000 tables of an array": "[[a]]\n" * 150_000 + GOOD,
    "100,000 inline tables": "a = [" + ",".join(["{b={}}"] * 100_000) + "]\n" + GOOD,
    "dotted keys of one table": "".join(f"a.b.c.k{turn} = 1\n" for turn in range(60_000)) + GOOD,
    "strings that never end": 'name = """' + "\n" * 1_000_000,
    "zeros": "\0" * 1_000_000,
    "2 MiB": "#" + "x" * (2 << 20) + "\n" + GOOD,
    "32 GB of samples a slot": GOOD.replace('["lenet"]', '["lenet"]\ninput = { height = 64, width = 64 }')
    + '[directional]\ntrain_samples = 1000000\ndirections = { kind = "pixels", indices = [0] }\n',
}


def test_refused_specs_keep_nobody_waiting(mallory: Mallory, guarded: Guarded) -> None:
    with guarded(
        "wrong specs", f"{2 * len(REFUSED)} specs of {len(REFUSED)} kinds, most of nearly 1 MB, in Submit and Plan"
    ):
        for spec in REFUSED.values():
            mallory.refusal(spec)
            mallory.refusal(spec, plan=True)


@pytest.mark.parametrize("what", REFUSED)
def test_a_spec_is_refused_in_few_words(what: str, mallory: Mallory) -> None:
    for plan in (False, True):
        refused = mallory.refusal(REFUSED[what], plan)
        assert refused.code() == grpc.StatusCode.INVALID_ARGUMENT, refused
        assert length(refused) < REFUSAL
        assert violations(refused) <= VIOLATIONS


def test_many_architectures(mallory: Mallory, guarded: Guarded) -> None:
    spec = REFUSED["140,000 architectures"]
    with guarded(
        "140,000 architectures", f"16 calls each of Submit and Plan with a spec of {len(spec) // 1000} kB, all at once"
    ):
        calls: list[grpc.Call] = []
        for _ in range(16):
            calls.append(mallory.stub.Submit.future(SubmitRequest(spec=spec), metadata=mallory.metadata, timeout=60))
            calls.append(mallory.stub.Plan.future(PlanRequest(spec=spec), metadata=mallory.metadata, timeout=60))
        for call in calls:
            assert call.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture
def own() -> Iterator[tuple[Guard, Target]]:
    """A coordinator for what would stay in another's."""
    with Cluster(tokens=USERS) as cluster, Guard(cluster) as guard:
        yield guard, Target.of(cluster)


def npy(rows: int, columns: int) -> bytes:
    file = io.BytesIO()
    np.save(file, np.eye(rows, columns, dtype=np.float32))
    return file.getvalue()


def submit_many(
    mallory: Mallory, count: int, make: Callable[[int], str], inputs: Sequence[Input] = ()
) -> tuple[int, int]:
    """Submits as many as are accepted; how many these were, and the bytes of their specs."""
    accepted = length_ = 0
    for turn in range(count):
        spec = make(turn)
        if mallory.submit(spec, inputs) is None:
            break
        accepted, length_ = accepted + 1, length_ + len(spec)
    return accepted, length_


def check_pages(mallory: Mallory, count: int) -> None:
    """The list holds all sweeps once, in answers that any client takes."""
    for size in (1000, 7):
        pages = list(mallory.pages(size))
        longest = max(page.ByteSize() for page in pages)
        assert longest < ANSWER, f"a page has {longest / MIB:.1f} MiB"
        ids = [sweep.id for page in pages for sweep in page.sweeps]
        assert len(ids) == len(set(ids)) == count


#: Specs that are accepted and that are as large as they can be: how often they are submitted, and the spec.
LARGEST: dict[str, tuple[int, Callable[[int], str]]] = {
    "ranges": (200, lambda turn: many_ranges(f"x{turn}")),
    "a long path": (
        60,
        lambda turn: (
            f'name = "x{turn}"\narchitectures = ["lenet"]\n[directional]\n'
            f'directions = {{ kind = "file", path = "{PATH}", indices = [0] }}\n'
        ),
    ),
    "a long table": (
        60,
        lambda turn: (
            f'name = "x{turn}"\narchitectures = ["lenet"]\n[directional]\n'
            'directions = { kind = "dft", frequencies = ['
            + ", ".join(f"[{k % 32}, {k // 32 % 17}]" for k in range(4096))
            + "] }\n"
        ),
    ),
}
PATH = "p" * 4096


@pytest.mark.parametrize("what", LARGEST)
def test_the_largest_specs_stay_small(what: str, own: tuple[Guard, Target]) -> None:
    """What is kept of a spec is no more than its bytes, over and above what any attack may leave; or a limit is met."""
    guard, target = own
    cluster = guard.cluster
    count, make = LARGEST[what]
    bound, before = count * len(make(0)), memory(cluster.coordinator.pid)
    with Mallory(target) as mallory:
        data = npy(2, 1024)
        file = Input(name=PATH, size=len(data), digest=upload(mallory.stub, target.token, data))
        inputs = [file] if what == "a long path" else []
        with guard.attack(f"largest specs: {what}", left_behind=LEFT_BEHIND + bound) as attack:
            accepted, size = submit_many(mallory, count, make, inputs)
            assert accepted, "such a spec is not accepted at all"
            attack.sent = f"{count} submissions of {len(make(0)) // 1000} kB each, of which {accepted} were accepted"
        check_pages(mallory, accepted)
    cluster.crash_coordinator()
    with Mallory(target) as mallory:
        check_pages(mallory, accepted)
    most = before + LEFT_BEHIND + size
    pid, specs = cluster.coordinator.pid, size / MIB
    eventually(lambda: memory(pid) < most, f"memory as before a kill, for {specs:.0f} MiB of specs", SETTLE)


def test_unread_answers_about_large_sweeps(own: tuple[Guard, Target]) -> None:
    """Whoever opens no window makes the coordinator keep what it has to say: that must be little."""
    guard, target = own
    with Mallory(target) as mallory:
        ids = [mallory.submit(many_ranges(f"x{turn}")) for turn in range(10)]
    assert ids[0] is not None
    with guard.attack("answers not read: large sweeps") as attack:
        with Http2(target.address, window=0) as line:
            for _ in range(240):
                line.call(SWEEPS + "List", b"", target.token)
            time.sleep(2)
        with Http2(target.address, window=0) as line:
            for _ in range(240):
                line.call(SWEEPS + "Get", text_field(1, ids[0].encode()), target.token)
            time.sleep(1)
        with Http2(target.address, window=0) as line:
            for _ in range(240):
                line.call(SWEEPS + "Watch", text_field(1, ids[0].encode()), target.token)
            time.sleep(1)
        attack.sent = "240 calls each of List, Get and Watch with a window of 0, about sweeps with specs of 134 kB"


def test_unused_files_are_counted() -> None:
    """Not only their bytes: a file of one byte is a file in the store, too."""
    with (
        Cluster("--limit", "unused_inputs=16", tokens=USERS) as cluster,
        Guard(cluster) as guard,
        Mallory(target := Target.of(cluster)) as mallory,
    ):
        with guard.attack("unused files", "40 files of 1 byte, where 16 may be unused"):
            for turn in range(16):
                upload(mallory.stub, target.token, bytes([turn]))
            for turn in range(16, 40):
                with pytest.raises(grpc.RpcError) as refused:
                    upload(mallory.stub, target.token, bytes([turn]))
                call = refused.value
                assert isinstance(call, grpc.Call)
                assert (call.code(), reason(call)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "FULL")
            # One that is there already takes no further place.
            upload(mallory.stub, target.token, b"\0")
        # Others are not kept from uploading.
        with grpc.insecure_channel(target.address, options=OPTIONS) as channel:
            ada = cluster.token("ada").read_text().strip()
            upload(SweepServiceStub(channel), ada, b"ada's")
