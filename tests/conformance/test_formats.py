"""Every format: the same table comes back, whole, projected and in parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from lakefeed.errors import MissingFileError
from lakefeed.formats import FORMATS

TABLE = pa.table({"x": [1, 2, None, 4], "y": ["a", None, "c", "d"], "z": [0.5, 1.5, 2.5, None]})
WRITERS: dict[str, Callable[[Path], object]] = {
    "arrow": lambda path: feather.write_feather(TABLE, path, chunksize=3),
    "csv": lambda path: pacsv.write_csv(TABLE, path),
    "jsonl": lambda path: path.write_text("\n".join(map(json.dumps, TABLE.to_pylist()))),
    "parquet": lambda path: pq.write_table(TABLE, path, row_group_size=3),
}


@pytest.fixture(params=sorted(FORMATS))
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(form: str, tmp_path: Path) -> str:
    path = tmp_path / f"table{FORMATS[form].suffixes[0]}"
    WRITERS[form](path)
    return str(path)


def test_the_schema_comes_without_reading_all(form: str, url: str) -> None:
    assert FORMATS[form].schema(url).names == TABLE.column_names


@pytest.mark.parametrize("columns", [None, ["x"], ["z", "x"], ["y"]])
def test_all_rows_of_the_columns_asked_for(form: str, url: str, columns: list[str] | None) -> None:
    schema = FORMATS[form].schema(url)
    batches = [
        batch
        for part in FORMATS[form].parts(url, None)
        for batch in FORMATS[form].read(url, part, schema, columns, 0, None)
    ]
    wanted = columns or TABLE.column_names
    assert sorted(batches[0].schema.names) == sorted(wanted)
    assert [row for batch in batches for row in batch.select(wanted).to_pylist()] == TABLE.select(wanted).to_pylist()


def test_counted_parts_say_their_rows(form: str, url: str) -> None:
    rows = [part.rows for part in FORMATS[form].parts(url, None)]
    assert rows == [3, 1] if FORMATS[form].has_row_counts else rows == [None]


def test_a_part_is_cut_where_counts_are_known(form: str, url: str) -> None:
    if not FORMATS[form].has_row_counts:
        pytest.skip("places are unknown")
    (part, _) = FORMATS[form].parts(url, None)
    (batch,) = FORMATS[form].read(url, part, TABLE.schema, ["x"], 1, 2)
    assert batch.column("x").to_pylist() == [2]


def test_what_is_not_there(form: str, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        FORMATS[form].schema(str(tmp_path / f"none{FORMATS[form].suffixes[0]}"))
