"""SQLite files that another process has locked: waits that are logged, and errors that name the file."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import lakefeed
from lakefeed import Dataset, registry
from lakefeed.catalog import database_connection
from lakefeed.catalog.lake import Lake
from lakefeed.errors import CatalogUnavailableError, FileError
from lakefeed.storage.disk import sqlite_connection
from lakefeed.storage.disk.sqlite_connection import LockedFileError, connect
from lakefeed.storage.disk.sqlite_file import Database

NOTICE_SECONDS, TIMEOUT_SECONDS = 0.05, 0.2


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_connection, "NOTICE_SECONDS", NOTICE_SECONDS)
    for module in (sqlite_connection, database_connection):
        monkeypatch.setattr(module, "LOCK_TIMEOUT_SECONDS", TIMEOUT_SECONDS)


@contextmanager
def locked(path: Path, kind: str = "EXCLUSIVE") -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute(f"BEGIN {kind}")
        yield other


def notices(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == sqlite_connection.logger.name]


@pytest.mark.live
def test_a_locked_catalog_is_an_error_that_names_it(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    Dataset.from_dict({"x": [1]}).save("rows")
    Lake.current().close()
    list(registry.Dataset.filter())
    catalog = home / "catalog.db"
    reads: list[Callable[[], Any]] = [
        lambda: Dataset("rows").to_arrow(),
        lambda: Lake.of(lakefeed.Settings.load()).catalog.list_namespaces(),
        lakefeed.list_datasets,
    ]
    writes: list[Callable[[], Any]] = [
        lambda: Dataset.from_dict({"x": [2]}).save("rows", if_exists="append"),
        lambda: registry.ULabel("label").save(),
    ]
    with locked(catalog):
        for call in (*reads, *writes):
            caplog.clear()
            with pytest.raises(CatalogUnavailableError) as caught:
                call()
            assert str(catalog) in str(caught.value)
            assert len(notices(caplog)) == 1, "it is waited for once"
            assert str(catalog) in notices(caplog)[0]
    with locked(catalog, "IMMEDIATE"):  # as while another process writes: reads do not wait
        caplog.clear()
        for call in reads:
            assert call()
        assert notices(caplog) == []
        with pytest.raises(CatalogUnavailableError):
            writes[0]()
    assert Dataset("rows").to_arrow().num_rows == 1
    writes[0]()
    assert Dataset("rows").to_arrow().num_rows == 2


def test_a_wait_ends_with_the_lock(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_connection, "LOCK_TIMEOUT_SECONDS", 30.0)
    caplog.set_level(logging.WARNING)
    with closing(connect(tmp_path / "a%20b.db")) as connection:
        connection.execute("CREATE TABLE numbers (number INTEGER)")
        with locked(tmp_path / "a%20b.db") as other:
            threading.Timer(3 * NOTICE_SECONDS, other.execute, ["COMMIT"]).start()
            assert connection.execute("INSERT INTO numbers VALUES (?) RETURNING number", (7,)).fetchall() == [(7,)]
        assert len(notices(caplog)) == 1
        connection.execute("BEGIN")
        with locked(tmp_path / "a%20b.db") as other:
            threading.Timer(3 * NOTICE_SECONDS, other.execute, ["COMMIT"]).start()
            connection.executemany("INSERT INTO numbers VALUES (?)", ((number,) for number in (8, 9)))
        connection.execute("COMMIT")
        assert len(notices(caplog)) == 2
        with closing(connect(tmp_path / "a%20b.db", read_only=True)) as reader:
            assert reader.path == str(tmp_path / "a%20b.db")
            assert reader.execute("SELECT number FROM numbers").fetchall() == [(7,), (8,), (9,)]


def test_what_waiting_cannot_solve_is_an_error_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(connect(tmp_path / "a.db")) as first, closing(connect(tmp_path / "a.db")) as second:
        first.execute("PRAGMA journal_mode=WAL")
        first.execute("CREATE TABLE numbers (number INTEGER)")
        first.execute("BEGIN")
        assert first.execute("SELECT * FROM numbers").fetchall() == []
        second.execute("INSERT INTO numbers VALUES (1)")
        with pytest.raises(sqlite3.OperationalError) as caught:  # it read what has changed since
            first.execute("INSERT INTO numbers VALUES (2)")
        assert not isinstance(caught.value, LockedFileError)
    assert notices(caplog) == []


def test_a_locked_file_of_the_cache(tmp_path: Path) -> None:
    database = Database(tmp_path / "facts", 1, "CREATE TABLE IF NOT EXISTS facts (fact TEXT)")
    database.write(lambda connection: connection.execute("INSERT INTO facts VALUES ('old')"))
    with locked(database.path, "IMMEDIATE"):
        assert database.read(lambda connection: connection.execute("SELECT * FROM facts").fetchall()) == [("old",)]
        with pytest.raises(FileError, match="another process has locked") as caught:
            database.write(lambda connection: connection.execute("INSERT INTO facts VALUES ('new')"))
    assert str(database.path) in str(caught.value)
