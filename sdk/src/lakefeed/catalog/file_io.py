"""The FileIO that PyIceberg opens files with.

It reads local files directly, because PyIceberg's own FileIO loads pandas. It maps the paths in metadata to the actual
paths of a lake that was moved (:mod:`lakefeed.catalog.path_roots`).
"""

from __future__ import annotations

import errno
import os
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.io import (
    PY_IO_IMPL,
    SCHEMA_TO_FILE_IO,
    FileIO,
    InputFile,
    InputStream,
    OutputFile,
    OutputStream,
    load_file_io,
)
from pyiceberg.typedef import Properties

from lakefeed.catalog.durability import local_path
from lakefeed.catalog.path_roots import ROOTS_PROPERTY, Roots
from lakefeed.catalog.store_access import RemoteInput, RemoteOutput

DELEGATE_PROPERTY = "lakefeed.io-impl"
"""The property that names another FileIO for files that are not local."""


def actual_location(io: FileIO, location: str) -> str:
    """Returns the actual location of a file that metadata names ``location``."""
    return io.roots.actual(location) if isinstance(io, LakeFileIO) else location


def open_io(own: Properties, properties: Properties, location: str) -> FileIO:
    """Returns the FileIO of a catalog with the properties ``own``, for a table with ``properties``.

    A table cannot choose another implementation if the catalog has recorded roots.
    """
    fixed = {name: own[name] for name in (PY_IO_IMPL, ROOTS_PROPERTY) if ROOTS_PROPERTY in own and name in own}
    return load_file_io({**own, **properties, **fixed}, location)


class LakeFileIO(FileIO):
    """A FileIO that reads local files itself.

    Delegates the rest to the FileIO that `DELEGATE_PROPERTY` names, or to the one that PyIceberg chooses.
    """

    def __init__(self, properties: dict[str, str]) -> None:
        super().__init__(properties)
        self.roots = Roots.parse(properties.get(ROOTS_PROPERTY))
        self._by_scheme = cache(self._load_delegate)

    def new_input(self, location: str) -> InputFile:
        path = local_path(self.roots.actual(location))
        if path is None:
            return RemoteInput(location, self.delegate(location).new_input(location))
        return LocalInput(location, path)

    def new_output(self, location: str) -> OutputFile:
        actual = self.roots.actual(location)
        output = self.delegate(actual).new_output(actual)
        if local_path(actual) is None:
            return RemoteOutput(location, output)
        return output if actual == location else RelocatedOutput(location, output)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        actual = self.roots.actual(location if isinstance(location, str) else location.location)
        self.delegate(actual).delete(actual)

    def delegate(self, location: str) -> FileIO:
        """Returns the FileIO for locations of this scheme."""
        return self._by_scheme(location.partition("://")[0] if "://" in location else "")

    def _load_delegate(self, scheme: str) -> FileIO:
        properties = {name: value for name, value in self.properties.items() if name != PY_IO_IMPL}
        if DELEGATE_PROPERTY in properties:
            properties[PY_IO_IMPL] = properties.pop(DELEGATE_PROPERTY)
        if scheme and scheme not in SCHEMA_TO_FILE_IO:
            return load_file_io(properties)  # that of the warehouse, without a warning about the scheme
        return load_file_io(properties, f"{scheme}://" if scheme else "file://")

    def __getstate__(self) -> dict[str, Any]:
        return {"properties": self.properties}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["properties"])  # type: ignore[misc]  # the other attributes cannot be pickled


class RelocatedOutput(OutputFile):
    """A new local file of a lake that was moved. Metadata names it by its recorded location."""

    def __init__(self, location: str, output: OutputFile) -> None:
        super().__init__(location)
        self._output = output

    def __len__(self) -> int:
        return len(self._output)

    def exists(self) -> bool:
        return self._output.exists()

    def to_input_file(self) -> InputFile:
        path = local_path(self._output.location)
        assert path is not None
        return LocalInput(self.location, path)

    def create(self, overwrite: bool = False) -> OutputStream:
        return self._output.create(overwrite)


IMPLEMENTATION = f"{LakeFileIO.__module__}.{LakeFileIO.__qualname__}"


class LocalInput(InputFile):
    """A local file for reading."""

    def __init__(self, location: str, path: Path) -> None:
        super().__init__(location)
        self._path = path

    def __len__(self) -> int:
        return self._path.stat().st_size

    def exists(self) -> bool:
        return self._path.exists()

    def open(self, seekable: bool = True) -> InputStream:
        try:
            return pa.OSFile(str(self._path), "r")
        except OSError as error:
            if self._path.is_dir():  # Arrow's error has no type of its own
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self._path)) from error
            raise
