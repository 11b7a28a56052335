"""Where rows come from besides a local folder: other file systems, manifests, web pages, databases, the hub."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import ColumnNotFoundError, FileError, FormatError, StateMismatchError, TypeMismatchError
from lakefeed.ingest import (
    FolderSource,
    HuggingFaceSource,
    ManifestSource,
    QuerySource,
    Source,
    WebSource,
    arrivals,
    ingest,
)
from tests.sdk.web import Site, serving

pytestmark = pytest.mark.usefixtures("lake")


def taken(source: Source) -> list[tuple[str, ...]]:
    return [result.files for result in ingest(source)]


def values(name: str = "numbers") -> list[Any]:
    return Dataset(name).to_arrow()["x"].to_pylist()


# ------------------------------------------------------------------ files


@pytest.fixture
def memory() -> Iterator[Any]:
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def test_a_folder_on_any_file_system(memory: Any) -> None:
    source = FolderSource("numbers", "numbers", "memory://bucket/in", "**/*.csv", settle=0)
    assert taken(source) == []
    memory.pipe("/bucket/in/a.csv", b"x\n1\n")
    memory.pipe("/bucket/in/deep/b.csv", b"x\n2\n")
    memory.pipe("/bucket/in/c.csv.part", b"x\n3\n")
    assert taken(source) == [("a.csv", "deep/b.csv")]
    memory.pipe("/bucket/in/a.csv", b"x\n1\n9\n")
    assert [file.path for file in arrivals(source).changed] == ["a.csv"]
    assert taken(source) == []
    memory.rm("/bucket/in/a.csv")
    assert [file.path for file in arrivals(source).vanished] == ["a.csv"]
    assert values() == [1, 2]


def test_a_manifest_of_urls(memory: Any, home: Path) -> None:
    memory.pipe("/a.csv", b"x\n1\n")
    memory.pipe("/b.csv", b"x\n2\n")
    home.mkdir(parents=True)
    source = ManifestSource("numbers", "numbers", "files.txt")
    (home / "files.txt").write_text("# of today\nmemory://a.csv\n\n")
    assert taken(source) == [("memory://a.csv",)]
    (home / "files.txt").write_text("memory://a.csv\nmemory://b.csv\n")
    assert taken(source) == [("memory://b.csv",)]
    assert values() == [1, 2]
    (home / "files.txt").write_text("memory://a.csv\nmemory://b.csv\n", encoding="utf-8-sig")
    assert taken(source) == []
    for encoding, line in (("latin-1", 2), ("utf-16", 1)):
        (home / "files.txt").write_text("memory://a.csv\nmemory://é.csv\n", encoding=encoding)
        with pytest.raises(FormatError, match=rf"files\.txt', line {line}: .* not UTF-8"):
            source.list_files()


def test_a_manifest_with_columns_says_what_changed(memory: Any) -> None:
    memory.pipe("/a.csv", b"x\n1\n")
    memory.pipe("/files.csv", b"url,stamp\nmemory://a.csv,one\n")
    source = ManifestSource("numbers", "numbers", "memory://files.csv", on_changed="append")
    taken(source)
    memory.pipe("/a.csv", b"x\n2\n")
    memory.pipe("/files.csv", b"url,stamp\nmemory://a.csv,two\n")
    assert taken(source) == [("memory://a.csv",)]
    assert values() == [1, 2]


def test_the_links_of_a_web_page(web: Site) -> None:
    def page(*names: str) -> None:
        web.put("in/", "".join(f'<a href="{name}">{name}</a>' for name in names).encode())

    web.put("in/a.csv", b"x\n1\n")
    web.put("in/b.csv", b"x\n2\n")
    page("../", "a.csv", "notes.txt", "sub/")
    source = WebSource("numbers", "numbers", f"{web.url}/in", "*.csv")
    assert taken(source) == [("a.csv",)]
    page("a.csv", "b.csv")
    assert taken(source) == [("b.csv",)]
    assert values() == [1, 2]


@pytest.fixture
def web() -> Iterator[Site]:
    pytest.importorskip("urllib3")
    with serving() as found:
        yield found


# ------------------------------------------------------------------ databases


class Database:
    def __init__(self, path: Path) -> None:
        self.path = path
        with self.connected() as connection:
            connection.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, x INTEGER, day TEXT)")

    def connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, isolation_level=None)

    def add(self, *rows: tuple[int, int | None, str]) -> None:
        connection = self.connected()
        connection.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
        connection.close()

    def source(self, **settings: Any) -> QuerySource:
        given = {"query": "SELECT id, x, day FROM events", "watermark": "id", **settings}
        return QuerySource("events", "numbers", f"sqlite:///{self.path}", **given)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "app.db")


def test_a_query_brings_what_lies_after_the_watermark(database: Database) -> None:
    assert database.source().waiting() is None
    database.add((1, 10, "a"), (2, 20, "b"))
    assert database.source().waiting() == "rows up to id 2"
    assert taken(database.source()) == [("id 2",)]
    assert taken(database.source()) == []
    database.add((3, None, "c"))
    assert taken(database.source()) == [("id 3",)]
    assert values() == [10, 20, None]


def test_many_rows_are_several_commits(database: Database) -> None:
    database.add(*((n, n, "a") for n in range(1, 8)))
    assert taken(database.source(max_rows=3)) == [("id 3",), ("id 6",), ("id 7",)]
    assert values() == list(range(1, 8))


def test_rows_of_one_watermark_stay_together(database: Database) -> None:
    database.add((1, 1, "a"), (2, 2, "b"), (3, 3, "b"), (4, 4, "b"), (5, 5, "c"))
    assert taken(database.source(watermark="day", max_rows=2)) == [("day b",), ("day c",)]
    assert values() == [1, 2, 3, 4, 5]


def test_a_query_that_cannot_be_asked(database: Database) -> None:
    with pytest.raises(FileError, match="no such table"):
        taken(database.source(query="SELECT * FROM nowhere"))
    database.add((1, 1, "a"))
    with pytest.raises((FileError, ColumnNotFoundError)):
        taken(database.source(watermark="missing"))
    assert not Dataset.exists("numbers")


def test_a_query_may_hold_colons(database: Database) -> None:
    database.add((1, 1, "a:b"), (2, 2, "c"))
    taken(database.source(query="SELECT id, x, 'k:v' AS day FROM events WHERE day = 'a:b'"))
    assert Dataset("numbers").to_arrow()["day"].to_pylist() == ["k:v"]


def test_rows_that_do_not_fit_the_schema_are_refused(database: Database) -> None:
    database.add((1, 1, "a"))
    with pytest.raises(TypeMismatchError):
        taken(database.source(schema=pa.schema({"id": pa.int64(), "x": pa.int64(), "day": pa.int64()})))


@pytest.mark.parametrize(
    "value",
    [3, 2.5, "b", dt.datetime(2026, 1, 2, 3, 4, 5, 6), dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.date(2026, 1, 2)],
)
def test_watermarks_keep_their_type(value: Any) -> None:
    from lakefeed.ingest.query_ingestion import _watermark_text, _watermark_value

    found = _watermark_value(_watermark_text(value))
    assert (found, type(found)) == (value, type(value))


# ------------------------------------------------------------------ the hub


def test_a_hub_dataset_brings_its_new_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))

    def source(**settings: Any) -> HuggingFaceSource:
        options = {"data_files": str(tmp_path / "data.csv"), "cache_dir": str(tmp_path / "hf")}
        return HuggingFaceSource("numbers", "numbers", "csv", "train", options, **settings)

    (tmp_path / "data.csv").write_text("x\n1\n2\n3\n")
    assert taken(source(max_rows=2)) == [("rows 0 to 2",), ("rows 2 to 3",)]
    assert source().waiting() is None
    (tmp_path / "data.csv").write_text("x\n1\n2\n3\n4\n")
    assert source().waiting() == "1 rows"
    taken(source())
    assert values() == [1, 2, 3, 4]
    (tmp_path / "data.csv").write_text("x\n1\n")
    with pytest.raises(StateMismatchError, match="it was replaced"):
        taken(source())
