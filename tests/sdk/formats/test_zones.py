"""Times in JSON lines keep their zones, and are never read as times of another kind."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import FormatError

SECONDS, UTC = pa.timestamp("s"), pa.timestamp("s", "UTC")
TEN = dt.datetime(2020, 1, 1, 10)


def lines(path: Path, *values: str, copies: int = 1) -> str:
    name = path / "times.jsonl"
    name.write_text("".join(f'{{"t": {value}}}\n' for value in values) * copies)
    return str(name)


@pytest.mark.parametrize(
    ("values", "kind", "read"),
    [
        (['"2020-01-01T10:00:00Z"', "null"], UTC, [TEN.replace(tzinfo=dt.UTC), None]),
        (['"2020-01-01 12:00:00+02:00"', '"2020-01-01T10Z"'], UTC, [TEN.replace(tzinfo=dt.UTC)] * 2),
        (['"2020-01-01T10:00"', '"2020-01-01"'], SECONDS, [TEN, dt.datetime(2020, 1, 1)]),
        (['"2020-01-01T10:00:00+02:00"', '"2020-01-01T10:00:00"'], pa.string(), None),
        (['"2020-01-01T10:00:00Z"', '"2020-01-01"'], pa.string(), None),
        (['["2020-01-01T10:00:00Z"]', "null", "[]"], pa.list_(UTC), [[TEN.replace(tzinfo=dt.UTC)], None, []]),
        (['[{"a": "2020-01-01T10:00:00Z"}, {"a": "2020-01-01"}]'], pa.list_(pa.struct([("a", pa.string())])), None),
        (['{"a": "2020-01-01T10:00:00"}', "null"], pa.struct([("a", SECONDS)]), [{"a": TEN}, None]),
        (
            ['{"a": "2020-01-01T10:00:00Z", "n": 12345678901234567890}'],
            pa.struct([("a", UTC), ("n", pa.decimal128(38, 0))]),
            None,
        ),
    ],
)
def test_times_have_the_zone_that_all_of_them_have(
    tmp_path: Path, values: list[str], kind: pa.DataType, read: list[object] | None
) -> None:
    dataset = Dataset.from_file(lines(tmp_path, *values))
    assert dataset.schema.field("t").type == kind
    column = dataset.to_arrow()["t"].to_pylist()
    if read is not None:
        assert column == read
    elif kind == pa.string():
        assert column == [value.strip('"') for value in values]


def test_a_time_of_another_kind_further_down_is_an_error_with_its_line(tmp_path: Path) -> None:
    naive, aware = '"2020-01-01T10:00:00"', '"2020-01-01T10:00:00Z"'
    for usual, last in ((naive, aware), (aware, naive)):
        path = Path(lines(tmp_path, usual, copies=300_000))
        with path.open("a") as file:
            file.write(f'{{"t": {last}}}\n')
        with pytest.raises(FormatError, match=r"line 300001: .*zone offset"):
            Dataset.from_file(str(path)).to_arrow()


def test_a_given_schema_does_not_drop_or_invent_a_zone(tmp_path: Path) -> None:
    aware = lines(tmp_path, '"2020-01-01T11:00:00.5+01:00"')
    vienna = Dataset.from_file(aware, schema=pa.schema({"t": pa.timestamp("us", "Europe/Vienna")}))
    assert vienna.to_arrow()["t"].to_pylist() == [TEN.replace(microsecond=500_000, tzinfo=dt.UTC)]
    with pytest.raises(FormatError, match="expected no zone offset"):
        Dataset.from_file(aware, schema=pa.schema({"t": pa.timestamp("us")})).to_arrow()
    naive = lines(tmp_path, '"2020-01-01T10:00:00"')
    with pytest.raises(FormatError, match="expected a zone offset"):
        Dataset.from_file(naive, schema=pa.schema({"t": pa.timestamp("us", "Europe/Vienna")})).to_arrow()
