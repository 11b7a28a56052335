"""Delete files as other engines write them: snapshots by hand, of PyIceberg's classes for manifests."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, AssertRefSnapshotId, SetSnapshotRefUpdate
from pyiceberg.typedef import Record
from pyiceberg.types import StringType

FIELD_ID = b"PARQUET:field_id"
PATH_ID, POSITION_ID = 2147483546, 2147483545


class DeletesWriter(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


@dataclass(frozen=True)
class Deletes:
    """One delete file: pairs of a path and a position, or with ``equality`` the rows of this table."""

    rows: Sequence[tuple[str, int]] = ()
    partition: tuple[Any, ...] = ()
    bounds: str = "full"  # or "none", "truncated"
    equality: pa.Table | None = None
    sequence: int | None = field(default=None)


def commit_deletes(table: Table, folder: Path, *given: Deletes) -> None:
    """Adds a snapshot with delete files, all in one manifest."""
    table.refresh()
    parent, snapshot_id = table.metadata.current_snapshot(), table.metadata.new_snapshot_id()
    assert parent is not None
    files = [_equality_file(table, folder, each) if each.equality else _file(table, folder, each) for each in given]
    output = table.io.new_output(f"{table.metadata.location}/metadata/{uuid.uuid4()}-m0.avro")
    with DeletesWriter(table.spec(), table.schema(), output, snapshot_id, "gzip") as writer:
        for each, file in zip(given, files, strict=True):
            writer.add_entry(
                ManifestEntry.from_args(
                    status=ManifestEntryStatus.ADDED,
                    snapshot_id=snapshot_id,
                    sequence_number=each.sequence,
                    data_file=file,
                )
            )
    sequence = table.metadata.next_sequence_number()
    listed = f"{table.metadata.location}/metadata/snap-{snapshot_id}.avro"
    with write_manifest_list(
        format_version=2,
        output_file=table.io.new_output(listed),
        snapshot_id=snapshot_id,
        parent_snapshot_id=parent.snapshot_id,
        sequence_number=sequence,
        avro_compression="gzip",
    ) as lists:
        lists.add_manifests([writer.to_manifest_file(), *parent.manifests(table.io)])
    snapshot = Snapshot(
        snapshot_id=snapshot_id,
        parent_snapshot_id=parent.snapshot_id,
        sequence_number=sequence,
        manifest_list=listed,
        summary=_summary(parent, files),
        schema_id=table.schema().schema_id,
    )
    table.catalog.commit_table(
        table,
        (AssertRefSnapshotId(ref="main", snapshot_id=parent.snapshot_id),),
        (
            AddSnapshotUpdate(snapshot=snapshot),
            SetSnapshotRefUpdate(ref_name="main", type="branch", snapshot_id=snapshot_id),  # type: ignore[call-arg]
        ),
    )
    table.refresh()


def _summary(parent: Snapshot, files: Sequence[DataFile]) -> Summary:
    before = parent.summary.additional_properties if parent.summary is not None else {}
    positions = sum(file.record_count for file in files)
    facts = {
        "added-delete-files": str(len(files)),
        "added-position-deletes": str(positions),
        "total-records": before.get("total-records", "0"),
        "total-data-files": before.get("total-data-files", "0"),
        "total-delete-files": str(int(before.get("total-delete-files", 0)) + len(files)),
        "total-position-deletes": str(int(before.get("total-position-deletes", 0)) + positions),
    }
    return Summary(Operation.DELETE, **facts)  # Spark names a commit of delete files alone so


def _file(table: Table, folder: Path, given: Deletes) -> DataFile:
    """Writes a position-delete file. Spark may add the column ``row``; nobody reads it."""
    fields = [
        pa.field("file_path", pa.string(), False, {FIELD_ID: str(PATH_ID)}),
        pa.field("pos", pa.int64(), False, {FIELD_ID: str(POSITION_ID)}),
    ]
    paths, positions = [path for path, _ in given.rows], [position for _, position in given.rows]
    path = folder / f"{uuid.uuid4()}-deletes.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(paths), pa.array(positions)], schema=pa.schema(fields)), path)
    low, high = min(paths), max(paths)
    if given.bounds == "truncated":  # to 16 characters, the upper one made larger
        low, high = low[:16], f"{high[:15]}{chr(ord(high[15]) + 1)}"
    bounds = given.bounds != "none"
    return _data_file(
        table,
        path,
        given,
        content=DataFileContent.POSITION_DELETES,
        record_count=len(given.rows),
        lower_bounds={PATH_ID: to_bytes(StringType(), low)} if bounds else None,
        upper_bounds={PATH_ID: to_bytes(StringType(), high)} if bounds else None,
    )


def _equality_file(table: Table, folder: Path, given: Deletes) -> DataFile:
    assert given.equality is not None
    path = folder / f"{uuid.uuid4()}-equality.parquet"
    pq.write_table(given.equality, path)
    ids = [table.schema().find_field(name).field_id for name in given.equality.column_names]
    return _data_file(
        table,
        path,
        given,
        content=DataFileContent.EQUALITY_DELETES,
        record_count=given.equality.num_rows,
        equality_ids=ids,
    )


def _data_file(table: Table, path: Path, given: Deletes, **facts: Any) -> DataFile:
    file = DataFile.from_args(
        file_path=str(path),
        file_format=FileFormat.PARQUET,
        partition=Record(*given.partition),
        file_size_in_bytes=path.stat().st_size,
        **facts,
    )
    file.spec_id = table.spec().spec_id
    return file
