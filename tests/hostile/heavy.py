"""Attacks with requests that cost the coordinator more than they cost their sender; each is well-formed."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack

from wire import SWEEPS, Http2, Line, message, text_field

from target import Target, attack

#: All of which the runs below fit into a worker's memory.
ARCHITECTURES = '["lenet", "logreg", "vgg11", "vgg11_bn", "resnet18", "deep_linear"]'


def many_ranges(name: str) -> str:
    """A spec with as many indices as are accepted, each written as a range with a stride."""
    entries = ",".join(f"{{start={turn % 1000},end=1023,stride=1023}}" for turn in range(4096))
    return (
        f'name = "{name}"\narchitectures = {ARCHITECTURES}\n'
        '[nads]\nnetworks = 1024\nestimator = "autograd"\n'
        f'[directional]\ndirections = {{ kind = "nads", indices = [{entries}] }}\n'
    )


@attack("plans of the largest specs")
def plans(target: Target) -> str:
    body = message(text_field(1, many_ranges("planned").encode()))
    calls = 0
    with ExitStack() as stack:
        for _ in range(4):
            line = stack.enter_context(Http2(target.address))
            bodies = {line.call(SWEEPS + "Plan", None, target.token): body for _ in range(20)}
            line.send_bodies(bodies, 5)
            calls += line.answered(bodies, 10)
    assert calls == 80, f"{calls} of 80 were answered"
    return f"80 calls of Plan with specs of {len(body) // 1000} kB"


def ask_over(target: Target, method: str, body: bytes, connections: int, each: int) -> None:
    """Makes calls on several connections at once and waits for the answers."""
    with ExitStack() as stack:
        made = [stack.enter_context(Http2(target.address)) for _ in range(connections)]
        opened = [[line.call(SWEEPS + method, body, target.token) for _ in range(each)] for line in made]
        for line, streams in zip(made, opened, strict=True):
            line.answered(streams, 5)


@attack("explanations")
def explanations(target: Target) -> str:
    ask_over(target, "Explain", text_field(1, target.sweep.encode()) + b"\x10\x00\x18\x03", 8, 200)
    return "1,600 calls of Explain at once"


@attack("calls without a pause")
def busy(target: Target) -> str:
    """More than a user may make: they are refused, and that must be cheap."""
    ask_over(target, "List", b"", 40, 250)
    return "10,000 calls of List at once, of which a user may make 1,000 a second"


@attack("verifications")
def verifications(target: Target) -> str:
    """Each would compute shards again, and no worker is there to do so."""
    asked = text_field(1, target.complete.encode()) + b"\x10\x90\x4e"
    with ExitStack() as stack:
        for _ in range(4):
            line = stack.enter_context(Http2(target.address, window=0))
            for _ in range(240):
                line.call(SWEEPS + "Verify", asked, target.token)
        time.sleep(1.5)
    return "960 calls of Verify with 10,000 blocks each, left open"


@attack("pictures")
def pictures(target: Target) -> str:
    """The coordinator draws them when they are asked for."""

    def get(path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {target.token}\r\n\r\n".encode()

    base = f"/api/sweeps/{target.complete}/pictures"
    with Line(target.address) as line:
        line.send(get(base))
        line.read(1.0)
        names = [picture["name"] for picture in json.loads(line.received.split(b"\r\n\r\n", 1)[1])["pictures"]]
    assert names, "there are no pictures"
    with ExitStack() as stack:
        made = [stack.enter_context(Line(target.address)) for _ in range(60)]
        for turn, line in enumerate(made):
            line.send(get(f"{base}/{names[turn % len(names)]}.svg"))
        for line in made:
            line.read(5.0, least=100)
            assert line.received.startswith(b"HTTP/1.1 200"), bytes(line.received[:300])
    return f"60 pictures of {len(names)} kinds, asked for at once"


@attack("cancelled submissions")
def churn(target: Target) -> str:
    """Ended sweeps are kept, and only so many of them."""
    spec = 'name = "churn"\narchitectures = ["logreg"]\n[nads]\nnetworks = 16\n'
    with Http2(target.address) as line:
        for _ in range(5):
            streams = [line.call(SWEEPS + "Submit", text_field(1, spec.encode()), target.token) for _ in range(60)]
            line.answered(streams, 10)
            ids = line.ids_in_answers()
            line.answered([line.call(SWEEPS + "Cancel", text_field(1, one), target.token) for one in ids], 10)
    return "300 sweeps, submitted and cancelled"
