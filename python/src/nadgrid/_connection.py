"""A connection to a coordinator: address, credentials, and calls whose errors are nadgrid's own.

Every message of a coordinator enters here, and is cleaned here. Deliberately absent: retries. Only following a sweep tries again
by itself.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union, cast

import grpc
import numpy as np

from nadgrid._address import Address
from nadgrid._page import Page
from nadgrid._untrusted import bounded, clean_message
from nadgrid.errors import NadgridError, RequestError, SettingsError, from_status
from nadgrid.v1.nadgrid_pb2_grpc import SweepServiceStub

if TYPE_CHECKING:
    from os import PathLike

    from google.protobuf.message import Message

DEFAULT_URL = "http://127.0.0.1:7400"
#: Seconds until a call that is answered at once is answered.
CALL_TIMEOUT = 30.0
#: Largest message that is taken: a chunk has 1 MiB, a list of a thousand sweeps a few.
MESSAGE_LIMIT = 16 << 20
#: Longest token, as coordinators take it.
MAX_TOKEN = 512

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    # Between signs of life, and until a missing one means that the connection is dead.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 15_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A coordinator that comes back is found soon.
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # As the command line: straight to the address.
    ("grpc.enable_http_proxy", 0),
]

if TYPE_CHECKING:
    File = Union[str, PathLike[str]]
Request = TypeVar("Request")
Response = TypeVar("Response", bound="Message")


class Settings:
    """Where a coordinator is, what to show it and whom to trust; arguments before ``NADGRID_`` variables."""

    def __init__(
        self,
        url: str | None,
        token: str | None,
        token_file: File | None,
        ca: File | None,
        certificate: File | None,
        key: File | None,
        domain: str | None,
        insecure_token: bool | None,
        variables: Mapping[str, str] = os.environ,
    ) -> None:
        def given(argument: File | None, name: str) -> File | None:
            return argument if argument is not None else variables.get(f"NADGRID_{name}") or None

        self.address = Address.of(_text(given(url, "COORDINATOR"), DEFAULT_URL))
        self.token = _token(token, token_file, variables)
        if insecure_token is None:
            insecure_token = _flag("NADGRID_INSECURE_TOKEN", variables)
        if self.token and not self.address.is_secure and not insecure_token and not self.address.is_local:
            raise SettingsError(
                f"{self.address.url} is neither https:// nor on this machine: the token would be sent unencrypted; "
                "use https://, or insecure_token=True if the network itself is protected",
                field="token",
            )
        self.credentials: grpc.ChannelCredentials | None = None
        self.context: ssl.SSLContext | None = None
        self.domain = _text(given(domain, "TLS_DOMAIN"), "")
        if self.address.is_secure:
            files = given(ca, "TLS_CA"), given(certificate, "TLS_CERTIFICATE"), given(key, "TLS_KEY")
            self.credentials = _credentials(*files)
            self.context = _context(*files)

    def __repr__(self) -> str:
        return f"Settings({self.address.url!r}, token={'***' if self.token else None})"


def _text(given: File | None, default: str) -> str:
    return default if given is None else os.fspath(given)


def _flag(name: str, variables: Mapping[str, str]) -> bool:
    """A variable that is one of the words for yes or no, as the programs read it; no where it is missing or empty."""
    text = variables.get(name, "").lower()
    if text not in ("", "0", "false", "no", "1", "true", "yes"):
        raise SettingsError(f"{name} = {text!r}: expected 1, true or yes, or 0, false or no", field=name)
    return text in ("1", "true", "yes")


def _token(token: str | None, file: File | None, variables: Mapping[str, str]) -> str:
    """The token: an argument before a variable, and the token itself before a file of it."""
    field = "token"
    if token is None and file is None:
        token, file = variables.get("NADGRID_TOKEN") or None, variables.get("NADGRID_TOKEN_FILE") or None
    if token is None and file is not None:
        field = "token_file"
        try:
            token = _read(field, file).decode("ascii")
        except UnicodeDecodeError:
            token = ""
    if token is None:
        return ""
    token = token.strip()
    if not (1 <= len(token) <= MAX_TOKEN and all("!" <= letter <= "~" for letter in token)):
        wrong = f"{field}: a token is one word of 1 to {MAX_TOKEN} printable ASCII characters"
        raise SettingsError(wrong, field=field)
    return token


def _credentials(ca: File | None, certificate: File | None, key: File | None) -> grpc.ChannelCredentials:
    if (certificate is None) != (key is None):
        has, needs = ("certificate", "key") if key is None else ("key", "certificate")
        raise SettingsError(f"{has} requires {needs}", field=has)
    roots = _system_roots() if ca is None else _pem("ca", ca, b"CERTIFICATE")
    chain = None if certificate is None else _pem("certificate", certificate, b"CERTIFICATE")
    private = None if key is None else _pem("key", key, b"PRIVATE KEY")
    return grpc.ssl_channel_credentials(roots, private, chain)


def _context(ca: File | None, certificate: File | None, key: File | None) -> ssl.SSLContext:
    """The same files for the coordinator's page. They have been looked at."""
    try:
        context = ssl.create_default_context(cafile=None if ca is None else Path(ca).expanduser())
        if certificate is not None and key is not None:
            # An encrypted key would make OpenSSL ask for its password on the terminal.
            context.load_cert_chain(Path(certificate).expanduser(), Path(key).expanduser(), password="")
    except (OSError, ValueError) as error:
        wrong = f"ca, certificate, key: the certificates are of no use: {error}"
        raise SettingsError(wrong, field="ca" if certificate is None else "certificate") from error
    return context


