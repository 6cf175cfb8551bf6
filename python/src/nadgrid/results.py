"""What a sweep yields, as arrays and frames.

::

    results.nads["lenet"].nads           k x D float32, rows by decreasing eigenvalue
    results.runs("directional", "lenet") a line for each training run
    results.picture("nads/lenet/figure") inline in a notebook

Arrays are those of the files, bit for bit. What is asked for is fetched when it is first asked for, and kept. Deliberately absent:
drawing, but for the first NADs in a notebook; the coordinator and the command line draw pictures.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import numpy as np
import pandas as pd

from nadgrid import _html, _tables, _thumbnails, _toml
from nadgrid._digest import check
from nadgrid._pictures import FORMATS, THEMES, FolderPictures, NoPictures, Picture, Pictures
from nadgrid._untrusted import plain_path
from nadgrid.errors import CoordinatorError, NadgridError, NotFound, RequestError, SettingsError
from nadgrid.views import Artifact

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

#: The record's name in a result folder.
RECORD_FILE = "sweep.json"

#: Files of one architecture's NADs.
_ARRAYS = ("nads", "eigenvalues", "singular_values", "standard_errors", "mean")
#: NADs that a notebook shows as pictures.
_SHOWN = 8
#: Width of each of them on the screen.
_WIDTH = 88


@dataclass(frozen=True)
class Spectrum:
    """What a spectrum says in a few numbers."""

    #: N.
    gradients: int
    #: D.
    dimension: int
    #: The sum of the eigenvalues.
    total_variance: float
    #: exp(-sum p ln p) with p = eigenvalue / total variance: D if all directions are alike, 1 if there is but one.
    effective_rank: float
    #: 1 - (effective rank - 1)/(D - 1): 0 if all directions are alike, 1 if there is but one.
    anisotropy: float
    #: How the standard errors were computed.
    standard_errors: str

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Spectrum:
        """A file's numbers. Raises :class:`TypeError` or :class:`ValueError` for anything else."""
        kinds: dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "str": str}
        return cls(**{field.name: kinds[str(field.type)](told[field.name]) for field in fields(cls)})

    def _repr_html_(self) -> str:
        rows = [(name.replace("_", " "), value) for name, value in vars(self).items()]
        return _html.table(["spectrum", ""], rows)


class Nads:
    """The neural anisotropy directions of one architecture."""

    def __init__(self, architecture: str, shape: tuple[int, int, int], read: Callable[[str], bytes]) -> None:
        self.architecture = architecture
        #: Channels, height and width of the input; their product is D.
        self.shape = shape
        self._read = read

    def _array(self, name: str) -> NDArray[Any]:
        return _array(self._read(f"nads/{self.architecture}/{name}.npy"))

    @cached_property
    def nads(self) -> NDArray[np.float32]:
        """k x D; rows are unit vectors by decreasing eigenvalue, and k = min(D, networks - 1)."""
        return self._array("nads")

    @property
    def nad_images(self) -> NDArray[np.float32]:
        """The same as k x C x H x W."""
        if self.nads.ndim != 2 or self.nads.shape[1] != math.prod(self.shape):
            raise CoordinatorError(f"the NADs of {self.architecture} have the shape {self.nads.shape}")
        return self.nads.reshape(-1, *self.shape)

    @cached_property
    def eigenvalues(self) -> NDArray[np.float64]:
        """Of the gradients' covariance (divisor N - 1), k."""
        return self._array("eigenvalues")

    @cached_property
    def singular_values(self) -> NDArray[np.float64]:
        """Of the centred N x D matrix of gradients, k."""
        return self._array("singular_values")

    @cached_property
    def standard_errors(self) -> NDArray[np.float64]:
        """Of the singular values, k: asymptotic, of a Gaussian sample."""
        return self._array("standard_errors")

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """The mean gradient, D."""
        return self._array("mean")

    @cached_property
    def spectrum(self) -> Spectrum:
        """Total variance, effective rank and anisotropy."""
        name = f"nads/{self.architecture}/spectrum.json"
        try:
            return Spectrum.of(json.loads(self._read(name)))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise CoordinatorError(f"{name} is not understood: {error}") from error

    def __reduce__(self) -> tuple[object, ...]:
        # With its files: it is complete wherever it arrives.
        names = [f"{name}.npy" for name in _ARRAYS] + ["spectrum.json"]
        content = {name: self._read(name) for name in (f"nads/{self.architecture}/{name}" for name in names)}
        return type(self), (self.architecture, self.shape, content.__getitem__)

    def __repr__(self) -> str:
        return f"<NADs of {self.architecture}, {' x '.join(map(str, self.shape))}>"

    def _repr_html_(self) -> str:
        size = " x ".join(map(str, self.shape))
        try:
            images = self.nad_images[:_SHOWN]
            heading = _html.heading("NADs", f"of {self.architecture}: {len(self.nads):,} directions of {size}")
            first = f"NADs 0 to {len(images) - 1}, each on a scale of its own"
            width = _WIDTH * len(images)
            shown = _html.image(_thumbnails.strip(images), "image/png", first, width) if width else ""
            return heading + shown + _html.paragraph(first) + self.spectrum._repr_html_()
        except NadgridError as error:
            # What is there is shown, whether or not its files can be read.
            return _html.heading("NADs", f"of {self.architecture}, {size}") + _html.paragraph(error)


