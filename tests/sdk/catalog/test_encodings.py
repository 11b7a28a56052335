"""What data files are encoded in: fast to decode, no larger, and read by everyone."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed import Dataset
from lakefeed.catalog.encodings import choose_encodings
from lakefeed.catalog.lake import Lake
from lakefeed.errors import ConfigError

ROWS = 20_000
RANDOM = np.random.default_rng(0)

NESTED = pa.Table.from_pylist(
    [
        {
            "id": n,
            "flag": n % 2 == 0,
            "price": Decimal(n) / 4,
            "huge": Decimal(n) * 10**20,
            "seen": dt.datetime(2020, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=1.5 * n) if n % 9 else None,
            "day": dt.date(2020, 1, 1) + dt.timedelta(n % 300),
            "clock": dt.time(1, n // 60 % 60, n % 60),
            "box": {"x": n / 7, "name": f"box {n}"} if n % 3 else None,
            "vector": [n / 3, n / 9, n / 11] if n % 7 else None,
            "tags": [(f"k{n}", n * n)] * (n % 3),
            "words": [["a", f"w{n}"]] * (n % 2),
        }
        for n in range(3000)
    ],
    schema=pa.schema(
        {
            "id": pa.int64(),
            "flag": pa.bool_(),
            "price": pa.decimal128(10, 2),
            "huge": pa.decimal128(30, 2),
            "seen": pa.timestamp("us", "UTC"),
            "day": pa.date32(),
            "clock": pa.time64("us"),
            "box": pa.struct({"x": pa.float64(), "name": pa.string()}),
            "vector": pa.list_(pa.float32(), 3),
            "tags": pa.map_(pa.string(), pa.int64()),
            "words": pa.list_(pa.list_(pa.string())),
        }
    ),
)

TYPICAL: dict[str, Any] = {
    "sorted ids": np.arange(ROWS),
    "ids with gaps": np.cumsum(RANDOM.integers(1, 50, ROWS)),
    "random ids": RANDOM.integers(0, 2**62, ROWS),
    "labels": RANDOM.integers(0, 10, ROWS),
    "a thousand labels": RANDOM.integers(0, 1000, ROWS).astype("i4"),
    "rare flags": (RANDOM.random(ROWS) < 0.001).astype("i4"),
    "a few large numbers": RANDOM.choice(RANDOM.integers(0, 2**60, 50), ROWS),
    "one number": np.zeros(ROWS, "i8"),
    "random floats": RANDOM.random(ROWS),
    "random small floats": RANDOM.random(ROWS, dtype="f4"),
    "a walk": np.cumsum(RANDOM.normal(size=ROWS)),
    "a few floats": RANDOM.choice([0.0, 0.25, 0.5], ROWS),
    "times": pa.array(np.cumsum(RANDOM.integers(0, 2_000_000, ROWS)) + 1_700_000_000_000_000, pa.timestamp("us")),
    "names": [f"https://example.com/{n:08d}.jpg" for n in range(ROWS)],
    "classes": [f"class {n}" for n in RANDOM.integers(0, 10, ROWS)],
    "digests": [RANDOM.bytes(16).hex() for _ in range(ROWS)],
}


def files(home: Path) -> list[Path]:
    return sorted(home.rglob("*.parquet"))


def stored(file: Path) -> dict[str, pq.ColumnChunkMetaData]:
    group = pq.read_metadata(file).row_group(0)
    return {group.column(index).path_in_schema: group.column(index) for index in range(group.num_columns)}


def test_each_kind_of_value_has_its_encoding() -> None:
    found = choose_encodings(NESTED)
    assert {path for path, encoding in found.items() if encoding == "DELTA_BINARY_PACKED"} == {
        "id", "price", "seen", "clock", "tags.key_value.value",
    }  # fmt: skip
    assert {path for path, encoding in found.items() if encoding == "BYTE_STREAM_SPLIT"} == {
        "box.x", "vector.list.element",
    }  # fmt: skip
    assert found["flag"] == found["day"] == "RLE_DICTIONARY"
    assert found["huge"] == found["box.name"] == "PLAIN"


def test_files_have_them_and_keep_their_statistics(home: Path) -> None:
    Dataset.from_arrow(NESTED).save("t", column_types=None)
    found = stored(files(home)[0])
    for path, encoding in choose_encodings(NESTED).items():
        if path != "flag":  # bits have no dictionary
            assert encoding in found[path].encodings, path
        assert found[path].statistics is not None
        assert found[path].statistics.has_min_max, path


def test_every_reader_reads_them(home: Path) -> None:
    saved = Dataset.from_arrow(NESTED).save("t", column_types=None)
    assert saved.to_arrow().equals(NESTED)
    file = files(home)[0]
    by_iceberg = Lake.current().table("t").scan().to_arrow()
    assert by_iceberg["id"].to_pylist() == NESTED["id"].to_pylist()
    assert by_iceberg["vector"].to_pylist() == NESTED["vector"].to_pylist()
    query = "SELECT * REPLACE (epoch_us(seen) AS seen) FROM read_parquet($file)"
    by_duckdb = duckdb.connect().sql(query, params={"file": str(file)}).to_arrow_table()
    for name in ("id", "flag", "price", "huge", "day", "clock", "box", "tags", "words"):
        assert by_duckdb[name].to_pylist() == NESTED[name].to_pylist(), name
    assert by_duckdb["seen"].to_pylist() == NESTED["seen"].cast(pa.int64()).to_pylist()
    assert pd.read_parquet(file)["id"].tolist() == NESTED["id"].to_pylist()


@pytest.mark.parametrize("kind", TYPICAL)
def test_files_are_hardly_ever_larger(home: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    dataset = Dataset.from_arrow(pa.table({"x": TYPICAL[kind]}))
    dataset.save("fast", column_types=None)
    monkeypatch.setenv("LAKEFEED__WRITE__ENCODINGS", "basic")
    dataset.save("basic", column_types=None)
    (fast,) = (file.stat().st_size for file in home.rglob("fast-*/**/*.parquet"))
    (basic,) = (file.stat().st_size for file in home.rglob("basic-*/**/*.parquet"))
    assert fast <= basic * 1.12 + 1000
    assert Dataset("fast").to_arrow().equals(Dataset("basic").to_arrow())


def test_basic_encodings_are_a_setting(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__WRITE__ENCODINGS", "basic")
    Dataset.from_arrow(NESTED).save("t", column_types=None)
    used = {encoding for column in stored(files(home)[0]).values() for encoding in column.encodings}
    assert used <= {"PLAIN", "RLE", "RLE_DICTIONARY"}
    monkeypatch.setenv("LAKEFEED__WRITE__ENCODINGS", "best")
    with pytest.raises(ConfigError, match="encodings"):
        Dataset("t")


def test_what_compression_does_not_make_smaller_is_not_compressed(home: Path) -> None:
    table = pa.table(
        {
            "image": [RANDOM.bytes(500) for _ in range(5000)],
            "caption": [f"a caption of some words, {n}" for n in range(5000)],
            "label": RANDOM.integers(0, 1000, 5000),
        }
    )
    saved = Dataset.from_arrow(table).save("t", column_types=None)
    assert {path: column.compression for path, column in stored(files(home)[0]).items()} == {
        "image": "UNCOMPRESSED", "caption": "ZSTD", "label": "UNCOMPRESSED",
    }  # fmt: skip
    assert saved.to_arrow().equals(table)
