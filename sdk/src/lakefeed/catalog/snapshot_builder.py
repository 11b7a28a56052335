"""The builder of the snapshot of one action: it writes the manifests once and a manifest list for each attempt."""

from __future__ import annotations

import itertools
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriter,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, TableProperties
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot, SnapshotSummaryCollector, Summary, update_snapshot_summaries

from lakefeed.catalog import current_run
from lakefeed.catalog.ancestry import side_entry
from lakefeed.catalog.damaged_tables import damage_errors
from lakefeed.catalog.durability import sync_files
from lakefeed.catalog.file_io import actual_location
from lakefeed.catalog.lake import remove_tree
from lakefeed.catalog.manifest_cache import cached_entries
from lakefeed.catalog.properties import COLUMN_SNAPSHOT, ROWS
from lakefeed.catalog.row_totals import TOTAL_DELETE_FILES, count_rows
from lakefeed.catalog.table_output import discard_files, new_file
from lakefeed.catalog.version_numbers import next_number
from lakefeed.catalog.versions import DatasetVersion, version_of
from lakefeed.catalog.warehouse_owner import require_owner

if TYPE_CHECKING:
    from pyiceberg.avro.codecs import AvroCompressionCodec

FORMAT_VERSION: Final = 2
MERGE_THRESHOLD = 32
ADDED: Final = ManifestEntryStatus.ADDED

BeforeCommit: TypeAlias = Callable[[], None]


@dataclass
class PreCommitCheck:
    """Calls ``check`` right before each commit. An error that it raises ends the write.

    Attributes:
        outcome_unknown: the commit may have been made. Nothing that its version would name may be deleted.
    """

    check: Callable[[], None]
    outcome_unknown: bool = False

    def __call__(self) -> None:
        self.check()


class CommitOutcome(Enum):
    """The state of a commit as the writer knows it."""

    NOT_COMMITTED = "not committed"
    UNKNOWN = "unknown"
    COMMITTED = "committed"


@dataclass(frozen=True)
class RewrittenFile:
    """A file of rows that the version ``sequence`` wrote. The rows keep that position in the row order."""

    file: DataFile
    sequence: int


@dataclass(frozen=True)
class Contents:
    """The changes that a snapshot makes.

    Attributes:
        added: files of new rows.
        rewritten: files of rows that older versions wrote.
        removed: for each file that the snapshot leaves out, by path, a manifest of the parent that names it.
        facts: entries of the snapshot summary.
        replaces: the rows stay as they are; only their files change.
        schema_id: the schema of the snapshot; None for the current one of the table.
        manifests: other manifests that name removed files. A table may name a file more than once.
        deletes: new delete files.
        restored_deletes: delete files of older versions.
        removed_deletes: like ``removed``, for delete files.
        rows: the number of rows of the version; None for those of its parent and of ``added``.
    """

    added: tuple[DataFile, ...] = ()
    rewritten: tuple[RewrittenFile, ...] = ()
    removed: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    replaces: bool = False
    schema_id: int | None = None
    manifests: frozenset[str] = frozenset()
    deletes: tuple[DataFile, ...] = ()
    restored_deletes: tuple[RewrittenFile, ...] = ()
    removed_deletes: Mapping[str, str] = field(default_factory=dict)
    rows: int | None = None

    @property
    def operation(self) -> Operation:
        """Iceberg's name for the change."""
        if self.replaces:
            return Operation.REPLACE
        changes_files = self.rewritten or self.deletes or self.restored_deletes or self.removed_deletes
        if changes_files or (self.added and self.removed):
            return Operation.OVERWRITE
        return Operation.DELETE if self.removed else Operation.APPEND

    @property
    def is_empty(self) -> bool:
        """True if the snapshot would equal its parent."""
        return not (self.files or self.removed or self.removed_deletes)

    @property
    def left_out(self) -> Mapping[str, str]:
        """Every file that the snapshot leaves out, with a manifest of the parent that names it."""
        return {**self.removed, **self.removed_deletes}

    @property
    def files(self) -> tuple[DataFile, ...]:
        """Every file that the snapshot adds."""
        old = (*self.rewritten, *self.restored_deletes)
        return (*self.added, *self.deletes, *(each.file for each in old))


