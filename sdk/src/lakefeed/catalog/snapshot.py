"""Builds the snapshot of one append: the manifest of its files once, a manifest list for each attempt."""

from __future__ import annotations

import itertools
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Final

from pyiceberg.io import FileIO, OutputFile
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
from pyiceberg.table import Table, TableProperties
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot, SnapshotSummaryCollector, Summary, update_snapshot_summaries

from lakefeed.catalog.durable import sync_files
from lakefeed.catalog.lake import remove_tree
from lakefeed.catalog.versions import DatasetVersion, version_of
from lakefeed.catalog.writer import remove

if TYPE_CHECKING:
    from pyiceberg.avro.codecs import AvroCompressionCodec

FORMAT_VERSION: Final = 2
MERGE_AT = 32


class Outcome(Enum):
    """What is known of a commit."""

    NOT_LANDED = "not landed"
    UNKNOWN = "unknown"
    LANDED = "landed"


class Append:
    """The files of one append on their way into a table.

    The snapshot id and the manifest of the added files are the same in every attempt; only the manifest list, which
    names the files of the others too, is written again when another writer was faster. ``new_table`` says that the
    whole location of the table is the append's own.
    """

    def __init__(self, table: Table, facts: Mapping[str, str], new_table: bool = False) -> None:
        self.commit = uuid.uuid4()
        self.snapshot_id = table.metadata.new_snapshot_id()
        self.files: list[DataFile] = []
        self.outcome = Outcome.NOT_LANDED
        self._io: FileIO = table.io
        self._place = table.location_provider().new_metadata_location
        self._facts = facts
        self._own_location = table.metadata.location if new_table else None
        self._attempts = itertools.count()
        self._manifests = itertools.count()
        self._added: list[ManifestFile] | None = None
        self._kept: list[str] = []
        self._of_attempt: list[str] = []

    @contextmanager
    def landing(self) -> Iterator[None]:
        """Removes everything on the way out, unless the append has landed or may have."""
        try:
            yield
        finally:
            if self.outcome is Outcome.NOT_LANDED:
                self._discard()

    def landed_in(self, table: Table) -> DatasetVersion | None:
        """The version that this very append is in the table: a commit can land although it was reported as lost."""
        snapshot = table.metadata.snapshot_by_id(self.snapshot_id)
        if snapshot is None:
            return None
        self.outcome = Outcome.LANDED
        return version_of(snapshot)

    def attempt(self, metadata: TableMetadata) -> Snapshot:
        """The snapshot on top of the current one of ``metadata``, with its manifest list written."""
        if self._added is None:
            self._added = self._write_added(metadata)
        self.forget_attempt()
        parent = metadata.current_snapshot()
        carried = self._carried(metadata, parent)
        sequence_number = metadata.next_sequence_number()
        manifest_list = self._write_list(metadata, parent, sequence_number, [*self._added, *carried])
        sync_files([*self._kept, *self._of_attempt])
        return Snapshot(
            snapshot_id=self.snapshot_id,
            parent_snapshot_id=parent.snapshot_id if parent else None,
            manifest_list=manifest_list,
            sequence_number=sequence_number,
            summary=self._summary(metadata, parent),
            schema_id=metadata.current_schema_id,
        )

    def forget_attempt(self) -> None:
        """Removes what only the attempt that lost refers to."""
        remove(self._io, self._of_attempt)
        self._of_attempt = []

    def _discard(self) -> None:
        self.forget_attempt()
        remove(self._io, self._kept)
        remove(self._io, (file.file_path for file in self.files))
        if self._own_location is not None:
            remove_tree(self._own_location)

    def _summary(self, metadata: TableMetadata, parent: Snapshot | None) -> Summary:
        collector = SnapshotSummaryCollector()
        for file in self.files:
            collector.add_file(file, metadata.schema(), metadata.spec())
        return update_snapshot_summaries(
            Summary(Operation.APPEND, **collector.build(), **self._facts),
            parent.summary if parent is not None else None,
        )

    def _write_added(self, metadata: TableMetadata) -> list[ManifestFile]:
        if not self.files:
            return []
        output = self._new_manifest(self._kept)
        with self._writer(metadata, output) as writer:
            for file in self.files:
                writer.add(ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, data_file=file))
        return [writer.to_manifest_file()]

    def _carried(self, metadata: TableMetadata, parent: Snapshot | None) -> list[ManifestFile]:
        if parent is None:
            return []
        manifests = parent.manifests(self._io)
        return self._merged(metadata, [m for m in manifests if m.has_added_files() or m.has_existing_files()])

    def _merged(self, metadata: TableMetadata, manifests: list[ManifestFile]) -> list[ManifestFile]:
        """The manifests with those of like size made one where they are many.

        Like size keeps the work small: an entry is rewritten once for every ``MERGE_AT`` times more of them.
        """
        tiers: dict[int | None, list[ManifestFile]] = defaultdict(list)
        for manifest in manifests:
            tiers[_tier(manifest, metadata.default_spec_id)].append(manifest)
        merged: list[ManifestFile] = []
        for tier, like in tiers.items():
            merged += like if tier is None or len(like) < MERGE_AT else [self._merge(metadata, like)]
        return merged

    def _merge(self, metadata: TableMetadata, manifests: Iterable[ManifestFile]) -> ManifestFile:
        output = self._new_manifest(self._of_attempt)
        with self._writer(metadata, output) as writer:
            for manifest in manifests:
                for entry in manifest.fetch_manifest_entry(self._io, discard_deleted=True):
                    writer.existing(entry)
        return writer.to_manifest_file()

    def _write_list(
        self, metadata: TableMetadata, parent: Snapshot | None, sequence_number: int, manifests: list[ManifestFile]
    ) -> str:
        location = self._place(f"snap-{self.snapshot_id}-{next(self._attempts)}-{self.commit}.avro")
        self._of_attempt.append(location)
        with write_manifest_list(
            format_version=FORMAT_VERSION,
            output_file=self._io.new_output(location),
            snapshot_id=self.snapshot_id,
            parent_snapshot_id=parent.snapshot_id if parent is not None else None,
            sequence_number=sequence_number,
            avro_compression=_compression(metadata),
        ) as writer:
            writer.add_manifests(manifests)
        return location

    def _writer(self, metadata: TableMetadata, output: OutputFile) -> ManifestWriter:
        return write_manifest(
            format_version=FORMAT_VERSION,
            spec=metadata.spec(),
            schema=metadata.schema(),
            output_file=output,
            snapshot_id=self.snapshot_id,
            avro_compression=_compression(metadata),
        )

    def _new_manifest(self, written: list[str]) -> OutputFile:
        location = self._place(f"{self.commit}-m{next(self._manifests)}.avro")
        written.append(location)
        return self._io.new_output(location)


def _tier(manifest: ManifestFile, spec_id: int) -> int | None:
    """How large the manifest is, as a power of ``MERGE_AT``; None where it must stay as it is."""
    if manifest.content != ManifestContent.DATA or manifest.partition_spec_id != spec_id:
        return None
    files = (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
    tier = 0
    while files >= MERGE_AT:
        files //= MERGE_AT
        tier += 1
    return tier


def _compression(metadata: TableMetadata) -> AvroCompressionCodec:
    codec: AvroCompressionCodec = metadata.properties.get(  # type: ignore[assignment]  # a property is any text
        TableProperties.WRITE_AVRO_COMPRESSION, TableProperties.WRITE_AVRO_COMPRESSION_DEFAULT
    )
    return codec
