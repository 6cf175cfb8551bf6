"""What stands in the pages for readers: blocks of code, links, headings, words in the type of code."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cluster import REPOSITORY

#: The guide: its commands are run.
GUIDE = ["README.md", *sorted(f"docs/{page.name}" for page in (REPOSITORY / "docs").glob("*.md"))]
#: Other pages, whose links and names are looked at too.
OTHERS = ["examples/README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md", "python/README.md", "tests/data/README.md", "deploy/README.md"]

#: What the guide's blocks may be: another language would be run by nobody.
LANGUAGES = ("sh", "toml", "python", "text", "json")

_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    #: Of its first line, counted from 1.
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def read(page: str) -> str:
    return (REPOSITORY / page).read_text()


def blocks(page: str, *languages: str) -> list[Block]:
    """The fenced blocks of a page, of these languages or all."""
    text = read(page)
    found = []
    for fence in _FENCE.finditer(text):
        if not languages or fence[1] in languages:
            found.append(Block(page, text.count("\n", 0, fence.start(2)) + 1, fence[1], fence[2]))
    return found


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", read(page))


def words_of_code(page: str) -> list[str]:
    """What stands between single backticks, outside of fenced blocks."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def links(page: str) -> list[str]:
    """Targets of links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        found.add(slug if not seen[slug] else f"{slug}-{seen[slug]}")
        seen[slug] += 1
    return found


def resolve(page: str, target: str) -> tuple[Path, str]:
    """The file and the anchor that a relative link of a page leads to."""
    path, _, anchor = target.partition("#")
    base = REPOSITORY / page
    return (base.parent / path if path else base), anchor
