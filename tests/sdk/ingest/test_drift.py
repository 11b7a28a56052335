"""Files that do not fit: refused, followed, or put aside while the rest goes on."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import InvalidArgumentError, SchemaError
from lakefeed.ingest import FolderSource, IngestResult, arrivals, ingest
from tests.sdk.processes import Program

pytestmark = pytest.mark.usefixtures("lake")


@pytest.fixture
def landing(home: Path) -> Path:
    place = home / "landing"
    place.mkdir(parents=True)
    return place


def source(drift: str, **settings: Any) -> FolderSource:
    return FolderSource("numbers", "numbers", "landing", "*.csv", settle=0, drift=drift, **settings)


def run(drift: str, **settings: Any) -> list[IngestResult]:
    return list(ingest(source(drift, **settings)))


def rows(name: str = "numbers") -> list[dict[str, Any]]:
    return Dataset(name).to_arrow().to_pylist()


def test_new_columns_and_wider_types_are_followed(landing: Path) -> None:
    Dataset.from_arrow(pa.table({"x": pa.array([1], pa.int32())})).save("numbers")
    (landing / "b.csv").write_text("x,y\n5000000000,hello\n")
    (landing / "c.csv").write_text("x\n3\n")
    run("evolve")
    assert rows() == [{"x": 1, "y": None}, {"x": 5_000_000_000, "y": "hello"}, {"x": 3, "y": None}]


def test_files_of_one_commit_are_followed_before_there_is_a_dataset(landing: Path) -> None:
    (landing / "a.csv").write_text("x\n1\n")
    (landing / "b.csv").write_text("y\n2\n")
    run("evolve")
    assert rows() == [{"x": 1, "y": None}, {"x": None, "y": 2}]


def test_what_cannot_be_followed_fails(landing: Path) -> None:
    (landing / "a.csv").write_text("x\n1\n")
    run("evolve")
    (landing / "b.csv").write_text("x\nhello\n")
    with pytest.raises(SchemaError):
        run("evolve")
    assert rows() == [{"x": 1}]


def test_a_file_of_another_kind_is_put_aside(landing: Path) -> None:
    (landing / "a.csv").write_text("x\n1\n")
    (landing / "b.csv").write_text("x,y\n2,3\n")
    (landing / "c.csv").write_text("x\n4\n")
    [done] = run("quarantine")
    assert (done.files, done.quarantined) == (("a.csv", "c.csv"), ("b.csv",))
    assert rows() == [{"x": 1}, {"x": 4}]
    [entry] = rows("numbers_quarantine")
    assert (entry["source"], entry["file"], entry["row"]) == ("numbers", "b.csv", None)
    assert "'y'" in entry["reason"]
    assert run("quarantine") == []


def test_rows_that_do_not_fit_are_put_aside_and_the_others_go_in(landing: Path) -> None:
    Dataset.from_dict({"x": [0], "day": ["2020-01-01"]}).save("numbers")
    (landing / "a.csv").write_text("x,day\n" + "".join(f"{n},d\n" for n in range(1, 50)) + "half,d\n" + "51,d\n")
    [done] = run("quarantine")
    assert (done.rows, done.quarantined) == (50, ("a.csv",))
    assert [row["x"] for row in rows()] == [*range(50), 51]
    [entry] = rows("numbers_quarantine")
    assert (entry["row"], json.loads(entry["content"])) == (49, {"x": "half", "day": "d"})


def test_too_many_bad_rows_are_a_bad_file(landing: Path) -> None:
    Dataset.from_dict({"x": [0]}).save("numbers")
    (landing / "a.csv").write_text("x\n" + "no\n" * 1_001)
    (landing / "b.csv").write_text("x\n1\n")
    run("quarantine")
    assert rows() == [{"x": 0}, {"x": 1}]
    assert [entry["row"] for entry in rows("numbers_quarantine")] == [None]


def test_a_broken_file_is_put_aside(landing: Path) -> None:
    (landing / "a.csv").write_text("x\n1\n")
    (landing / "b.parquet").write_bytes(b"no parquet at all")
    list(ingest(FolderSource("numbers", "numbers", "landing", settle=0, drift="quarantine")))
    assert rows() == [{"x": 1}]
    assert [entry["file"] for entry in rows("numbers_quarantine")] == ["b.parquet"]


def test_only_bad_files_make_no_dataset(landing: Path) -> None:
    (landing / "b.parquet").write_bytes(b"no parquet at all")
    everything = FolderSource("numbers", "numbers", "landing", settle=0, drift="quarantine")
    for _ in range(2):
        assert list(ingest(everything)) == []
    assert not Dataset.exists("numbers")
    assert len(rows("numbers_quarantine")) == 1
    Dataset.from_dict({"x": [0]}).save("numbers")
    [done] = ingest(everything)
    assert (done.files, done.quarantined) == ((), ("b.parquet",))
    assert arrivals(everything).new == ()


KILLED = """
import os, signal
from lakefeed import Dataset
from lakefeed.ingest import FolderSource, ingest
real = Dataset.append_to
def dying(self, name, *args, **kwargs):
    if name == "numbers":
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, name, *args, **kwargs)
Dataset.append_to = dying
list(ingest(FolderSource("numbers", "numbers", "landing", "*.csv", settle=0, drift="quarantine")))
"""


def test_killed_between_quarantine_and_commit_puts_nothing_aside_twice(landing: Path) -> None:
    Dataset.from_dict({"x": [0]}).save("numbers")
    (landing / "a.csv").write_text("z\n1\n")
    (landing / "b.csv").write_text("x\n1\nno\n")
    killed = Program(KILLED)
    killed.finish()
    assert killed.returncode == -signal.SIGKILL
    run("quarantine")
    assert rows() == [{"x": 0}, {"x": 1}]
    assert sorted(entry["file"] for entry in rows("numbers_quarantine")) == ["a.csv", "b.csv"]


def test_a_changed_file_may_be_read_again(landing: Path) -> None:
    path = landing / "a.csv"
    path.write_text("x\n1\n")
    run("fail")
    path.write_text("x\n1\n2\n")
    assert run("fail") == []
    assert [result.rows for result in run("fail", on_changed="append")] == [2]
    assert run("fail", on_changed="append") == []
    assert [row["x"] for row in rows()] == [1, 1, 2]


def test_a_vanished_file_leaves_its_rows_and_is_reported(landing: Path) -> None:
    (landing / "a.csv").write_text("x\n1\n")
    run("fail")
    (landing / "a.csv").unlink()
    assert [file.path for file in arrivals(source("fail")).vanished] == ["a.csv"]
    assert run("fail") == []
    assert rows() == [{"x": 1}]


def test_a_policy_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="drift"):
        source("perhaps")
    with pytest.raises(InvalidArgumentError, match="on_changed"):
        source("fail", on_changed="replace")


def test_the_types_of_the_dataset_hold_in_the_quarantine_mode(landing: Path) -> None:
    Dataset.from_arrow(pa.table({"x": pa.array([1.5])})).save("numbers")
    (landing / "a.csv").write_text("x\n1\n")
    run("quarantine")
    assert rows() == [{"x": 1.5}, {"x": 1.0}]
