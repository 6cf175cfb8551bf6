"""TOML 1.1, as coordinators read it: Python's own reader is of TOML 1.0 before Python 3.15."""

from __future__ import annotations

from typing import Any

import tomli

#: What an editor may put before the first character.
_BYTE_ORDER_MARK = "\ufeff"


def read(text: str) -> dict[str, Any]:
    """The tables of a text.

    Raises :class:`ValueError` for what is no TOML, and :class:`RecursionError` for what is too deep.
    """
    return tomli.loads(text.removeprefix(_BYTE_ORDER_MARK))
