"""Somebody else's words, as they may be kept and shown."""

from __future__ import annotations

import unicodedata

#: Characters of a text, and of one that is a name.
MOST_TEXT = 4_096
MOST_NAME = 256

#: What changes the direction of writing.
_TURNS = frozenset("\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean(text: str, most: int = MOST_TEXT, kept: str = "") -> str:
    """The text, at most so many characters of it, without what a terminal obeys: that becomes U+FFFD.

    These are control characters, but those kept, and what changes the direction of writing.
    """
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return "".join("\ufffd" if _is_obeyed(letter) and letter not in kept else letter for letter in cut)


def _is_obeyed(letter: str) -> bool:
    return letter in _TURNS or unicodedata.category(letter) == "Cc"
