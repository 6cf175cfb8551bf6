"""A coordinator's messages, made harmless where they enter: a coordinator may be somebody else's, and hostile.

Whatever comes is cleaned here, once, before anything else sees it: text holds nothing that a terminal obeys and has a greatest
length, numbers are finite, moments are of this era, and lists end. What an honest coordinator sends stays as it is. Deliberately
absent: judgement; that a message belongs to its request, others check.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Callable

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from nadgrid._text import MOST_NAME, MOST_TEXT, clean
from nadgrid.errors import CoordinatorError
from nadgrid.v1 import nadgrid_pb2 as pb

#: Entries of a list.
MOST_ENTRIES = 1 << 14
#: Texts and messages within a message, as the command line has it, and other fields for each of these; small messages cost little.
MOST_PRICE = 1 << 21
_DELIMITED = 16
_SMALL = 1 << 16
#: Bytes of the fields of a fixed size, and the kinds of the begin and the end of a group.
_FIXED = {1: 8, 5: 4}
_GROUPS = (3, 4)
#: Greatest number of seconds, or of anything measured.
MOST_AMOUNT = 1e15
#: Seconds of a moment: up to the end of the year 9999.
_LAST_SECOND = 253_402_300_799
#: Bytes of a file that is taken into memory, as the command line has it.
MOST_BYTES = 1 << 30

#: Sentences and paths; all other texts are names, but the spec.
_SENTENCES = frozenset({"message", "notices", "reasons", "reason", "unfit", "last_error"})
_SHARES = frozenset({"progress"})
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def bounded(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Decodes a message with its class's ``FromString``, unless that would take far more memory than it has bytes; then the
    error takes its place.

    An entry of a list is two bytes on the wire and hundreds in memory.
    """
    kind: Descriptor = deserialize.__self__.DESCRIPTOR  # type: ignore[attr-defined]

    def decoded(content: bytes) -> Any:
        if len(content) > _SMALL:
            price = _price(content, 0, len(content), MOST_PRICE, kind)
            if price is None or price > MOST_PRICE:
                words = f"a message of {len(content)} bytes that is none, or whose fields take far more memory"
                return CoordinatorError(f"the coordinator's answer is not understood: {words}")
        return deserialize(content)

    return decoded


def _price(content: bytes, start: int, end: int, most: int, message: Descriptor) -> int | None:
    """What the fields of a message cost, those of messages within it too; ``None`` for what no decoder takes for a message.

    The price is known to be too high as soon as it is more than ``most``.
    """
    price = 0
    while start < end and price <= most:
        tag, start = _varint(content, start, end)
        if start < 0 or tag >> 3 == 0:
            return None
        kind = tag & 7
        price += _DELIMITED if kind == 2 else 1
        if kind == 0:
            _, start = _varint(content, start, end)
            if start < 0:
                return None
        elif kind == 2:
            size, start = _varint(content, start, end)
            if start < 0 or start + size > end:
                return None
            field = message.fields_by_number.get(tag >> 3)
            if field is not None and field.message_type is not None:
                price += _price(content, start, start + size, max(0, most - price), field.message_type) or 0
            start += size
        elif kind in _FIXED:
            start += _FIXED[kind]
            if start > end:
                return None
        elif kind not in _GROUPS:
            return None
    return price


def _varint(content: bytes, start: int, end: int) -> tuple[int, int]:
    """A number and where it ends; -1 where there is none."""
    value = shift = 0
    for place in range(start, min(end, start + 10)):
        value |= (content[place] & 0x7F) << shift
        if content[place] < 0x80:
            return value, place + 1
        shift += 7
    return 0, -1


def clean_message(message: Message) -> None:
    """Makes a message harmless, and all those within it."""
    if isinstance(message, pb.PresignedRequest):
        # An address and headers, which are sent and never shown.
        return
    for field, value in message.ListFields():
        if isinstance(value, Timestamp):
            if not (0 <= value.seconds <= _LAST_SECOND and 0 <= value.nanos < 1_000_000_000):
                message.ClearField(field.name)
        elif isinstance(value, Message):
            clean_message(value)
        elif isinstance(value, str):
            setattr(message, field.name, _text(message, field, value))
        elif isinstance(value, float):
            _clean_amount(message, field, value)
        elif not isinstance(value, (int, bytes)):
            _clean_list(field, value)


def _clean_list(field: FieldDescriptor, values: Any) -> None:
    del values[MOST_ENTRIES:]
    most = MOST_TEXT if field.name in _SENTENCES else MOST_NAME
    for place, value in enumerate(values):
        if isinstance(value, Message):
            clean_message(value)
        elif isinstance(value, str):
            values[place] = clean(value, most)


def _text(message: Message, field: FieldDescriptor, value: str) -> str:
    if field.name == "spec":
        # TOML has lines, and as many as it needs.
        return clean(value, len(value), kept="\n\t")
    is_path = isinstance(message, pb.Input) and field.name == "name"
    return clean(value, MOST_TEXT if is_path or field.name in _SENTENCES else MOST_NAME)


def _clean_amount(message: Message, field: FieldDescriptor, value: float) -> None:
    if math.isnan(value) or value < 0:
        # What is not known: nothing of an optional field, else zero.
        message.ClearField(field.name)
    else:
        setattr(message, field.name, min(value, 1.0 if field.name in _SHARES else MOST_AMOUNT))


def plain_path(name: str) -> str:
    """The name, if it is one of a file below a folder: names come over the wire.

    Raises :class:`CoordinatorError` for any other.
    """
    parts = name.split("/")
    if len(name) > 255 or not all(_is_word(part) and len(part) <= 128 for part in parts):
        raise CoordinatorError(
            f"{clean(name, MOST_NAME)!r} is no name of a file below a folder; accepted is a relative path of letters, digits, "
            "`.`, `_` and `-`, each part beginning with a letter or digit"
        )
    return name


def is_plain_id(id: str) -> bool:
    """Whether an id can stand in a command."""
    return len(id) <= 64 and _is_word(id)


def _is_word(word: str) -> bool:
    return bool(word) and set(word) <= _PLAIN and word[0] not in "._-"


def refuse_links(folder: Path, name: str) -> None:
    """Refuses a folder between this one and the file ``name`` below it that is a symbolic link, and thus elsewhere.

    Raises :class:`OSError`.
    """
    for part in Path(name).parts[:-1]:
        folder = folder / part
        if folder.is_symlink():
            raise OSError(f"{folder} is a symbolic link, and files are written into no other folder")
