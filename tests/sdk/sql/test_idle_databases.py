"""Queries share databases one after the other, and nothing else."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed._units import MIB
from lakefeed.config import Settings, SqlSettings
from lakefeed.errors import ExpressionError, UnsupportedError
from lakefeed.sql import QueryTable, analyze_query, query_engine, run_query
from lakefeed.sql.duckdb_connection import open_parsing_connection, open_query_connection
from lakefeed.sql.idle_databases import MAX_IDLE, idle_databases

SCHEMA = pa.schema({"x": pa.int64()})


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The settings of the databases that are opened; there are none before and after the test."""
    configurations: list[dict[str, Any]] = []
    connect = duckdb.connect

    def record(path: str, config: dict[str, Any]) -> duckdb.DuckDBPyConnection:
        configurations.append(config)
        return connect(path, config=config)

    idle_databases.forget()
    query_engine._analyze.cache_clear()  # of the same queries in tests before
    monkeypatch.setattr(duckdb, "connect", record)
    yield configurations
    idle_databases.forget()


def rows() -> QueryTable:
    return QueryTable(SCHEMA, lambda: iter([pa.record_batch({"x": [1, 2, 3]}, SCHEMA)]))


def with_memory(mebibytes: int) -> Settings:
    return Settings(sql=SqlSettings(memory_bytes=mebibytes * MIB))


def run(settings: Settings, query: str, seed: int | None = None) -> list[dict[str, Any]]:
    schema = analyze_query(query, {"data": SCHEMA}).schema
    return pa.Table.from_batches(run_query(settings, query, {"data": rows()}, schema, seed), schema).to_pylist()


def test_the_next_query_has_the_database_of_the_last(opened: list[dict[str, Any]]) -> None:
    settings = Settings()
    for number in range(5):
        assert len(run(settings, f"SELECT x + {number} AS y FROM data")) == 3
    data = Dataset.from_dict({"x": [2, 1]})
    assert [row["x"] for row in data.sort("x").join(data.sort("x", descending=True), "x")] == [1, 2]
    assert [config["temp_directory"] == "" for config in opened] == [True, False]
    assert list((settings.cache / "spill").iterdir()) == []


def test_queries_at_once_have_one_each(opened: list[dict[str, Any]]) -> None:
    settings = Settings()
    with open_query_connection(settings) as one, open_query_connection(settings) as other:
        assert one.execute("SELECT 1").fetchall() == other.execute("SELECT 1").fetchall()
    assert len({config["temp_directory"] for config in opened}) == 2
    with open_query_connection(with_memory(512)) as smaller:
        assert smaller.execute("SELECT current_setting('memory_limit')").fetchall() == [("320.0 MiB",)]
    assert len(opened) == 3


def test_a_query_sees_nothing_of_the_ones_before(opened: list[dict[str, Any]]) -> None:
    settings = Settings()
    for _ in range(2):
        with open_query_connection(settings) as connection:
            assert connection.execute("FROM duckdb_views() WHERE NOT internal").fetchall() == []
            connection.register("private", pa.table({"x": [1]}))
            assert connection.execute("SELECT x FROM private").fetchall() == [(1,)]
            for lock in ("TimeZone = 'Asia/Tokyo'", "lock_configuration = false", "allowed_configs = ['threads']"):
                with pytest.raises(duckdb.Error):
                    connection.execute(f"SET {lock}")
            for name, value in (("TimeZone", "UTC"), ("threads", 1), ("enable_progress_bar", False)):
                assert connection.execute(f"SELECT current_setting('{name}')").fetchall() == [(value,)]
    types = pa.schema({"d": pa.duration("s")})
    for number in range(3):
        assert analyze_query(f"SELECT d AS e{number} FROM data", {"data": types}).schema.types == types.types
    assert len(opened) == 2
    chances = [run(settings, "SELECT random() AS r FROM data", seed) for seed in (1, 2, 1, None, None)]
    assert chances[0] == chances[2] != chances[1]
    assert chances[3] == chances[4]


def test_the_rows_of_a_query_are_not_held() -> None:
    table = rows()
    held = weakref.ref(table)
    assert list(run_query(Settings(), "SELECT x FROM data", {"data": table}, SCHEMA))
    del table
    gc.collect()
    assert held() is None


def test_mistakes_leave_a_database_that_goes_on(opened: list[dict[str, Any]]) -> None:
    settings = Settings()
    for query in (
        "SELECT nosuch FROM data",
        "SELEC",
        "SELECT read_text('/etc/passwd')",
        "SELECT error('no') FROM data",
    ):
        with pytest.raises((ExpressionError, UnsupportedError)):
            run(settings, query)
    assert len(run(settings, "SELECT x FROM data")) == 3
    assert len(opened) == 2


def test_a_query_that_wrote_files_or_was_broken_off_ends_its_database(opened: list[dict[str, Any]]) -> None:
    settings = Settings()
    with open_query_connection(settings):
        (Path(opened[0]["temp_directory"]) / "spilled").touch()
    assert list((settings.cache / "spill").iterdir()) == []
    with pytest.raises(KeyError), open_query_connection(settings):
        raise KeyError
    stopped = run_query(settings, "SELECT x FROM data", {"data": rows()}, SCHEMA)
    next(stopped)
    stopped.close()
    with open_query_connection(settings):
        pass
    assert len(opened) == 4
    assert list((settings.cache / "spill").iterdir()) == []


def test_few_are_kept_open(opened: list[dict[str, Any]]) -> None:
    for number in (*range(MAX_IDLE + 1), 1, 0):
        with open_query_connection(with_memory(1000 + 100 * number)) as connection:
            assert connection.execute("SELECT 1").fetchall() == [(1,)]
    assert len(opened) == MAX_IDLE + 2  # the first was closed


def test_no_thread_waits_and_a_forked_process_opens_its_own() -> None:
    before = len(list(Path("/proc/self/task").iterdir()))
    with open_parsing_connection() as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
        assert len(list(Path("/proc/self/task").iterdir())) <= before + 1  # that of the allocator, for good
    child = os.fork()
    if not child:
        taken = idle_databases.take("64MiB")
        with open_parsing_connection():
            os._exit(0 if taken is None else 1)
    assert os.waitpid(child, 0)[1] == 0