class DeleteManifestWriter(ManifestWriterV2):
    """Writes manifests of delete files, which PyIceberg reads but does not write."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


class SnapshotBuilder:
    """Builds the snapshot of one action, and removes its files if it is not committed.

    Every attempt has the same snapshot id, and the same manifests as long as ``contents`` does not change. The manifest
    list also names the files of other writers, so each attempt writes its own.

    Args:
        table: the table to commit to.
        facts: entries of the snapshot summary.
        new_table: the action creates the table, so the whole location of the table belongs to it.
        before_commit: is called right before each commit. An error that it raises ends the action.

    Raises:
        SharedWarehouseError: the catalog does not own its warehouse; nothing was written.
    """

    def __init__(
        self, table: Table, facts: Mapping[str, str], new_table: bool = False, before_commit: BeforeCommit | None = None
    ) -> None:
        require_owner(table.catalog)
        self.commit = uuid.uuid4()
        self.snapshot_id = table.metadata.new_snapshot_id()
        self.contents = Contents()
        self.snapshot: Snapshot | None = None
        self.before_commit = before_commit
        self.outcome = CommitOutcome.NOT_COMMITTED
        self._io: FileIO = table.io
        self._name = table.name()[-1]
        self._catalog = table.catalog
        self._identifier = table.name()
        self._metadata_location = table.location_provider().new_metadata_location
        self.facts = facts
        self._own_location = table.metadata.location if new_table else None
        self._attempts = itertools.count()
        self._manifests = itertools.count()
        self._written: list[str] = []
        self._files_in_manifests: tuple[DataFile, ...] | None = None
        self._new_manifests: list[ManifestFile] = []
        self._manifest_paths: list[str] = []
        self._attempt_paths: list[str] = []

    def track_files(self, files: Iterable[DataFile]) -> None:
        """Registers data files. Those that the commit does not name are removed afterwards."""
        self._written += [file.file_path for file in files]

    @contextmanager
    def discard_on_failure(self) -> Iterator[None]:
        """Removes, at the end of the block, the files that no snapshot names.

        Removes all of them if the commit failed, and none if its outcome is unknown.
        """
        try:
            yield
        finally:
            if self.outcome is CommitOutcome.NOT_COMMITTED:
                self._discard()
            elif self.outcome is CommitOutcome.COMMITTED:
                used = {file.file_path for file in self.contents.files}
                discard_files(self._io, (path for path in self._written if path not in used))
            elif isinstance(self.before_commit, PreCommitCheck):
                self.before_commit.outcome_unknown = True

    def committed_version(self, table: Table) -> DatasetVersion | None:
        """Returns the version that this action has become; None if the table has no such snapshot.

        A commit can succeed although the catalog reported a failure.
        """
        snapshot = table.metadata.snapshot_by_id(self.snapshot_id)
        if snapshot is None:
            return None
        self.outcome = CommitOutcome.COMMITTED
        return version_of(snapshot, table)

    def build_snapshot(self, metadata: TableMetadata) -> Snapshot:
        """Returns a snapshot on top of the current one of ``metadata``; writes its manifests and its manifest list."""
        self._write_manifests(metadata)
        self.discard_attempt()
        parent = metadata.current_snapshot()
        removed: list[DataFile] = []
        with damage_errors(self._name):
            inherited = self._inherited_manifests(metadata, parent, removed)
        sequence_number = next_number(metadata)
        # The writer of the list sets the sequence number of its manifests; the next attempt has another number.
        manifests = [*deepcopy(self._new_manifests), *inherited]
        manifest_list = self._write_list(metadata, parent, sequence_number, manifests)
        sync_files(actual_location(self._io, path) for path in (*self._manifest_paths, *self._attempt_paths))
        schema_id = self.contents.schema_id
        self.snapshot = Snapshot(
            snapshot_id=self.snapshot_id,
            parent_snapshot_id=parent.snapshot_id if parent else None,
            manifest_list=manifest_list,
            sequence_number=sequence_number,
            summary=self._summary(metadata, parent, removed),
            schema_id=metadata.current_schema_id if schema_id is None else schema_id,
        )
        return self.snapshot

    def discard_attempt(self) -> None:
        """Removes the files that only the previous attempt refers to."""
        discard_files(self._io, self._attempt_paths)
        self._attempt_paths = []

    def _discard(self) -> None:
        self.discard_attempt()
        discard_files(self._io, self._manifest_paths)
        discard_files(self._io, self._written)
        if self._own_location is not None:
            remove_tree(actual_location(self._io, self._own_location))

    def _summary(self, metadata: TableMetadata, parent: Snapshot | None, removed: Iterable[DataFile]) -> Summary:
        collector = SnapshotSummaryCollector()
        for file in self.contents.files:
            collector.add_file(file, metadata.schema(), metadata.spec())
        specs = metadata.specs()
        for file in removed:
            collector.remove_file(file, metadata.schema(), specs[file.spec_id])
        operation = self.contents.operation
        # PyIceberg counts the totals of three operations only.
        counted = Operation.OVERWRITE if operation is Operation.REPLACE else operation
        summary = update_snapshot_summaries(
            Summary(
                counted, **collector.build(), **{**current_run.summary_entries(), **self.facts}, **self.contents.facts
            ),
            parent.summary if parent is not None else None,
        )
        rows = self._row_entry(summary, metadata, parent)
        sides = side_entry(self._table_of(metadata))
        return Summary(operation, **{**_column_files_of(parent), **summary.additional_properties, **sides}, **rows)

    def _row_entry(self, summary: Summary, metadata: TableMetadata, parent: Snapshot | None) -> dict[str, str]:
        """Returns the entry of the number of rows, which Iceberg's totals do not tell if there are delete files."""
        if not int(summary.get(TOTAL_DELETE_FILES) or 0):
            return {}
        rows = self.contents.rows
        if rows is None:
            before = 0 if parent is None else count_rows(parent, self._table_of(metadata))
            rows = before + sum(file.record_count for file in self.contents.added)
        return {ROWS: str(rows)}

    def _table_of(self, metadata: TableMetadata) -> Table:
        return Table(self._identifier, metadata, "", self._io, self._catalog)

    def _write_manifests(self, metadata: TableMetadata) -> None:
        """Writes the manifests of the files to add, unless an earlier attempt has written them."""
        contents = self.contents
        if self._files_in_manifests == contents.files:
            return
        discard_files(self._io, self._manifest_paths)
        self._manifest_paths, self._new_manifests, self._files_in_manifests = [], [], contents.files
        if not contents.files:
            return
        old = (*contents.rewritten, *contents.restored_deletes)
        entries = [
            *(ManifestEntry.from_args(status=ADDED, data_file=file) for file in (*contents.added, *contents.deletes)),
            *(ManifestEntry.from_args(status=ADDED, sequence_number=e.sequence, data_file=e.file) for e in old),
        ]
        # Files of older versions may have an older partition spec. Data files and delete files have own manifests.
        groups: dict[tuple[bool, int], list[ManifestEntry]] = defaultdict(list)
        for entry in entries:
            groups[entry.data_file.content != DataFileContent.DATA, entry.data_file.spec_id].append(entry)
        for (deletes, spec_id), group in sorted(groups.items(), key=lambda item: item[0]):
            with self._new_manifest(metadata, self._manifest_paths, spec_id, deletes) as writer:
                for entry in group:
                    writer.add(entry)
            self._new_manifests.append(writer.to_manifest_file())

    def _inherited_manifests(
        self, metadata: TableMetadata, parent: Snapshot | None, removed: list[DataFile]
    ) -> list[ManifestFile]:
        """Returns the manifests of the parent without the removed files, which it appends to ``removed``."""
        if parent is None:
            return []
        left_out = self.contents.left_out
        touched = {*left_out.values(), *self.contents.manifests}
        present = [m for m in parent.manifests(self._io) if m.has_added_files() or m.has_existing_files()]
        untouched = [manifest for manifest in present if manifest.manifest_path not in touched]
        rewritten = [
            self._rewrite_manifest(metadata, manifest, removed)
            for manifest in present
            if manifest.manifest_path in touched
        ]
        missing = set(left_out) - {file.file_path for file in removed}
        assert not missing, f"no manifest of the parent names {missing}"
        return [*rewritten, *self._merge_small_manifests(metadata, untouched)]

    def _rewrite_manifest(
        self, metadata: TableMetadata, manifest: ManifestFile, removed: list[DataFile]
    ) -> ManifestFile:
        deletes, left_out = manifest.content == ManifestContent.DELETES, self.contents.left_out
        with self._new_manifest(metadata, self._attempt_paths, manifest.partition_spec_id, deletes) as writer:
            for entry in cached_entries(self._io, manifest):
                if entry.data_file.file_path in left_out:
                    removed.append(entry.data_file)
                    writer.delete(entry)
                else:
                    writer.existing(entry)
        return writer.to_manifest_file()

    def _merge_small_manifests(self, metadata: TableMetadata, manifests: list[ManifestFile]) -> list[ManifestFile]:
        """Merges manifests of similar size where there are many.

        An entry is rewritten once each time that the number of entries grows by the factor `MERGE_THRESHOLD`.
        """
        tiers: dict[tuple[ManifestContent, int | None], list[ManifestFile]] = defaultdict(list)
        for manifest in manifests:
            tiers[manifest.content, _tier(manifest, metadata.default_spec_id)].append(manifest)
        merged: list[ManifestFile] = []
        for (_, tier), similar in tiers.items():
            merged += similar if tier is None or len(similar) < MERGE_THRESHOLD else [self._merge(metadata, similar)]
        return merged

    def _merge(self, metadata: TableMetadata, manifests: Sequence[ManifestFile]) -> ManifestFile:
        deletes = manifests[0].content == ManifestContent.DELETES
        with self._new_manifest(metadata, self._attempt_paths, metadata.default_spec_id, deletes) as writer:
            for manifest in manifests:
                for entry in cached_entries(self._io, manifest):
                    writer.existing(entry)
        return writer.to_manifest_file()

    def _write_list(
        self, metadata: TableMetadata, parent: Snapshot | None, sequence_number: int, manifests: list[ManifestFile]
    ) -> str:
        location = self._metadata_location(f"snap-{self.snapshot_id}-{next(self._attempts)}-{self.commit}.avro")
        self._attempt_paths.append(location)
        with new_file(self._io, location) as output:
            writer = write_manifest_list(
                format_version=FORMAT_VERSION,
                output_file=output,
                snapshot_id=self.snapshot_id,
                parent_snapshot_id=parent.snapshot_id if parent is not None else None,
                sequence_number=sequence_number,
                avro_compression=_compression(metadata),
            )
            writer.__enter__()
            writer.add_manifests(manifests)
            writer.__exit__(None, None, None)
        return location

    @contextmanager
    def _new_manifest(
        self, metadata: TableMetadata, written: list[str], spec_id: int, deletes: bool
    ) -> Iterator[ManifestWriter]:
        location = self._metadata_location(f"{self.commit}-m{next(self._manifests)}.avro")
        written.append(location)
        spec = metadata.specs()[spec_id]
        with new_file(self._io, location) as output:
            new_writer = DeleteManifestWriter if deletes else ManifestWriterV2
            writer = new_writer(spec, _schema_of(metadata, spec), output, self.snapshot_id, _compression(metadata))
            writer.__enter__()
            yield writer
            # Not after a failure: PyIceberg's writer would complete the file, or hide the error with another one.
            writer.__exit__(None, None, None)


