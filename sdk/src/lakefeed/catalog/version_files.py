"""The data files of a version in total row order."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.expressions.visitors import _InclusiveMetricsEvaluator
from pyiceberg.manifest import DataFileContent, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.utils.concurrent import ExecutorFactory

from lakefeed.catalog.damaged_tables import damage_errors
from lakefeed.catalog.delete_files import delete_entries
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.schema import snapshot_schema
from lakefeed.catalog.version_numbers import NumberedTable
from lakefeed.errors import VersionNotFoundError

PLAN_CACHE_SIZE = 16
NUMBERED_NAME = re.compile(r"[0-9a-f]{32}(-\d{6}-[0-9a-f]{8})?-\d{5}(\.r[0-9a-f]{32})?\.parquet")


@dataclass(frozen=True)
class DataFileRef:
    """One data file: where it is, how many rows and bytes it has, and its statistics by field id.

    ``sequence`` is the version that wrote its rows: a file that was rewritten, because some of its rows were deleted or
    replaced, keeps that of the file before it. ``manifest`` is the manifest that names it; ``partition`` are its values
    in the partition spec ``spec_id``. ``deletes_in`` is the snapshot whose delete files may name some of its rows.
    """

    path: str
    rows: int
    size: int
    sequence: int
    deletes_in: int | None = None
    manifest: str = field(default="", repr=False, compare=False)
    spec_id: int = field(default=0, repr=False, compare=False)
    partition: tuple[Any, ...] = field(default=(), repr=False, compare=False)
    value_counts: Mapping[int, int] = field(default_factory=dict, repr=False, compare=False)
    null_value_counts: Mapping[int, int] = field(default_factory=dict, repr=False, compare=False)
    nan_value_counts: Mapping[int, int] = field(default_factory=dict, repr=False, compare=False)
    lower_bounds: Mapping[int, bytes] = field(default_factory=dict, repr=False, compare=False)
    upper_bounds: Mapping[int, bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def has_deletes(self) -> bool:
        """Whether some of its rows may be deleted."""
        return self.deletes_in is not None

    @property
    def record_count(self) -> int:
        """The rows, under the name by which PyIceberg's evaluators ask."""
        return self.rows


def data_files(
    lake: Lake,
    table: Table,
    snapshot_id: int | None = None,
    row_filter: BooleanExpression | None = None,
    schema: Schema | None = None,
) -> tuple[DataFileRef, ...]:
    """The data files of a snapshot (the current one for ``None``) in total row order: (version, path).

    With a filter (on ``schema``, None: that of the snapshot), those that may hold a matching row. The plan of a
    snapshot is kept, because a snapshot never changes: later calls read nothing.

    Raises:
        VersionNotFoundError: the table has no such snapshot.
        DamagedDatasetError: a manifest of it is lost or cannot be read.
    """
    snapshot = _snapshot(table, snapshot_id)
    if snapshot is None:
        return ()
    files = _plans.get((table.metadata.table_uuid, snapshot.snapshot_id))
    if files is None:
        files = plan_files(table, snapshot)
        _plans.put((table.metadata.table_uuid, snapshot.snapshot_id), files)
    if row_filter is None or isinstance(row_filter, AlwaysTrue):
        return files
    columns = schema if schema is not None else snapshot_schema(table, snapshot.snapshot_id)
    evaluator = _InclusiveMetricsEvaluator(columns, row_filter)
    return tuple(file for file in files if evaluator.eval(file))  # type: ignore[arg-type]  # it has what is asked for


def _snapshot(table: Table, snapshot_id: int | None) -> Snapshot | None:
    if snapshot_id is None:
        return table.metadata.current_snapshot()
    found = table.metadata.snapshot_by_id(snapshot_id)
    if found is None:
        raise VersionNotFoundError(f"{table.name()[-1]!r} has no snapshot {snapshot_id}; it may have expired")
    return found


def plan_files(table: Table, snapshot: Snapshot) -> tuple[DataFileRef, ...]:
    """The data files of a snapshot, read from its manifests.

    Raises:
        UnsupportedError: another writer deleted rows by the values of columns.
    """
    with damage_errors(table.name()[-1], snapshot.manifest_list):
        manifests = snapshot.manifests(table.io)
    deletes = snapshot.snapshot_id if delete_entries(table, snapshot, manifests) else None
    data = (manifest for manifest in manifests if manifest.content == ManifestContent.DATA)
    found = manifest_entries(table, data)
    return tuple(sorted((file_ref(manifest, entry, deletes) for manifest, entry in found), key=row_order))


def manifest_entries(
    table: Table, manifests: Iterable[ManifestFile], removed: bool = False
) -> Iterator[tuple[ManifestFile, ManifestEntry]]:
    """The data files that the manifests name, each with its manifest; with ``removed``, also those left out there.

    The sequence number of an entry is the number of the version that wrote the rows.
    """

    def read(manifest: ManifestFile) -> list[tuple[ManifestFile, ManifestEntry]]:
        with damage_errors(table.name()[-1], manifest.manifest_path):
            found = manifest.fetch_manifest_entry(table.io, discard_deleted=not removed)
        return [(manifest, entry) for entry in found if entry.data_file.content == DataFileContent.DATA]

    for found in ExecutorFactory.get_or_create().map(read, manifests):
        if isinstance(table, NumberedTable):
            for _, entry in found:
                entry.sequence_number = table.number_of(entry.sequence_number, entry.snapshot_id)
        yield from found


def file_ref(manifest: ManifestFile, entry: ManifestEntry, deletes_in: int | None = None) -> DataFileRef:
    """What a manifest says of a data file."""
    file = entry.data_file
    return DataFileRef(
        path=file.file_path,
        rows=file.record_count,
        size=file.file_size_in_bytes,
        sequence=entry.sequence_number or 0,
        deletes_in=deletes_in,
        manifest=manifest.manifest_path,
        spec_id=manifest.partition_spec_id,
        partition=tuple(file.partition[place] for place in range(len(file.partition))),
        value_counts=file.value_counts or {},
        null_value_counts=file.null_value_counts or {},
        nan_value_counts=file.nan_value_counts or {},
        lower_bounds=file.lower_bounds or {},
        upper_bounds=file.upper_bounds or {},
    )


def row_order(file: DataFileRef) -> tuple[int, str]:
    """The key of the total order of files.

    Files that lakefeed wrote go by their names, which are numbered: their folders may be made of hashes
    (``write.object-storage.enabled``).
    """
    name = file.path.rpartition("/")[2]
    return file.sequence, name if NUMBERED_NAME.fullmatch(name) else file.path


class _Plans:
    """The newest plans, by table and snapshot; safe between threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._plans: OrderedDict[tuple[UUID, int], tuple[DataFileRef, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[UUID, int]) -> tuple[DataFileRef, ...] | None:
        with self._lock:
            if key in self._plans:
                self._plans.move_to_end(key)
            return self._plans.get(key)

    def put(self, key: tuple[UUID, int], files: tuple[DataFileRef, ...]) -> None:
        with self._lock:
            self._plans[key] = files
            while len(self._plans) > self._most:
                self._plans.popitem(last=False)


_plans = _Plans(PLAN_CACHE_SIZE)
