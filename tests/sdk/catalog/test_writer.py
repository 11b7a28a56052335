"""The rolling writer: sizes, bounded memory, statistics, and nothing left behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed import Dataset
from lakefeed._units import MIB
from lakefeed.catalog import Lake, create, data_files
from lakefeed.catalog.durability import local_path
from lakefeed.catalog.parquet_writer import row_groups
from lakefeed.config import Settings, WriteSettings


def groups_of(batches: list[pa.RecordBatch], **sizes: int) -> list[int]:
    return [group.num_rows for group in row_groups(batches, WriteSettings(**sizes))]


def batch(rows: int, start: int = 0) -> pa.RecordBatch:
    return pa.record_batch({"x": pa.array(range(start, start + rows), pa.int64())})


def test_row_groups_by_rows() -> None:
    assert groups_of([batch(10), batch(3), batch(12)], row_group_rows=8) == [8, 8, 8, 1]


def test_row_groups_by_bytes() -> None:
    assert groups_of([batch(10), batch(6)], row_group_bytes=40) == [5, 5, 5, 1]


def test_rows_larger_than_a_row_group_go_alone() -> None:
    assert groups_of([batch(3)], row_group_bytes=1) == [1, 1, 1]


def test_thousands_of_tiny_batches_make_one_group() -> None:
    groups = list(row_groups((batch(1, start) for start in range(5000)), WriteSettings()))
    assert [group.num_rows for group in groups] == [5000]
    assert groups[0]["x"].num_chunks < 600
    assert groups[0]["x"].to_pylist() == list(range(5000))


def test_empty_batches_make_no_group() -> None:
    assert groups_of([batch(0), batch(2), batch(0)]) == [2]


def test_files_roll_and_groups_have_their_size(home: Path) -> None:
    lake = Lake(Settings.load(**{"write.row_group_rows": 100, "write.file_bytes": 1600}))
    create(lake, "t", batch(1).schema, [batch(1000)])
    files = data_files(lake, lake.table("t"))
    assert [file.rows for file in files] == [200] * 5
    metadata = pq.read_metadata(local_path(files[0].path))
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [100, 100]
    assert metadata.row_group(0).column(0).compression == "ZSTD"


def test_files_carry_the_field_ids_of_the_table(lake: Lake) -> None:
    schema = pa.schema([("a", pa.int8()), ("s", pa.struct([("b", pa.list_(pa.string()))]))])
    create(lake, "t", schema, [pa.record_batch([[1], [{"b": ["x"]}]], schema=schema)])
    table = lake.table("t")
    (file,) = data_files(lake, table)
    arrow = pq.read_schema(local_path(file.path))
    found = {
        "a": arrow.field("a"),
        "s": arrow.field("s"),
        "s.b": arrow.field("s").type.field("b"),
        "s.b.element": arrow.field("s").type.field("b").type.value_field,
    }
    expected = {name: table.schema().find_field(name).field_id for name in found}
    assert {name: int(field.metadata[b"PARQUET:field_id"]) for name, field in found.items()} == expected


def test_statistics_of_awkward_columns(lake: Lake) -> None:
    columns = {
        "nan": pa.array([float("nan"), 1.0]),
        "all_nan": pa.array([float("nan")] * 2),
        "nulls": pa.array([None, None], pa.string()),
        "long": pa.array(["a" * 100, "\U0010ffff" * 100]),
        "before_surrogates": pa.array(["a" * 15 + "\ud7ff" + "b", "a" * 15 + "\ud7ffa"]),
        "blob": pa.array([b"\xff" * 10_000, b"\x00"]),
        "flag": pa.array([True, False]),
    }
    create(lake, "t", pa.table(columns).schema, pa.table(columns).to_batches())
    (file,) = data_files(lake, lake.table("t"))
    ids = {field.name: field.field_id for field in lake.table("t").schema().fields}
    assert file.null_value_counts[ids["nulls"]] == 2
    assert ids["nulls"] not in file.lower_bounds
    assert ids["all_nan"] not in file.lower_bounds
    assert np.frombuffer(file.upper_bounds[ids["nan"]], "<f8")[0] == 1.0
    assert file.lower_bounds[ids["long"]] == b"a" * 16
    assert ids["before_surrogates"] not in file.upper_bounds
    value = columns["before_surrogates"][0].as_py()
    assert Dataset("t").filter(f"before_surrogates >= '{value}'").count() == 1


@pytest.mark.live
def test_memory_does_not_grow_with_the_input(home: Path) -> None:
    lake = Lake(Settings.load(**{"write.row_group_bytes": MIB, "write.file_bytes": 8 * MIB}))
    peaks: list[int] = []

    def stream() -> Iterator[pa.RecordBatch]:
        for start in range(100):
            if start % 10 == 0:
                gc.collect()
                peaks.append(pa.total_allocated_bytes())
            yield pa.record_batch({"x": np.random.default_rng(start).random(MIB // 8)})

    create(lake, "t", pa.schema([("x", pa.float64())]), stream())
    assert max(peaks) - peaks[0] < 24 * MIB


@pytest.mark.parametrize("compression", ["zstd", "snappy", "none"])
def test_compression_is_a_setting(home: Path, compression: str) -> None:
    lake = Lake(Settings.load(**{"write.compression": compression}))
    create(lake, "t", batch(1).schema, [batch(1000)])
    (file,) = data_files(lake, lake.table("t"))
    found = pq.read_metadata(local_path(file.path)).row_group(0).column(0).compression
    assert found == {"none": "UNCOMPRESSED"}.get(compression, compression.upper())