def _column_files_of(parent: Snapshot | None) -> dict[str, str]:
    """Returns the summary entry of the column files of a version, which the next one has, too."""
    facts = parent.summary.additional_properties if parent is not None and parent.summary is not None else {}
    return {COLUMN_SNAPSHOT: facts[COLUMN_SNAPSHOT]} if COLUMN_SNAPSHOT in facts else {}


def _schema_of(metadata: TableMetadata, spec: PartitionSpec) -> Schema:
    """Returns the current schema, or the newest one that has the source columns of the partition spec."""
    sources = {part.source_id for part in spec.fields}
    newest_first = sorted(metadata.schemas, key=lambda schema: schema.schema_id, reverse=True)
    known = (schema for schema in (metadata.schema(), *newest_first) if sources <= set(schema.field_ids))
    return next(known, metadata.schema())


def _tier(manifest: ManifestFile, spec_id: int) -> int | None:
    """Returns the size class of a manifest, as a power of `MERGE_THRESHOLD`; None if it must not be merged."""
    if manifest.partition_spec_id != spec_id:
        return None
    files = (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
    tier = 0
    while files >= MERGE_THRESHOLD:
        files //= MERGE_THRESHOLD
        tier += 1
    return tier


def _compression(metadata: TableMetadata) -> AvroCompressionCodec:
    codec: AvroCompressionCodec = metadata.properties.get(  # type: ignore[assignment]  # a property is any text
        TableProperties.WRITE_AVRO_COMPRESSION, TableProperties.WRITE_AVRO_COMPRESSION_DEFAULT
    )
    return codec
