"""Folder ingestion: every file goes in exactly once, whatever dies or races."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lakefeed import Dataset
from lakefeed.errors import FileError, SchemaError, TypeMismatchError
from lakefeed.ingest import FolderSource, IngestResult, arrivals, ingest
from tests.sdk.killing import finish
from tests.sdk.victims import take

pytestmark = pytest.mark.usefixtures("lake")
NUMBERS = FolderSource("numbers", into="numbers", folder="landing", pattern="**/*.csv", settle=0)


@pytest.fixture
def landing(home: Path) -> Path:
    place = home / "landing"
    place.mkdir(parents=True)
    return place


def land(landing: Path, name: str, *values: int) -> Path:
    path = landing / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x\n" + "".join(f"{value}\n" for value in values))
    return path


def rows() -> list[int]:
    return Dataset("numbers").to_arrow()["x"].to_pylist()


def run(source: FolderSource = NUMBERS) -> list[IngestResult]:
    return list(ingest(source))


def test_a_folder_that_does_not_exist_is_empty() -> None:
    assert run() == []
    assert not Dataset.exists("numbers")


def test_all_new_files_go_in_with_one_commit(landing: Path) -> None:
    land(landing, "b.csv", 3)
    land(landing, "a.csv", 1, 2)
    assert run() == [IngestResult(("a.csv", "b.csv"), 3, 1)]
    assert rows() == [1, 2, 3]


def test_a_second_run_finds_nothing(landing: Path) -> None:
    land(landing, "a.csv", 1)
    run()
    assert run() == []
    assert Dataset("numbers").version == 1


def test_later_files_are_appended(landing: Path) -> None:
    land(landing, "a.csv", 1)
    run()
    land(landing, "sub/b.csv", 2)
    assert run() == [IngestResult(("sub/b.csv",), 1, 2)]
    assert rows() == [1, 2]


def test_many_files_are_several_commits(landing: Path) -> None:
    for number in range(5):
        land(landing, f"{number}.csv", number)
    done = run(FolderSource("numbers", "numbers", "landing", settle=0, max_files=2))
    assert [result.version for result in done] == [1, 2, 3]
    assert rows() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", [".a.csv", "_a.csv", "a.csv.tmp", "a.csv.part", "a.csv.crdownload", "_new/a.csv"])
def test_partial_files_wait(landing: Path, name: str) -> None:
    land(landing, name, 1)
    found = arrivals(FolderSource("numbers", "numbers", "landing", settle=0))
    assert (found.new, found.settling) == ((), ())


def test_a_file_changed_just_now_settles_first(landing: Path) -> None:
    path = land(landing, "a.csv", 1)
    source = FolderSource("numbers", "numbers", "landing", settle=30)
    assert [file.path for file in arrivals(source).settling] == ["a.csv"]
    assert run(source) == []
    os.utime(path, (time.time() - 60,) * 2)
    assert [result.rows for result in run(source)] == [1]


def test_a_changed_file_is_reported_and_not_read_again(landing: Path) -> None:
    land(landing, "a.csv", 1)
    run()
    land(landing, "a.csv", 1, 2)
    assert [file.path for file in arrivals(NUMBERS).changed] == ["a.csv"]
    assert run() == []
    assert rows() == [1]


def test_a_file_changed_while_it_is_read_is_left_for_later(landing: Path) -> None:
    path = land(landing, "a.csv", 1)

    def read_and_grow(file: Path) -> Dataset:
        with path.open("a") as stream:
            stream.write("2\n")
        return Dataset.from_dict({"x": [1]})

    with pytest.raises(FileError, match="changed while it was read"):
        run(FolderSource("numbers", "numbers", "landing", read=read_and_grow, settle=0))
    assert not Dataset.exists("numbers")
    run()
    # Read twice, for its schema and for its rows.
    assert rows() == [1, 2, 2]


def test_a_broken_file_leaves_nothing_in(landing: Path) -> None:
    land(landing, "a.csv", 1)
    run()
    (landing / "b.csv").write_text("y\n1\n")
    with pytest.raises(SchemaError):
        run()
    assert rows() == [1]
    assert [file.path for file in arrivals(NUMBERS).new] == ["b.csv"]


def test_a_file_with_another_column_is_refused_by_name(landing: Path) -> None:
    land(landing, "a.csv", 1)
    (landing / "b.csv").write_text("x,y\n1,2\n")
    with pytest.raises(SchemaError, match=r"b\.csv.*'y'"):
        run()
    assert not Dataset.exists("numbers")


def test_files_take_the_types_of_the_dataset(landing: Path) -> None:
    Dataset.from_dict({"x": [0.5]}).save("numbers")
    land(landing, "a.csv", 1)
    (landing / "b.csv").write_text("x\n2.5\n")
    run()
    assert rows() == [0.5, 1.0, 2.5]


def test_a_value_that_the_type_cannot_hold_is_refused(landing: Path) -> None:
    Dataset.from_dict({"x": [1]}).save("numbers")
    land(landing, "a.csv", 2)
    (landing / "b.csv").write_text("x\n2.5\n")
    with pytest.raises(TypeMismatchError, match=r"b\.csv.*2\.5"):
        run()
    assert rows() == [1]


def test_two_folders_may_feed_one_dataset(landing: Path, home: Path) -> None:
    other = FolderSource("others", "numbers", "elsewhere", settle=0)
    land(landing, "a.csv", 1)
    land(home / "elsewhere", "a.csv", 2)
    run()
    run(other)
    assert run() == run(other) == []
    assert rows() == [1, 2]


def test_the_slower_of_two_runs_writes_nothing(landing: Path) -> None:
    land(landing, "a.csv", 1)

    def overtaken(path: Path) -> Dataset:
        run()
        return Dataset.from_file(str(path))

    assert run(FolderSource("numbers", "numbers", "landing", read=overtaken, settle=0)) == []
    assert rows() == [1]


def test_column_types_are_those_declared(landing: Path) -> None:
    from PIL import Image

    Image.new("L", (4, 4)).save(landing / "one.png")
    (landing / "labels.csv").write_text("image\none.png\n")

    def resolved(path: Path) -> Dataset:
        return Dataset.from_dict({"image": [str(path.parent / "one.png")]})

    run(FolderSource("scans", "scans", "landing", "*.csv", read=resolved, column_types={"image": "image"}, settle=0))
    assert Dataset("scans").column_types == {"image": "image"}


@pytest.mark.live
@pytest.mark.slow
def test_racing_processes_read_every_file_once(landing: Path) -> None:
    for number in range(10):
        land(landing, f"{number}.csv", number)
    finish(take, FolderSource("numbers", "numbers", "landing", settle=0, max_files=2), processes=3)
    assert sorted(rows()) == list(range(10))
