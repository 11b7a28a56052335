"""A thread that reads ahead keeps one file open; nobody else does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from lakefeed import Dataset
from lakefeed.formats.open_files import FILES_KEPT, keep_files_open, reuse_open_file
from lakefeed.formats.parquet_format import ParquetFile


class Shelf:
    """Files that note when they are opened and closed."""

    def __init__(self) -> None:
        self.noted: list[str] = []

    def opens(self, name: str) -> Callable[[], Iterator[str]]:
        @contextmanager
        def opened() -> Iterator[str]:
            self.noted.append(f"+{name}")
            try:
                yield name
            finally:
                self.noted.append(f"-{name}")

        return opened

    def read(self, *names: str) -> None:
        for name in names:
            with reuse_open_file(name, self.opens(name)) as file:
                assert file == name


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def in_a_keeping_thread(work: Callable[[], object]) -> None:
    with ThreadPoolExecutor(1, initializer=keep_files_open) as threads:
        threads.submit(work).result()


def test_a_thread_that_keeps_none_closes_each_file(shelf: Shelf) -> None:
    shelf.read("a", "a")
    assert shelf.noted == ["+a", "-a", "+a", "-a"]


def test_a_thread_keeps_files_until_it_reads_others_or_ends(shelf: Shelf) -> None:
    in_a_keeping_thread(lambda: shelf.read("a", "a", "b", "a", "b"))
    assert shelf.noted[:2] == ["+a", "+b"]
    assert sorted(shelf.noted[2:]) == ["-a", "-b"]
    many = [str(number) for number in range(FILES_KEPT + 2)]
    shelf.noted.clear()
    in_a_keeping_thread(lambda: shelf.read(*many, many[-1], many[0]))
    opened = [note for note in shelf.noted if note.startswith("+")]
    assert opened == [*(f"+{name}" for name in many), f"+{many[0]}"]
    assert shelf.noted.index("-0") == FILES_KEPT + 1, "the one that was read longest ago"
    assert len(shelf.noted) == 2 * len(opened)


def test_a_file_that_failed_is_not_kept(shelf: Shelf) -> None:
    def work() -> None:
        shelf.read("a")
        with pytest.raises(KeyError), reuse_open_file("a", shelf.opens("a")):
            raise KeyError
        shelf.read("a")

    in_a_keeping_thread(work)
    assert shelf.noted == ["+a", "-a", "+a", "-a"]


def test_reads_that_overlap_have_files_of_their_own(shelf: Shelf) -> None:
    def work() -> None:
        with reuse_open_file("a", shelf.opens("a")):
            shelf.read("a", "b")

    in_a_keeping_thread(work)
    assert sorted(shelf.noted) == ["+a", "+a", "+b", "-a", "-a", "-b"]


def test_a_scan_opens_a_file_once_a_thread(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "10")
    monkeypatch.setenv("LAKEFEED__READ__THREADS", "2")
    Dataset.from_dict({"x": list(range(1000))}).save("t")
    readers: list[str] = []
    real = ParquetFile._open
    monkeypatch.setattr(
        ParquetFile, "_open", lambda self, *more: readers.append(threading.current_thread().name) or real(self, *more)
    )
    assert sum(batch["x"].count(None) + len(batch["x"]) for batch in Dataset("t").batches()) == 1000
    assert len(readers) == len(set(readers)) <= 3, "the caller, for the first row group, and two threads"
