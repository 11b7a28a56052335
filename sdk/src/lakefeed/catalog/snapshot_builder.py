"""Builds the snapshot of one action: the manifest of its files once, a manifest list for each attempt."""

from __future__ import annotations

import itertools
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriter,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, TableProperties
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot, SnapshotSummaryCollector, Summary, update_snapshot_summaries

from lakefeed.catalog.damaged_tables import damage_errors
from lakefeed.catalog.durability import sync_files
from lakefeed.catalog.file_io import actual_location
from lakefeed.catalog.guard import PreCommitCheck
from lakefeed.catalog.lake import remove_tree
from lakefeed.catalog.table_output import discard_files, new_file
from lakefeed.catalog.version_numbers import next_number
from lakefeed.catalog.versions import DatasetVersion, version_of
from lakefeed.catalog.warehouse_owner import require_owner

if TYPE_CHECKING:
    from pyiceberg.avro.codecs import AvroCompressionCodec

FORMAT_VERSION: Final = 2
MERGE_THRESHOLD = 32


BeforeCommit: TypeAlias = Callable[[], None]


class CommitOutcome(Enum):
    """What is known of a commit."""

    NOT_LANDED = "not landed"
    UNKNOWN = "unknown"
    LANDED = "landed"


@dataclass(frozen=True)
class RewrittenFile:
    """A file of rows that the version ``sequence`` wrote: in the row order they keep the place of that version."""

    file: DataFile
    sequence: int


@dataclass(frozen=True)
class Contents:
    """What a snapshot changes: files of new rows, files of rows that were there before, files that it leaves out.

    ``removed`` maps the path of a file to a manifest of the parent that names it; ``manifests`` are others that name
    such files, since a table may name a file more than once. ``facts`` go into the summary; ``schema_id`` is that of
    the snapshot (None: the table's).
    """

    added: tuple[DataFile, ...] = ()
    carried: tuple[RewrittenFile, ...] = ()
    removed: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    replaces: bool = False
    schema_id: int | None = None
    manifests: frozenset[str] = frozenset()

    @property
    def operation(self) -> Operation:
        """Iceberg's name for it; one that ``replaces`` leaves the rows what they were."""
        if self.replaces:
            return Operation.REPLACE
        if self.carried or (self.added and self.removed):
            return Operation.OVERWRITE
        return Operation.DELETE if self.removed else Operation.APPEND

    @property
    def files(self) -> tuple[DataFile, ...]:
        """Every file that the snapshot brings."""
        return (*self.added, *(carried.file for carried in self.carried))


