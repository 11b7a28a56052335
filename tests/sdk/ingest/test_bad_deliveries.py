"""One bad row, file or name is its own trouble: it is told, and everything else goes in."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lakefeed import Dataset
from lakefeed.errors import FileError, FormatError, InvalidArgumentError, MissingFileError
from lakefeed.ingest import FolderSource, IngestResult, arrivals, ingest, quarantine_of
from lakefeed.ingest.delivery_rows import next_try_ns
from lakefeed.ingest.quarantine import read_records

pytestmark = pytest.mark.usefixtures("lake")


@pytest.fixture
def landing(home: Path) -> Path:
    folder = home / "landing"
    (folder / "img").mkdir(parents=True)
    return folder


def source(drift: str = "quarantine", pattern: str = "*.*", **settings: Any) -> FolderSource:
    given = {"settle": 0, "folder": "landing", **settings}
    return FolderSource("rows", "rows", pattern=pattern, drift=drift, **given)


def run(*arguments: Any, **settings: Any) -> list[IngestResult]:
    return list(ingest(source(*arguments, **settings)))


def rows(name: str = "rows") -> list[dict[str, Any]]:
    return Dataset(name).to_arrow().to_pylist()


def entries() -> list[tuple[Any, ...]]:
    return [(entry["file"], entry["row"], entry["line"]) for entry in rows("rows_quarantine")]


# ------------------------------------------------------------------------------------------------ rows of text files


def test_only_bad_lines_of_json_go_aside(landing: Path) -> None:
    Dataset.from_dict({"x": [0], "s": ["q"]}).save("rows")
    lines = [
        '{"x": 1, "s": "a"}', '{"x": "half", "s": "b"}', "", "{broken", '{"x": 3, "s": "c", "z": 1}', "[1]", '{"x": 4}',
        '{"x": 5.0}', '{"x": 5.5}', '{"x": 6, "s": 7}', '{"x": 9223372036854775808}',
    ]  # fmt: skip
    (landing / "a.jsonl").write_bytes("\n".join(lines).encode() + b'\n{"x": 1, "s": "\xff"}\n{"x": 8}')
    [done] = run()
    assert (done.files, done.quarantined) == (("a.jsonl",), ("a.jsonl",))
    assert [row["x"] for row in rows()] == [0, 1, 4, 5, 8]
    assert [entry[1:] for entry in entries()] == [(1, 2), (2, 4), (3, 5), (4, 6), (7, 9), (8, 10), (9, 11), (10, 12)]
    told = {entry["line"]: entry for entry in rows("rows_quarantine")}
    assert json.loads(told[2]["content"]) == {"x": "half", "s": "b"}
    assert "x" in told[2]["reason"]
    assert told[4]["content"] == "{broken"
    assert "not valid JSON" in told[4]["reason"]
    assert "'z'" in told[5]["reason"]
    assert "not UTF-8" in told[12]["reason"]


def test_types_of_a_new_dataset_are_those_of_most_lines(landing: Path) -> None:
    (landing / "a.jsonl").write_text('{"x": 1}\n{"x": "half"}\n{broken\n{"x": 2.5}\n{"x": null}\n{"y": [1]}\n')
    run()
    assert [row["x"] for row in rows()] == [1.0, 2.5, None, None]
    assert [entry[2] for entry in entries()] == [2, 3]


def test_types_that_json_lacks_are_parsed(landing: Path) -> None:
    import datetime as dt

    day, moment = dt.date(2026, 1, 2), dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC)
    Dataset.from_arrow(
        pa.table(
            {"d": [day], "t": pa.array([moment], pa.timestamp("us", "UTC")), "l": pa.array([[1]], pa.list_(pa.int32()))}
        )
    ).save("rows")
    good = '{"d": "2026-01-02", "t": "2026-01-02T03:00:00Z", "l": [1]}\n'
    (landing / "a.jsonl").write_text(good + good.replace("01-02", "13-32", 1) + good.replace("[1]", '["a"]') + good)
    run()
    assert rows() == [{"d": day, "t": moment, "l": [1]}] * 3
    assert [entry[2] for entry in entries()] == [2, 3]


def test_only_bad_records_of_csv_go_aside(landing: Path) -> None:
    Dataset.from_dict({"x": [0], "s": ["q"]}).save("rows")
    (landing / "a.csv").write_text('x,s\n1,a\nhalf,"b\nc"\n3,d,e\n4,007\n5\n6.0,z\n')
    run()
    assert [(row["x"], row["s"]) for row in rows()] == [(0, "q"), (1, "a"), (4, "007"), (6, "z")]
    assert entries() == [("a.csv", 1, 3), ("a.csv", 2, 5), ("a.csv", 4, 7)]
    assert rows("rows_quarantine")[1]["content"] == "3,d,e"


def test_a_bad_value_far_behind_those_that_show_the_types(landing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("csv_rows.BLOCK_BYTES", "text_rows.CHUNK_BYTES", "json_rows.SAMPLE_BYTES"):
        monkeypatch.setattr(f"lakefeed.ingest.{name}", 100)
    Dataset.from_dict({"x": [0]}).save("rows")
    (landing / "a.csv").write_text("x\n" + "12345\n" * 200 + "half\n7\n")
    (landing / "b.jsonl").write_text('{"x":123}\n' * 200 + '{"x":"half"}\n{"x":7}\n')
    run()
    assert Dataset("rows").count() == 1 + 201 + 201
    assert entries() == [("a.csv", 200, 202), ("b.jsonl", 200, 201)]


def test_only_bad_rows_of_tables_go_aside(landing: Path) -> None:
    Dataset.from_dict({"x": [0], "s": ["q"]}).save("rows")
    pq.write_table(pa.table({"x": ["6", "bad", "7.0"], "s": ["a", "b", "c"]}), landing / "a.parquet")
    pq.write_table(pa.table({"x": [9.0, 9.5], "s": pa.array(["c", "d"]).dictionary_encode()}), landing / "b.parquet")
    with pa.ipc.new_file(str(landing / "c.arrow"), pa.schema({"x": pa.string(), "s": pa.string()})) as file:
        file.write(pa.table({"x": ["10", "no"], "s": ["e", "f"]}))
    run()
    assert [row["x"] for row in rows()] == [0, 6, 7, 9, 10]
    assert [entry[:2] for entry in entries()] == [("a.parquet", 1), ("b.parquet", 1), ("c.arrow", 1)]


def test_many_bad_rows_among_more_good_ones_are_rows(landing: Path) -> None:
    Dataset.from_dict({"x": [0]}).save("rows")
    (landing / "a.csv").write_text("x\n" + "1\n1\n1\nno\n" * 1_100)
    run()
    assert (Dataset("rows").count(), Dataset("rows_quarantine").count()) == (3_301, 1_100)


# ------------------------------------------------------------------------------------------------ files that rows name


def images(landing: Path) -> None:
    for number in range(3):
        Image.new("L", (4, 4), number).save(landing / "img" / f"{number}.png")
    (landing / "img" / "folder.png").mkdir()
    (landing / "a.csv").write_text("image,n\nimg/0.png,0\nimg/none.png,1\nimg/folder.png,2\n../landing/img/2.png,3\n")
    (landing / "b.csv").write_text("image,n\nimg/1.png,4\n")


def test_rows_with_a_missing_image_go_aside(landing: Path) -> None:
    images(landing)
    [done] = run(pattern="*.csv")
    assert (done.files, done.rows, done.quarantined) == (("a.csv", "b.csv"), 3, ("a.csv",))
    assert [(row["n"], row["image"]["filename"]) for row in rows()] == [(0, "0.png"), (3, "2.png"), (4, "1.png")]
    assert entries() == [("a.csv", 1, 3), ("a.csv", 2, 4)]
    assert "there is no file" in rows("rows_quarantine")[0]["reason"]
    (landing / "c.csv").write_text("image,n\nimg/1.png,5\nimg/none.png,6\n")  # now the dataset says what is an image
    run(pattern="*.csv")
    assert [row["n"] for row in rows()] == [0, 3, 4, 5]
    assert len(entries()) == 3


def test_rows_with_a_missing_image_may_go_in_without_it(landing: Path) -> None:
    images(landing)
    for on_error, drift in (("null", "fail"), ("quarantine", "fail")):
        into = f"rows_{on_error}"
        chosen = FolderSource("rows", into, "landing", "*.csv", settle=0, drift=drift, on_error=on_error)
        [done] = ingest(chosen)
        assert done.quarantined == ("a.csv",)
        assert Dataset(quarantine_of(into)).count() == 2
    whole = Dataset("rows_null").to_arrow().to_pylist()
    assert [(row["n"], row["image"] is None) for row in whole] == [
        (0, False),
        (1, True),
        (2, True),
        (3, False),
        (4, False),
    ]
    assert Dataset("rows_quarantine").count() == 3
    with pytest.raises(InvalidArgumentError, match="on_error"):
        source(on_error="perhaps")


def test_a_file_that_fails_lets_later_ones_pass_and_waits_longer_each_time(
    landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images(landing)
    failing = source("fail", "*.csv")
    with pytest.raises(MissingFileError, match=r"a\.csv.*row 1.*none\.png"):
        list(ingest(failing))
    assert [row["n"] for row in rows()] == [4]
    assert failing.waiting() is None
    (landing / "c.csv").write_text("image,n\nimg/1.png,5\n")
    assert [result.files for result in ingest(failing)] == [("c.csv",)]
    assert [file.path for file in arrivals(failing).failed] == ["a.csv"]
    waits = []
    now = time.time_ns()
    monkeypatch.setattr("time.time_ns", lambda: now)
    for attempt in range(2, 5):
        now = read_records(failing).files["a.csv"].next_try_ns
        with pytest.raises(MissingFileError):
            list(ingest(failing))
        record = read_records(failing).files["a.csv"]
        assert (record.attempts, "none.png" in record.error) == (attempt, True)
        waits.append((record.next_try_ns - now) / 1e9)
    assert waits == [120, 240, 480]
    assert next_try_ns(99, at_once=False) - now == 6 * 3600 * 10**9
    assert Dataset("rows_quarantine").count() == 1
    Image.new("L", (4, 4)).save(landing / "img" / "none.png")
    (landing / "img" / "folder.png").rmdir()
    Image.new("L", (4, 4)).save(landing / "img" / "folder.png")
    now = record.next_try_ns
    assert [result.files for result in ingest(failing)] == [("a.csv",)]
    assert arrivals(failing).failed == ()


def test_an_image_that_cannot_be_read_to_its_end(landing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images(landing)
    broken = {str(landing / "img" / "2.png")}
    real = os.read
    opened: dict[int, str] = {}
    real_open = os.open

    def open_file(path: Any, *arguments: Any, **keywords: Any) -> int:
        descriptor = real_open(path, *arguments, **keywords)
        opened[descriptor] = str(path)
        return descriptor

    def read(descriptor: int, size: int) -> bytes:
        if opened.get(descriptor) in broken:
            raise OSError(5, "Input/output error")
        return real(descriptor, size)

    monkeypatch.setattr(os, "open", open_file)
    monkeypatch.setattr(os, "read", read)
    run(pattern="*.csv")
    assert [row["n"] for row in rows()] == [0, 4]
    assert [entry[1] for entry in entries()] == [1, 2, 3]


# ------------------------------------------------------------------------------------------------ files and names

NAMES = [
    "good.csv",
    "a::b.csv",
    "[a].csv",
    "st*r.csv",
    "new\nline.csv",
    "s3:x.csv",
    "100%20.csv",
    "a?b#c.csv",
    " s .csv",
]


def test_odd_names_are_names(home: Path) -> None:
    folder = home / "in [1]* {x}"
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (folder / name).write_text(f"x\n{number}\n")
    os.close(os.open(os.fsencode(folder) + b"/caf\xe9.csv", os.O_CREAT | os.O_WRONLY))
    (folder / "none.csv").symlink_to("nowhere")
    (folder / "circle.csv").symlink_to("circle.csv")
    for drift in ("fail", "quarantine"):
        odd = FolderSource("rows", f"rows_{drift}", folder.name, "**/*.csv", settle=0, drift=drift)
        [done] = ingest(odd)
        assert (done.files, done.quarantined) == (tuple(sorted(NAMES)), ("caf\\xe9.csv",))
        assert sorted(Dataset(f"rows_{drift}").to_arrow()["x"].to_pylist()) == list(range(len(NAMES)))
        [entry] = rows(f"rows_{drift}_quarantine")
        assert "not UTF-8" in entry["reason"]
        assert list(ingest(odd)) == []
        assert arrivals(odd).vanished == ()


def test_a_file_that_cannot_be_read_is_tried_again(landing: Path, caplog: pytest.LogCaptureFixture) -> None:
    locked = {"b.csv"}

    def read(path: Path) -> Dataset:
        if path.name in locked:
            raise PermissionError(13, "Permission denied", str(path))
        return Dataset.from_file(str(path))

    for name in "abc":
        (landing / f"{name}.csv").write_text(f"x\n{ord(name)}\n")
    with caplog.at_level(logging.WARNING):
        [done] = run(read=read)
    assert (done.files, done.failed, done.quarantined) == (("a.csv", "c.csv"), ("b.csv",), ())
    assert "Permission denied" in caplog.text
    assert "Permission denied" in rows("rows_quarantine")[0]["reason"]
    run(read=read)  # the second try is that of the next run
    locked.clear()
    assert run(read=read) == []
    os.utime(landing / "b.csv", (1, 1))  # mended
    assert [result.files for result in run(read=read)] == [("b.csv",)]


def test_files_of_no_sense_do_not_stop_the_others(landing: Path) -> None:
    (landing / "a.csv").write_text("x\n1\n")
    (landing / "b.parquet").write_bytes(b"no")
    (landing / "c.csv").write_bytes(b"")
    (landing / "d.xyz").write_bytes(b"?")
    with pytest.raises(FormatError):
        run("fail")
    assert [row["x"] for row in rows()] == [1]
    [done] = list(ingest(FolderSource("others", "rows", "landing", "*.*", settle=0, drift="quarantine")))
    assert (done.files, done.quarantined) == (("a.csv",), ("b.parquet", "c.csv", "d.xyz"))

    def read(path: Path) -> Dataset:
        return Dataset.from_dict({"x": [int(path.read_text().split()[1])]})

    mine = FolderSource("mine", "rows", "landing", "*.*", settle=0, drift="quarantine", read=read)
    assert [result.quarantined for result in ingest(mine)] == [("b.parquet", "c.csv", "d.xyz")]


def test_a_quarantine_of_somebody_else_is_left_alone(landing: Path) -> None:
    Dataset.from_dict({"mine": [1]}).save("rows_quarantine")
    (landing / "a.csv").write_text("x\n1\n")
    (landing / "b.parquet").write_bytes(b"no")
    for _ in range(2):
        run()
    assert rows("rows_quarantine") == [{"mine": 1}]
    assert [entry["file"] for entry in rows("rows_quarantine_2")] == ["b.parquet"]


def test_a_quarantine_of_an_earlier_release_gets_the_line(landing: Path) -> None:
    earlier = {"source": ["s"], "file": ["f"], "row": [0], "reason": ["r"], "content": ["c"]}
    Dataset.from_dict(earlier).save("rows_quarantine")
    (landing / "a.jsonl").write_text('{"x": 1}\n{broken\n')
    run()
    assert entries() == [("f", 0, None), ("a.jsonl", 1, 2)]


def test_names_of_quarantines_are_never_too_long(landing: Path) -> None:
    longest = "n" * 63
    names = {quarantine_of(name) for name in (longest, "n" * 62 + "m", f"team.{longest}")}
    assert len(names) == 3
    assert all(len(name.rpartition(".")[2]) <= 63 for name in names)
    (landing / "a.csv").write_text("x\n1\n")
    (landing / "b.parquet").write_bytes(b"no")
    list(ingest(FolderSource("long", longest, "landing", "*.*", settle=0, drift="quarantine")))
    assert (Dataset(longest).count(), Dataset(quarantine_of(longest)).count()) == (1, 1)


# ------------------------------------------------------------------------------------------------ listings


IGNORED = [
    "a.csv.filepart", "a.csv.part", "a.csv.crdownload", "a.csv~", "a.tmp", ".a.csv.swp", "a.SWP", "#recycle/a.csv",
    "@eaDir/a.csv", ".DS_Store", "Thumbs.db", "__MACOSX/a.csv", "lost+found/a.csv", "desktop.ini", "~$a.xlsx",
    "#a.csv#", "deep/@EADIR/a.csv", "a.csv._COPYING_", "a.csv.sb-12ab34cd-Xy9z/a.csv", "$RECYCLE.BIN/a.csv",
]  # fmt: skip


def test_what_is_no_delivery(landing: Path) -> None:
    for name in [*IGNORED, "deep/good.csv", "x.temp.csv", "tmp/a.csv"]:
        (landing / name).parent.mkdir(parents=True, exist_ok=True)
        (landing / name).write_text("x\n1\n")
    expected = ["deep/good.csv", "tmp/a.csv", "x.temp.csv"]
    assert [file.path for file in source(pattern="**/*").list_files()] == expected
    for pattern, name in (
        ("*.part", "a.csv.part"), ("*~", "a.csv~"), ("#recycle/*", "#recycle/a.csv"), ("**/__MAC*/*", "__MACOSX/a.csv"),
    ):  # fmt: skip
        assert [file.path for file in source(pattern=pattern).list_files()] == [name]


def test_patterns_mean_what_they_mean_elsewhere(landing: Path) -> None:
    for name in ("a.csv", "b/c.csv", "b/d/e.csv", "b/d/f.txt", "bb/c.csv"):
        (landing / name).parent.mkdir(parents=True, exist_ok=True)
        (landing / name).write_text("x\n1\n")
    (landing / "link").symlink_to(landing / "b")
    for pattern in (
        "*.csv",
        "**/*.csv",
        "*/*.csv",
        "b/**/*",
        "**/d/*",
        "b*/c.csv",
        "[ab].csv",
        "?.csv",
        "**/**/e.*",
        "link/*.csv",
    ):
        globbed = sorted(str(path.relative_to(landing)) for path in landing.glob(pattern) if path.is_file())
        assert [file.path for file in source(pattern=pattern).list_files()] == globbed, pattern


def test_a_file_that_grows_with_an_old_time_waits(landing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = landing / "a.csv"

    def grow(_: float) -> None:
        with path.open("a") as file:
            file.write("2\n")
        os.utime(path, (1, 1))

    path.write_text("x\n1\n")
    os.utime(path, (1, 1))
    with monkeypatch.context() as patched:
        patched.setattr("time.sleep", grow)
        assert run(settle=5) == []
    assert not Dataset.exists("rows")
    assert [result.rows for result in run(settle=0.01)] == [2]


def test_a_file_that_changes_while_it_is_read_does_not_stop_the_others(landing: Path) -> None:
    for name in "abc":
        (landing / f"{name}.csv").write_text("x\n1\n")

    def read(path: Path) -> Dataset:
        if path.name == "b.csv":
            with path.open("a") as file:
                file.write("2\n")
        return Dataset.from_file(str(path))

    with pytest.raises(FileError, match=r"b\.csv.*changed while it was read"):
        run("fail", read=read)
    assert Dataset("rows").count() == 2
    run("fail")
    assert Dataset("rows").count() > 3
