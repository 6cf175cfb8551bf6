"""A spec on its way to a coordinator: text, path or dict in, TOML out, with the files that it names.

The coordinator validates a spec; here it is only looked through for files. Those are found on this machine, and each is read
twice: to learn its size and digest, and to be sent. Deliberately absent: a second opinion on what they hold.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Union

import numpy as np
import tomli_w
from blake3 import blake3

from nadgrid import _toml
from nadgrid.errors import DamagedPayload, SettingsError, SpecError, Violation
from nadgrid.v1 import nadgrid_pb2 as pb

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

    #: A spec: TOML text, the path of a TOML file, or a mapping that says the same.
    Spec = Union[str, PathLike[str], Mapping[str, Any]]
    #: What a name in a spec stands for: a file or folder, bytes, or an array that is sent as ``.npy``.
    Content = Union[str, PathLike[str], bytes, NDArray[Any]]

#: Bytes of a message: well below the 4 MiB that gRPC takes.
CHUNK_BYTES = 64 << 10
#: What is wrong with a masked array.
MASKED = "a masked array has no numbers where it is masked; .filled(NUMBER) gives it some"
_TRAINING_FILE = re.compile(r"data_batch_[0-9]+\.bin")
_TEST_FILE = "test_batch.bin"


@dataclass(frozen=True)
class SpecText:
    """A spec as it is sent."""

    text: str
    #: Where its relative paths begin; ``None`` for the current folder alone.
    folder: Path | None

    def __post_init__(self) -> None:
        if any("\ud800" <= letter <= "\udfff" for letter in self.text):
            raise SpecError([Violation("", "the spec holds half a character, which no UTF-8 has")])

    @classmethod
    def of(cls, spec: Spec) -> SpecText:
        """Reads or writes it. Text is told from a path by its line breaks or equals signs."""
        if isinstance(spec, Mapping):
            return cls(tomli_w.dumps(_table(spec, "")), None)
        if isinstance(spec, str) and not spec.endswith(".toml") and ("\n" in spec or "=" in spec):
            return cls(spec, None)
        if not isinstance(spec, (str, os.PathLike)):
            kinds = "TOML text, a path or a dict"
            raise SpecError([Violation("", f"a spec is {kinds}, not {type(spec).__name__}")])
        path = Path(spec).expanduser()
        try:
            return cls(path.read_text(encoding="utf-8"), path.parent)
        except (OSError, UnicodeDecodeError) as error:
            wrong = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SpecError([Violation("", f"{path}: cannot read the spec: {wrong}")]) from error

    def files(self, given: Mapping[str, Content] | None = None) -> list[LocalFile]:
        """The files that it names, those of ``given`` before those of this machine.

        Raises :class:`SpecError` with every file that is missing, and :class:`SettingsError` for a name of ``given`` that
        the spec does not have.
        """
        contents, used = given or {}, set[str]()
        found: dict[str, LocalFile] = {}
        violations: list[Violation] = []
        for wanted in _wanted(self._parsed()):
            try:
                used |= {name for name in contents if wanted.covers(name)}
                for file in self._find(wanted, contents):
                    found[file.name] = file
            except _Missing as missing:
                violations.append(Violation(wanted.field, f'"{wanted.path}": {missing}'))
        if violations:
            raise SpecError(violations)
        for name in contents:
            if name in used:
                continue
            raise SettingsError(f"files[{name!r}]: the spec names no such file", field="files")
        return list(found.values())

    def _parsed(self) -> Mapping[str, Any]:
        try:
            return _toml.read(self.text)
        except (ValueError, RecursionError):
            # The coordinator says what is wrong, with line and column.
            return {}

    def _find(self, wanted: _Wanted, contents: Mapping[str, Content]) -> list[LocalFile]:
        name = wanted.path
        content = contents.get(name)
        if not wanted.is_folder:
            return [LocalFile.of(name, self._place(name, Path.is_file, "file") if content is None else content)]
        inside = {key: value for key, value in contents.items() if key != name and wanted.covers(key)}
        if inside:
            return [LocalFile.of(key, value) for key, value in inside.items()]
        if content is not None and not isinstance(content, (str, os.PathLike)):
            raise SettingsError(f"files[{name!r}]: the spec means a folder; give its path", field="files")
        folder = self._place(name, Path.is_dir, "folder") if content is None else Path(content).expanduser()
        return _images(name, folder)

    def _place(self, name: str, is_there: Callable[[Path], bool], kind: str) -> Path:
        places = [Path(name)] if self.folder is None else [self.folder / name, Path(name)]
        for place in places:
            if is_there(place):
                return place
        looked = dict.fromkeys(str(place.absolute()) for place in places)
        raise _Missing(f"no such {kind}: looked for {' and '.join(looked)}")


@dataclass(frozen=True)
class _Wanted:
    """A file or folder that a spec names, and the key that names it."""

    field: str
    path: str
    is_folder: bool = False

    def covers(self, name: str) -> bool:
        """Whether it is this file or folder, or in this folder."""
        return name == self.path or (self.is_folder and name.startswith(f"{self.path}/"))


class _Missing(Exception):
    """A file is not there, or not what is wanted."""


def _wanted(spec: Mapping[str, Any]) -> Iterator[_Wanted]:
    def path(*keys: str) -> str | None:
        value: Any = spec
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value if isinstance(value, str) else None

    directions = path("directional", "directions", "path")
    if directions is not None:
        yield _Wanted("directional.directions", directions)
    on_images = [name for name in ("poisoning", "flipping", "margins") if name in spec]
    for experiment in on_images:
        basis = path(experiment, "basis", "path")
        if basis is not None:
            yield _Wanted(f"{experiment}.basis", basis)
    images = path("cifar10", "path")
    if images is not None and on_images:
        yield _Wanted("cifar10.path", images, is_folder=True)


def _images(name: str, folder: Path) -> list[LocalFile]:
    """The files of a folder in CIFAR-10's binary format."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise _Missing(f"{folder}: {error.strerror}") from error
    training = [file for file in names if _TRAINING_FILE.fullmatch(file)]
    if not training:
        raise _Missing(f"{folder} holds no data_batch_N.bin, training images in CIFAR-10's binary format")
    if _TEST_FILE not in names:
        raise _Missing(f"{folder} holds no {_TEST_FILE}, test images in CIFAR-10's binary format")
    return [LocalFile.of(f"{name}/{file}", folder / file) for file in [*training, _TEST_FILE]]


