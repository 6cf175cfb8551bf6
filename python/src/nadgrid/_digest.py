"""Payloads are taken whole and undamaged, or not at all."""

from __future__ import annotations

from blake3 import blake3

from nadgrid.errors import DamagedPayload
from nadgrid.views import Artifact


def check(artifact: Artifact, content: bytes) -> bytes:
    """The content, if it has the size and digest that were announced."""
    name = artifact.name
    if len(content) < artifact.size:
        wrong = f"{name}: the payload is truncated: {len(content)} of {artifact.size} bytes were received"
        raise DamagedPayload(wrong, field=name)
    if len(content) > artifact.size:
        wrong = f"{name}: the payload is longer than the {artifact.size} bytes announced"
        raise DamagedPayload(wrong, field=name)
    actual = blake3(content).hexdigest()
    if actual != artifact.digest:
        wrong = f"{name}: the payload is damaged: its digest is {actual}, {artifact.digest} was announced"
        raise DamagedPayload(wrong, field=name)
    return content
