"""Lists and removes files of the warehouse, through any FileIO of PyIceberg."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
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
    """Access to the files of the warehouse, or of a folder in it.

    Attributes:
        files: lists the files, with paths relative to the folder.
        remove: removes the file at a relative path. Ignores a missing file.
    """

    files: Callable[[], Iterator[ObjectInfo]]
    remove: Callable[[str], None]


def warehouse_of(lake: Lake) -> Warehouse:
    """Returns access to the warehouse of a lake.

    Raises:
        UnsupportedError: its FileIO cannot list files.
    """
    location = lake.settings.warehouse.rstrip("/")
    return open_folder(load_file_io({**lake.catalog.properties}, location), location)


def remove_data_files(table: Table, part: str, used: Collection[str] = ()) -> None:
    """Removes the data files of a write, whose names contain ``part``, but not ``used`` ones. Raises nothing."""
    names = {path.rpartition("/")[2] for path in used}
    location = actual_location(table.io, table.location_provider().data_path)
    with cleanup_errors(f"{location}/*{part}*"):
        folder = open_folder(table.io, location)
        for key in [info.key for info in folder.files()]:
            name = key.rpartition("/")[2]
            if part in name and name not in names:
                folder.remove(key)


def is_warehouse_missing(lake: Lake) -> bool:
    """Returns whether the folder of the warehouse is missing or empty, for example because its disk is not mounted."""
    folder = local_path(lake.settings.warehouse)
    return folder is not None and next(iter(Path(folder).glob("*")), None) is None


def open_folder(io: FileIO, location: str) -> Warehouse:
    """Returns access to the files of a folder.

    Raises:
        UnsupportedError: the FileIO cannot list files.
    """
    from pyiceberg.io.fsspec import FsspecFileIO
    from pyiceberg.io.pyarrow import PyArrowFileIO  # loads pandas

    if isinstance(io, LakeFileIO):
        io = io.delegate(location)
    match io:
        case PyArrowFileIO():
            return _arrow_folder(io, location)
        case FsspecFileIO():
            return _fsspec_folder(io, location)
    raise UnsupportedError(
        f"cannot list the files of the warehouse {location!r} with {type(io).__name__}; use "
        "PyArrowFileIO or FsspecFileIO"
    )


def _arrow_folder(io: PyArrowFileIO, location: str) -> Warehouse:
    scheme, host, path = io.parse_location(location, io.properties)
    system: FileSystem = io.fs_by_scheme(scheme, host)
    root = path.rstrip("/")

    def files() -> Iterator[ObjectInfo]:
        for info in system.get_file_info(FileSelector(root, allow_not_found=True, recursive=True)):
            if info.type == FileType.File:
                yield ObjectInfo(info.path[len(root) :].strip("/"), info.size or 0, (info.mtime_ns or 0) / 1e9)

    return Warehouse(files, _ignore_missing(lambda path: system.delete_file(f"{root}/{path}")))


def _fsspec_folder(io: FsspecFileIO, location: str) -> Warehouse:
    parts = urlsplit(location)
    system = io.get_fs(parts.scheme, parts.netloc)
    root = str(system._strip_protocol(location)).rstrip("/")

    def files() -> Iterator[ObjectInfo]:
        system.invalidate_cache()  # else fsspec returns an earlier listing
        for name, facts in system.find(root, detail=True).items():
            if facts.get("type") == "file":
                yield object_info(str(name)[len(root) :].strip("/"), facts)

    return Warehouse(files, _ignore_missing(lambda path: system.rm_file(f"{root}/{path}")))


def _ignore_missing(remove: Callable[[str], object]) -> Callable[[str], None]:
    def remove_existing(path: str) -> None:
        with suppress(FileNotFoundError):
            remove(path)

    return remove_existing
