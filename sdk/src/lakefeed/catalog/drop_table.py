"""Deleting a dataset: the entry in the catalog, and those of its files that nobody else uses."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io import FileIO
from pyiceberg.table import Table
from pyiceberg.typedef import Identifier
from pyiceberg.utils.concurrent import ExecutorFactory

from lakefeed.catalog.durability import local_path
from lakefeed.catalog.file_io import actual_location, open_io
from lakefeed.catalog.lake import Lake, is_own_location
from lakefeed.catalog.reachable import ReferenceCache
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
from lakefeed.catalog.tombstones import retire, retire_damaged
from lakefeed.catalog.warehouse_owner import require_owner
from lakefeed.errors import DamagedDatasetError, DatasetNotFoundError

logger = logging.getLogger(__name__)

TABLE_FOLDERS = ("data", "metadata")
"""Where a table has its files, below its location."""


def drop(lake: Lake, name: str, force: bool) -> None:
    """Removes a dataset, and its files below its own location that no other table of the catalog names.

    Files elsewhere stay: those that other programs registered, and those of tables outside of the warehouse. With the
    table property ``gc.enabled=false`` all files stay. ``force``: also where metadata is damaged; then what cannot be
    told to be the table's stays.

    Its last number stays on record, so that a dataset that is made anew under the name goes on after it.

    Raises:
        DatasetNotFoundError: there is none of that name, or by now another one.
        DamagedDatasetError: its metadata cannot be read, and ``force`` is not given. Nothing was removed.
        SharedWarehouseError: the catalog does not own its warehouse. Nothing was removed.
    """
    require_owner(lake.catalog)
    identifier = lake.identifier(name)
    try:
        doomed = _drop_table(lake, name, force)
    except NoSuchTableError:
        raise lake.not_found(name) from None
    except DamagedDatasetError:
        if not force:
            raise
        doomed = _drop_damaged(lake, identifier)
    if doomed is not None:
        doomed.delete()


def _drop_table(lake: Lake, name: str, force: bool) -> _PendingDeletes | None:
    first = lake.table(name)
    _pending_deletes_of(lake, first, force)  # an error leaves all as it is

    def same() -> Table:
        table = lake.table(name)
        if table.metadata.table_uuid != first.metadata.table_uuid:
            raise DatasetNotFoundError(f"dataset {name!r} was deleted and created again during the delete")
        return table

    table = retire(lake.catalog, same, lambda now: lake.catalog.drop_table(now.name()))
    return _pending_deletes_of(lake, table, force=True)


def _drop_damaged(lake: Lake, identifier: Identifier) -> _PendingDeletes | None:
    doomed = _pending_deletes_of_damaged(lake, identifier)
    try:
        retire_damaged(lake.catalog, identifier, lake.metadata_location(identifier))
    except NoSuchTableError:
        raise lake.not_found(".".join(identifier)) from None
    return doomed


@dataclass(frozen=True)
class _PendingDeletes:
    """The files that a table leaves behind.

    Attributes:
        lake: whose table it is.
        location: of the table.
        io: reaches the files.
        own: whether lakefeed made the location for this table on local disk, so that all in its folders is the table's.
        named: gives the files that the table names.
    """

    lake: Lake
    location: str
    io: FileIO
    own: bool
    named: Callable[[], Iterable[str]]

    def delete(self) -> None:
        """Deletes those at its own location that no other table names; to be called when the catalog has no entry."""
        others, folders, damaged = self._others()
        here = lexical_path(self.io, self.location)
        within = {folder for folder in folders if folder == here or is_below(folder, [here])}
        files = self._in_folders() if self.own and not within else self.named()
        spared = {*(within - {here}), *damaged}
        gone = [
            path
            for path in dict.fromkeys(files)
            if is_below(lexical_path(self.io, path), [here])
            and not is_below(lexical_path(self.io, path), spared)
            and canonical_path(self.io, path) not in others
        ]
        list(ExecutorFactory.get_or_create().map(lambda path: discard_files(self.io, [path]), gone))
        _remove_empty_folders(local_path(actual_location(self.io, self.location)))

    def _others(self) -> tuple[set[str], set[str], set[str]]:
        """What the catalog's tables name, the folders below which they have files, and those of damaged tables."""
        references, folders, damaged = References(ReferenceCache(self.lake).told), set[str](), set[str]()
        for identifier, table in all_tables(self.lake):
            if isinstance(table, DamagedDatasetError):
                damaged |= possible_folders(self.lake, identifier)
                continue
            folders |= folders_of(table)
            if not references.add_readable(table):
                damaged |= folders_of(table)
        names = {canonical_path(self.io, path) for path in references.files}
        return names, *({lexical_path(self.io, each) for each in found} for found in (folders, damaged))  # type: ignore[return-value]

    def _in_folders(self) -> Iterator[str]:
        """All files in the folders of the table, by the locations that metadata gives them."""
        top = local_path(actual_location(self.io, self.location))
        assert top is not None, "only local folders are listed"
        for folder in TABLE_FOLDERS:
            for path, _, names in os.walk(top / folder):
                below = Path(path).relative_to(top).as_posix()
                yield from (f"{self.location}/{below}/{name}" for name in names)


def _pending_deletes_of(lake: Lake, table: Table, force: bool) -> _PendingDeletes | None:
    """What a table leaves behind; None where that is not its own."""
    location = table.metadata.location.rstrip("/")
    if not is_gc_enabled(table) or not _is_in_lake(lake, location):
        logger.info("the files of %s stay in %s", ".".join(table.name()), location)
        return None

    def named() -> set[str]:
        references = References(ReferenceCache(lake).told)
        try:
            list(references.add(table))
        except DamagedDatasetError:
            if not force:
                raise
        return references.files

    own = is_own_location(location, table.name()[-1])
    found = None if own else named()  # before the entry goes: an error then leaves all as it was
    return _PendingDeletes(lake, location, table.io, own, lambda: named() if found is None else found)


def _pending_deletes_of_damaged(lake: Lake, identifier: Identifier) -> _PendingDeletes | None:
    """What a table leaves behind whose metadata cannot be read; None where that cannot be told to be its own."""
    metadata = lake.metadata_location(identifier)
    location = folder_of(metadata) if metadata is not None else ""
    if is_own_location(location, identifier[-1]) and _is_in_lake(lake, location):
        io = open_io(lake.catalog.properties, {}, location)
        doomed = _PendingDeletes(lake, location, io, True, set)
        if not is_gc_disabled(io, doomed._in_folders()):
            return doomed
    logger.warning("%s was damaged: the files that it may have stay where they are", ".".join(identifier))
    return None


def _is_in_lake(lake: Lake, location: str) -> bool:
    """Whether files at a location belong to the lake alone, as far as its catalog keeps account of that."""
    owns = getattr(lake.catalog, "owns", None)
    return owns is None or bool(owns(location))


def _remove_empty_folders(top: Path | None) -> None:
    """Removes the folders of a table that are empty, and its own if it is then."""
    for path, _, _ in os.walk(top, topdown=False) if top is not None else ():
        with suppress(OSError):  # it is not empty, or gone already
            Path(path).rmdir()
