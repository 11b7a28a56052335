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
from lakefeed.catalog.file_io import actual, open_io
from lakefeed.catalog.lake import Lake, owns_location
from lakefeed.catalog.reachable import Reads
from lakefeed.catalog.table_output import remove
from lakefeed.catalog.table_references import (
    References,
    canonical,
    folder_of,
    folders_of,
    keeps_files,
    lexical,
    lies_in,
    may_be_deleted,
    possible_folders,
    tables,
)
from lakefeed.catalog.tombstones import retire, retire_damaged
from lakefeed.catalog.warehouse_owner import require_owner
from lakefeed.errors import DamagedDatasetError, DatasetNotFoundError

logger = logging.getLogger(__name__)

FOLDERS = ("data", "metadata")
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


def _drop_table(lake: Lake, name: str, force: bool) -> _Doomed | None:
    first = lake.table(name)
    _of_table(lake, first, force)  # an error leaves all as it is

    def same() -> Table:
        table = lake.table(name)
        if table.metadata.table_uuid != first.metadata.table_uuid:
            raise DatasetNotFoundError(f"dataset {name!r} was deleted and created anew meanwhile")
        return table

    table = retire(lake.catalog, same, lambda now: lake.catalog.drop_table(now.name()))
    return _of_table(lake, table, force=True)


def _drop_damaged(lake: Lake, identifier: Identifier) -> _Doomed | None:
    doomed = _of_damaged(lake, identifier)
    try:
        retire_damaged(lake.catalog, identifier, lake.metadata_location(identifier))
    except NoSuchTableError:
        raise lake.not_found(".".join(identifier)) from None
    return doomed


@dataclass(frozen=True)
class _Doomed:
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
        here = lexical(self.io, self.location)
        within = {folder for folder in folders if folder == here or lies_in(folder, [here])}
        files = self._in_folders() if self.own and not within else self.named()
        spared = {*(within - {here}), *damaged}
        gone = [
            path
            for path in dict.fromkeys(files)
            if lies_in(lexical(self.io, path), [here])
            and not lies_in(lexical(self.io, path), spared)
            and canonical(self.io, path) not in others
        ]
        list(ExecutorFactory.get_or_create().map(lambda path: remove(self.io, [path]), gone))
        _remove_empty(local_path(actual(self.io, self.location)))

    def _others(self) -> tuple[set[str], set[str], set[str]]:
        """What the catalog's tables name, the folders below which they have files, and those of damaged tables."""
        references, folders, damaged = References(Reads(self.lake).told), set[str](), set[str]()
        for identifier, table in tables(self.lake):
            if isinstance(table, DamagedDatasetError):
                damaged |= possible_folders(self.lake, identifier)
                continue
            folders |= folders_of(table)
            if not references.add_readable(table):
                damaged |= folders_of(table)
        names = {canonical(self.io, path) for path in references.files}
        return names, *({lexical(self.io, each) for each in found} for found in (folders, damaged))  # type: ignore[return-value]

    def _in_folders(self) -> Iterator[str]:
        """All files in the folders of the table, by the locations that metadata gives them."""
        top = local_path(actual(self.io, self.location))
        assert top is not None, "only local folders are listed"
        for folder in FOLDERS:
            for path, _, names in os.walk(top / folder):
                below = Path(path).relative_to(top).as_posix()
                yield from (f"{self.location}/{below}/{name}" for name in names)


def _of_table(lake: Lake, table: Table, force: bool) -> _Doomed | None:
    """What a table leaves behind; None where that is not its own."""
    location = table.metadata.location.rstrip("/")
    if not may_be_deleted(table) or not _in_lake(lake, location):
        logger.info("the files of %s stay in %s", ".".join(table.name()), location)
        return None

    def named() -> set[str]:
        references = References(Reads(lake).told)
        try:
            list(references.add(table))
        except DamagedDatasetError:
            if not force:
                raise
        return references.files

    own = owns_location(location, table.name()[-1])
    found = None if own else named()  # before the entry goes: an error then leaves all as it was
    return _Doomed(lake, location, table.io, own, lambda: named() if found is None else found)


def _of_damaged(lake: Lake, identifier: Identifier) -> _Doomed | None:
    """What a table leaves behind whose metadata cannot be read; None where that cannot be told to be its own."""
    metadata = lake.metadata_location(identifier)
    location = folder_of(metadata) if metadata is not None else ""
    if owns_location(location, identifier[-1]) and _in_lake(lake, location):
        io = open_io(lake.catalog.properties, {}, location)
        doomed = _Doomed(lake, location, io, True, set)
        if not keeps_files(io, doomed._in_folders()):
            return doomed
    logger.warning("%s was damaged: the files that it may have stay where they are", ".".join(identifier))
    return None


def _in_lake(lake: Lake, location: str) -> bool:
    """Whether files at a location belong to the lake alone, as far as its catalog keeps account of that."""
    owns = getattr(lake.catalog, "owns", None)
    return owns is None or bool(owns(location))


def _remove_empty(top: Path | None) -> None:
    """Removes the folders of a table that are empty, and its own if it is then."""
    for path, _, _ in os.walk(top, topdown=False) if top is not None else ():
        with suppress(OSError):  # it is not empty, or gone already
            Path(path).rmdir()
