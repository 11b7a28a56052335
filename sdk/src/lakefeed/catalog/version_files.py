"""The data files of a version, in row order."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import TypeAlias, TypeVar
from uuid import UUID

from cachetools import LRUCache
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.expressions.visitors import _InclusiveMetricsEvaluator
from pyiceberg.manifest import DataFileContent, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.utils.concurrent import ExecutorFactory

from lakefeed.catalog import column_files
from lakefeed.catalog.damaged_tables import damage_errors
from lakefeed.catalog.delete_files import DeleteIndex, delete_index, lists_of_table
from lakefeed.catalog.file_bounds import BoundsIndex, span_of
from lakefeed.catalog.file_io import actual_location
from lakefeed.catalog.file_refs import ColumnFileRef, DataFileRef, Delta, RowSelection
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.manifest_cache import manifest_entries_of
from lakefeed.catalog.properties import COLUMN_BRANCH
from lakefeed.catalog.schema import snapshot_schema
from lakefeed.catalog.version_numbers import NumberedTable
from lakefeed.errors import VersionNotFoundError

T = TypeVar("T")

PLAN_CACHE_SIZE = 16
CACHED_FILES = 32_768
"""So many data files are cached at most, with some kilobytes each; more only for a version that has more."""
INDEXED_FILES = 64
"""From so many files on, conditions look files up in an index of their bounds."""
NUMBERED_NAME = re.compile(r"[0-9a-f]{32}(-\d{6}-[0-9a-f]{8})?-\d{5}(\.r[0-9a-f]{32})?\.parquet")

Files: TypeAlias = tuple[DataFileRef, ...]
ManifestKey: TypeAlias = tuple[str, int]
"""The actual location of a manifest, and its sequence number."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def data_files(
    lake: Lake,
    table: Table,
    snapshot_id: int | None = None,
    row_filter: BooleanExpression | None = None,
    schema: Schema | None = None,
) -> tuple[DataFileRef, ...]:
    """Returns the data files of a snapshot in row order: by version, then by path.

    The files of the snapshots that were used last are cached.

    Args:
        lake: the lake.
        table: the table.
        snapshot_id: the snapshot; None for the current one.
        row_filter: returns only files that may have a matching row.
        schema: the schema of ``row_filter``; None for the schema of the snapshot.

    Raises:
        VersionNotFoundError: the table has no such snapshot.
        DamagedDatasetError: a manifest is missing or invalid.
    """
    snapshot = _snapshot(table, snapshot_id)
    if snapshot is None:
        return ()
    files = files_of(table, snapshot)
    if row_filter is None or isinstance(row_filter, AlwaysTrue):
        return files
    columns = schema if schema is not None else snapshot_schema(table, snapshot.snapshot_id)
    evaluator = _InclusiveMetricsEvaluator(columns, row_filter)
    near = _files_near(table, snapshot, files, evaluator.expr)
    return tuple(file for file in near if evaluator.eval(file))  # type: ignore[arg-type]  # it has the attributes that are used


def _files_near(table: Table, snapshot: Snapshot, files: Files, condition: BooleanExpression) -> Sequence[DataFileRef]:
    """Returns the files that a bound condition may concern, by an index of the bounds of one of its columns.

    Without it, a scan of every range of keys would look at every file for each range.
    """
    if len(files) < INDEXED_FILES or (wanted := span_of(condition)) is None:
        return files
    field, span = wanted
    key = (table.metadata.table_uuid, snapshot.snapshot_id, field.field_id)
    with _lock:
        index = _indexes.get(key)
    if index is None or index.files is not files:
        index = BoundsIndex.of(files, field)
        with _lock:
            _indexes[key] = index
    return index.meeting(span)


def _snapshot(table: Table, snapshot_id: int | None) -> Snapshot | None:
    if snapshot_id is None:
        return table.metadata.current_snapshot()
    snapshot = table.metadata.snapshot_by_id(snapshot_id)
    if snapshot is None:
        raise VersionNotFoundError(f"{table.name()[-1]!r} has no snapshot {snapshot_id}; it may have expired")
    return snapshot


def files_of(table: Table, snapshot: Snapshot) -> tuple[DataFileRef, ...]:
    """Returns the data files of a snapshot in row order, from the cache or as `plan_files`.

    Raises:
        VersionNotFoundError: another program has expired the column files, also if the files are in the cache.
    """
    key = (table.metadata.table_uuid, snapshot.snapshot_id, column_files.require_column_snapshot(table, snapshot))
    with _lock:
        files = _plans.get(key)
    if files is None:
        files = plan_files(table, snapshot)
        if not any(file.unaligned for file in files):  # else a later version may assign the columns
            with _lock:
                _plans[key] = files
    return files


def plan_files(table: Table, snapshot: Snapshot) -> tuple[DataFileRef, ...]:
    """Reads the data files of a snapshot from its manifests, in row order.

    Raises:
        UnsupportedError: the snapshot has equality deletes.
        VersionNotFoundError: another program has expired the column files.
    """
    return with_columns(table, snapshot, plan_without_columns(table, snapshot))


