"""M47: a query sees the rows that it is given, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed.config import Settings
from lakefeed.errors import ExpressionError, LakefeedError, UnsupportedError
from lakefeed.sql import QueryTable, analyze_query, run_query
from lakefeed.sql.allowed_functions import AGGREGATES, CALLABLE, OPERATORS, SCALARS, TABLE_FUNCTIONS, WINDOWS
from lakefeed.sql.duckdb_connection import open_parsing_connection, open_query_connection
from lakefeed.sql.query_check import parse_query
from tests.sdk.sql import hostile

SCHEMA = pa.schema({"x": pa.int64()})
SECRET = "the-canary-sings"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    (tmp_path / "private").mkdir()
    path = tmp_path / "private" / "canary.csv"
    path.write_text(f"{SECRET}\n1\n")
    os.utime(path, (1, 10**9))
    return path


def rows() -> QueryTable:
    return QueryTable(SCHEMA, lambda: iter([pa.record_batch({"x": [1, 2, 3]}, SCHEMA)]))


@pytest.mark.parametrize("every", [20, pytest.param(1, marks=pytest.mark.live)])
def test_every_hostile_query_is_refused_before_anything_is_bound(canary: Path, every: int) -> None:
    queries = {query.replace(hostile.CANARY, str(canary)) for query in hostile.all_of_them()}
    assert len(queries) > 4_000
    with open_parsing_connection() as connection:
        assert [query for query in sorted(queries)[::every] if not _refused(connection, query)] == []
    assert_untouched(canary)


def _refused(connection: duckdb.DuckDBPyConnection, query: str) -> bool:
    try:
        parse_query(connection, query, {"data": ["x"]})
    except (ExpressionError, UnsupportedError):
        return True
    return False


def test_hostile_queries_raise_when_built_and_show_nothing(canary: Path) -> None:
    secret_frame = pa.table({"secret": [SECRET]})
    for query in {query.replace(hostile.CANARY, str(canary)) for query in hostile.some()}:
        with pytest.raises((ExpressionError, UnsupportedError)) as caught:
            analyze_query(query, {"data": SCHEMA})
        assert SECRET not in str(caught.value)
    assert_untouched(canary)
    assert secret_frame.num_rows == 1


def test_the_connection_refuses_what_would_pass_the_check(canary: Path) -> None:
    """The second wall: DuckDB's own lock, with our check left out."""
    settings = Settings(home=canary.parent.parent)
    secret_frame = pa.table({"secret": [SECRET]})
    statements = [query.replace(hostile.CANARY, str(canary)) for query in hostile.some() if hostile.CANARY in query]
    statements += ["SELECT * FROM secret_frame", "SET lock_configuration = false", "INSTALL httpfs", "LOAD httpfs"]
    refused = 0
    for statement in statements:
        with open_query_connection(settings) as connection:
            connection.register("data", rows())
            try:
                assert SECRET not in str(connection.execute(statement).fetchall()), statement
            except duckdb.Error as error:
                refused += SECRET not in str(error)
    assert refused > len(statements) * 0.8
    assert_untouched(canary)
    assert secret_frame.num_rows == 1


def assert_untouched(canary: Path) -> None:
    assert canary.read_text() == f"{SECRET}\n1\n"
    assert [path.name for path in canary.parent.iterdir()] == ["canary.csv"]
    assert canary.resolve() not in [path.resolve() for path in Path("/proc/self/fd").iterdir()]


PARTS = st.sampled_from(
    ["SELECT", "FROM", "data", "x", "*", "(", ")", ",", "'", '"', "''", ";", "--", "/*", "*/", "read_text",
     "CANARY_PATH", "'CANARY_PATH'", '"CANARY_PATH"', "WITH", "AS", "RECURSIVE", "UNION", "ALL", "JOIN", "LATERAL",
     "->", ".", "::", "glob", "COPY", "TO", "current_setting", "'temp_directory'", "query", "$1", "[", "]", "{",
     "}", "\n", "\t", "\u00a0", "\u200b", "\ufeff", "\0", "main", "COLUMNS", "lambda", ":", "PIVOT", "ON",
     "DESCRIBE", "VALUES", "1", "=", "LIMIT", "WHERE", "AT", "TABLE", "SAMPLE", "duckdb_settings",
     "information_schema", "U&", "E", "$$"]
)  # fmt: skip


@given(st.lists(PARTS, max_size=14), st.sampled_from(["", " "]))
def test_what_passes_the_check_gives_rows_of_the_input_only(parts: list[str], between: str) -> None:
    query = between.join(parts).replace(hostile.CANARY, __file__)
    try:
        schema = analyze_query(query, {"data": SCHEMA}).schema
        batches = list(run_query(Settings(), query, {"data": rows()}, schema))
    except LakefeedError:
        return
    assert "def test_what_passes" not in str([batch.to_pydict() for batch in batches])


@given(st.text(max_size=40))
def test_any_text_is_a_typed_error_or_a_query(text: str) -> None:
    try:
        analyze_query(text, {"data": SCHEMA})
    except LakefeedError:
        return


