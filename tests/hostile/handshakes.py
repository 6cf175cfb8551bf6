"""Attacks on the handshake of TLS: it does not end, it is none, or it is made again and again.

Most is sent by hand (RFC 8446); a true handshake is made by Python's OpenSSL, and what Python does not make, renegotiation and
changes of keys, by the program ``openssl``. None of these attackers has a token.
"""

from __future__ import annotations

import random
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter

from slow import LONG, lines, trickle
from wire import ATTACKER, HEALTH, Http2, Line

from target import NamedAttack, Target, naming

#: Types of records.
ALERT, HANDSHAKE, DATA = 0x15, 0x16, 0x17
#: Bytes of a record at most.
MOST_RECORD = 16_384

#: All that are named with ``attack``, in their order. They are for a coordinator with TLS.
ATTACKS: list[NamedAttack] = []


attack = naming(ATTACKS)


def record(kind: int, payload: bytes, version: int = 0x0303) -> bytes:
    return bytes([kind]) + version.to_bytes(2, "big") + len(payload).to_bytes(2, "big") + payload


def context() -> ssl.SSLContext:
    """An attacker does not care who answers."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.set_alpn_protocols(["h2"])
    return made


class TlsLine(Line):
    """A connection that makes a handshake of TLS; what is said in it is its own."""

    def __init__(self, address: str, source: str = ATTACKER) -> None:
        super().__init__(address, source)
        self._from, self._to = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context().wrap_bio(self._from, self._to, server_hostname="localhost")

    def hello(self) -> bytes:
        """The first message, which is not sent."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return self._to.read()
        raise AssertionError("a handshake without an answer")

    def shake_hands(self, seconds: float = 5.0) -> bool:
        """Makes the handshake; whether it was made."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.closed:
            try:
                self._tls.do_handshake()
                return self.send(self._to.read()) > 0
            except ssl.SSLWantReadError:
                self.send(self._to.read(), read=False)
                self.read(0.5, self.received_bytes + 1)
                self._from.write(self.received)
                self.received.clear()
        return False

    def say(self, data: bytes) -> None:
        """Says something within TLS."""
        self._tls.write(data)
        self.send(self._to.read())


def client_hello(address: str) -> bytes:
    with TlsLine(address) as line:
        return line.hello()


@attack("TLS: silence")
def silence(target: Target) -> str:
    with lines(target, 1500):
        time.sleep(LONG)
    return "1,500 connections that begin no handshake"


@attack("TLS: half a hello")
def half_a_hello(target: Target) -> str:
    hello = client_hello(target.address)
    with lines(target, 1500) as made:
        for line in made:
            line.send(hello[: len(hello) // 2])
        time.sleep(LONG)
    return "1,500 connections with half a ClientHello"


@attack("TLS: a hello in a trickle")
def slow_hello(target: Target) -> str:
    hello = client_hello(target.address)
    with lines(target, 500) as made:
        sent = trickle(made, hello)
    return f"500 connections with {sent:,} bytes of a ClientHello, one after the other"


@attack("TLS: no answer to the server's hello")
def half_a_handshake(target: Target) -> str:
    """The coordinator has made its keys and has signed."""
    hello = client_hello(target.address)
    with lines(target, 1500) as made:
        for line in made:
            line.send(hello)
        time.sleep(LONG)
    return "1,500 connections with a ClientHello and nothing after it"


@attack("TLS: hellos, cut off")
def cut_off(target: Target) -> str:
    """The coordinator answers some of them although nobody is there any more."""
    hello = client_hello(target.address)
    for turn in range(3000):
        line = Line(target.address, f"127.0.0.{2 + turn % 8}")
        line.send(hello, read=False)
        line.abort()
        if turn % 100 == 99:
            # An attacker elsewhere takes no time of the processor that it shares with the coordinator here.
            time.sleep(0.02)
    return "3,000 connections with a ClientHello, each reset at once"


@attack("TLS: a hello of one-byte records")
def crumbs(target: Target) -> str:
    hello = client_hello(target.address)[5:]
    pieces = b"".join(record(HANDSHAKE, bytes([byte])) for byte in hello)
    with lines(target, 300) as made:
        sent = sum(line.send(pieces, 0.5) for line in made)
        time.sleep(0.5)
    return f"300 ClientHellos in {len(hello)} records of one byte each, {sent >> 10} KiB"


@attack("TLS: records without content")
def empty_records(target: Target) -> str:
    """Legal for data only, which there is none of yet."""
    sent = _until_ended(target, record(HANDSHAKE, b"") * 2000, 50)
    return f"50 connections with {sent >> 10} KiB of empty records"


@attack("TLS: a message of 16 MiB")
def long_message(target: Target) -> str:
    begin = record(HANDSHAKE, b"\x01\xff\xff\xff" + b"\0" * (MOST_RECORD - 4))
    sent = _until_ended(target, begin + record(HANDSHAKE, b"\0" * MOST_RECORD) * 1023, 50)
    assert sent < 256 << 20, f"{sent >> 20} MiB were taken"
    return f"50 connections with a ClientHello that has 2^24 - 1 bytes, of which {sent / (1 << 20):.1f} MiB were taken"


@attack("TLS: records that are too long")
def long_records(target: Target) -> str:
    sent = _until_ended(target, bytes([HANDSHAKE, 3, 3, 0xFF, 0xFF]) + b"\0" * 0xFFFF, 200)
    return f"200 connections with a record of 65,535 bytes, {sent >> 10} KiB"


@attack("TLS: warnings without end")
def warnings(target: Target) -> str:
    sent = _until_ended(target, record(ALERT, b"\x01\x5a") * 20_000, 50)
    return f"50 connections with {sent >> 10} KiB of alerts that only warn"


def _until_ended(target: Target, what: bytes, connections: int) -> int:
    """Sends this on each of so many connections, which must be ended for it; how many bytes went."""
    with lines(target, connections) as made:
        sent = sum(line.send(what, 2.0) for line in made)
        ended = sum(line.ends(1.0) for line in made)
    assert ended == connections, f"only {ended} of {connections} were ended"
    return sent


@attack("TLS: random bytes")
def noise(target: Target) -> str:
    chosen, sent = random.Random(21), 0
    hello = client_hello(target.address)
    for _ in range(10):
        with lines(target, 100) as made:
            for line in made:
                payload = chosen.randbytes(chosen.randrange(1, 4096))
                kind = chosen.choice((ALERT, HANDSHAKE, DATA, 0x14, 0xFF))
                flipped = bytearray(hello)
                flipped[chosen.randrange(len(flipped))] ^= 1 << chosen.randrange(8)
                said = chosen.choice((payload, record(kind, payload), hello + record(kind, payload), bytes(flipped)))
                sent += line.send(said, 0.5)
    return f"1,000 connections with {sent >> 10} KiB of random bytes, records of them, and hellos with a flipped bit"


@attack("TLS: none")
def plaintext(target: Target) -> str:
    """HTTP in the clear, which ends the connection."""
    with lines(target, 300) as made:
        for line in made:
            line.send(b"GET /api/sweeps HTTP/1.1\r\nHost: localhost\r\n\r\n")
        ended = sum(line.ends(1.0) for line in made)
    for _ in range(300):
        with Http2(target.address) as line:
            line.call(HEALTH)
            ended += line.ends(1.0)
    assert ended == 600, f"only {ended} of 600 were ended"
    return "300 connections each with HTTP/1.1 and HTTP/2 in the clear"


@attack("TLS: handshakes without a pause")
def handshakes(target: Target) -> str:
    """Each costs the coordinator a signature."""
    host, port = target.address.rsplit(":", 1)
    made: Counter[bool] = Counter()
    until = time.monotonic() + LONG

    def shake_for_a_while(source: str) -> None:
        tls = context()
        while time.monotonic() < until:
            try:
                with socket.create_connection((host, int(port)), 5, (source, 0)) as plain, tls.wrap_socket(plain):
                    made[True] += 1
            except OSError:
                made[False] += 1

    threads = [threading.Thread(target=shake_for_a_while, args=(f"127.0.0.{2 + n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made[True], "no handshake was made"
    return f"{made[True]:,} handshakes one after the other on four lines, each closed at once"


@attack("TLS: handshakes and silence")
def unused(target: Target) -> str:
    made = []
    try:
        for number in range(300):
            made.append(TlsLine(target.address, f"127.0.0.{2 + number % 8}"))
            assert made[-1].shake_hands(), "no handshake was made"
        time.sleep(0.5)
    finally:
        for line in made:
            line.close()
    return "300 connections that make a handshake and say nothing after it"


@attack("TLS: renegotiation")
def renegotiation(target: Target) -> str:
    return _openssl(target, "-tls1_2", b"R\n", "renegotiations of TLS 1.2")


@attack("TLS: new keys")
def new_keys(target: Target) -> str:
    """Both sides must make new ones for a message of one byte."""
    return _openssl(target, "-tls1_3", b"K\n", "changes of keys of TLS 1.3")


def _openssl(target: Target, version: str, word: bytes, what: str) -> str:
    """Has ``openssl s_client`` do something again and again, on a new connection whenever one is ended."""
    program = shutil.which("openssl")
    assert program, "openssl is not installed: `apt-get install openssl`"
    command = [program, "s_client", version, "-connect", target.address]
    words, connections, until = 0, 0, time.monotonic() + LONG
    while time.monotonic() < until:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            # A word counts only if it is all that has come.
            while b"Verify return code" not in (line := child.stdout.readline()):
                assert line, "no handshake was made"
            connections += 1
            drain = threading.Thread(target=child.stdout.read)
            drain.start()
            try:
                while time.monotonic() < until and child.poll() is None:
                    child.stdin.write(word)
                    child.stdin.flush()
                    words += 1
                    time.sleep(0.001)
            except BrokenPipeError:
                pass
            child.kill()
            drain.join()
    return f"{words:,} {what} on {connections:,} connection{'s' if connections > 1 else ''}"