def plan_without_columns(table: Table, snapshot: Snapshot) -> Files:
    """Reads the data files of a snapshot as `plan_files`, without column files, which another program may expire."""
    with damage_errors(table.name()[-1], snapshot.manifest_list):
        manifests = snapshot.manifests(table.io)
    deletes = delete_index(table, snapshot, manifests)
    data = [manifest for manifest in manifests if manifest.content == ManifestContent.DATA]
    files = sorted(_files_in_manifests(table, data), key=row_order)
    return with_deletes(files, deletes)


def _files_in_manifests(table: Table, manifests: Sequence[ManifestFile]) -> Iterator[DataFileRef]:
    """Yields the data files in manifests. Versions share those of the manifests that they have in common."""
    if isinstance(table, NumberedTable):  # its numbers of versions depend on what it has
        yield from (file_ref(manifest, entry) for manifest, entry in manifest_entries(table, manifests))
        return
    keys = [(actual_location(table.io, each.manifest_path), each.sequence_number) for each in manifests]
    with _lock:
        known = {key: files for key in keys if (files := _manifests.get(key)) is not None}
    unread = [(key, manifest) for key, manifest in zip(keys, manifests, strict=True) if key not in known]

    def read(pair: tuple[ManifestKey, ManifestFile]) -> tuple[ManifestKey, Files]:
        key, manifest = pair
        return key, tuple(file_ref(manifest, entry) for entry in _data_entries(table, manifest))

    for key, files in map_in_threads(read, unread):
        known[key] = files
        with _lock:
            _manifests[key] = files
    for key in keys:
        yield from known[key]


def with_columns(table: Table, snapshot: Snapshot, files: Files) -> Files:
    """Returns the data files of a version with their column files, and with the statistics of these.

    Raises:
        VersionNotFoundError: another program has expired the column files.
    """
    if COLUMN_BRANCH not in table.metadata.refs:
        return files
    index = column_files.column_index(table, snapshot)
    if not index:
        return files
    files = tuple(with_column_files(file, index.of(file.path)) for file in files)
    owner = column_files.column_owner(table, snapshot)
    present = {file.path for file in files}
    if owner is snapshot or all(file.path in present for file in files_of(table, owner)):
        return files
    # Another program has removed files. It may have written their rows anew, without columns that it does not see.
    # The first later version that has assigned them tells; newer ones may have derived other values.
    later = tuple(column_files.column_indexes(table, table.metadata.current_snapshot()))[::-1]
    return tuple(
        file
        if file.sequence <= (owner.sequence_number or 0)
        else with_column_files(file, columns)
        if (columns := next(filter(None, (index.of(file.path) for index in later)), ()))
        else replace(file, unaligned=True)
        for file in files
    )


def manifest_lists(table: Table, snapshot: Snapshot) -> list[str]:
    """Returns the locations of the manifest lists of a version: of its rows, and of its column files if it has any."""
    number = column_files.column_snapshot_id(table, snapshot) if COLUMN_BRANCH in table.metadata.refs else None
    beside = None if number is None else table.metadata.snapshot_by_id(number)
    return [each.manifest_list for each in (snapshot, beside) if each is not None]


def with_last_columns(table: Table, snapshot: Snapshot | None, files: Files) -> Files:
    """Returns data files, which a version or its ancestors have, with their last column files before its end."""
    if snapshot is None or COLUMN_BRANCH not in table.metadata.refs:
        return files
    now = {file.path: file for file in files_of(table, snapshot)}
    gone = {file.path for file in files if file.path not in now}
    last: dict[str, tuple[ColumnFileRef, ...]] = {}
    indexes = column_files.column_indexes(table, snapshot)
    while gone and (index := next(indexes, None)) is not None:
        last |= {path: columns for path in gone if (columns := index.of(path))}
        gone -= last.keys()
    result = []
    for file in files:
        known = now.get(file.path)
        columns = last.get(file.path, ()) if known is None else known.columns
        result.append(replace(with_column_files(file, columns), unaligned=known is not None and known.unaligned))
    return tuple(result)


def with_last_columns_of(table: Table, snapshot: Snapshot | None, deltas: Sequence[Delta]) -> tuple[Delta, ...]:
    """Returns deltas whose files have their last column files, as `with_last_columns`. Looks them up together."""
    files = tuple(chain.from_iterable((*each.files, *each.less, *each.moved) for each in deltas))
    done = iter(with_last_columns(table, snapshot, files))

    def take(files: Files) -> Files:
        return tuple(islice(done, len(files)))

    return tuple(Delta(take(each.files), take(each.less), take(each.moved)) for each in deltas)


