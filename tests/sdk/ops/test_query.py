"""M47: SQL over one or several datasets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakefeed import Dataset
from lakefeed.config import Settings
from lakefeed.errors import BudgetExceededError, ExpressionError, MissingFileError, UnsupportedError
from lakefeed.ops import Query
from tests.sdk.ops.test_join import appended, in_memory, saved, small_batches

TABLE = pa.table(
    {
        "x": pa.array([1, 2, None, 4, 5]),
        "name": ["a", "b", "c", None, "e"],
        "part": pa.array([{"w": 1.5, "h": 2}, None, {"w": None, "h": 4}, {"w": 2.5, "h": 6}, {"w": -0.0, "h": 8}]),
    }
)


def sql(query: str, tables: Mapping[str, Dataset], seed: int | None = None, **settings: Any) -> Dataset:
    some = next(iter(tables.values()))
    inputs = tuple(dataset._plan for dataset in tables.values())
    chosen = Settings.load(**settings) if settings else some._lake.settings
    return some._derive(Query(query, tuple(tables), inputs, chosen, seed))


@pytest.mark.parametrize("origin", [in_memory, small_batches, saved, appended])
def test_sql_over_each_origin(origin: Any) -> None:
    data = origin(TABLE, "rows")
    result = sql("SELECT name, x * 2 AS y, part.h AS h FROM data WHERE x >= 2 ORDER BY x DESC", {"data": data})
    assert result.to_arrow().to_pylist() == [
        {"name": "e", "y": 10, "h": 8},
        {"name": None, "y": 8, "h": 6},
        {"name": "b", "y": 4, "h": None},
    ]
    assert result.schema == result.to_arrow().schema
    assert sql("SELECT count(*) AS n, sum(x) AS s FROM data", {"data": data}).to_arrow().to_pylist() == [
        {"n": 5, "s": 12}
    ]
    assert sql("SELECT * FROM data", {"data": data}).to_arrow().to_pydict().keys() == TABLE.to_pydict().keys()


@pytest.mark.parametrize("origin", [in_memory, saved])
def test_several_datasets_in_one_query(origin: Any) -> None:
    left = origin(pa.table({"k": [1, 2], "a": ["x", "y"]}), "left")
    right = origin(pa.table({"k": [2, 2, 3], "b": [1.0, 2.0, 3.0]}), "right")
    result = sql('SELECT l.k, a, sum(b) AS b FROM l JOIN "r" USING (k) GROUP BY ALL', {"l": left, "r": right})
    assert result.to_arrow().to_pylist() == [{"k": 2, "a": "y", "b": 3.0}]
    twice = sql("SELECT a.x FROM data a JOIN data b ON a.x = b.x + 1", {"data": Dataset.from_arrow(TABLE)})
    assert sorted(twice.to_arrow()["x"].to_pylist()) == [2, 5]


def test_nothing_runs_before_rows_are_asked_for() -> None:
    ran: list[int] = []

    def rows() -> Iterator[pa.RecordBatch]:
        ran.append(1)
        yield pa.record_batch({"x": [1]})

    data = Dataset.from_batches(rows, schema=pa.schema({"x": pa.int64()}))
    result = sql("SELECT x + 1 AS y, sum(x) OVER () AS s FROM data", {"data": data})
    assert (result.schema, ran) == (pa.schema({"y": pa.int64(), "s": pa.int64()}), [])
    assert result.to_arrow().to_pylist() == [{"y": 2, "s": 1}]


def test_the_first_rows_come_before_the_last_are_read() -> None:
    read: list[int] = []

    def rows() -> Iterator[pa.RecordBatch]:
        for start in range(0, 1_000_000, 10_000):
            read.append(start)
            yield pa.record_batch({"x": np.arange(start, start + 10_000)})

    data = Dataset.from_batches(rows, schema=pa.schema({"x": pa.int64()}))
    batches = sql("SELECT x FROM data WHERE x % 2 = 0", {"data": data}).batches(format="arrow")
    assert next(batches)["x"][0].as_py() == 0
    assert len(read) < 50
    batches.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT y FROM data", "y"),
        ("SELECT x FROM other", "unknown table 'other'"),
        ("SELECT x + name FROM data", "."),
        ("SELECT x FROM data WHERE", r"\^"),
        ("SELECT upper(x, 1) FROM data", "upper"),
        ("SELECT uper(name) FROM data", "'upper'"),
        ("SELECT sum(x), name FROM data", "GROUP BY"),
        ("SELECT x::nothing FROM data", "nothing"),
        ("SELECT x FROM data ORDER BY z", "z"),
        ("SELECT [1, 'a', {'b': 1}] FROM data", "."),
    ],
)
def test_bad_sql_raises_when_built(query: str, message: str) -> None:
    with pytest.raises((ExpressionError, UnsupportedError), match=message):
        sql(query, {"data": Dataset.from_arrow(TABLE)})


def test_what_only_values_tell_is_a_typed_error_when_read() -> None:
    data = Dataset.from_arrow(TABLE)
    for query in ("SELECT name::INTEGER AS i FROM data", "SELECT CAST(300 + x AS TINYINT) AS t FROM data"):
        with pytest.raises(ExpressionError):
            sql(query, {"data": data}).to_arrow()


def test_an_error_below_the_query_comes_out_as_it_was() -> None:
    def broken(row: dict[str, Any]) -> dict[str, Any]:
        raise MissingFileError("gone")

    data = Dataset.from_arrow(TABLE).map(broken, schema=pa.schema({"x": pa.int64()}))
    with pytest.raises(MissingFileError, match="gone"):
        sql("SELECT sum(x) AS s FROM data", {"data": data}).to_arrow()


def test_whole_numbers_stay_whole_numbers() -> None:
    data = Dataset.from_dict({"x": [2**62, 2**62 - 1], "y": [1, 2]})
    result = sql("SELECT sum(x) AS s, sum(y) AS t, avg(y) AS a, max(x) AS m FROM data", {"data": data})
    assert [str(field.type) for field in result.schema] == ["int64", "int64", "double", "int64"]
    assert result.to_arrow().to_pylist() == [{"s": 2**63 - 1, "t": 3, "a": 1.5, "m": 2**62}]
    over = sql("SELECT sum(x) + 1 AS s FROM data", {"data": data})
    with pytest.raises(ExpressionError, match=r"'s'.*Cast it to DOUBLE"):
        over.to_arrow()
    wide = sql("SELECT (sum(x) + 1)::DECIMAL(38, 0) AS s FROM data", {"data": data})
    assert int(wide.to_arrow()["s"][0].as_py()) == 2**63


def test_chance_follows_the_seed() -> None:
    data = Dataset.from_dict({"x": list(range(1_000))})

    def drawn(seed: int | None) -> list[int]:
        result = sql("SELECT x FROM data WHERE random() < 0.5 ORDER BY random()", {"data": data}, seed)
        once, again = result.to_arrow()["x"].to_pylist(), result.to_arrow()["x"].to_pylist()
        assert once == again
        return once

    assert drawn(1) == drawn(1) != drawn(2)
    assert drawn(None) == drawn(None)
    assert 400 < len(drawn(3)) < 600


@pytest.mark.parametrize(
    "query",
    [
        "SELECT x % 100 AS k, count(*) AS n, first(y) AS f, list(y) AS l FROM data GROUP BY k",
        "SELECT DISTINCT y FROM data",
        "SELECT a.x, b.y FROM data a JOIN data b ON a.y = b.y AND a.x < 500 AND b.x < 500",
        "SELECT x, y, row_number() OVER (PARTITION BY y ORDER BY x) AS r FROM data",
        "SELECT approx_count_distinct(x) AS a, approx_quantile(x, 0.5) AS q FROM data",
        "SELECT y FROM data UNION SELECT x FROM data",
    ],
)
def test_the_same_rows_in_the_same_order_each_time(query: str) -> None:
    data = Dataset.from_dict({"x": list(range(20_000)), "y": [number * 7 % 1_003 for number in range(20_000)]})
    result = sql(query, {"data": small(data)})
    assert result.to_arrow().equals(result.to_arrow())


def small(data: Dataset) -> Dataset:
    table = data.to_arrow()
    return Dataset.from_batches(lambda: iter(table.to_batches(max_chunksize=777)), schema=table.schema)


def test_only_columns_that_are_named_are_read() -> None:
    data = Dataset.from_arrow(TABLE).save("rows", column_types=None)
    for query, columns in {
        "SELECT x FROM data": "columns=[x]",
        "SELECT d.part.h AS h FROM data d WHERE X > 1": "columns=[x, part]",
        "SELECT name.upper() AS u FROM data": "columns=[name]",
        "SELECT count(*) AS n FROM data": "columns=[x]",
        "SELECT a.name FROM data a JOIN data b USING (x)": "columns=[x, name]",
    }.items():
        result = sql(query, {"data": data})
        assert columns in result.explain(), query
        result.to_arrow()
    for query in (
        "SELECT * FROM data",
        "SELECT data FROM data",
        "SELECT d FROM data AS d",
        "SELECT q FROM data t(p, q)",
    ):
        result = sql(query, {"data": data})
        assert "columns=" not in result.explain(), query
        result.to_arrow()


def test_file_columns_can_be_asked_and_stay_file_columns(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"content")
    files = Dataset.from_dict({"f": [str(tmp_path / "a.bin")]}).save("files", column_types={"f": "file"})
    assert sql("SELECT f.size AS s FROM data", {"data": files}).to_arrow()["s"].to_pylist() == [7]
    result = sql("SELECT *, f.size AS s FROM data", {"data": files})
    assert result.column_types == {"f": "file"}
    assert next(iter(result.rows()))["f"].bytes() == b"content"
    assert sql("SELECT f.sha256 AS f FROM data", {"data": files}).column_types == {}


def test_the_machines_time_zone_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    data = Dataset.from_arrow(pa.table({"t": pa.array([0], pa.timestamp("us", "UTC"))}))
    assert sql("SELECT hour(t) AS h, t::VARCHAR AS s FROM data", {"data": data}).to_arrow().to_pylist() == [
        {"h": 0, "s": "1970-01-01 00:00:00+00"}
    ]


def test_two_queries_at_once_do_not_meet() -> None:
    data = Dataset.from_dict({"x": list(range(50_000))})
    first, second = (sql(f"SELECT x + {add} AS y FROM data", {"data": data}).batches(format="arrow") for add in (0, 1))
    for one, other in itertools.islice(zip(first, second, strict=True), 3):
        assert [number + 1 for number in one["y"].to_pylist()] == other["y"].to_pylist()
    nested = sql("SELECT sum(y) AS s FROM data", {"data": sql("SELECT x * 2 AS y FROM data", {"data": data})})
    assert nested.to_arrow()["s"].to_pylist() == [50_000 * 49_999]


def wide(rows: int) -> Dataset:
    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, rows, 20_000):
            numbers = np.arange(start, start + 20_000)
            text = [f"{number * 7919 % rows:0300d}" for number in numbers.tolist()]
            yield pa.record_batch({"x": numbers, "k": numbers * 7 % rows, "text": text})

    return Dataset.from_batches(batches, schema=pa.schema({"x": pa.int64(), "k": pa.int64(), "text": pa.string()}))


@pytest.mark.live
@pytest.mark.slow
def test_an_aggregation_beyond_the_memory_limit_spills(tmp_path: Path) -> None:
    rows = 800_000  # 300 MB under 100 MB
    query = "SELECT text, count(*) AS n, max(x) AS m FROM data GROUP BY text"
    result = sql(query, {"data": wide(rows)}, **{"sql.memory_bytes": 100 << 20})
    found = distinct = 0
    for batch in result.batches(format="arrow"):
        distinct += batch.num_rows
        found += sum(batch["n"].to_pylist())
    assert (found, distinct) == (rows, rows)
    assert list((tmp_path / "cache" / "spill").iterdir()) == []


def test_what_never_fits_is_a_budget_error(tmp_path: Path) -> None:
    data = Dataset.from_dict({"x": list(range(100_000))})
    query = "SELECT list(repeat('x', 2000) || x::VARCHAR) AS l FROM data"
    with pytest.raises(BudgetExceededError, match="MEMORY_BYTES"):
        sql(query, {"data": data}, **{"sql.memory_bytes": 64 << 20}).to_arrow()
    assert list((tmp_path / "cache" / "spill").iterdir()) == []


PREDICATES = st.sampled_from(
    ["x > 1", "x >= 2 AND name <> 'b'", "NOT (x = 2 OR name = 'a')", "x IN (1, NULL)", "x NOT IN (1, 2)",
     "part.w > 0", "NOT part.w > 0", "part.w = part.w", "name IS NULL OR x IS NULL", "x BETWEEN 2 AND 4",
     "name LIKE '%'", "x % 2 = 1", "x / 2 > 1", "part.h - x > 2"]
)  # fmt: skip


@settings(max_examples=3 * settings.default.max_examples // 5)
@given(PREDICATES, PREDICATES, st.sampled_from(["AND", "OR"]))
def test_our_filters_agree_with_sql(one: str, other: str, how: str) -> None:
    data = Dataset.from_arrow(TABLE)
    predicate = f"({one}) {how} ({other})"
    ours = data.filter(predicate).select(["x", "name"]).to_arrow().to_pylist()
    with duckdb.connect(":memory:") as connection:
        connection.register("data", TABLE)
        theirs = connection.sql(f"SELECT x, name FROM data WHERE {predicate}").to_arrow_table().to_pylist()
    assert ours == theirs == sql(f"SELECT x, name FROM data WHERE {predicate}", {"data": data}).to_arrow().to_pylist()
