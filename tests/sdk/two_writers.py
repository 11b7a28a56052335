"""Files that another program wrote, in the table `t`, which lakefeed and PyIceberg both read."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from lakefeed import Dataset

NAME = "default.t"
Rows = list[dict[str, Any]]


def in_order(rows: Rows) -> Rows:
    return sorted(rows, key=repr)


def ours(**pin: Any) -> Rows:
    return in_order(Dataset("t", **pin).to_arrow().to_pylist())


def theirs(plain: SqlCatalog) -> Rows:
    return in_order(plain.load_table(NAME).scan().to_arrow().to_pylist())


def add_file(table: Table, folder: Path, rows: pa.Table) -> None:
    """A file without field ids, as another program wrote it."""
    path = folder / f"{uuid.uuid4().hex}.parquet"
    pq.write_table(rows, path)
    table.refresh().add_files([str(path)])


def add_partition(table: Table, folder: Path, rows: pa.Table, *values: Any, old_timestamps: bool = False) -> None:
    """A file of a partition, as in the tables of Hive: the values stand in the manifest only."""
    file = described(folder, rows, values, old_timestamps=old_timestamps)
    mapping = table.refresh().schema().name_mapping.model_dump_json()
    with table.transaction() as transaction:
        transaction.set_properties(**{"schema.name-mapping.default": mapping})
        with transaction.update_snapshot().fast_append() as append:
            append.append_data_file(file)


def described(
    folder: Path,
    rows: pa.Table,
    values: tuple[Any, ...] = (),
    *,
    content: DataFileContent = DataFileContent.DATA,
    equality_ids: list[int] | None = None,
    old_timestamps: bool = False,
) -> DataFile:
    """A file, written here, as a manifest names it."""
    path = folder / f"{uuid.uuid4().hex}.parquet"
    pq.write_table(rows, path, use_deprecated_int96_timestamps=old_timestamps)
    return DataFile.from_args(
        content=content, file_path=str(path), file_format=FileFormat.PARQUET, partition=Record(*values),
        record_count=rows.num_rows, file_size_in_bytes=path.stat().st_size, column_sizes={}, value_counts={},
        null_value_counts={}, nan_value_counts={}, lower_bounds={}, upper_bounds={}, split_offsets=None,
        sort_order_id=None, equality_ids=equality_ids, key_metadata=None,
    )  # fmt: skip
