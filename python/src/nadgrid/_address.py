"""Where a coordinator is, as people write it.

The command line, the workers and this package read addresses alike: ``tests/data/addresses.toml`` has what is accepted, and as
what, and what is refused.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from nadgrid._text import MOST_NAME, clean
from nadgrid.errors import SettingsError

#: The port of an address that names none.
DEFAULT_PORT = 7400
MOST_PORT = 65_535

_FORM = re.compile(
    r"(?:(?P<scheme>https?)://)?(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9_][a-z0-9._-]*))(?::(?P<port>[0-9]+))?/?",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True)
class Address:
    """A coordinator's address: scheme, host and port."""

    is_secure: bool
    #: In lower case; an IPv6 address without its brackets.
    host: str
    port: int

    @classmethod
    def of(cls, text: str) -> Address:
        """Reads ``[http://|https://]HOST[:PORT][/]``; scheme and host in any case, ``http`` and port 7400 where there is none.

        Raises :class:`SettingsError` for anything else.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise _refused(text, _why(text))
        host = (found["v6"] or found["name"]).lower()
        if found["v6"] and not _is_v6(host):
            raise _refused(text, f"{host} is no IPv6 address")
        port = found["port"]
        # A number of hundreds of digits is none.
        if port is not None and (port.startswith("0") or len(port) > 5 or int(port) > MOST_PORT):
            raise _refused(text, f"a port is a number from 1 to {MOST_PORT}")
        return cls((found["scheme"] or "http").lower() == "https", host, DEFAULT_PORT if port is None else int(port))

    @property
    def authority(self) -> str:
        """Host and port, as they stand in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The address in full: what errors show."""
        return f"{'https' if self.is_secure else 'http'}://{self.authority}"

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, so that nobody else can listen on the way."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _is_v6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _why(text: str) -> str:
    host = text.split("://", 1)[-1]
    if _is_v6(host) or _is_v6(host.rpartition(":")[0]):
        return "an IPv6 address stands in brackets, as in http://[::1]:7400"
    return "expected http://HOST:PORT or https://HOST:PORT"


def _refused(text: str, why: str) -> SettingsError:
    # A password may stand before the host.
    shown = clean(re.sub(r"[^/]*@", "***@", text, count=1), MOST_NAME)
    return SettingsError(f"{shown!r} is no address of a coordinator: {why}", field="url")
