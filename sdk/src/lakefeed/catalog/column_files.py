"""Column files: values of some columns for the rows of one data file, in its order.

The column files of a version are the files of another snapshot, which the snapshot of the version names. It does not
count as a version. So other engines read the version without these columns, and a column is added without a copy of the
rows. The name of a column file begins with a digest of the path of its data file.
"""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from uuid import UUID

from cachetools import LRUCache
from pyiceberg.manifest import DataFileContent, ManifestEntry, ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import IcebergType, ListType, MapType, StructType

from lakefeed.catalog.column_schema import column_schema
from lakefeed.catalog.damaged_tables import damage_errors
from lakefeed.catalog.file_refs import DIGEST_LENGTH, ColumnFileRef
from lakefeed.catalog.manifest_cache import manifest_entries_of
from lakefeed.catalog.properties import COLUMN_BRANCH, COLUMN_FILES, COLUMN_SNAPSHOT
from lakefeed.errors import UnsupportedError, VersionNotFoundError

INDEXED_FILES = 32_768
"""So many column files are cached at most; more only for a version that has more."""


class ColumnIndex:
    """The column files of a version, by the digests of the paths of their data files."""

    def __init__(self, files: Iterable[ColumnFileRef] = ()) -> None:
        groups: dict[str, list[ColumnFileRef]] = defaultdict(list)
        for file in files:
            groups[file.digest].append(file)
        self._groups = {digest: _without_older_values(group) for digest, group in groups.items()}
        self.superseded = tuple(
            file
            for digest, group in groups.items()
            for file in group
            if file.path not in {each.path for each in self._groups[digest]}
        )
        """Files of which newer files have all columns."""

    def __bool__(self) -> bool:
        return bool(self._groups)

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def __iter__(self) -> Iterator[ColumnFileRef]:
        return (file for group in self._groups.values() for file in group)

    def of(self, path: str) -> tuple[ColumnFileRef, ...]:
        """Returns the column files of a data file, newest first. No two have the same column."""
        return self._groups.get(path_digest(path), ()) if self._groups else ()


EMPTY_INDEX = ColumnIndex()


def path_digest(path: str) -> str:
    """Returns the text with which the names of the column files of a data file begin."""
    return hashlib.sha256(path.encode()).hexdigest()[:DIGEST_LENGTH]


def has_column_files(table: Table) -> bool:
    """Returns whether values of columns may be written into column files; else rows are written again."""
    return table.properties.get(COLUMN_FILES) != "off"


def column_snapshot_id(table: Table, snapshot: Snapshot | None) -> int | None:
    """Returns the id of the snapshot with the column files of a version; None if it has none.

    A version of another program has those of the version before it. If another program has expired the snapshot, the
    table has none with the id.
    """
    return next(_column_snapshot_ids(table, snapshot), None)


def require_column_snapshot(table: Table, snapshot: Snapshot) -> int | None:
    """Returns the id of the snapshot with the column files of a version, as `column_snapshot_id`.

    Raises:
        VersionNotFoundError: another program has expired it.
    """
    number = column_snapshot_id(table, snapshot) if COLUMN_BRANCH in table.metadata.refs else None
    if number is not None and table.metadata.snapshot_by_id(number) is None:
        raise _expired_error(table, number)
    return number


def _column_snapshot_ids(table: Table, snapshot: Snapshot | None) -> Iterator[int | None]:
    """Yields the ids of the snapshots with the column files of a version and of its ancestors, newest first.

    None stands for versions without column files. Versions of other programs are passed over.
    """
    if snapshot is None:
        return
    by_id: dict[int, Snapshot] | None = None
    at: Snapshot | None = snapshot
    while at is not None:
        pinned = _facts(at).get(COLUMN_SNAPSHOT)
        if pinned is not None:
            yield int(pinned) if pinned else None
        elif COLUMN_BRANCH not in table.metadata.refs:
            return
        if by_id is None:
            by_id = {each.snapshot_id: each for each in table.metadata.snapshots}
        parent = by_id.get(at.parent_snapshot_id or -1)
        if parent is None and pinned is None:
            # It has expired, or there was none. The branch moves with each change of the column files.
            newest = table.metadata.refs[COLUMN_BRANCH].snapshot_id
            if _is_later(table, at, newest):
                yield newest
            elif column_schema(table.metadata, at.schema_id) is not None:
                yield -at.snapshot_id  # no snapshot has this id: the column files have changed since
        at = parent


def _is_later(table: Table, snapshot: Snapshot, number: int) -> bool:
    """Returns whether a snapshot is later than another one. PyIceberg removes the ids of expired parents."""
    other = table.metadata.snapshot_by_id(number)
    return other is not None and (snapshot.sequence_number or 0) > (other.sequence_number or 0)


def column_owner(table: Table, snapshot: Snapshot) -> Snapshot:
    """Returns the newest of a version and its ancestors that lakefeed wrote and that names its column files."""
    at = snapshot
    while COLUMN_SNAPSHOT not in _facts(at):
        parent = table.metadata.snapshot_by_id(at.parent_snapshot_id or -1)
        if parent is None:
            return at
        at = parent
    return at


