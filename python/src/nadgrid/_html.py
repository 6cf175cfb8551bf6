"""HTML for notebooks. Everything that is shown is escaped, names of architectures and messages of workers included."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape


def paragraph(text: object) -> str:
    return f"<p>{escape(str(text))}</p>"


def heading(strong: object, text: object) -> str:
    return f"<p><b>{escape(str(strong))}</b> {escape(str(text))}</p>"


def bullets(items: Iterable[object]) -> str:
    inside = "".join(f"<li>{escape(str(item))}</li>" for item in items)
    return f"<ul>{inside}</ul>" if inside else ""


def table(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(str(column))}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(_cell(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def image(content: bytes, kind: str, text: object, width: int | None = None) -> str:
    """An image of this media type, and the text that stands for it; with a width, one of few pixels, each of them seen."""
    style = "max-width:100%" if width is None else f"image-rendering:pixelated;width:100%;max-width:{width}px"
    source = f"data:{escape(kind)};base64,{b64encode(content).decode('ascii')}"
    return f'<img src="{source}" alt="{escape(str(text))}" style="{style}">'