class Results:
    """The result of a sweep, or a part of it."""

    def __init__(
        self,
        spec: str,
        artifacts: tuple[Artifact, ...],
        read: Callable[[Artifact], bytes],
        title: str,
        pictures: Pictures,
    ) -> None:
        #: The spec with every default filled in, TOML.
        self.spec = spec
        #: Its files by name.
        self.artifacts: Mapping[str, Artifact] = {artifact.name: artifact for artifact in artifacts}
        self._read = read
        self._title = title
        self._pictures = pictures

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the networks' input."""
        try:
            shape = _toml.read(self.spec)["input"]
            return int(shape["channels"]), int(shape["height"]), int(shape["width"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise CoordinatorError(f"the spec is not understood: {error}") from error

    @property
    def jobs(self) -> tuple[str, ...]:
        """Names of the jobs that have a result, for example ``nads/lenet``."""
        return tuple(dict.fromkeys(filter(None, map(_job_of, self.artifacts))))

    @cached_property
    def nads(self) -> Mapping[str, Nads]:
        """NADs by architecture."""
        names = [job.split("/", 1)[1] for job in self.jobs if job.startswith("nads/")]
        return _Named("NADs", {name: Nads(name, self.shape, self.artifact) for name in names})

    def runs(self, experiment: str | None = None, architecture: str | None = None) -> pd.DataFrame:
        """Training runs: accuracies in percent, losses in nats; a run that diverged has no accuracy.

        With both arguments these are the runs of one job: the columns ``architecture``, ``direction`` (or ``set``), ``kind``,
        ``index``, ``k1``, ``k2``, ``seed``, ``train_accuracy``, ``test_accuracy``, ``train_loss``, ``test_loss``, ``epochs``,
        ``seconds``, ``diverged_at``. ``kind`` is the first word of the direction or set: ``nad``, ``row``, ``pixel`` and
        ``random`` have an ``index``, ``cos`` and ``sin`` the frequency ``k1``, ``k2``.

        With fewer arguments these are the runs of all jobs that they leave, in one frame. It has the column ``experiment`` too,
        and both ``direction`` and ``set``.
        """
        if experiment is not None and architecture is not None:
            return _tables.runs(self.artifact(f"{experiment}/{architecture}.csv"))
        found = [
            job.split("/", 1)
            for job in self.jobs
            if not job.startswith("nads/")
            and experiment in (None, job.split("/", 1)[0])
            and architecture in (None, job.split("/", 1)[1])
        ]
        if not found and (experiment is not None or architecture is not None):
            has = ", ".join(job for job in self.jobs if not job.startswith("nads/")) or "none"
            wanted = experiment or architecture or ""
            raise NotFound(f"there are no runs of {wanted!r}; there are those of: {has}", field=wanted)
        return _tables.stacked((job[0], self.runs(*job)) for job in found)

    def margins(self, architecture: str) -> NDArray[np.float64]:
        """Margins of images, runs x blocks of NADs x images: infinite where an image never left its class, NaN where the
        run diverged.
        """
        return _array(self.artifact(f"margins/{architecture}_margins.npy"))

    def margin_quartiles(self, architecture: str) -> pd.DataFrame:
        """Quartiles of the margins, for each run and block of NADs."""
        return _tables.table(self.artifact(f"margins/{architecture}_margins.csv"), _tables.QUARTILES)

    @property
    def pictures(self) -> tuple[str, ...]:
        """Names of the pictures of :meth:`picture`, as far as they are listed; single NADs are not."""
        return self._pictures.names()

    def picture(self, name: str, *, theme: str = "light", format: str = "svg") -> Picture:
        """A picture, shown inline in a notebook: the coordinator draws it, or the ``nadgrid`` program if it is of a folder.

        :param name: one of :attr:`pictures`, one NAD as ``nads/lenet/nad_12``, or two architectures as
            ``nads/lenet_beside_vgg11``
        :param theme: ``light`` or ``dark``, the page that it is for
        :param format: ``svg`` or ``png``
        :raises NotFound: for a picture that there is not, or a folder's where the program is not in the PATH
        """
        for argument, value, accepted in (("theme", theme, THEMES), ("format", format, tuple(FORMATS))):
            if value not in accepted:
                raise RequestError(f"{argument} = {value!r}: {' or '.join(accepted)}", field=argument)
        content = self._pictures.draw(name, theme, format)
        if not content.lstrip().startswith(FORMATS[format][0]):
            raise CoordinatorError(f"the picture {name} is no {format.upper()}")
        return Picture(name, format, content)

    def artifact(self, name: str) -> bytes:
        """The bytes of one file, which have the digest that was announced."""
        try:
            artifact = self.artifacts[name]
        except KeyError:
            has = ", ".join(self.artifacts) or "none"
            raise NotFound(f"there is no result {name!r}; there are: {has}", field=name) from None
        return self._read(artifact)

    def __reduce__(self) -> tuple[object, ...]:
        # With its files: it is complete wherever it arrives, and holds no token.
        content = {name: self._read(artifact) for name, artifact in self.artifacts.items()}
        files = tuple(self.artifacts.values())
        return type(self), (self.spec, files, _Stored(content), self._title, NoPictures())

    def __repr__(self) -> str:
        return f"<results of {self._title}: {', '.join(self.jobs) or 'none'}>"

    def _repr_html_(self) -> str:
        rows = [(artifact.name, artifact.size, artifact.digest) for artifact in self.artifacts.values()]
        return _html.heading("Results", f"of {self._title}") + _html.table(["name", "bytes", "BLAKE3"], rows)


def load(folder: str | PathLike[str]) -> Results:
    """The results in a folder that ``nadgrid run``, ``nadgrid fetch`` or :meth:`Sweep.fetch` filled, without a coordinator."""
    root = Path(folder).expanduser()
    try:
        record = json.loads((root / RECORD_FILE).read_bytes())
        artifacts = tuple(Artifact(a["name"], a["size"], a["digest"]) for a in record["artifacts"])
        spec, title = str(record["spec_toml"]), f"sweep {record['name']}"
        figures = [str(figure) for figure in record.get("figures", [])]
    except FileNotFoundError:
        raise NotFound(f"{root} holds no {RECORD_FILE}: it is no result folder") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SettingsError(f"{root / RECORD_FILE} is not understood: {error}", field="folder") from error

    def read(artifact: Artifact) -> bytes:
        try:
            return check(artifact, (root / plain_path(artifact.name)).read_bytes())
        except FileNotFoundError:
            raise NotFound(f"{root / artifact.name} is not there", field=artifact.name) from None

    return Results(spec, artifacts, read, title, FolderPictures(root, figures))


class _Stored:
    """Reads files from memory."""

    def __init__(self, content: Mapping[str, bytes]) -> None:
        self._content = content

    def __call__(self, artifact: Artifact) -> bytes:
        return self._content[artifact.name]


class _Named(Mapping[str, Nads]):
    """A mapping that says what there is when it is asked for what there is not."""

    def __init__(self, what: str, items: dict[str, Nads]) -> None:
        self._what, self._items = what, items

    def __getitem__(self, name: str) -> Nads:
        try:
            return self._items[name]
        except KeyError:
            has = ", ".join(self._items) or "none"
            raise NotFound(f"there are no {self._what} of {name!r}; there are those of: {has}", field=name) from None

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(self._items)


def _job_of(artifact: str) -> str:
    """The job of a file: ``nads/lenet`` of ``nads/lenet/nads.npy``, ``margins/lenet`` of ``margins/lenet_margins.npy``."""
    experiment, _, rest = artifact.partition("/")
    if "/" in rest:
        return f"{experiment}/{rest.split('/', 1)[0]}"
    is_table = rest.endswith(".csv") and not rest.endswith("_margins.csv")
    return f"{experiment}/{rest[: -len('.csv')]}" if is_table else ""


def _array(content: bytes) -> NDArray[Any]:
    """An array of numbers, whose header has been held against its bytes: numpy takes the memory that a header asks for."""
    file = io.BytesIO(content)
    try:
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, kind = read[np.lib.format.read_magic(file)](file)
        if kind.kind not in "biuf":
            raise ValueError(f"its elements are no numbers: {kind}")
        if math.prod(shape) * kind.itemsize > len(content) - file.tell():
            raise ValueError(f"there are fewer bytes than the shape {shape} needs")
        array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, KeyError, TypeError, RecursionError, MemoryError, EOFError, OverflowError) as error:
        raise CoordinatorError(f"an array is not understood: {error}") from error
    return array
