"""Deletion of a dataset: its entry in the catalog, and its files that no other table refers to."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io import FileIO
from pyiceberg.table import Table
from pyiceberg.typedef import Identifier

from lakefeed.catalog.durability import local_path
from lakefeed.catalog.file_io import actual_location, open_io
from lakefeed.catalog.lake import Lake, is_created_location, is_own_location
from lakefeed.catalog.properties import ROOT
from lakefeed.catalog.reachable import ReferenceCache
from lakefeed.catalog.relocation import OWNER_MARK
from lakefeed.catalog.table_locations import claim, forget_location
from lakefeed.catalog.table_output import discard_files
from lakefeed.catalog.table_references import (
    References,
    all_tables,
    canonical_path,
    folder_of,
    folders_of,
    is_below,
    is_gc_disabled,
    is_gc_enabled,
    lexical_path,
    possible_folders,
)
from lakefeed.catalog.tombstones import retire, retire_damaged, retire_new
from lakefeed.catalog.version_files import map_in_threads
from lakefeed.catalog.warehouse import open_folder
from lakefeed.catalog.warehouse_owner import require_owner
from lakefeed.errors import DamagedDatasetError, DatasetNotFoundError

logger = logging.getLogger(__name__)

TABLE_FOLDERS = ("data", "metadata")
"""The folders with the files of a table, below its location."""


def drop(lake: Lake, name: str, force: bool) -> None:
    """Removes a dataset, and the files below its location that no other table of the catalog refers to.

    Files elsewhere stay: those that other programs registered, and those of tables outside the warehouse. With the
    table property ``gc.enabled=false``, all files stay. The last version number is recorded, so that a new dataset of
    that name continues after it.

    Args:
        lake: the lake.
        name: the name of the dataset.
        force: also removes a dataset whose metadata is damaged. Files that may belong to another table stay.

    Raises:
        DatasetNotFoundError: the dataset does not exist, or was replaced by another one during the delete.
        DamagedDatasetError: its metadata cannot be read, and ``force`` is False. Nothing was removed.
        SharedWarehouseError: the catalog does not own its warehouse. Nothing was removed.
    """
    require_owner(lake.catalog)
    identifier = lake.identifier(name)
    try:
        pending = _drop_table(lake, name, force)
    except NoSuchTableError:
        raise lake.not_found(name) from None
    except DamagedDatasetError:
        if not force:
            raise
        pending = _drop_damaged(lake, identifier)
    if pending is not None:
        pending.delete()


def purge(lake: Lake, name: str) -> bool:
    """Removes a table and its files like `drop`, without a record of its version numbers.

    Returns False if there is no such table (any more). A damaged one is removed too.
    """
    require_owner(lake.catalog)
    identifier = lake.identifier(name)
    try:
        pending = _pending_deletes_of(lake, lake.table(name), force=True)
    except DatasetNotFoundError:
        return False
    except DamagedDatasetError:
        pending = _pending_deletes_of_damaged(lake, identifier)
    try:
        lake.catalog.drop_table(identifier)
    except NoSuchTableError:
        return False
    if pending is not None:
        pending.delete()
    return True


def withdraw(lake: Lake, name: str, table_uuid: UUID) -> bool:
    """Removes a new dataset to which nothing was written since its creation. The next one begins at its number.

    Returns False, without a change, if it is gone, was replaced, or has another version.
    """
    try:
        table = lake.table(name)
    except (DatasetNotFoundError, DamagedDatasetError):
        return False
    if table.metadata.table_uuid != table_uuid or len(table.metadata.snapshots) > 1:
        return False
    pending = _pending_deletes_of(lake, table, force=True)
    withdrawn = retire_new(lake.catalog, table)
    if withdrawn and pending is not None:
        pending.delete()
    return withdrawn


def _drop_table(lake: Lake, name: str, force: bool) -> _PendingDeletes | None:
    first = lake.table(name)
    _pending_deletes_of(lake, first, force)  # raises before anything is removed

    def load_same() -> Table:
        table = lake.table(name)
        if table.metadata.table_uuid != first.metadata.table_uuid:
            raise DatasetNotFoundError(f"dataset {name!r} was deleted and created again during the delete")
        return table

    table = retire(lake.catalog, load_same, lambda current: lake.catalog.drop_table(current.name()))
    return _pending_deletes_of(lake, table, force=True)


def _drop_damaged(lake: Lake, identifier: Identifier) -> _PendingDeletes | None:
    pending = _pending_deletes_of_damaged(lake, identifier)
    try:
        retire_damaged(lake.catalog, identifier, lake.metadata_location(identifier))
    except NoSuchTableError:
        raise lake.not_found(".".join(identifier)) from None
    return pending


@dataclass(frozen=True)
class _PendingDeletes:
    """The files of a table that are to be deleted.

    Attributes:
        lake: the lake of the table.
        location: the location of the table.
        io: the FileIO of the table.
        own: lakefeed created the location for this table on local disk, so all files in its folders belong to it.
        references: returns the files that the metadata of the table names.
    """

    lake: Lake
    location: str
    io: FileIO
    own: bool
    references: Callable[[], Iterable[str]]

    def delete(self) -> None:
        """Deletes the files at the location that no other table refers to. The catalog must not have the table."""
        others, folders, damaged = self._other_references()
        location = lexical_path(self.io, self.location)
        nested = {folder for folder in folders if folder == location or is_below(folder, [location])}
        files = self._files_in_folders() if self.own and not nested else self.references()
        protected = {*(nested - {location}), *damaged}
        deletes = [
            path
            for path in dict.fromkeys(files)
            if is_below(lexical_path(self.io, path), [location])
            and not is_below(lexical_path(self.io, path), protected)
            and canonical_path(self.io, path) not in others
        ]
        list(map_in_threads(lambda path: discard_files(self.io, [path]), deletes))
        folder = local_path(actual_location(self.io, self.location))
        if folder is not None and nested <= {location}:
            with suppress(FileNotFoundError):
                (folder / OWNER_MARK).unlink()
        _remove_empty_folders(folder)
        forget_location(self.lake, self.location)

    def _other_references(self) -> tuple[set[str], set[str], set[str]]:
        """Returns the files of the other tables, their folders, and the folders of damaged tables."""
        references, folders, damaged = References(ReferenceCache(self.lake).read_through), set[str](), set[str]()
        for identifier, table in all_tables(self.lake):
            if isinstance(table, DamagedDatasetError):
                damaged |= possible_folders(self.lake, identifier)
                continue
            folders |= folders_of(table)
            if not references.add_readable(table):
                damaged |= folders_of(table)
        names = {canonical_path(self.io, path) for path in references.files}
        return names, *({lexical_path(self.io, each) for each in paths} for paths in (folders, damaged))  # type: ignore[return-value]

    def _files_in_folders(self) -> Iterator[str]:
        """Yields all files in the folders of the table, by the locations that metadata uses."""
        top = local_path(actual_location(self.io, self.location))
        assert top is not None, "only local folders are listed"
        for folder in TABLE_FOLDERS:
            for path, _, names in os.walk(top / folder):
                below = Path(path).relative_to(top).as_posix()
                yield from (f"{self.location}/{below}/{name}" for name in names)


def _pending_deletes_of(lake: Lake, table: Table, force: bool) -> _PendingDeletes | None:
    """Returns the files of a table to delete; None if they may be shared."""
    location = table.metadata.location.rstrip("/")
    if ROOT in table.properties:
        claim(lake, location)  # raises if this lake is a copy
    if not is_gc_enabled(table) or not _is_in_lake(lake, location):
        logger.info("keeping the files of %s in %s", ".".join(table.name()), location)
        return None

    def read_references() -> set[str]:
        references = References(ReferenceCache(lake).read_through)
        try:
            list(references.add(table))
        except DamagedDatasetError:
            if not force:
                raise
        return references.files

    own = is_created_location(location, table.metadata.table_uuid)
    if ROOT in table.properties and local_path(location) is None:
        files = open_folder(table.io, location).files
        return _PendingDeletes(lake, location, table.io, False, lambda: [f"{location}/{info.key}" for info in files()])
    known = None if own else read_references()  # raises before anything is removed
    return _PendingDeletes(lake, location, table.io, own, lambda: read_references() if known is None else known)


def _pending_deletes_of_damaged(lake: Lake, identifier: Identifier) -> _PendingDeletes | None:
    """Returns the files of a damaged table to delete; None if they may belong to another table."""
    metadata = lake.metadata_location(identifier)
    location = folder_of(metadata) if metadata is not None else ""
    if is_own_location(location, identifier[-1]) and _is_in_lake(lake, location):
        io = open_io(lake.catalog.properties, {}, location)
        pending = _PendingDeletes(lake, location, io, True, set)
        if not is_gc_disabled(io, pending._files_in_folders()):
            return pending
    logger.warning("%s is damaged; keeping the files that may belong to it", ".".join(identifier))
    return None


def _is_in_lake(lake: Lake, location: str) -> bool:
    """Returns whether the files at a location belong to this lake only. Other catalogs do not record that."""
    owns = getattr(lake.catalog, "owns", None)
    return owns is None or bool(owns(location))


def _remove_empty_folders(top: Path | None) -> None:
    """Removes the empty folders below ``top``, and ``top`` itself if it is empty then."""
    for path, _, _ in os.walk(top, topdown=False) if top is not None else ():
        with suppress(OSError):  # not empty, or already removed
            Path(path).rmdir()