def column_index(table: Table, snapshot: Snapshot | None) -> ColumnIndex:
    """Returns the column files of a version.

    Raises:
        VersionNotFoundError: another program has expired the snapshot that names them.
        DamagedDatasetError: a manifest is missing or invalid.
    """
    number = column_snapshot_id(table, snapshot)
    return EMPTY_INDEX if number is None else _index_of(table, number)


def _index_of(table: Table, number: int) -> ColumnIndex:
    """Returns the column files that a snapshot names, from the cache or from its manifests."""
    if table.metadata.snapshot_by_id(number) is None:  # the index may be in the cache, but its files are garbage
        raise _expired_error(table, number)
    key = (table.metadata.table_uuid, number)
    with _lock:
        index = _indexes.get(key)
    if index is None:
        index = _read_index(table, number)
        with _lock:
            _indexes[key] = index
    return index


def column_indexes(table: Table, snapshot: Snapshot | None) -> Iterator[ColumnIndex]:
    """Yields the column files of a version and of its ancestors, newest first, each set once."""
    existing = {each.snapshot_id for each in table.metadata.snapshots}
    for number in dict.fromkeys(_column_snapshot_ids(table, snapshot)):
        if number in existing and number is not None:
            yield _index_of(table, number)


def unaligned_error(name: str) -> UnsupportedError:
    """Returns the error for rows that another program wrote anew, without the columns that are in column files."""
    return UnsupportedError(
        f"another program has written rows of {name!r} anew, and their columns in column files are not assigned yet. "
        "Call compact() on the table, or write to it, which assigns them by key; other columns can be read"
    )


def _expired_error(table: Table, number: int) -> VersionNotFoundError:
    which = f" (snapshot {number})" if number > 0 else ""
    return VersionNotFoundError(
        f"another program has expired the column files of {table.name()[-1]!r}{which}; read another version"
    )


def _read_index(table: Table, snapshot_id: int) -> ColumnIndex:
    snapshot, name = table.metadata.snapshot_by_id(snapshot_id), table.name()[-1]
    if snapshot is None:
        raise _expired_error(table, snapshot_id)
    columns = _columns_by_leaf(table.schemas()[snapshot.schema_id or 0])
    with damage_errors(name, snapshot.manifest_list):
        manifests = snapshot.manifests(table.io)
    files = []
    for manifest in manifests:
        with damage_errors(name, manifest.manifest_path):
            entries = manifest_entries_of(table, manifest)
        files += [_file_ref(manifest, e, columns) for e in entries if e.data_file.content == DataFileContent.DATA]
    return ColumnIndex(files)


def _file_ref(manifest: ManifestFile, entry: ManifestEntry, columns: Mapping[int, int]) -> ColumnFileRef:
    file = entry.data_file
    counts = file.value_counts or {}
    return ColumnFileRef(
        path=file.file_path,
        rows=file.record_count,
        size=file.file_size_in_bytes,
        sequence=entry.sequence_number or 0,
        fields=frozenset(columns[leaf] for leaf in counts if leaf in columns),
        manifest=manifest.manifest_path,
        value_counts=counts,
        null_value_counts=file.null_value_counts or {},
        nan_value_counts=file.nan_value_counts or {},
        lower_bounds=file.lower_bounds or {},
        upper_bounds=file.upper_bounds or {},
    )


def _without_older_values(files: Iterable[ColumnFileRef]) -> tuple[ColumnFileRef, ...]:
    """Returns the column files of one data file, newest first, each with only the columns that no newer one has."""
    newer: frozenset[int] = frozenset()
    remaining = []
    for file in sorted(files, key=lambda each: (each.sequence, each.path), reverse=True):
        if file.fields - newer:
            remaining.append(replace(file, fields=file.fields - newer))
            newer |= file.fields
    return tuple(remaining)


def _columns_by_leaf(schema: Schema) -> dict[int, int]:
    """Returns the id of the column that each leaf of a schema is in."""
    return {leaf: column.field_id for column in schema.fields for leaf in _leaves(column.field_id, column.field_type)}


def _leaves(number: int, kind: IcebergType) -> Iterator[int]:
    match kind:
        case StructType():
            for each in kind.fields:
                yield from _leaves(each.field_id, each.field_type)
        case ListType():
            yield from _leaves(kind.element_id, kind.element_type)
        case MapType():
            yield from _leaves(kind.key_id, kind.key_type)
            yield from _leaves(kind.value_id, kind.value_type)
        case _:
            yield number


def _facts(snapshot: Snapshot) -> Mapping[str, str]:
    return snapshot.summary.additional_properties if snapshot.summary is not None else {}


_indexes: LRUCache[tuple[UUID, int], ColumnIndex] = LRUCache(
    INDEXED_FILES, getsizeof=lambda index: min(len(index) + 1, INDEXED_FILES)
)
"""The indexes that were used last. A snapshot never changes."""
_lock = threading.Lock()
