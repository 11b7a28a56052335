"""Exactly once, proven on what dies: ingestions under SIGKILL while files, lines and rows go on arriving."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from lakefeed import Dataset
from lakefeed.ingest import FolderSource, HuggingFaceSource, ManifestSource, QuerySource, WebSource
from tests.sdk.killing import AS_OFTEN, finish, ids, killed_at_random, meanwhile
from tests.sdk.victims import take

pytestmark = [pytest.mark.usefixtures("lake"), pytest.mark.live]


@pytest.fixture
def numbers() -> Iterator[int]:
    return itertools.count()


class Landing:
    """A folder into which files come, each complete when it gets its name."""

    def __init__(self, place: Path, numbers: Iterator[int]) -> None:
        self.place, self.numbers, self.written = place, numbers, itertools.count()
        place.mkdir(parents=True)

    def deliver(self, *bad: str) -> Path:
        name = f"{next(self.written):05}.csv"
        rows = [*map(str, itertools.islice(self.numbers, 3)), *bad]
        (self.place / f"{name}.part").write_text("id\n" + "".join(f"{row}\n" for row in rows))
        return (self.place / f"{name}.part").rename(self.place / name)


@pytest.fixture
def landing(home: Path, numbers: Iterator[int]) -> Landing:
    return Landing(home / "landing", numbers)


class Listing(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@contextmanager
def listing(folder: Path) -> Iterator[str]:
    """A page of links to what is in the folder, as any web server makes one."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Listing, directory=str(folder))) as server:
        serving = Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


@AS_OFTEN
def test_of_a_folder(kills: int, landing: Landing, numbers: Iterator[int]) -> None:
    source = FolderSource("numbers", "numbers", "landing", "*.csv", settle=0, max_files=2)
    landing.deliver()
    with meanwhile(landing.deliver):
        killed_at_random(kills, take, source)
    finish(take, source, processes=2)
    assert sorted(ids("numbers")) == list(range(next(numbers)))


@AS_OFTEN
def test_of_a_folder_of_which_some_is_put_aside(kills: int, landing: Landing, numbers: Iterator[int]) -> None:
    source = FolderSource("numbers", "numbers", "landing", "*.csv", settle=0, max_files=2, drift="quarantine")
    landing.deliver()
    finish(take, source)
    with meanwhile(lambda: landing.deliver("nonsense")):
        killed_at_random(kills, take, source)
    finish(take, source)
    assert sorted(ids("numbers")) == list(range(next(numbers)))
    put_aside = Dataset("numbers_quarantine").to_arrow()["file"].to_pylist()
    assert sorted(put_aside) == [f"{number:05}.csv" for number in range(1, next(landing.written))]


@AS_OFTEN
def test_of_files_of_which_rows_cannot_be_read(kills: int, landing: Landing, numbers: Iterator[int]) -> None:
    """Lines that are no JSON, and rows whose image is missing at the time of one run and there at that of the next."""
    source = FolderSource("numbers", "numbers", "landing", "*.jsonl", settle=0, max_files=2, drift="quarantine")
    picture = landing.place / "picture.png"

    def deliver() -> None:
        name = f"{next(landing.written):05}.jsonl"
        values = list(itertools.islice(numbers, 4))
        lines = [json.dumps({"id": value, "image": "picture.png" if value % 2 else None}) for value in values]
        (landing.place / f"{name}.part").write_text("\n".join([lines[0], "{broken", *lines[1:], ""]))
        (landing.place / f"{name}.part").rename(landing.place / name)
        if picture.exists():
            picture.unlink()
        else:
            picture.write_bytes(b"\x89PNG\r\n\x1a\n")

    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    deliver()
    with meanwhile(deliver):
        killed_at_random(kills, take, source)
    finish(take, source, processes=2)
    entries = Dataset("numbers_quarantine").to_arrow().to_pylist()
    aside = [json.loads(entry["content"])["id"] for entry in entries if entry["content"] != "{broken"]
    assert sorted([*ids("numbers"), *aside]) == list(range(next(numbers)))
    broken = [entry["file"] for entry in entries if entry["content"] == "{broken"]
    assert sorted(broken) == [f"{number:05}.jsonl" for number in range(next(landing.written))]


@AS_OFTEN
def test_of_a_manifest(kills: int, landing: Landing, home: Path, numbers: Iterator[int]) -> None:
    source = ManifestSource("numbers", "numbers", "manifest.txt", max_files=2)

    def listed() -> None:
        path = landing.deliver()
        with (home / "manifest.txt").open("a") as manifest:
            manifest.write(f"{path}\n")

    listed()
    with meanwhile(listed):
        killed_at_random(kills, take, source)
    finish(take, source, processes=2)
    assert sorted(ids("numbers")) == list(range(next(numbers)))


@AS_OFTEN
def test_of_a_web_page(kills: int, landing: Landing, numbers: Iterator[int]) -> None:
    with listing(landing.place) as url:
        source = WebSource("numbers", "numbers", url, "*.csv", max_files=2)
        landing.deliver()
        with meanwhile(landing.deliver):
            killed_at_random(kills, take, source)
        finish(take, source, processes=2)
    assert sorted(ids("numbers")) == list(range(next(numbers)))


@AS_OFTEN
def test_of_a_hugging_face_dataset(kills: int, tmp_path: Path, numbers: Iterator[int]) -> None:
    pytest.importorskip("datasets")
    path, rows = tmp_path / "data.csv", list[int]()
    options = {"data_files": str(path), "cache_dir": str(tmp_path / "hf")}
    source = HuggingFaceSource("numbers", "numbers", "csv", "train", options, max_rows=3)

    def publish() -> None:
        """The split grows at its end, and is there whole or as it was."""
        rows.extend(itertools.islice(numbers, 7))
        (tmp_path / "next.csv").write_text("id\n" + "".join(f"{row}\n" for row in rows))
        (tmp_path / "next.csv").rename(path)

    publish()
    with meanwhile(publish, pause=1.0):
        killed_at_random(kills, take, source, longest=2.0)  # the library takes its time before the first row
    finish(take, source, processes=2)
    assert ids("numbers") == list(range(next(numbers)))


@AS_OFTEN
def test_of_a_query_by_watermark(kills: int, tmp_path: Path, numbers: Iterator[int]) -> None:
    path = tmp_path / "app.db"
    source = QuerySource("events", "numbers", f"sqlite:///{path}", "SELECT id FROM events", "id", max_rows=4)

    def insert() -> None:
        with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
            rows = [(number,) for number in itertools.islice(numbers, 7)]
            connection.executemany("INSERT INTO events VALUES (?)", rows)

    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE events (id INTEGER PRIMARY KEY)")
    insert()
    with meanwhile(insert):
        killed_at_random(kills, take, source)
    finish(take, source, processes=2)
    assert ids("numbers") == list(range(next(numbers)))
