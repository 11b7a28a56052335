"""Access to the data files of a table, with PyIceberg's FileIO and without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from lakefeed.catalog.durability import local_path
from lakefeed.catalog.path_roots import Roots

if TYPE_CHECKING:
    from pyiceberg.io import FileIO


class FileAccess(Protocol):
    """Opens files that metadata names by their recorded locations."""

    def actual(self, location: str) -> str:
        """Returns the actual location of a file."""

    def open(self, location: str) -> Any:
        """Opens a file for reading. Raises FileNotFoundError if there is none."""


@dataclass(frozen=True)
class LocalAccess:
    """The local files of a lake with these path roots. Picklable."""

    roots: Roots

    def actual(self, location: str) -> str:
        return self.roots.actual(location)

    def open(self, location: str) -> Any:
        return pa.OSFile(str(local_path(self.actual(location))), "r")


@dataclass(frozen=True)
class TableAccess:
    """The files of a table, which ``io`` opens."""

    io: FileIO

    def actual(self, location: str) -> str:
        from lakefeed.catalog.file_io import actual_location

        return actual_location(self.io, location)

    def open(self, location: str) -> Any:
        return self.io.new_input(location).open()
