"""Delete files, which list deleted rows by file and position. Other engines read and write them too.

A delete file applies to the data files that it names and whose sequence number is not higher than its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pyiceberg.manifest import DataFileContent, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakefeed.catalog import position_lists
from lakefeed.catalog.damaged_tables import damage_errors
from lakefeed.catalog.file_access import TableAccess
from lakefeed.catalog.file_refs import DeleteFileRef, Positions
from lakefeed.catalog.manifest_cache import manifest_entries_of
from lakefeed.catalog.version_numbers import NumberedTable
from lakefeed.errors import UnsupportedError

if TYPE_CHECKING:
    from lakefeed.catalog.position_lists import PositionLists

PATH_FIELD_ID: Final = 2147483546
POSITION_FIELD_ID: Final = 2147483545


class DeleteIndex:
    """The delete files of a snapshot, by the data files that they may name."""

    def __init__(self, files: Iterable[DeleteFileRef]) -> None:
        self.files = tuple(files)
        self._of_one: dict[bytes, list[DeleteFileRef]] = defaultdict(list)
        self._of_several: list[DeleteFileRef] = []
        for file in self.files:
            if file.first == file.last:
                self._of_one[file.first].append(file)
            else:
                self._of_several.append(file)

    def __bool__(self) -> bool:
        return bool(self.files)

    def applying_to(self, path: str, sequence: int) -> tuple[DeleteFileRef, ...]:
        """Returns the delete files that may list rows of a data file of this sequence number, in a fixed order."""
        if not self.files:
            return ()
        key = path.encode()
        several = (file for file in self._of_several if file.sequence >= sequence and file.may_name(key))
        one = (file for file in self._of_one.get(key, ()) if file.sequence >= sequence)
        return tuple(sorted((*one, *several), key=lambda file: (file.sequence, file.path)))


def delete_entries(table: Table, snapshot: Snapshot, manifests: Iterable[ManifestFile]) -> list[ManifestEntry]:
    """Returns the manifest entries of the delete files of a snapshot.

    Raises:
        UnsupportedError: one of them has equality deletes.
    """
    return [entry for _, entry in _entries(table, snapshot, manifests)]


def delete_index(table: Table, snapshot: Snapshot, manifests: Iterable[ManifestFile] | None = None) -> DeleteIndex:
    """Returns the delete files of a snapshot. ``manifests``: those of the snapshot, if they are known.

    Raises:
        UnsupportedError: one of them has equality deletes.
    """
    read = snapshot.manifests(table.io) if manifests is None else manifests
    return DeleteIndex(delete_file_ref(manifest, entry) for manifest, entry in _entries(table, snapshot, read))


def delete_file_ref(manifest: ManifestFile, entry: ManifestEntry) -> DeleteFileRef:
    """Returns the delete file of a manifest entry."""
    file = entry.data_file
    return DeleteFileRef(
        path=file.file_path,
        rows=file.record_count,
        sequence=entry.sequence_number or 0,
        first=(file.lower_bounds or {}).get(PATH_FIELD_ID, b""),
        last=(file.upper_bounds or {}).get(PATH_FIELD_ID),
        file_format=file.file_format.name,
        manifest=manifest.manifest_path,
    )


def _entries(
    table: Table, snapshot: Snapshot, manifests: Iterable[ManifestFile]
) -> Iterator[tuple[ManifestFile, ManifestEntry]]:
    for manifest in manifests:
        if manifest.content != ManifestContent.DELETES:
            continue
        with damage_errors(table.name()[-1], manifest.manifest_path):
            entries = manifest_entries_of(table, manifest)
        for entry in entries:
            yield manifest, checked_delete_entry(table, snapshot, entry)


def checked_delete_entry(table: Table, snapshot: Snapshot, entry: ManifestEntry) -> ManifestEntry:
    """Returns the entry with the number of the version that deleted the rows.

    Raises:
        UnsupportedError: the file has equality deletes.
    """
    if isinstance(table, NumberedTable):
        entry.sequence_number = table.number_of(entry.sequence_number, entry.snapshot_id)
    if entry.data_file.content == DataFileContent.EQUALITY_DELETES:
        raise UnsupportedError(
            f"version {snapshot.sequence_number} of {table.name()[-1]!r} has equality deletes of another writer "
            f"in {entry.data_file.file_path}, which lakefeed does not support. Compact the table with that program "
            "(Spark: CALL system.rewrite_data_files), or read an older version"
        )
    return entry


# ------------------------------------------------------------------------------------------ positions


def lists_of_table(table: Table) -> PositionLists:
    """Returns the positions that the delete files of a table list."""
    return position_lists.PositionLists(TableAccess(table.io), table.name()[-1])


def positions_by_path(table: Table, file: DeleteFileRef) -> Mapping[str, Positions]:
    """Returns the positions that a delete file lists, by data file. They are cached.

    Raises:
        DamagedDatasetError: the file is missing or invalid.
    """
    return lists_of_table(table).by_path(file)


def deleted_positions(table: Table, path: str, files: Sequence[DeleteFileRef]) -> Positions:
    """Returns the positions of the rows of one data file that delete files list."""
    return lists_of_table(table).deleted(path, files)
