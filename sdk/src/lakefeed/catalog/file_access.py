"""Access to the data files of a table, with PyIceberg's FileIO and without it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from lakefeed.catalog.durability import local_path
from lakefeed.catalog.file_refs import DeleteFileRef, Positions
from lakefeed.catalog.path_roots import Roots

if TYPE_CHECKING:
    from pyiceberg.io import FileIO


class FileAccess(Protocol):
    """Opens files that metadata names by their recorded locations."""

    def actual(self, location: str) -> str:
        """Returns the actual location of a file."""

    def open(self, location: str) -> Any:
        """Opens a file for reading. Raises FileNotFoundError if there is none."""

    def read_positions(self, file: DeleteFileRef) -> Iterable[tuple[str, Positions]]:
        """Yields what a delete file lists that is not Parquet: data files, each with the positions of its rows."""


@dataclass(frozen=True)
class LocalAccess:
    """The local files of a lake with these path roots. Picklable."""

    roots: Roots

    def actual(self, location: str) -> str:
        return self.roots.actual(location)

    def open(self, location: str) -> Any:
        return pa.OSFile(str(local_path(self.actual(location))), "r")

    def read_positions(self, file: DeleteFileRef) -> Iterable[tuple[str, Positions]]:
        raise NotImplementedError(f"{file.path}: only the table reads delete files of the format {file.file_format}")


@dataclass(frozen=True)
class TableAccess:
    """The files of a table, which ``io`` opens."""

    io: FileIO

    def actual(self, location: str) -> str:
        from lakefeed.catalog.file_io import actual_location

        return actual_location(self.io, location)

    def open(self, location: str) -> Any:
        return self.io.new_input(location).open()

    def read_positions(self, file: DeleteFileRef) -> Iterable[tuple[str, Positions]]:
        from pyiceberg.io.pyarrow import _read_deletes  # loads pandas
        from pyiceberg.manifest import DataFile, FileFormat

        described = DataFile.from_args(file_path=file.path, file_format=FileFormat[file.file_format])
        for path, positions in _read_deletes(self.io, described).items():
            yield path, positions.to_numpy()