class SnapshotBuilder:
    """The files of one action on their way into a table.

    The snapshot id is the same in every attempt, and so is the manifest of its files while the contents are; the
    manifest list, which names the files of the others too, is written again when another writer was faster.
    ``new_table`` says that the whole location of the table is the action's own. ``guard`` is called right before each
    commit; what it raises ends the action.

    Raises:
        SharedWarehouseError: the catalog does not own its warehouse; nothing has been written.
    """

    def __init__(
        self, table: Table, facts: Mapping[str, str], new_table: bool = False, guard: BeforeCommit | None = None
    ) -> None:
        require_owner(table.catalog)
        self.commit = uuid.uuid4()
        self.snapshot_id = table.metadata.new_snapshot_id()
        self.contents = Contents()
        self.guard = guard
        self.outcome = CommitOutcome.NOT_LANDED
        self._io: FileIO = table.io
        self._name = table.name()[-1]
        self._place = table.location_provider().new_metadata_location
        self._facts = facts
        self._own_location = table.metadata.location if new_table else None
        self._attempts = itertools.count()
        self._manifests = itertools.count()
        self._written: list[str] = []
        self._named: tuple[DataFile, ...] | None = None
        self._added: list[ManifestFile] = []
        self._kept: list[str] = []
        self._of_attempt: list[str] = []

    def wrote(self, files: Iterable[DataFile]) -> None:
        """Takes charge of data files: those that are not in the contents that land are removed."""
        self._written += [file.file_path for file in files]

    @contextmanager
    def landing(self) -> Iterator[None]:
        """Removes on the way out what no snapshot names: everything, unless the action has landed or may have."""
        try:
            yield
        finally:
            if self.outcome is CommitOutcome.NOT_LANDED:
                self._discard()
            elif self.outcome is CommitOutcome.LANDED:
                used = {file.file_path for file in self.contents.files}
                discard_files(self._io, (path for path in self._written if path not in used))
            elif isinstance(self.guard, PreCommitCheck):
                self.guard.in_doubt = True

    def landed_in(self, table: Table) -> DatasetVersion | None:
        """The version that this very action is in the table: a commit can land although it was reported as lost."""
        snapshot = table.metadata.snapshot_by_id(self.snapshot_id)
        if snapshot is None:
            return None
        self.outcome = CommitOutcome.LANDED
        return version_of(snapshot, table)

    def attempt(self, metadata: TableMetadata) -> Snapshot:
        """The snapshot on top of the current one of ``metadata``, with its manifest list written."""
        self._write_added(metadata)
        self.forget_attempt()
        parent = metadata.current_snapshot()
        removed: list[DataFile] = []
        with damage_errors(self._name):
            carried = self._carried(metadata, parent, removed)
        sequence_number = next_number(metadata)
        # The writer of the list puts the sequence number into what it is given, and the next attempt has another one.
        manifests = [*deepcopy(self._added), *carried]
        manifest_list = self._write_list(metadata, parent, sequence_number, manifests)
        sync_files(actual_location(self._io, path) for path in (*self._kept, *self._of_attempt))
        schema_id = self.contents.schema_id
        return Snapshot(
            snapshot_id=self.snapshot_id,
            parent_snapshot_id=parent.snapshot_id if parent else None,
            manifest_list=manifest_list,
            sequence_number=sequence_number,
            summary=self._summary(metadata, parent, removed),
            schema_id=metadata.current_schema_id if schema_id is None else schema_id,
        )

    def forget_attempt(self) -> None:
        """Removes what only the attempt that lost refers to."""
        discard_files(self._io, self._of_attempt)
        self._of_attempt = []

    def _discard(self) -> None:
        self.forget_attempt()
        discard_files(self._io, self._kept)
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
            Summary(counted, **collector.build(), **self._facts, **self.contents.facts),
            parent.summary if parent is not None else None,
        )
        return Summary(operation, **summary.additional_properties)

    def _write_added(self, metadata: TableMetadata) -> None:
        """Writes the manifest of the files that come in, unless it stands from the attempt before."""
        contents = self.contents
        if self._named == contents.files:
            return
        discard_files(self._io, self._kept)
        self._kept, self._added, self._named = [], [], contents.files
        if not contents.files:
            return
        # Files that were there before may be partitioned as the table was then.
        for spec_id in sorted({file.spec_id for file in contents.files}):
            with self._new_manifest(metadata, self._kept, spec_id) as writer:
                for file in contents.added:
                    if file.spec_id == spec_id:
                        writer.add(ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, data_file=file))
                for kept in contents.carried:
                    if kept.file.spec_id == spec_id:
                        writer.add(
                            ManifestEntry.from_args(
                                status=ManifestEntryStatus.ADDED, sequence_number=kept.sequence, data_file=kept.file
                            )
                        )
            self._added.append(writer.to_manifest_file())

    def _carried(self, metadata: TableMetadata, parent: Snapshot | None, removed: list[DataFile]) -> list[ManifestFile]:
        """The manifests of the parent, without the files that this snapshot leaves out; those go to ``removed``."""
        if parent is None:
            return []
        touched = {*self.contents.removed.values(), *self.contents.manifests}
        live = [m for m in parent.manifests(self._io) if m.has_added_files() or m.has_existing_files()]
        untouched = [manifest for manifest in live if manifest.manifest_path not in touched]
        lessened = [
            self._lessened(metadata, manifest, removed) for manifest in live if manifest.manifest_path in touched
        ]
        missing = set(self.contents.removed) - {file.file_path for file in removed}
        assert not missing, f"no manifest of the parent names {missing}"
        return [*lessened, *self._merged(metadata, untouched)]

    def _lessened(self, metadata: TableMetadata, manifest: ManifestFile, removed: list[DataFile]) -> ManifestFile:
        with self._new_manifest(metadata, self._of_attempt, manifest.partition_spec_id) as writer:
            for entry in manifest.fetch_manifest_entry(self._io, discard_deleted=True):
                if entry.data_file.file_path in self.contents.removed:
                    removed.append(entry.data_file)
                    writer.delete(entry)
                else:
                    writer.existing(entry)
        return writer.to_manifest_file()

    def _merged(self, metadata: TableMetadata, manifests: list[ManifestFile]) -> list[ManifestFile]:
        """The manifests with those of like size made one where they are many.

        Like size keeps the work small: an entry is rewritten once for every ``MERGE_AT`` times more of them.
        """
        tiers: dict[int | None, list[ManifestFile]] = defaultdict(list)
        for manifest in manifests:
            tiers[_tier(manifest, metadata.default_spec_id)].append(manifest)
        merged: list[ManifestFile] = []
        for tier, like in tiers.items():
            merged += like if tier is None or len(like) < MERGE_THRESHOLD else [self._merge(metadata, like)]
        return merged

    def _merge(self, metadata: TableMetadata, manifests: Iterable[ManifestFile]) -> ManifestFile:
        with self._new_manifest(metadata, self._of_attempt, metadata.default_spec_id) as writer:
            for manifest in manifests:
                for entry in manifest.fetch_manifest_entry(self._io, discard_deleted=True):
                    writer.existing(entry)
        return writer.to_manifest_file()

    def _write_list(
        self, metadata: TableMetadata, parent: Snapshot | None, sequence_number: int, manifests: list[ManifestFile]
    ) -> str:
        location = self._place(f"snap-{self.snapshot_id}-{next(self._attempts)}-{self.commit}.avro")
        self._of_attempt.append(location)
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
    def _new_manifest(self, metadata: TableMetadata, written: list[str], spec_id: int) -> Iterator[ManifestWriter]:
        location = self._place(f"{self.commit}-m{next(self._manifests)}.avro")
        written.append(location)
        spec = metadata.specs()[spec_id]
        with new_file(self._io, location) as output:
            writer = write_manifest(
                format_version=FORMAT_VERSION,
                spec=spec,
                schema=_schema_of(metadata, spec),
                output_file=output,
                snapshot_id=self.snapshot_id,
                avro_compression=_compression(metadata),
            )
            writer.__enter__()
            yield writer
            # Not after a failure: PyIceberg's writer would complete the file, or raise another error over the first.
            writer.__exit__(None, None, None)


def _schema_of(metadata: TableMetadata, spec: PartitionSpec) -> Schema:
    """The schema; where a column by which files are partitioned was dropped, the newest one that tells its type."""
    sources = {part.source_id for part in spec.fields}
    newest_first = sorted(metadata.schemas, key=lambda schema: schema.schema_id, reverse=True)
    known = (schema for schema in (metadata.schema(), *newest_first) if sources <= set(schema.field_ids))
    return next(known, metadata.schema())


def _tier(manifest: ManifestFile, spec_id: int) -> int | None:
    """How large the manifest is, as a power of ``MERGE_AT``; None where it must stay as it is."""
    if manifest.content != ManifestContent.DATA or manifest.partition_spec_id != spec_id:
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
