"""A coordinator, as a notebook sees it."""

from __future__ import annotations

import queue
import uuid
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from nadgrid import _html
from nadgrid._connection import Connection, Settings, assign
from nadgrid._spec import LocalFile, SpecText
from nadgrid._untrusted import is_plain_id
from nadgrid.errors import CoordinatorError, NadgridError
from nadgrid.sweep import Sweep, Sweeps, about
from nadgrid.v1 import nadgrid_pb2 as pb
from nadgrid.views import Check, Explanation, Plan, Rows, Worker

if TYPE_CHECKING:
    from nadgrid._connection import File
    from nadgrid._spec import Content, Spec

#: Sweeps per page of a list.
_PAGE = 200


def connect(
    url: str | None = None,
    token: str | None = None,
    *,
    token_file: File | None = None,
    ca: File | None = None,
    certificate: File | None = None,
    key: File | None = None,
    domain: str | None = None,
    insecure_token: bool | None = None,
) -> Client:
    """Connects to the coordinator at ``url``, ``http://127.0.0.1:7400`` unless told otherwise.

    Each argument has a variable, the same as the command line's: ``NADGRID_COORDINATOR``, ``NADGRID_TOKEN``,
    ``NADGRID_TOKEN_FILE``, ``NADGRID_TLS_CA``, ``NADGRID_TLS_CERTIFICATE``, ``NADGRID_TLS_KEY``, ``NADGRID_TLS_DOMAIN``,
    ``NADGRID_INSECURE_TOKEN``.

    :param token: what access control wants; ``token_file`` names a file that holds it
    :param ca: authorities to trust for ``https://``, instead of the system's (PEM)
    :param certificate: own certificate, for mutual TLS (PEM), with its ``key``
    :param domain: host name of the coordinator's certificate, when it is not that of the address
    :param insecure_token: send the token over plain http to another machine too
    :raises SettingsError: for an argument that is of no use
    :raises Unreachable: when nobody answers there
    :raises AccessDenied: for a token that may not see sweeps
    """
    settings = Settings(url, token, token_file, ca, certificate, key, domain, insecure_token)
    client = Client(settings)
    try:
        # Whether somebody is there and takes the token is better known now.
        client.sweeps(1)
    except BaseException:
        client.close()
        raise
    return client


class Client:
    """A connection to a coordinator, made by :func:`connect`. Usable in a ``with`` block, and from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._connection = Connection(settings)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; sweeps go on."""
        self._connection.close()

    @property
    def url(self) -> str:
        """The coordinator's address."""
        return self._connection.url

    def plan(self, spec: Spec, files: Mapping[str, Content] | None = None) -> Plan:
        """What a sweep will take on the coordinator's workers, without running it. See :meth:`submit`; nothing is uploaded."""
        text = SpecText.of(spec)
        inputs = [file.as_input() for file in text.files(files)]
        request = pb.PlanRequest(spec=text.text, inputs=inputs)
        return Plan.of(self._connection.call(self._connection.stub.Plan, request))

    def submit(
        self,
        spec: Spec,
        files: Mapping[str, Content] | None = None,
        *,
        key: str | None = None,
        priority: int = 0,
        weight: float = 1.0,
    ) -> Sweep:
        """Submits a sweep, with the files that its spec names.

        :param spec: TOML text, the path of a TOML file, or a dict; a dict may hold numpy's numbers and arrays
        :param files: what names in the spec stand for: paths, bytes, or arrays, which are sent as ``.npy``. Others are looked for
            beside the spec's file, then in the current folder
        :param key: the same key, spec and files give the sweep that was submitted first; a new key unless given
        :param priority: sweeps of a higher priority go first, from -100 to 100
        :param weight: sweeps of one priority share the slots by weight, from 0.01 to 100
        :raises SpecError: for a spec that is refused, be it for a file; ``violations`` has everything that is wrong
        """
        text = SpecText.of(spec)
        local = text.files(files)
        request = pb.SubmitRequest(
            spec=text.text,
            idempotency_key=key if key is not None else str(uuid.uuid4()),
            inputs=[file.as_input() for file in local],
        )
        assign(request, priority=priority, weight=weight)
        for file in local:
            self._upload(file)
        response = self._connection.call(self._connection.stub.Submit, request)
        if not response.HasField("sweep"):
            raise CoordinatorError("the coordinator answered a submission without its sweep")
        if not is_plain_id(response.sweep.id):
            accepted = "1 to 64 letters, digits, `-`, `_` or `.`, the first of them a letter or a digit"
            raise CoordinatorError(f"the new sweep's id is {response.sweep.id!r}; an id is {accepted}")
        return Sweep(self._connection, response.sweep, response.created)

    def _upload(self, file: LocalFile) -> None:
        unreadable: list[OSError] = []
        # Whether the bytes may go: once they are granted, they do; at the end of the call they do not.
        grants: queue.SimpleQueue[bool] = queue.SimpleQueue()

        def parts() -> Iterator[pb.UploadInputRequest]:
            try:
                yield from file.upload(grants.get)
            except OSError as error:
                unreadable.append(error)
                raise

        try:
            for answer in self._connection.stream(self._connection.stub.UploadInput, parts()):
                if answer.HasField("grant"):
                    grants.put(True)
                elif answer.HasField("stored"):
                    return file.check(answer.stored)
        except NadgridError:
            if unreadable:
                raise unreadable[0] from None
            raise
        finally:
            grants.put(False)
        raise CoordinatorError(f"the coordinator ended the upload of {file.name} without an answer")

    def sweep(self, id: str) -> Sweep:
        """The sweep with this id."""
        message = self._connection.call(self._connection.stub.Get, pb.GetRequest(sweep_id=id))
        return Sweep(self._connection, about(id, message))

    def sweeps(self, limit: int = 100) -> Sweeps:
        """The newest sweeps, newest first; with access control, one's own."""
        found: list[Sweep] = []
        page = ""
        while len(found) < limit:
            request = pb.ListRequest(page_size=min(_PAGE, limit - len(found)), page_token=page)
            response = self._connection.call(self._connection.stub.List, request)
            if response.next_page_token and not response.sweeps:
                # Each page brings the end nearer.
                raise CoordinatorError("a page of the list is empty, but another is announced")
            found += [Sweep(self._connection, message) for message in response.sweeps]
            page = response.next_page_token
            if not page:
                break
        return Sweeps(found[:limit])

    def workers(self) -> Rows[Worker]:
        """The workers that the coordinator knows."""
        response = self._connection.call(self._connection.stub.ListWorkers, pb.ListWorkersRequest())
        return Rows(map(Worker.of, response.workers))

    def explain(self, sweep: Sweep | str, job: int | str | None = None, block: int | None = None) -> Explanation:
        """See :meth:`Sweep.explain`."""
        return self._sweep(sweep).explain(job, block)

    def verify(self, sweep: Sweep | str, sample: int = 1, seed: int = 0) -> Rows[Check]:
        """See :meth:`Sweep.verify`."""
        return self._sweep(sweep).verify(sample, seed)

    def _sweep(self, sweep: Sweep | str) -> Sweep:
        return self.sweep(sweep) if isinstance(sweep, str) else sweep

    def __repr__(self) -> str:
        return f"<nadgrid coordinator at {self.url}>"

    def _repr_html_(self) -> str:
        return _html.heading("nadgrid", f"coordinator at {self.url}")