def _system_roots() -> bytes | None:
    """The authorities that the system trusts; ``None``, for those that grpc brings, where it names none."""
    authorities = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, authorities)).encode() or None


def _pem(field: str, path: File, kind: bytes) -> bytes:
    content = _read(field, path)
    if not any(line.startswith(b"-----BEGIN ") and kind in line for line in content.splitlines()):
        raise SettingsError(f"{field}: {os.fspath(path)} contains no {kind.decode().lower()} in PEM", field=field)
    return content


def _read(field: str, path: File) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise SettingsError(f"{field}: {os.fspath(path)} cannot be read: {error.strerror}", field=field) from error


def assign(request: Message, **arguments: object) -> None:
    """Sets fields of a request from arguments of a caller's; ``None`` leaves one out.

    Raises :class:`RequestError` for a number of the wrong kind or size.
    """
    for name, value in arguments.items():
        if value is None:
            continue
        if isinstance(value, np.generic):
            value = value.item()
        try:
            setattr(request, name, value)
        except (TypeError, ValueError) as error:
            raise RequestError(f"{name} = {value!r}: {error}", field=name) from None


class _BoundedChannel:
    """A channel whose answers are looked at before they are decoded, as a generated stub makes use of it."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        make = getattr(self._channel, kind)

        def method(path: str, *, response_deserializer: Callable[[bytes], Any], **options: Any) -> Any:
            return make(path, response_deserializer=bounded(response_deserializer), **options)

        return method


def _received(answer: Response) -> Response:
    """An answer made harmless, or the error that stands for it."""
    if isinstance(answer, NadgridError):
        raise answer
    clean_message(answer)
    return answer


class Connection:
    """A channel that carries the token with every call, and comes back by itself after a break."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.address.url
        #: Whether artifacts are asked for from a shared store, where there is one. One that failed is not tried again.
        self.reaches_store = True
        #: Where the coordinator's page is, which draws pictures.
        self.page = Page(settings.address, settings.token, settings.context, settings.domain)
        options = list(_OPTIONS)
        target = f"dns:///{settings.address.authority}"
        if settings.credentials is None:
            self._channel = grpc.insecure_channel(target, options)
        else:
            if settings.domain:
                options.append(("grpc.ssl_target_name_override", settings.domain))
            self._channel = grpc.secure_channel(target, settings.credentials, options)
        # A token as call credentials would be refused on plain connections to this machine.
        self._metadata = (("authorization", f"Bearer {settings.token}"),) if settings.token else ()
        self.stub = SweepServiceStub(cast("grpc.Channel", _BoundedChannel(self._channel)))

    def call(self, method: Callable[..., Response], request: object, timeout: float | None = CALL_TIMEOUT) -> Response:
        """The answer to one request, or to a stream of them."""
        try:
            answer = method(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self.error(error) from None
        return _received(answer)

    def stream(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Response] | grpc.StreamStreamMultiCallable[Request, Response],
        request: Request | Iterator[Request],
        timeout: float | None = None,
    ) -> Iterator[Response]:
        """The answers as they come; a caller that stops reading ends the call."""
        # A request, or a stream of them, as the method takes it.
        asked: Any = request
        answers = method(asked, timeout=timeout, metadata=self._metadata)
        try:
            for answer in answers:
                yield _received(answer)
        except grpc.RpcError as error:
            raise self.error(error) from None
        finally:
            answers.cancel()

    def error(self, error: grpc.RpcError) -> NadgridError:
        return from_status(self.url, error)

    def close(self) -> None:
        self._channel.close()


class Detached(Connection):
    """The connection of a sweep that came from another process: tokens and connections do not travel."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.reaches_store = False

    def __getattr__(self, name: str) -> Any:
        if name not in ("stub", "page"):
            raise AttributeError(name)
        wrong = f"this sweep came from another process without its connection; nadgrid.connect({self.url!r}).sweep(ID) finds it"
        raise SettingsError(wrong, field="sweep")
