"""What a sweep yields, as arrays and frames.

::

    results.nads["lenet"].nads           k x D float32, rows by decreasing eigenvalue
    results.runs("directional", "lenet") a line for each training run

Arrays are those of the files, bit for bit. What is asked for is fetched when it is first asked for, and kept. Deliberately absent:
pictures; the coordinator and the command line draw them.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import numpy as np
import pandas as pd

from nadgrid import _html
from nadgrid._digest import check
from nadgrid._untrusted import plain_path
from nadgrid.errors import CoordinatorError, NotFound, SettingsError
from nadgrid.views import Artifact

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

#: The record's name in a result folder.
RECORD_FILE = "sweep.json"

_COLUMNS = {
    "architecture": "string",
    "direction": "string",
    "set": "string",
    "seed": "int64",
    "train_accuracy": "float64",
    "test_accuracy": "float64",
    "train_loss": "float64",
    "test_loss": "float64",
    "epochs": "int64",
    "seconds": "float64",
    "diverged_at": "Int64",
}
_QUARTILES = {
    "seed": "int64",
    "first_nad": "int64",
    "last_nad": "int64",
    "lower_quartile": "float64",
    "median": "float64",
    "upper_quartile": "float64",
    "images": "int64",
    "unreached": "int64",
}


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
            return Spectrum(**json.loads(self._read(name)))
        except (ValueError, TypeError, RecursionError) as error:
            raise CoordinatorError(f"{name} is not understood: {error}") from error

    def __repr__(self) -> str:
        return f"<NADs of {self.architecture}, {' x '.join(map(str, self.shape))}>"


class Results:
    """The result of a sweep, or a part of it."""

    def __init__(
        self, spec: str, artifacts: tuple[Artifact, ...], read: Callable[[Artifact], bytes], title: str
    ) -> None:
        #: The spec with every default filled in, TOML.
        self.spec = spec
        #: Its files by name.
        self.artifacts: Mapping[str, Artifact] = {artifact.name: artifact for artifact in artifacts}
        self._read = read
        self._title = title

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the networks' input."""
        try:
            shape = tomllib.loads(self.spec)["input"]
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

    def runs(self, experiment: str, architecture: str) -> pd.DataFrame:
        """The training runs of an experiment: accuracies in percent, losses in nats; a run that diverged has no accuracy.

        The columns are those of the file: ``architecture``, ``direction`` (or ``set``), ``seed``, ``train_accuracy``,
        ``test_accuracy``, ``train_loss``, ``test_loss``, ``epochs``, ``seconds``, ``diverged_at``.
        """
        return _frame(self.artifact(f"{experiment}/{architecture}.csv"), _COLUMNS)

    def margins(self, architecture: str) -> NDArray[np.float64]:
        """Margins of images, runs x blocks of NADs x images: infinite where an image never left its class, NaN where the
        run diverged.
        """
        return _array(self.artifact(f"margins/{architecture}_margins.npy"))

    def margin_quartiles(self, architecture: str) -> pd.DataFrame:
        """Quartiles of the margins, for each run and block of NADs."""
        return _frame(self.artifact(f"margins/{architecture}_margins.csv"), _QUARTILES)

    def artifact(self, name: str) -> bytes:
        """The bytes of one file, which have the digest that was announced."""
        try:
            artifact = self.artifacts[name]
        except KeyError:
            has = ", ".join(self.artifacts) or "none"
            raise NotFound(f"there is no result {name!r}; there are: {has}", field=name) from None
        return self._read(artifact)

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
    except FileNotFoundError:
        raise NotFound(f"{root} holds no {RECORD_FILE}: it is no result folder") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SettingsError(f"{root / RECORD_FILE} is not understood: {error}", field="folder") from error

    def read(artifact: Artifact) -> bytes:
        try:
            return check(artifact, (root / plain_path(artifact.name)).read_bytes())
        except FileNotFoundError:
            raise NotFound(f"{root / artifact.name} is not there", field=artifact.name) from None

    return Results(spec, artifacts, read, title)


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
        if math.prod(shape) * kind.itemsize > len(content) - file.tell():
            raise ValueError(f"there are fewer bytes than the shape {shape} needs")
        array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, KeyError, TypeError, RecursionError, MemoryError, EOFError, OverflowError) as error:
        raise CoordinatorError(f"an array is not understood: {error}") from error
    return array


def _frame(content: bytes, types: Mapping[str, str]) -> pd.DataFrame:
    """A table with typed columns; numbers have every bit that was written, which pandas' own parser does not promise."""
    try:
        names, *rows = csv.reader(io.StringIO(content.decode("utf-8"), newline=""))
        if any(len(row) != len(names) for row in rows):
            raise ValueError("its lines are not of one length")
        cells = list(zip(*rows)) if rows else [()] * len(names)
        columns = {name: _column(types.get(name, "string"), cells[place]) for place, name in enumerate(names)}
        return pd.DataFrame(columns)
    except (ValueError, IndexError, OverflowError, csv.Error) as error:
        raise CoordinatorError(f"a table is not understood: {error}") from error


def _column(kind: str, cells: tuple[str, ...]) -> Any:
    if kind == "float64":
        return np.array([float(cell) if cell else np.nan for cell in cells], dtype=np.float64)
    if kind == "int64":
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    if kind == "Int64":
        return pd.array([int(cell) if cell else pd.NA for cell in cells], dtype="Int64")
    return pd.array(list(cells), dtype="string")
