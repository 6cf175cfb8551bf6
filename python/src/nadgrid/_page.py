"""The coordinator's page, asked over HTTP/1.1 on the port of its gRPC service, with the same token and certificates.

Deliberately absent: connections that are kept, and redirects, which could lead anywhere.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from urllib.parse import quote, urlencode

from nadgrid._address import Address
from nadgrid._text import clean
from nadgrid.errors import CoordinatorError, NadgridError, Unreachable, from_reason

#: Seconds without a byte after which an answer is given up. A large picture is drawn before its first byte.
SILENCE = 60.0
#: Bytes of an answer.
MOST_ANSWER = 32 << 20


class Page:
    """Where the page is, and what to show it."""

    def __init__(self, address: Address, token: str, context: ssl.SSLContext | None, domain: str) -> None:
        self._address = address
        self._token = token
        self._context = context
        self._domain = domain

    def get(self, *path: str, **query: str) -> bytes:
        """The answer to a GET; the parts of the path are quoted.

        Raises the error that the coordinator's reason stands for, or :class:`Unreachable`.
        """
        place = "/" + "/".join(quote(part, safe="/") for part in path)
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        connection = self._connection()
        try:
            connection.request("GET", f"{place}?{urlencode(query)}" if query else place, headers=headers)
            with connection.getresponse() as answer:
                status, content = answer.status, answer.read(MOST_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            words = clean(str(error) or type(error).__name__)
            raise Unreachable(
                f"the page of the coordinator at {self._address.url} cannot be reached: {words}"
            ) from None
        finally:
            connection.close()
        if len(content) > MOST_ANSWER:
            raise CoordinatorError(f"{place} has more than the {MOST_ANSWER} bytes that are accepted")
        if status != http.client.OK:
            raise self._refusal(status, content)
        return content

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._address.host, self._address.port
        if self._context is None:
            return http.client.HTTPConnection(host, port, timeout=SILENCE)
        return _Verified(host, port, self._context, self._domain or host)

    def _refusal(self, status: int, content: bytes) -> NadgridError:
        try:
            told = json.loads(content)
            words, reason = told["error"], told["reason"]
        except (ValueError, TypeError, KeyError, RecursionError):
            words = reason = None
        if not (isinstance(words, str) and isinstance(reason, str)):
            words, reason = f"HTTP status {status}", ""
        return from_reason(self._address.url, clean(reason), clean(words))


class _Verified(http.client.HTTPSConnection):
    """A connection whose certificate is for a name that need not be the host's."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, name: str) -> None:
        super().__init__(host, port, timeout=SILENCE, context=context)
        self._verifying, self._name = context, name

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), SILENCE)
        try:
            self.sock = self._verifying.wrap_socket(plain, server_hostname=self._name)
        except BaseException:
            plain.close()
            raise
