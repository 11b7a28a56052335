"""Staged files: rows that were written for a commit that another process makes, perhaps days later.

No version names them yet. A mark in the blob store names them, so garbage collections keep them and the contents that
they refer to, for `STAGED_SECONDS` or until the commit.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from lakefeed.catalog.compatibility import cast, cast_to_storage
from lakefeed.catalog.file_io import open_io
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.parquet_writer import WriteTarget, write_files
from lakefeed.catalog.schema import declared_schema, file_schema, iceberg_schema, normalize_schema
from lakefeed.catalog.table_output import discard_files
from lakefeed.catalog.table_rows import sorted_target
from lakefeed.errors import IntegrityError, MissingFileError

MARKS: Final = "staged"
STAGED_SECONDS: Final = 7 * 24 * 3600.0
"""Staged files are kept for so long, from when they were written."""

BATCH_ROWS: Final = 65_536
_COUNTS: Final = ("column_sizes", "value_counts", "null_value_counts", "nan_value_counts")
_BOUNDS: Final = ("lower_bounds", "upper_bounds")


def write_staged_rows(
    lake: Lake, table: Table, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> tuple[DataFile, ...]:
    """Writes rows, which are in the order of the key, into files of the table that no version names.

    If the rows have all columns of ``table``, the files can become data files of it as they are.

    Args:
        lake: the lake.
        table: the table, with the columns that it will have.
        schema: the columns of the rows.
        batches: the rows.
    """
    declared = declared_schema(table)
    target = sorted_target(lake, table, declared, f"staged-{uuid.uuid4().hex}")
    if not has_all_columns(schema, declared):
        declared = normalize_schema(schema)
        own = iceberg_schema(declared)
        target = replace(target, schema=file_schema(declared, own), iceberg=own, sort_order=None)
    return tuple(write_files(target, _stored(batches, declared, target)))


def has_all_columns(schema: pa.Schema, declared: pa.Schema) -> bool:
    """Returns whether rows of a schema have every column of a table, with all fields of structs."""
    return sorted(schema.names) == sorted(declared.names) and all(
        schema.field(field.name).type == field.type for field in declared
    )


def _stored(batches: Iterable[pa.RecordBatch], declared: pa.Schema, target: WriteTarget) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield cast_to_storage(batch, declared, target.schema)


def read_staged_rows(io: FileIO, paths: Sequence[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yields the rows of staged files in the types of a schema.

    Raises:
        MissingFileError: a file is gone.
    """
    for path in paths:
        try:
            with io.new_input(path).open() as stream:
                file = pq.ParquetFile(stream)  # type: ignore[arg-type]  # a pyarrow stream
                for batch in file.iter_batches(BATCH_ROWS, columns=schema.names):
                    yield cast(batch.select(schema.names), schema)
        except FileNotFoundError:
            raise missing_error(path) from None


def missing_error(path: str) -> MissingFileError:
    """Returns the error for a staged file that is gone."""
    return MissingFileError(
        f"the staged file {path} is gone: its table was dropped, or a garbage collection removed it, after its "
        f"operation was committed or {STAGED_SECONDS / 86400:.0f} days had passed. Make the operation again"
    )


def check_present(io: FileIO, path: str, size: int) -> None:
    """Checks that a staged file is there.

    Raises:
        MissingFileError: it is gone.
        IntegrityError: it has another size.
    """
    file = io.new_input(path)
    if not file.exists():
        raise missing_error(path)
    present = len(file)
    if present != size:
        raise IntegrityError(f"the staged file {path} has {present} bytes instead of {size}")


# ------------------------------------------------------------------------------------------ JSON


def dump_file(file: DataFile) -> dict[str, Any]:
    """Returns a file with its statistics as values of JSON."""
    counts = {name: {str(key): value for key, value in (getattr(file, name) or {}).items()} for name in _COUNTS}
    bounds = {
        name: {str(key): base64.b64encode(value).decode() for key, value in (getattr(file, name) or {}).items()}
        for name in _BOUNDS
    }
    return {
        "path": file.file_path,
        "rows": file.record_count,
        "bytes": file.file_size_in_bytes,
        "spec": file.spec_id,
        "sort_order": file.sort_order_id,
        "split_offsets": list(file.split_offsets or ()),
        **counts,
        **bounds,
    }


def load_file(facts: Mapping[str, Any]) -> DataFile:
    """Returns the file of `dump_file`.

    Raises:
        KeyError, TypeError, ValueError: these are not the facts of a file.
    """
    for name in ("rows", "bytes"):
        if not isinstance(facts[name], int) or isinstance(facts[name], bool) or facts[name] < 0:
            raise ValueError(f"{name} is {facts[name]!r:.80}")
    if not isinstance(facts["path"], str):
        raise TypeError(f"path is {facts['path']!r:.80}")
    statistics: dict[str, Any] = {
        name: {int(key): int(value) for key, value in facts[name].items()} for name in _COUNTS
    }
    statistics |= {
        name: {int(key): base64.b64decode(value, validate=True) for key, value in facts[name].items()}
        for name in _BOUNDS
    }
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=facts["path"],
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=facts["rows"],
        file_size_in_bytes=facts["bytes"],
        sort_order_id=facts["sort_order"],
        split_offsets=[int(each) for each in facts["split_offsets"]],
        equality_ids=None,
        key_metadata=None,
        **statistics,
    )
    file.spec_id = int(facts["spec"])
    return file


def is_inside(table: Table, path: str) -> bool:
    """Returns whether a file is in the folders of a table, so that an operation of it may name the file."""
    folders = (table.metadata.location, table.properties.get("write.data.path") or table.metadata.location)
    return ".." not in path.split("/") and any(path.startswith(folder.rstrip("/") + "/") for folder in folders)


# ------------------------------------------------------------------------------------------ marks


def mark_staged(lake: Lake, name: str, paths: Sequence[str]) -> None:
    """Writes the mark that keeps staged files. ``name`` identifies it."""
    if paths:
        lake.blobs.backend.objects.write(_key(name), json.dumps({"files": list(paths)}).encode())


def unmark_staged(lake: Lake, names: Iterable[str]) -> None:
    """Removes marks, if they are there."""
    for name in names:
        lake.blobs.backend.objects.delete(_key(name))


def remove_staged(table: Table, paths: Iterable[str]) -> None:
    """Removes staged files that nothing names. Raises nothing."""
    discard_files(table.io, paths)


def staged_files(lake: Lake) -> Iterator[tuple[FileIO, str]]:
    """Yields the staged files that are to be kept, with what opens them; those that are gone are left out."""
    objects = lake.blobs.backend.objects
    for info in list(objects.list(MARKS)):
        if time.time() - info.modified > STAGED_SECONDS:
            continue
        try:
            content = json.loads(objects.read(info.key))
        except FileNotFoundError:
            continue  # its commit has ended
        for path in content["files"]:
            io = open_io(lake.catalog.properties, {}, path)
            if io.new_input(path).exists():
                yield io, path


def remove_expired_marks(lake: Lake) -> None:
    """Removes the marks of files that are no longer kept."""
    objects = lake.blobs.backend.objects
    for info in list(objects.list(MARKS)):
        if time.time() - info.modified > STAGED_SECONDS:
            objects.delete(info.key)


def _key(name: str) -> str:
    return f"{MARKS}/{name}.json"


def field_ids(iceberg: Schema, names: Sequence[str]) -> tuple[str, ...]:
    """Returns columns as text with ids and types. A file with the same ones as a table can become a file of it."""
    return tuple(f"{each.field_id}: {each.name}: {each.field_type}" for each in iceberg.fields if each.name in names)
