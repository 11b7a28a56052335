"""Queries that reach for what a query over datasets must not reach: several thousand, made of DuckDB's own catalog."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import duckdb

from lakefeed.sql.allowed_functions import CALLABLE, TABLE_FUNCTIONS

CANARY = "CANARY_PATH"
"""Replaced by the path of a file that no query may read."""

STATEMENTS = (
    "ATTACH 'CANARY_PATH' AS other",
    "ATTACH ':memory:' AS other",
    "BEGIN TRANSACTION",
    "CALL duckdb_settings()",
    "CALL pragma_version()",
    "CHECKPOINT",
    "COMMENT ON TABLE data IS 'x'",
    "COMMIT",
    "COPY data TO 'CANARY_PATH'",
    "COPY (SELECT 1) TO 'CANARY_PATH' (FORMAT parquet)",
    "COPY data FROM 'CANARY_PATH'",
    "COPY FROM DATABASE memory TO other",
    "CREATE INDEX i ON data (x)",
    "CREATE MACRO f() AS TABLE SELECT * FROM read_text('CANARY_PATH')",
    "CREATE OR REPLACE VIEW data AS SELECT * FROM read_text('CANARY_PATH')",
    "CREATE SCHEMA s",
    "CREATE SECRET s (TYPE s3, KEY_ID 'x', SECRET 'y')",
    "CREATE SEQUENCE s",
    "CREATE TABLE t AS SELECT * FROM 'CANARY_PATH'",
    "CREATE TEMP TABLE t AS SELECT 1",
    "CREATE TYPE t AS ENUM (SELECT content FROM read_text('CANARY_PATH'))",
    "DEALLOCATE p",
    "DELETE FROM data",
    "DESCRIBE data",
    "DESCRIBE SELECT * FROM read_text('CANARY_PATH')",
    "DETACH memory",
    "DROP VIEW data",
    "EXECUTE p",
    "EXPLAIN ANALYZE SELECT * FROM read_text('CANARY_PATH')",
    "EXPLAIN SELECT 1",
    "EXPORT DATABASE 'CANARY_PATH'",
    "FORCE CHECKPOINT",
    "FROM (DESCRIBE data)",
    "FROM (SHOW ALL TABLES)",
    "FROM (SHOW TABLES)",
    "FROM (SUMMARIZE data)",
    "IMPORT DATABASE 'CANARY_PATH'",
    "INSERT INTO data VALUES (1)",
    "INSTALL httpfs",
    "INSTALL x FROM 'CANARY_PATH'",
    "LOAD 'CANARY_PATH'",
    "MERGE INTO data USING data d ON true WHEN MATCHED THEN DELETE",
    "PIVOT data ON x USING sum(x)",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "PRAGMA memory_limit='1GB'",
    "PRAGMA show_tables",
    "PRAGMA table_info('data')",
    "PREPARE p AS SELECT * FROM read_text('CANARY_PATH')",
    "RESET threads",
    "ROLLBACK",
    "SELECT 1; SELECT * FROM read_text('CANARY_PATH')",
    "SELECT 1; DROP VIEW data",
    "SELECT x FROM data; COPY data TO 'CANARY_PATH'",
    "SET GLOBAL enable_external_access = true",
    "SET VARIABLE v = (SELECT content FROM read_text('CANARY_PATH'))",
    "SET lock_configuration = false",
    "SET memory_limit = '1GB'",
    "SET temp_directory = 'CANARY_PATH'",
    "SHOW TABLES",
    "SHOW ALL TABLES",
    "SUMMARIZE data",
    "SUMMARIZE SELECT * FROM read_text('CANARY_PATH')",
    "TRUNCATE data",
    "UPDATE data SET x = 1",
    "UPDATE EXTENSIONS",
    "USE memory",
    "VACUUM",
    "WITH w AS (DELETE FROM data RETURNING *) SELECT * FROM w",
    "WITH w AS (INSERT INTO data VALUES (1) RETURNING *) SELECT * FROM w",
    ".read CANARY_PATH",
    "",
    ";",
    "-- nothing",
)
RELATIONS = (
    "'CANARY_PATH'",
    '"CANARY_PATH"',
    "'CANARY_PATH' AS data",
    "U&'CANARY_PATH'",
    "E'CANARY_PATH'",
    "$$CANARY_PATH$$",
    "'*.csv'",
    "'s3://bucket/x.parquet'",
    "'http://127.0.0.1:9/x.csv'",
    '["CANARY_PATH"]',
    "information_schema.tables",
    "pg_catalog.pg_class",
    "pg_class",
    "sqlite_master",
    "sqlite_schema",
    "duckdb_settings",
    "duckdb_views",
    "memory.main.data",
    "main.data",
    "system.information_schema.tables",
    "temp.data",
    "secret_frame",
    '"secret_frame"',
    "globals",
    "data AT (VERSION => 1)",
    "datа",  # a Cyrillic letter
    "data2",
    "query('SELECT * FROM read_text(''CANARY_PATH'')')",
    "query('SELECT 1')",
    "query_table('data')",
    "query_table(['CANARY_PATH'])",
    "json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "read_csv('CANARY_PATH', columns = {'a': 'VARCHAR'})",
    "read_csv(['CANARY_PATH', 'CANARY_PATH'])",
    "\"read_text\"('CANARY_PATH')",
    "main.read_text('CANARY_PATH')",
    "system.main.read_text('CANARY_PATH')",
    "READ_TEXT('CANARY_PATH')",
    "Read_Blob('CANARY_PATH')",
    "read_text/**/('CANARY_PATH')",
    "sniff_csv('CANARY_PATH')",
    "glob('/*')",
    "glob('CANARY_PATH')",
    "histogram(data, x)",
    "histogram_values(data, x)",
)
EXPRESSIONS = (
    "current_setting('temp_directory')",
    "getenv('HOME')",
    "getvariable('v')",
    "$1",
    "$name",
    "?",
    "DEFAULT",
    "current_date",
    "current_timestamp",
    "CURRENT_TIME",
    "localtimestamp",
    "current_user",
    "session_user",
    "now()",
    "today()",
    "version()",
    "txid_current()",
    "nextval('s')",
    "setseed(0.5)",
    "sleep_ms(1)",
    "uuidv7()",
    "json_serialize_plan('SELECT * FROM read_text(''CANARY_PATH'')')",
    "json_serialize_sql('SELECT 1')",
    "'CANARY_PATH'.read_text()",
    "'CANARY_PATH'.\"read_text\"()",
    "('CANARY_PATH').read_blob().upper()",
    "main.read_text('CANARY_PATH')",
    "pg_catalog.pg_get_viewdef(1)",
    "write_log('x')",
    "list_transform(['CANARY_PATH'], lambda p: p.read_text())",
    "[read_text(p) FOR p IN ['CANARY_PATH']]",
    "list_filter([1], lambda i: current_setting('threads') IS NOT NULL)",
    "COLUMNS(lambda c: c LIKE current_setting('threads'))",
    "* REPLACE (current_setting('threads') AS x)",
    "CASE WHEN true THEN current_setting('threads') END",
    "count(*) FILTER (WHERE current_setting('threads') IS NULL)",
    "sum(x) OVER (ORDER BY current_setting('threads'))",
    "sum(x ORDER BY current_setting('threads'))",
    "{'a': current_setting('threads')}",
    "MAP {'a': current_setting('threads')}",
    "current_setting('threads')::VARCHAR",
    "struct_pack(a := current_setting('threads'))",
    "(SELECT content FROM read_text('CANARY_PATH'))",
    "EXISTS (FROM 'CANARY_PATH')",
    "x IN (SELECT 1 FROM 'CANARY_PATH')",
    "ARRAY(SELECT content FROM read_text('CANARY_PATH'))",
)
AROUND_RELATION = (
    "SELECT * FROM {}",
    "FROM {}",
    "SELECT x FROM data WHERE EXISTS (SELECT 1 FROM {})",
    "SELECT * FROM data, LATERAL (SELECT * FROM {})",
    "WITH w AS (SELECT * FROM {}) SELECT * FROM w",
    "SELECT x FROM data UNION ALL SELECT 1 FROM {}",
    "SELECT (SELECT count(*) FROM {}) FROM data",
    "SELECT * FROM data POSITIONAL JOIN {}",
)
AROUND_EXPRESSION = (
    "SELECT {} FROM data",
    "SELECT x FROM data WHERE x = {}",
    "SELECT x FROM data ORDER BY {}",
    "SELECT x FROM data GROUP BY x HAVING {} IS NULL",
    "SELECT x FROM data QUALIFY {} IS NULL",
    "SELECT x FROM data LIMIT {}",
    "VALUES ({})",
    "WITH w AS (SELECT {} FROM data) FROM w",
)
HIDDEN_NAMES = (
    # A name that a WITH defines elsewhere is not defined here.
    'SELECT * FROM (WITH "CANARY_PATH" AS (SELECT 1) FROM "CANARY_PATH") a, "CANARY_PATH" b',
    "WITH duckdb_settings AS (SELECT * FROM duckdb_settings) FROM duckdb_settings",
    "SELECT (WITH pg_class AS (SELECT 1) SELECT 1 FROM pg_class), (SELECT count(*) FROM pg_class) FROM data",
    "WITH a AS (SELECT * FROM b), b AS (SELECT 1) FROM a",
    "WITH a AS (WITH duckdb_views AS (SELECT 1) FROM duckdb_views) SELECT * FROM a, duckdb_views",
    "SELECT * FROM data TABLESAMPLE 10%",
    "SELECT * FROM data USING SAMPLE 5 ROWS",
)


@cache
def functions() -> tuple[str, ...]:
    """The functions of this DuckDB that a query may not call."""
    with duckdb.connect(":memory:") as connection:
        named = connection.sql("SELECT DISTINCT lower(function_name) FROM duckdb_functions() ORDER BY 1").fetchall()
    allowed = CALLABLE | TABLE_FUNCTIONS
    return tuple(name for (name,) in named if name not in allowed and name.isidentifier())


@cache
def settings() -> tuple[str, ...]:
    with duckdb.connect(":memory:") as connection:
        return tuple(name for (name,) in connection.sql("SELECT name FROM duckdb_settings() ORDER BY 1").fetchall())


def some() -> Iterator[str]:
    """A few hundred: every trick once."""
    yield from STATEMENTS
    yield from HIDDEN_NAMES
    for relation in RELATIONS:
        yield AROUND_RELATION[0].format(relation)
    for expression in EXPRESSIONS:
        yield AROUND_EXPRESSION[0].format(expression)


def all_of_them() -> Iterator[str]:
    """Every trick in every place, every function that is not allowed, every setting."""
    yield from some()
    for relation in (*RELATIONS, *(f"{name}('{CANARY}')" for name in functions())):
        yield from (around.format(relation) for around in AROUND_RELATION)
    for expression in EXPRESSIONS:
        yield from (around.format(expression) for around in AROUND_EXPRESSION)
    for name in functions():
        yield f"SELECT {name}('{CANARY}') FROM data"
        yield f"SELECT '{CANARY}'.{name}() FROM data"
        yield f'SELECT x FROM data WHERE "{name.upper()}"(x) IS NULL'
        yield f"SELECT list_transform([x], lambda p: main.{name}(p)) FROM data"
    for name in settings():
        yield f"SET {name} = '{CANARY}'"
        yield f"RESET {name}"
        yield f"PRAGMA {name} = '{CANARY}'"
        yield f"SELECT current_setting('{name}')"
