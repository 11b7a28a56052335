"""Only the row groups that can hold a key are read, for keys of each type."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset, Table, col, lit
from lakefeed.sources.data_file_reader import DataFileReader

DAY = dt.datetime(2020, 1, 1)
ROWS, GROUP = 40, 10


def hours(zone: dt.timezone | None = None) -> list[dt.datetime]:
    return [DAY.replace(tzinfo=zone) + dt.timedelta(hours=n, microseconds=n) for n in range(ROWS)]


TYPES: list[tuple[pa.DataType, list[Any]]] = [
    (pa.binary(), [bytes([n, 255]) for n in range(ROWS)]),
    (pa.decimal128(12, 3), [Decimal(n - 20) / 8 for n in range(ROWS)]),
    (pa.timestamp("us"), hours()),
    (pa.bool_(), [False] * (ROWS // 2) + [True] * (ROWS // 2)),
]
MORE: list[tuple[pa.DataType, list[Any]]] = [
    (pa.uuid(), [bytes([n]) * 16 for n in range(ROWS)]),
    (pa.uint64(), [2**63 - 20 + n for n in range(ROWS)]),
    (pa.timestamp("us", "Europe/Berlin"), hours(dt.UTC)),
    (pa.string(), [f"k{n:03}" for n in range(ROWS)]),
    (pa.date32(), [DAY.date() + dt.timedelta(n) for n in range(ROWS)]),
    (pa.int8(), list(range(-20, ROWS - 20))),
    (pa.int64(), list(range(ROWS))),
    (pa.large_string(), ["ä" * 3 + chr(200 + n) for n in range(ROWS)]),
    (pa.string_view(), [f"k{n:03}" for n in range(ROWS)]),
    (pa.large_binary(), [b"\xff" * 20 + bytes([n]) for n in range(ROWS)]),
    (pa.binary_view(), [bytes([n]) for n in range(ROWS)]),
    (pa.binary(4), [bytes([n, 0, 255, 1]) for n in range(ROWS)]),
    (pa.decimal128(38, 3), [Decimal(n - 20) * 10**30 for n in range(ROWS)]),
    (pa.decimal32(5, 2), [Decimal(n - 20) for n in range(ROWS)]),
    (pa.date64(), [DAY.date() + dt.timedelta(n) for n in range(ROWS)]),
    (pa.timestamp("s"), [each.replace(microsecond=0) for each in hours()]),
    (pa.timestamp("ns"), hours()),
    (pa.time64("us"), [dt.time(n // 60, n % 60, 1, 5) for n in range(ROWS)]),
    (pa.time32("s"), [dt.time(n // 60, n % 60, 1) for n in range(ROWS)]),
    (pa.dictionary(pa.int32(), pa.string()), [f"k{n:03}" for n in range(ROWS)]),
]


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> set[Any]:
    """The row groups that were read."""
    read, reader = set[Any](), DataFileReader.read

    def counted(self: DataFileReader, file: Any, fragment: Any, *others: Any, **options: Any) -> Any:
        read.add(fragment.key[:2])
        return reader(self, file, fragment, *others, **options)

    monkeypatch.setattr(DataFileReader, "read", counted)
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", str(GROUP))
    return read


CASES = [pytest.param(*each, id=str(each[0])) for each in TYPES]
CASES += [pytest.param(*each, id=str(each[0]), marks=pytest.mark.live) for each in MORE]


@pytest.mark.parametrize(("kind", "values"), CASES)
def test_row_groups_that_are_read(home: Path, groups: set[Any], kind: pa.DataType, values: list[Any]) -> None:
    table = Table.create("typed", key_schema=[("k", kind), ("n", pa.int16())])
    storage = kind.storage_type if isinstance(kind, pa.UuidType) else kind
    plain: Any = pa.array(values).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(values, storage)
    keys = kind.wrap_array(plain) if isinstance(kind, pa.UuidType) else plain
    numbers = pa.array(range(ROWS), pa.int16())
    table.write(pa.table({"k": keys, "n": numbers, "v": list(range(ROWS))}))
    few = 2 if pa.types.is_boolean(kind) else 1  # half of the rows have one value
    groups.clear()
    wanted = pa.table({"k": keys.slice(25, 1), "n": numbers.slice(25, 1)})
    assert table.scan("v").to_table(key_table=wanted)["v"].to_pylist() == [25]
    assert len(groups) == few
    groups.clear()
    shards = table.scan().compute_shards(GROUP)
    groups.clear()
    assert table.scan("v").to_table(shards=shards[2:3])["v"].to_pylist() == list(range(20, 30))
    assert len(groups) <= few
    groups.clear()
    table.write(pa.table({"k": keys.slice(25, 1), "n": numbers.slice(25, 1), "v": [100]}))
    assert len(groups) == few
    groups.clear()
    table.delete_keys(pa.table({"k": keys.slice(26, 1), "n": numbers.slice(26, 1)}))
    assert len(groups) <= few + 1  # the new file may hold it, too
    kept = [n for n in range(ROWS) if n not in (25, 26)]
    assert sorted(table.scan("v").to_table()["v"].to_pylist()) == [*kept, 100]
    if not pa.types.is_time(kind) and kind != pa.timestamp("ns"):
        groups.clear()
        expected = {n for n in kept if values[n] == values[27]} | ({100} if values[25] == values[27] else set())
        text = col("k") == lit(values[27])
        assert set(table.scan("v", where=text).to_table()["v"].to_pylist()) == expected
        assert set(Dataset("typed").filter(text).to_arrow()["v"].to_pylist()) == expected
        assert len(groups) <= few + 1


def test_bytes_in_conditions(home: Path) -> None:
    Dataset.from_arrow(pa.table({"b": [b"", b"\0\xff", None, b"a'"]})).save("bytes")
    data = Dataset("bytes")
    for text, count in (
        ("b = x'00FF'", 1),
        ("b in (x'', x'6127')", 2),
        ("b > x'00'", 2),
        (col("b") != lit(b"a'"), 2),
        ("b is null or b <= x''", 2),
    ):
        assert data.filter(text).count() == count
    assert str(lit(b"a'")) == "x'6127'"
