"""Tables of runs and margins as frames.

Numbers have every bit that was written, which pandas' own parser does not promise.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nadgrid.errors import CoordinatorError

#: What a label says, as columns: the word before its numbers, and its index or frequency.
TYPED = {"kind": "string", "index": "Int64", "k1": "Int64", "k2": "Int64"}
RUNS = {
    "architecture": "string",
    "direction": "string",
    "set": "string",
    **TYPED,
    "seed": "int64",
    "train_accuracy": "float64",
    "test_accuracy": "float64",
    "train_loss": "float64",
    "test_loss": "float64",
    "epochs": "int64",
    "seconds": "float64",
    "diverged_at": "Int64",
}
QUARTILES = {
    "seed": "int64",
    "first_nad": "int64",
    "last_nad": "int64",
    "lower_quartile": "float64",
    "median": "float64",
    "upper_quartile": "float64",
    "images": "int64",
    "unreached": "int64",
}
_LABEL = re.compile(r"([a-z]+)(?: ([0-9]{1,18})| (-?[0-9]{1,18}) (-?[0-9]{1,18}))?")


def table(content: bytes, types: Mapping[str, str]) -> pd.DataFrame:
    """A file's table with typed columns; those that are not known here are text."""
    try:
        names, *rows = csv.reader(io.StringIO(content.decode("utf-8"), newline=""))
        if any(len(row) != len(names) for row in rows):
            raise ValueError("its lines are not of one length")
        cells = list(zip(*rows)) if rows else [()] * len(names)
        columns = {name: _column(types.get(name, "string"), cells[place]) for place, name in enumerate(names)}
        return pd.DataFrame(columns)
    except (ValueError, IndexError, OverflowError, csv.Error) as error:
        raise CoordinatorError(f"a table is not understood: {error}") from error


def runs(content: bytes) -> pd.DataFrame:
    """The runs of one job, with the columns of ``TYPED`` after the label's."""
    frame = table(content, RUNS)
    label = next((name for name in ("direction", "set") if name in frame), None)
    if label is None:
        raise CoordinatorError("a table is not understood: it has neither a column direction nor a column set")
    place = list(frame.columns).index(label)
    # Coordinators of other versions write these columns themselves.
    missing = {name: column for name, column in _typed(frame[label]).items() if name not in frame}
    for offset, (name, column) in enumerate(missing.items(), start=1):
        frame.insert(place + offset, name, column)
    return frame


def stacked(tables: Iterable[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    """The runs of several jobs, each with its experiment, as one frame; its columns are the same for any jobs."""
    frames = [_widened(experiment, frame) for experiment, frame in tables]
    if not frames:
        columns = {name: _column(kind, ()) for name, kind in {"experiment": "string", **RUNS}.items()}
        return pd.DataFrame(columns)
    return pd.concat(frames, ignore_index=True)


def _widened(experiment: str, frame: pd.DataFrame) -> pd.DataFrame:
    rows = len(frame)
    columns: dict[str, Any] = {"experiment": pd.array([experiment] * rows, dtype="string")}
    for name, kind in RUNS.items():
        columns[name] = frame[name] if name in frame else _column(kind, ("",) * rows, is_missing=True)
    rest = [name for name in frame.columns if name not in columns]
    return pd.DataFrame({**columns, **{name: frame[name] for name in rest}})


def _typed(labels: pd.Series[str]) -> dict[str, Any]:
    """Columns of what the labels say: ``nad 12``, ``cos 2 -4``, ``clean``. What another version says has its text for a kind."""
    read: dict[str, tuple[str, str, str, str]] = {}
    rows = [read.get(label) or read.setdefault(label, _words(label)) for label in labels]
    cells: Sequence[tuple[str, ...]] = list(zip(*rows)) if rows else [()] * len(TYPED)
    return {name: _column(kind, cells[place]) for place, (name, kind) in enumerate(TYPED.items())}


def _words(label: str) -> tuple[str, str, str, str]:
    found = _LABEL.fullmatch(label)
    if found is None:
        return label, "", "", ""
    kind, index, k1, k2 = found.groups(default="")
    return kind, index, k1, k2


def _column(kind: str, cells: Sequence[str], is_missing: bool = False) -> Any:
    if kind == "float64":
        return np.array([float(cell) if cell else np.nan for cell in cells], dtype=np.float64)
    if kind == "int64":
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    if kind == "Int64":
        # An array of objects would be looked through for what it holds.
        numbers = np.array([int(cell) if cell else 0 for cell in cells], dtype=np.int64)
        return pd.arrays.IntegerArray(numbers, np.array([not cell for cell in cells], dtype=np.bool_))
    return pd.array([pd.NA] * len(cells) if is_missing else list(cells), dtype="string")