@dataclass(frozen=True)
class LocalFile:
    """A file that a spec names: bytes, or where they are."""

    #: The path as the spec has it; for a folder, that path, a slash and the file's name.
    name: str
    source: Path | bytes
    size: int
    digest: str

    @classmethod
    def of(cls, name: str, content: Content) -> LocalFile:
        """Learns size and digest."""
        if isinstance(content, np.ndarray):
            content = _npy(name, content)
        if not isinstance(content, (bytes, str, os.PathLike)):
            wrong = f"a path, bytes or an array, not {type(content).__name__}"
            raise SettingsError(f"files[{name!r}]: {wrong}", field="files")
        source = content if isinstance(content, bytes) else Path(content).expanduser()
        hasher, size = blake3(), 0
        try:
            for chunk in _chunks(source):
                hasher.update(chunk)
                size += len(chunk)
        except OSError as error:
            raise _Missing(f"{source!s}: {error.strerror}") from error
        return cls(name, source, size, hasher.hexdigest())

    def as_input(self) -> pb.Input:
        """As plans and submissions name it."""
        return pb.Input(name=self.name, size=self.size, digest=self.digest)

    def upload(self, granted: Callable[[], bool]) -> Iterator[pb.UploadInputRequest]:
        """The messages of its upload: the header, and once ``granted`` returns true the bytes."""
        yield pb.UploadInputRequest(header=pb.InputHeader(size=self.size, digest=self.digest))
        if granted():
            for chunk in _chunks(self.source):
                yield pb.UploadInputRequest(data=chunk)

    def check(self, stored: pb.InputHeader) -> None:
        """Whether the coordinator has what was meant."""
        if (stored.size, stored.digest) != (self.size, self.digest):
            raise DamagedPayload(f"{self.name} was stored with {stored.size} bytes and digest {stored.digest}")


def _npy(name: str, array: NDArray[Any]) -> bytes:
    """An array as a file; numpy would save a masked one without its mask, and an object one as a program."""
    wrong = None
    if isinstance(array, np.ma.MaskedArray):
        wrong = MASKED
    elif array.dtype.hasobject:
        wrong = (
            f"an array of Python objects (dtype {array.dtype}) is no array of numbers; .astype(float) makes one of it"
        )
    if wrong is not None:
        raise SettingsError(f"files[{name!r}]: {wrong}", field="files")
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _table(mapping: Mapping[Any, Any], at: str) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in mapping.items():
        field = f"{at}.{key}" if at else str(key)
        if not isinstance(key, str):
            raise SpecError([Violation(field, f"keys are text, not {type(key).__name__}")])
        # TOML has no word for nothing: the key is left to its default.
        if value is not None:
            table[key] = _value(value, field)
    return table


def _value(value: Any, field: str) -> Any:
    """As TOML has it: numbers and arrays of numpy as Python's own, paths as text."""
    if isinstance(value, np.ma.MaskedArray):
        raise SpecError([Violation(field, MASKED)])
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, Mapping):
        return _table(value, field)
    if isinstance(value, (list, tuple, range)):
        return [_value(item, f"{field}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (bool, int, float, str)):
        return value
    raise SpecError([Violation(field, f"a spec holds text, numbers, lists and tables, not {type(value).__name__}")])
