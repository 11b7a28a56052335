"""The data files of a version, and those that a range of versions added, in total row order."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.expressions.visitors import _InclusiveMetricsEvaluator
from pyiceberg.manifest import DataFileContent, ManifestContent, ManifestEntry, ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot
from pyiceberg.utils.concurrent import ExecutorFactory

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.schema import snapshot_schema
from lakefeed.catalog.versions import number, snapshots_between
from lakefeed.errors import UnsupportedError, VersionNotFoundError

PLANS_KEPT = 16


@dataclass(frozen=True)
class DataFileRef:
    """One data file: where it is, how many rows and bytes it has, and its statistics by field id.

    ``sequence`` is the version that wrote its rows; ``has_deletes`` says that some of its rows may be deleted, so
    that only a reader that applies delete files may read it.
    """

    path: str
    rows: int
    size: int
    sequence: int
    has_deletes: bool = False
    value_counts: Mapping[int, int] = field(default_factory=dict, repr=False, compare=False)
    null_value_counts: Mapping[int, int] = field(default_factory=dict, repr=False, compare=False)
    nan_value_counts: Mapping[int, int] = field(default_factory=dict, repr=False, compare=False)
    lower_bounds: Mapping[int, bytes] = field(default_factory=dict, repr=False, compare=False)
    upper_bounds: Mapping[int, bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def record_count(self) -> int:
        """The rows, under the name by which PyIceberg's evaluators ask."""
        return self.rows


def data_files(
    lake: Lake, table: Table, snapshot_id: int | None = None, row_filter: BooleanExpression | None = None
) -> tuple[DataFileRef, ...]:
    """The data files of a snapshot (the current one for ``None``) in total row order: (version, path).

    With a filter, those that may hold a matching row. The plan of a snapshot is kept, because a snapshot never
    changes: later calls read nothing.

    Raises:
        VersionNotFoundError: the table has no such snapshot.
    """
    snapshot = _snapshot(table, snapshot_id)
    if snapshot is None:
        return ()
    files = _plans.get((table.metadata.table_uuid, snapshot.snapshot_id))
    if files is None:
        files = _plan(table, snapshot)
        _plans.put((table.metadata.table_uuid, snapshot.snapshot_id), files)
    if row_filter is None or isinstance(row_filter, AlwaysTrue):
        return files
    evaluator = _InclusiveMetricsEvaluator(snapshot_schema(table, snapshot.snapshot_id), row_filter)
    return tuple(file for file in files if evaluator.eval(file))  # type: ignore[arg-type]  # it has what is asked for


def added_files(
    table: Table, from_version: int | None = None, to_version: int | None = None
) -> tuple[DataFileRef, ...]:
    """The data files that the versions after ``from_version`` up to ``to_version`` added, oldest commit first.

    Follows the ancestry of the current version; the cost grows with what was added. Compaction and deletes add
    nothing. Where older versions have expired, the beginning is the oldest version that is kept, with all its rows.

    Raises:
        VersionNotFoundError: one of the two does not exist.
        UnsupportedError: a version in the range overwrote rows.
    """
    inside = snapshots_between(table, from_version, to_version)
    refs: list[DataFileRef] = []
    if from_version is None and inside:
        # Whether older ones have expired is not recorded; the first version ever holds only what it added itself.
        refs += _plan(table, inside[0])
        inside = inside[1:]
    for run in _runs_of_appends(table, inside):
        refs += _added(table, run)
    return tuple(sorted(refs, key=_row_order))


def _snapshot(table: Table, snapshot_id: int | None) -> Snapshot | None:
    if snapshot_id is None:
        return table.metadata.current_snapshot()
    found = table.metadata.snapshot_by_id(snapshot_id)
    if found is None:
        raise VersionNotFoundError(f"{table.name()[-1]!r} has no snapshot {snapshot_id}; it may have expired")
    return found


def _plan(table: Table, snapshot: Snapshot) -> tuple[DataFileRef, ...]:
    manifests = snapshot.manifests(table.io)
    # Which rows the deletes touch is not looked into: no file of the snapshot is then read without them.
    deletes = any(manifest.content == ManifestContent.DELETES for manifest in manifests)
    entries = _entries(table, (manifest for manifest in manifests if manifest.content == ManifestContent.DATA))
    return tuple(sorted((_ref(entry, deletes) for entry in entries), key=_row_order))


def _added(table: Table, run: list[Snapshot]) -> Iterator[DataFileRef]:
    """The files of a run of appends: its last manifest list names them all, for appends remove nothing."""
    ids = {snapshot.snapshot_id for snapshot in run}
    oldest = number(run[0])
    fresh = [
        manifest
        for manifest in run[-1].manifests(table.io)
        if manifest.content == ManifestContent.DATA and manifest.sequence_number >= oldest
    ]
    return (_ref(entry, False) for entry in _entries(table, fresh) if entry.snapshot_id in ids)


def _runs_of_appends(table: Table, snapshots: Iterable[Snapshot]) -> Iterator[list[Snapshot]]:
    run: list[Snapshot] = []
    for snapshot in snapshots:
        operation = snapshot.summary.operation if snapshot.summary is not None else Operation.APPEND
        if operation is Operation.APPEND:
            run.append(snapshot)
            continue
        if operation is Operation.OVERWRITE:
            raise UnsupportedError(
                f"version {number(snapshot)} of {table.name()[-1]!r} overwrote rows; "
                "reading what a range added across it is not supported: start after it"
            )
        if run:
            yield run
        run = []
    if run:
        yield run


def _entries(table: Table, manifests: Iterable[ManifestFile]) -> Iterator[ManifestEntry]:
    def live(manifest: ManifestFile) -> list[ManifestEntry]:
        return [
            entry
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
            if entry.status != ManifestEntryStatus.DELETED and entry.data_file.content == DataFileContent.DATA
        ]

    for entries in ExecutorFactory.get_or_create().map(live, manifests):
        yield from entries


def _ref(entry: ManifestEntry, has_deletes: bool) -> DataFileRef:
    file = entry.data_file
    return DataFileRef(
        path=file.file_path,
        rows=file.record_count,
        size=file.file_size_in_bytes,
        sequence=entry.sequence_number or 0,
        has_deletes=has_deletes,
        value_counts=file.value_counts or {},
        null_value_counts=file.null_value_counts or {},
        nan_value_counts=file.nan_value_counts or {},
        lower_bounds=file.lower_bounds or {},
        upper_bounds=file.upper_bounds or {},
    )


def _row_order(file: DataFileRef) -> tuple[int, str]:
    return file.sequence, file.path


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


_plans = _Plans(PLANS_KEPT)