def with_column_files(file: DataFileRef, columns: tuple[ColumnFileRef, ...]) -> DataFileRef:
    """Returns a data file with column files, whose statistics replace its own."""
    if not columns:
        return file

    def merged(values: Mapping[int, T], newer: Iterable[Mapping[int, T]]) -> Mapping[int, T]:
        for each, statistics in zip(reversed(columns), newer, strict=True):  # the newest last
            values = {number: value for number, value in values.items() if number not in each.value_counts}
            values = {**values, **statistics}
        return values

    oldest_first = columns[::-1]
    return replace(
        file,
        columns=columns,
        value_counts=merged(file.value_counts, (each.value_counts for each in oldest_first)),
        null_value_counts=merged(file.null_value_counts, (each.null_value_counts for each in oldest_first)),
        nan_value_counts=merged(file.nan_value_counts, (each.nan_value_counts for each in oldest_first)),
        lower_bounds=merged(file.lower_bounds, (each.lower_bounds for each in oldest_first)),
        upper_bounds=merged(file.upper_bounds, (each.upper_bounds for each in oldest_first)),
    )


def with_deletes(files: Iterable[DataFileRef], deletes: DeleteIndex) -> tuple[DataFileRef, ...]:
    """Returns data files with the delete files that apply to them, instead of those that they had."""
    pairs = ((file, deletes.applying_to(file.path, file.sequence)) for file in files)
    return tuple(file if file.deletes == applying else replace(file, deletes=applying) for file, applying in pairs)


def select_rows(table: Table, file: DataFileRef) -> RowSelection:
    """Returns the rows of a data file that are read. Reads only its delete files.

    Raises:
        DamagedDatasetError: a delete file is missing or invalid.
    """
    return lists_of_table(table).select_rows(file)


def live_rows(table: Table, file: DataFileRef) -> int:
    """Returns the number of rows of a data file that are read."""
    return len(select_rows(table, file)) if file.has_deletes else file.rows


def manifest_entries(
    table: Table, manifests: Iterable[ManifestFile], removed: bool = False
) -> Iterator[tuple[ManifestFile, ManifestEntry]]:
    """Yields the entries of data files in manifests, each with its manifest.

    The sequence number of an entry is the number of the version that wrote the rows.

    Args:
        table: the table.
        manifests: the manifests.
        removed: also yields entries of removed files.
    """

    def read(manifest: ManifestFile) -> list[tuple[ManifestFile, ManifestEntry]]:
        return [(manifest, entry) for entry in _data_entries(table, manifest, removed)]

    for pairs in map_in_threads(read, manifests):
        if isinstance(table, NumberedTable):
            for _, entry in pairs:
                entry.sequence_number = table.number_of(entry.sequence_number, entry.snapshot_id)
        yield from pairs


def _data_entries(table: Table, manifest: ManifestFile, removed: bool = False) -> list[ManifestEntry]:
    with damage_errors(table.name()[-1], manifest.manifest_path):
        entries = manifest_entries_of(table, manifest, removed)
    return [entry for entry in entries if entry.data_file.content == DataFileContent.DATA]


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Returns ``map(function, items)``, done in the threads of PyIceberg.

    Once the main thread has ended, concurrent.futures takes no more work, so this thread does it.
    """
    if not threading.main_thread().is_alive():
        return map(function, items)
    return ExecutorFactory.get_or_create().map(function, items)


def file_ref(manifest: ManifestFile, entry: ManifestEntry) -> DataFileRef:
    """Returns the data file of a manifest entry."""
    file = entry.data_file
    return DataFileRef(
        path=file.file_path,
        rows=file.record_count,
        size=file.file_size_in_bytes,
        sequence=entry.sequence_number or 0,
        manifest=manifest.manifest_path,
        spec_id=manifest.partition_spec_id,
        partition=tuple(file.partition[index] for index in range(len(file.partition))),
        value_counts=file.value_counts or {},
        null_value_counts=file.null_value_counts or {},
        nan_value_counts=file.nan_value_counts or {},
        lower_bounds=file.lower_bounds or {},
        upper_bounds=file.upper_bounds or {},
        sort_order_id=file.sort_order_id,
    )


def row_order(file: DataFileRef) -> tuple[int, str]:
    """Returns the sort key of a file in row order.

    Files of lakefeed are sorted by name, because their names are numbered and their folders may be hashes
    (``write.object-storage.enabled``).
    """
    name = file.path.rpartition("/")[2]
    return file.sequence, name if NUMBERED_NAME.fullmatch(name) else file.path


def _plan_weight(files: Sequence[DataFileRef]) -> int:
    """Returns the number of files, within limits: there are never too many plans, and one always fits."""
    return min(max(len(files), CACHED_FILES // PLAN_CACHE_SIZE), CACHED_FILES)


def _manifest_weight(files: Files) -> int:
    return min(len(files) + 1, CACHED_FILES)


_plans: LRUCache[tuple[UUID, int, int | None], Files] = LRUCache(CACHED_FILES, getsizeof=_plan_weight)
"""Files by snapshot and by the snapshot of their column files, which differs once another program expires ancestors."""
_manifests: LRUCache[ManifestKey, Files] = LRUCache(CACHED_FILES, getsizeof=_manifest_weight)
_indexes: LRUCache[tuple[UUID, int, int], BoundsIndex] = LRUCache(
    CACHED_FILES, getsizeof=lambda index: _plan_weight(index.files)
)
"""Indexes by snapshot and by the id of a column."""
_lock = threading.Lock()