@pytest.mark.parametrize("given", [None, 1, b"SELECT 1", ["SELECT 1"]])
def test_a_query_is_text(given: object) -> None:
    with pytest.raises(ExpressionError, match="text"):
        analyze_query(given, {"data": SCHEMA})  # type: ignore[arg-type]


def test_the_allowed_functions_exist_and_neither_look_around_nor_differ() -> None:
    with duckdb.connect(":memory:") as connection:
        found = connection.sql(
            "SELECT lower(function_name), function_type, stability FROM duckdb_functions()"
        ).fetchall()
    kinds: dict[str, set[str]] = {}
    for name, kind, stability in found:
        kinds.setdefault(name, set()).add(kind)
        if name in SCALARS | OPERATORS and kind == "scalar" and name != "random":
            assert stability == "CONSISTENT", name
    for names, kind in ((SCALARS, {"scalar", "macro"}), (OPERATORS, {"scalar"}), (AGGREGATES, {"aggregate"})):
        assert all(kinds.get(name, set()) & kind for name in names), kind
    assert all("window" in kinds[name] for name in WINDOWS)
    assert not any(name.startswith(("pg_", "duckdb_", "read_", "current_", "has_", "inet_")) for name in CALLABLE)
    assert not any("read" in name or "parquet" in name or "csv" in name for name in TABLE_FUNCTIONS)


ORDINARY = (
    "SELECT x, count(*) AS n, sum(x) AS s FROM data GROUP BY x HAVING count(*) > 0 ORDER BY n DESC, x LIMIT 3 OFFSET 0",
    "SELECT * EXCLUDE (x), x + 1 AS y FROM data WHERE x BETWEEN 1 AND 2 OR x IN (1, 5) AND NOT x IS NULL",
    "WITH w AS (SELECT x FROM data), v AS (SELECT * FROM w) SELECT v.x FROM v JOIN data USING (x)",
    "SELECT x, row_number() OVER (PARTITION BY x ORDER BY x DESC) AS r, lag(x, 1) OVER () AS before FROM data",
    "SELECT [i * 2 FOR i IN [x, 1] IF i > 0] AS l, {'a': x} AS s, MAP {'k': x} AS m, [1, 2][1] AS e FROM data",
    "SELECT CASE WHEN x > 1 THEN 'a' ELSE 'b' END AS c, coalesce(x, 0) AS d, nullif(x, 1) AS e FROM data",
    "SELECT extract(year FROM DATE '2020-01-02') AS y, date_trunc('day', TIMESTAMP '2020-01-01 10:00:00') AS d",
    "SELECT upper('a') || lower('B') AS t, 'abc'.upper() AS u, split_part('a,b', ',', 1) AS p, 'a' LIKE 'a%' AS l",
    "SELECT unnest([1, 2]) AS u, x FROM data",
    "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v(n, t), range(3) AS r(i)",
    "SELECT a.x FROM data a LEFT JOIN data b ON a.x = b.x + 1 WHERE EXISTS (SELECT 1 FROM data c WHERE c.x = a.x)",
    "SELECT * FROM data UNPIVOT (v FOR k IN (x))",
    "SELECT * FROM (PIVOT data ON x IN (1, 2) USING count(*))",
    "SELECT x FROM data UNION SELECT x FROM data EXCEPT SELECT 9 ORDER BY x",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT n FROM t",
    "SELECT DISTINCT ON (x) x FROM data ORDER BY x;",
    "SELECT median(x) AS m, quantile_cont(x, 0.5) AS q, list(x ORDER BY x) AS l, arg_max(x, x) AS a FROM data -- end",
    "SELECT try_cast('1' AS INTEGER) AS i, '2020-01-01'::DATE AS d, x::VARCHAR AS t FROM data",
    "SELECT columns(lambda c: c LIKE 'x%') FROM data",
    "SELECT data FROM data",
    "FROM data SELECT max(x) FILTER (WHERE x > 1) AS m",
    "SELECT x FROM data USING SAMPLE reservoir(2 ROWS) REPEATABLE (1)",
    "SELECT list_reduce([1, 2], lambda a, b: a + b) AS r, list_sum([1, 2]) AS s, regexp_matches('a', 'a') AS m",
    "SELECT x FROM data d SEMI JOIN data e USING (x)",
)


def test_ordinary_queries_run(tmp_path: Path) -> None:
    with duckdb.connect(":memory:") as connection:
        connection.register("data", pa.Table.from_batches(list(rows().batches())))
        for query in ORDINARY:
            schema = analyze_query(query, {"data": SCHEMA}).schema
            result = run_query(Settings(home=tmp_path), query, {"data": rows()}, schema)
            expected = connection.sql(query).fetchall()
            plain = [tuple(row.values()) for row in pa.Table.from_batches(result, schema).to_pylist()]
            assert sorted(map(repr, plain)) == sorted(map(repr, expected)) or len(plain) == len(expected), query


def test_a_column_may_be_named_as_a_call_without_parentheses() -> None:
    assert analyze_query("SELECT user FROM data", {"data": pa.schema({"user": pa.string()})}).schema.names == ["user"]
