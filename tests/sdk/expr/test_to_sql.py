from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from lakefeed.expr import evaluate, parse
from tests.sdk.expr.to_sql import to_sql

SCHEMA = pa.schema(
    {
        "x": pa.int64(),
        "small": pa.int8(),
        "f": pa.float64(),
        "s": pa.string(),
        'odd "name': pa.int64(),
        "st": pa.struct({"a b": pa.int64()}),
        "v": pa.list_(pa.int64()),
        "t": pa.timestamp("us", "UTC"),
    }
)


@pytest.mark.parametrize(
    ("written", "sql"),
    [
        ("s == 'it''s'", "(\"s\" = 'it''s')"),
        ("small > 5", "(\"small\" > CAST('5' AS TINYINT))"),
        ("small > 300", "(CAST(\"small\" AS BIGINT) > CAST('300' AS BIGINT))"),
        ('`odd "name` is null', '("odd ""name" IS NULL)'),
        ("st.`a b` is null", "(struct_extract(\"st\", 'a b') IS NULL)"),
        ("v[0] is not null", '(NOT (("v")[1] IS NULL))'),
        ("v[-1] is null", '(("v")[-1] IS NULL)'),
        ("s like 'a%'", "(\"s\" LIKE 'a%' ESCAPE '\\')"),
        ("t == '2024-02-29'", "(\"t\" = CAST('2024-02-29T00:00:00+00:00' AS TIMESTAMPTZ))"),
        ("s || 'b' || s == 'abc'", "(((\"s\" || 'b') || \"s\") = 'abc')"),
        ("f < 1", "(\"f\" < CAST('1.0' AS DOUBLE))"),
    ],
)
def test_rendered(written: str, sql: str) -> None:
    assert to_sql(parse(written, SCHEMA)) == sql


def test_text_never_becomes_sql() -> None:
    evil = "'; DROP TABLE rows; --"
    schema = pa.schema({evil: pa.string()})
    written = f"`{evil}` == '{evil.replace(chr(39), chr(39) * 2)}'"
    sql = to_sql(parse(written, schema))
    assert [kind.type for kind in duckdb.extract_statements(f"SELECT {sql}")] == [duckdb.StatementType.SELECT]
    with duckdb.connect() as connection:
        connection.register("rows", pa.table({evil: [evil, "a"]}))
        assert connection.sql(f"SELECT {sql} FROM rows").fetchall() == [(True,), (False,)]


@pytest.mark.live
def test_five_thousand_terms() -> None:
    expr = parse(" or ".join(f"x == {number}" for number in range(5000)), SCHEMA)
    with duckdb.connect() as connection:
        assert connection.sql(f"SELECT {to_sql(expr)} FROM (SELECT 4999 AS x)").fetchall() == [(True,)]


def test_nested_arithmetic_grows_linearly() -> None:
    written = "x" + " % 7" * 40 + " + f" + " / 2" * 20 + " > 1"
    expr = parse(written, SCHEMA)
    assert len(to_sql(expr)) < 60 * len(written)
    assert evaluate(expr, pa.RecordBatch.from_pylist([{"x": 5, "f": 2.0**21}], SCHEMA)).to_pylist() == [True]
