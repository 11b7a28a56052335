"""The files of the warehouse as its object store lists them, whichever way PyIceberg reaches it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pyarrow.fs import FileSelector, FileSystem, FileType
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.table import Table

from lakefeed.catalog.durability import local_path
from lakefeed.catalog.file_io import LakeFileIO, actual_location
from lakefeed.catalog.lake import Lake
from lakefeed.errors import UnsupportedError
from lakefeed.storage.blobs.objects import ObjectInfo, object_info
from lakefeed.storage.disk.disk_errors import cleanup_errors

if TYPE_CHECKING:
    from pyiceberg.io.fsspec import FsspecFileIO
    from pyiceberg.io.pyarrow import PyArrowFileIO


@dataclass(frozen=True)
class Warehouse:
    """``files()``: below the warehouse, or a folder in it, by their paths from there. ``remove``: of such a path.

    It may be gone already.
    """

    files: Callable[[], Iterator[ObjectInfo]]
    remove: Callable[[str], None]


def warehouse_of(lake: Lake) -> Warehouse:
    """The warehouse of a lake.

    Raises:
        UnsupportedError: it is reached by a program that cannot list.
    """
    place = lake.settings.warehouse.rstrip("/")
    return _open_folder(load_file_io({**lake.catalog.properties}, place), place)


def remove_data_files(table: Table, part: str) -> None:
    """Removes the data files of a table whose names contain ``part``: a failed write has left them. Raises nothing."""
    place = actual_location(table.io, table.location_provider().data_path)
    with cleanup_errors(f"{place}/*{part}*"):
        folder = _open_folder(table.io, place)
        for key in [info.key for info in folder.files() if part in info.key.rpartition("/")[2]]:
            folder.remove(key)


def is_warehouse_missing(lake: Lake) -> bool:
    """Whether the folder of the warehouse is not there or empty, as where its disk is not mounted."""
    folder = local_path(lake.settings.warehouse)
    return folder is not None and next(iter(Path(folder).glob("*")), None) is None


def _open_folder(io: FileIO, place: str) -> Warehouse:
    from pyiceberg.io.fsspec import FsspecFileIO
    from pyiceberg.io.pyarrow import PyArrowFileIO  # loads pandas

    if isinstance(io, LakeFileIO):
        io = io.delegate(place)
    match io:
        case PyArrowFileIO():
            return _arrow_folder(io, place)
        case FsspecFileIO():
            return _fsspec_folder(io, place)
    raise UnsupportedError(
        f"the warehouse {place!r} is read with {type(io).__name__}, which cannot list files; garbage is found where "
        "PyIceberg's PyArrowFileIO or FsspecFileIO reads it"
    )


def _arrow_folder(io: PyArrowFileIO, place: str) -> Warehouse:
    scheme, host, path = io.parse_location(place, io.properties)
    system: FileSystem = io.fs_by_scheme(scheme, host)
    root = path.rstrip("/")

    def files() -> Iterator[ObjectInfo]:
        for info in system.get_file_info(FileSelector(root, allow_not_found=True, recursive=True)):
            if info.type == FileType.File:
                yield ObjectInfo(info.path[len(root) :].strip("/"), info.size or 0, (info.mtime_ns or 0) / 1e9)

    return Warehouse(files, _ignore_missing(lambda below: system.delete_file(f"{root}/{below}")))


def _fsspec_folder(io: FsspecFileIO, place: str) -> Warehouse:
    parts = urlsplit(place)
    system = io.get_fs(parts.scheme, parts.netloc)
    root = str(system._strip_protocol(place)).rstrip("/")

    def files() -> Iterator[ObjectInfo]:
        system.invalidate_cache()  # fsspec would repeat what it saw before others wrote
        for name, facts in system.find(root, detail=True).items():
            if facts.get("type") == "file":
                yield object_info(str(name)[len(root) :].strip("/"), facts)

    return Warehouse(files, _ignore_missing(lambda below: system.rm_file(f"{root}/{below}")))


def _ignore_missing(remove: Callable[[str], object]) -> Callable[[str], None]:
    def removed(below: str) -> None:
        with suppress(FileNotFoundError):
            remove(below)

    return removed
