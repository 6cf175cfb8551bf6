"""Where the pictures of results come from: a coordinator's page, a result folder, or the command line, which draws them anew.

Deliberately absent: drawing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nadgrid import _html
from nadgrid._text import MOST_NAME, clean
from nadgrid._untrusted import MOST_ENTRIES, plain_path, refuse_links
from nadgrid.errors import CoordinatorError, NotFound

if TYPE_CHECKING:
    from os import PathLike

    from nadgrid._page import Page

#: The program that draws the pictures of a folder.
PROGRAM = "nadgrid"
#: What files of each format begin with, and what browsers call it.
FORMATS = {"svg": (b"<svg", "image/svg+xml"), "png": (b"\x89PNG\r\n", "image/png")}
THEMES = ("light", "dark")
#: Seconds for a picture of a folder.
_PATIENCE = 300.0


@dataclass(frozen=True)
class Picture:
    """A picture of results, shown inline in a notebook."""

    #: For example ``directional/lenet_map``.
    name: str
    #: ``svg`` or ``png``.
    format: str
    #: The bytes of its file.
    content: bytes

    def save(self, path: str | PathLike[str]) -> Path:
        """Writes it to a file; the file's path."""
        written = Path(path).expanduser()
        written.write_bytes(self.content)
        return written

    def __repr__(self) -> str:
        return f"<picture {self.name}, {self.format}, {len(self.content):,} bytes>"

    def _repr_html_(self) -> str:
        # As an image it runs no script, whoever drew it.
        return _html.image(self.content, FORMATS[self.format][1], self.name)

    def _repr_png_(self) -> str | None:
        # For what shows no HTML, such as a printed notebook.
        return b64encode(self.content).decode("ascii") if self.format == "png" else None


class Pictures(ABC):
    """The pictures of one sweep."""

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """What there is to see."""

    @abstractmethod
    def draw(self, name: str, theme: str, format: str) -> bytes:
        """The bytes of a picture.

        Raises :class:`NotFound` for one that there is not.
        """


class PagePictures(Pictures):
    """Pictures that a coordinator draws."""

    def __init__(self, page: Page, sweep_id: str) -> None:
        self._page = page
        self._sweep_id = sweep_id

    def names(self) -> tuple[str, ...]:
        return _names(self._page.get("api", "sweeps", self._sweep_id, "pictures"))

    def draw(self, name: str, theme: str, format: str) -> bytes:
        return self._page.get("api", "sweeps", self._sweep_id, "pictures", f"{name}.{format}", theme=theme)


class FolderPictures(Pictures):
    """Pictures that lie in a result folder, or that the command line draws of it."""

    def __init__(self, folder: Path, figures: Iterable[str]) -> None:
        self._folder = folder
        self._figures = frozenset(figures)

    def names(self) -> tuple[str, ...]:
        stems = (figure.rpartition(".")[0] for figure in sorted(self._figures))
        there = tuple(dict.fromkeys(stem for stem in stems if not stem.endswith("_dark")))
        if there or shutil.which(PROGRAM) is None:
            return there
        return _names(self._plot("--list", "--json"))

    def draw(self, name: str, theme: str, format: str) -> bytes:
        file = f"{name}{'_dark' if theme == 'dark' else ''}.{format}"
        if file in self._figures:
            refuse_links(self._folder, plain_path(file))
            try:
                return (self._folder / file).read_bytes()
            except FileNotFoundError:
                # It can be drawn again.
                pass
        with tempfile.TemporaryDirectory(prefix="nadgrid-") as drawn:
            self._plot(f"--only={name}", f"--theme={theme}", f"--format={format}", f"--out={drawn}")
            return (Path(drawn) / plain_path(file)).read_bytes()

    def _plot(self, *arguments: str) -> str:
        """Runs ``nadgrid plot`` on the folder; what it prints."""
        program = shutil.which(PROGRAM)
        if program is None:
            has = ", ".join(sorted(self._figures)) or "none"
            wrong = f"pictures of a folder are drawn by `{PROGRAM} plot`, which is not in the PATH; in {self._folder} are: {has}"
            raise NotFound(wrong, field="picture")
        variables = {name: value for name, value in os.environ.items() if not name.startswith("NADGRID_")}
        command = [program, "plot", *arguments, "--", str(self._folder.absolute())]
        done = subprocess.run(
            command, env=variables, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False
        )
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()
            raise NotFound(clean(said.removeprefix("error: ")), field="picture")
        return done.stdout.decode(errors="replace")


def _names(listed: str | bytes) -> tuple[str, ...]:
    try:
        return tuple(clean(picture["name"], MOST_NAME) for picture in json.loads(listed)["pictures"][:MOST_ENTRIES])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CoordinatorError(f"the list of pictures is not understood: {error}") from error


class NoPictures(Pictures):
    """Results that were pickled have their files alone."""

    def names(self) -> tuple[str, ...]:
        return ()

    def draw(self, name: str, theme: str, format: str) -> bytes:
        where = "draw them of the sweep's own results, or of a folder that it was fetched into"
        raise NotFound(f"results that were pickled bring no pictures; {where}", field="picture")
