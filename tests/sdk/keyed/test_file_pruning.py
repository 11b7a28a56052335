"""Files that cannot hold a wanted key are not opened, by the bounds in their manifests."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Table, col, lit
from lakefeed.formats import parquet_format
from lakefeed.formats.parquet_format import ParquetFile

FILES, ROWS = 6, 10
START = dt.datetime(2024, 2, 27, 23, 59, 59, 7)
TYPES: list[tuple[pa.DataType, Any]] = [
    (pa.int64(), lambda n: n - 30),
    (pa.string(), lambda n: f"kä{n:03}{'ü' * 20}"),  # longer than the bounds in manifests
    (pa.timestamp("us", "Europe/Berlin"), lambda n: (START + dt.timedelta(hours=n)).replace(tzinfo=dt.UTC)),
    (pa.decimal128(9, 2), lambda n: Decimal(n - 30) / 4),
]
MORE: list[tuple[pa.DataType, Any]] = [
    (pa.int8(), lambda n: n - 30),
    (pa.uint64(), lambda n: 2**63 - 20 + n),
    (pa.binary(), lambda n: bytes([n, 255])),
    (pa.date32(), lambda n: START.date() + dt.timedelta(n - 30)),
    (pa.timestamp("s"), lambda n: START.replace(microsecond=0) + dt.timedelta(seconds=n - 30)),
    (pa.timestamp("ns"), lambda n: START + dt.timedelta(microseconds=n)),
    (pa.timestamp("ns", "UTC"), lambda n: (START + dt.timedelta(microseconds=n)).replace(tzinfo=dt.UTC)),
    (pa.large_string(), lambda n: f"{n:03}"),
    (pa.binary(20), lambda n: b"the same for all" + bytes([255, n, 0, 1])),
    (pa.time64("us"), lambda n: dt.time(1, n, 3, 4)),
    (pa.time32("s"), lambda n: dt.time(1, n, 3)),
]
CASES = [pytest.param(*each, id=str(each[0])) for each in TYPES]
CASES += [pytest.param(*each, id=str(each[0]), marks=pytest.mark.live) for each in MORE]


class Opened:
    """Counts the files whose footers are read."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def clear(self) -> None:
        parquet_format._footers.clear()
        self.paths.clear()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    counter, read = Opened(), ParquetFile._read_footer

    def counted(file: ParquetFile) -> Any:
        counter.paths.append(file.url)
        return read(file)

    monkeypatch.setattr(ParquetFile, "_read_footer", counted)
    monkeypatch.setenv("LAKEFEED__WRITE__COMPACTION", "off")
    return counter


@pytest.mark.parametrize(("kind", "value"), CASES)
def test_files_without_a_wanted_key_are_not_opened(home: Path, opened: Opened, kind: pa.DataType, value: Any) -> None:
    keys = pa.array([value(number) for number in range(FILES * ROWS)], kind)
    table = Table.create("t", key_schema=[("k", kind)])
    for number in (3, 0, 5, 1, 4, 2):
        rows = keys.slice(number * ROWS, ROWS)
        table.write(pa.table({"k": rows, "v": list(range(number * ROWS, (number + 1) * ROWS))}))
    far = keys.take(pa.array([2, 57]))  # those of the first and the last file, in whose range all others lie
    opened.clear()
    assert table.scan("v").to_table(key_table=pa.table({"k": far}))["v"].to_pylist() == [2, 57]
    assert len(opened.paths) == 2
    opened.clear()
    assert table.scan("v", where=col("k") == lit(value(33))).to_table()["v"].to_pylist() == [33]
    assert len(opened.paths) == 1
    opened.clear()
    table.write(pa.table({"k": far, "v": [102, 157]}))
    assert len(opened.paths) == 2
    opened.clear()
    table.delete_keys(keys.take(pa.array([3, 58])))
    assert len(opened.paths) == 3  # and the file that was just written
    expected = [number for number in range(FILES * ROWS) if number not in (2, 57, 3, 58)]
    assert sorted(table.scan("v").to_table()["v"].to_pylist()) == [*expected, 102, 157]


def test_uuids_and_nanoseconds_skip_files_exactly(home: Path, opened: Opened) -> None:
    uuids = [uuid.UUID(int=(number * 11) << 120).bytes for number in range(20)]
    table = Table.create("t", key_schema=[("k", pa.uuid())])
    for start in (10, 0):
        keys = pa.ExtensionArray.from_storage(pa.uuid(), pa.array(uuids[start : start + 10], pa.binary(16)))
        instants = pa.array([1_001 + number for number in range(start, start + 10)], pa.timestamp("ns"))
        clocks = instants.cast(pa.int64()).cast(pa.time64("ns"))
        table.write(pa.table({"k": keys, "n": list(range(start, start + 10)), "at": instants, "clock": clocks}))
    opened.clear()
    wanted = pa.table({"k": pa.ExtensionArray.from_storage(pa.uuid(), pa.array(uuids[3:4], pa.binary(16)))})
    assert table.scan("n").to_table(key_table=wanted)["n"].to_pylist() == [3]
    assert len(opened.paths) == 1
    for condition, rows, files in (
        (f"k = x'{uuids[13].hex()}'", [13], 1),
        (f"k < x'{uuids[2].hex()}'", [0, 1], 1),
        ("at = timestamp '1970-01-01T00:00:00.000001013'", [12], 1),
        ("at < timestamp '1970-01-01T00:00:00.000001011'", list(range(10)), 1),
        ("at <= timestamp '1970-01-01T00:00:00.000001011'", list(range(11)), 2),
        ("at > timestamp '1970-01-01T00:00:00.000001'", list(range(20)), 2),
        ("at in ('1970-01-01T00:00:00.000001001', '1970-01-01T00:00:00.000001002')", [0, 1], 1),
        ("at > '2500-01-01'", [], 0),
        ("at < date '1970-01-01'", [], 0),
        ("clock >= '00:00:00.000001011'", list(range(10, 20)), 1),
    ):
        opened.clear()
        assert table.scan("n", where=condition).to_table()["n"].to_pylist() == rows, condition
        assert len(set(opened.paths)) == files, condition
