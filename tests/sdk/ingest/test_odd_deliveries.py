"""Kinds of deliveries that public reports of other tools name: each is one file's trouble."""

from __future__ import annotations

import bz2
import gzip
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lakefeed import Dataset
from lakefeed.errors import FileError, SchemaError
from lakefeed.ingest import FolderSource, arrivals, ingest

pytestmark = pytest.mark.usefixtures("lake")
WHOLE = -1
"""Stands for the lines of a file that goes to the quarantine as a whole."""


class Kind(NamedTuple):
    """A delivery: its content, in which @1, @2 … are the ids of its rows, the ids that go in, and the bad lines."""

    content: str | bytes
    good: tuple[int, ...] = ()
    bad: tuple[int, ...] = ()


@pytest.fixture
def landing(home: Path) -> Path:
    folder = home / "landing"
    folder.mkdir(parents=True)
    return folder


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    return sink.getvalue().to_pybytes()


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("xl/workbook.xml", "<x/>")
    return content.getvalue()


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n"
TEXTS: Mapping[str, Kind] = {
    "header only.csv": Kind("id,name\n"),
    "cr.csv": Kind("id,name\r@1,a\r@2,b\r", (1, 2)),
    "crlf in a cell.csv": Kind('id,name\r\n@1,"a\r\nb"\r\n@2,c\r\n', (1, 2)),
    "cr in a cell.csv": Kind('id,name\n@1,"a\rb"\n@2,c\n', (1, 2)),
    "all line ends.csv": Kind("id,name\n@1,a\r\n@2,b\r@3,c\n", (1, 2, 3)),
    "blank lines.csv": Kind("\n\nid,name\n\n@1,a\n\n\n@2,b\n\n\n", (1, 2)),
    "a comma too many in rows.csv": Kind("id,name\n@1,a,\n@2,b\n", (2,), (2,)),
    "a comma too many in the header.csv": Kind("id,name,\n@1,a,\n", (), (WHOLE,)),
    "two columns of a name.csv": Kind("id,name,name\n@1,a,b\n", (), (WHOLE,)),
    "an index of pandas.csv": Kind(",id,name\n0,@1,a\n", (), (WHOLE,)),
    "quoted header and mark.csv": Kind('\ufeff"id","name"\n@1,a\n', (1,)),
    "no line end.csv": Kind("id,name\n@1,a\n@2,b", (1, 2)),
    "header again.csv": Kind("id,name\n@1,a\nid,name\n@2,b\n", (1, 2), (3,)),
    "semicolons.csv": Kind("id;name\n@1;a\n", (), (WHOLE,)),
    "sep.csv": Kind("sep=,\nid,name\n@1,a\n", (), (WHOLE,)),
    "comments.csv": Kind("# an export\nid,name\n@1,a\n", (), (WHOLE,)),
    "total.csv": Kind("id,name\n@1,a\nTotal: 1 rows\n", (1,), (3,)),
    "thousands.csv": Kind('id,name\n"1,000",a\n+@2,b\n', (2,), (2,)),
    "a quote never closed.csv": Kind('id,name\n@1,a\n@2,"b\n@3,c\n@4,d\n', (1,), (3,)),
    "a quote in the last cell.csv": Kind('id,name\n@1,a\n@2,"b', (1,), (3,)),
    "a quote in the header.csv": Kind('id,"name\n@1,a\n', (), (WHOLE,)),
    "inches.csv": Kind('id,name\n@1,5" pipe\n@2,b\n', (1, 2)),
    "a space before a quote.csv": Kind('id,name\n@1, "b, c"\n@2,b\n', (2,), (2,)),
    "separators of unicode.csv": Kind("id,name\n@1,a\u2028b\n@2,c\x0bd\x85e\n", (1, 2)),
    "a long cell.csv": Kind(f"id,name\n@1,{'x' * 2_000_000}\n@2,b\n", (1, 2)),
    "latin.csv": Kind("id,name\n@1,caf\xe9\n@2,b\n".encode("latin-1"), (2,), (2,)),
    "latin header.csv": Kind("id,n\xe4me\n@1,a\n".encode("latin-1"), (), (WHOLE,)),
    "utf16.csv": Kind("id,name\n@1,a\n".encode("utf-16"), (), (WHOLE,)),
    "empty.csv": Kind("", (), (WHOLE,)),
    "a login page.csv": Kind("<!DOCTYPE html>\n<html>Please log in, now</html>\n", (), (WHOLE,)),
    "a workbook.csv": Kind(archive(), (), (WHOLE,)),
    "a pointer.csv": Kind(LFS, (), (WHOLE,)),
    "compressed.csv": Kind(gzip.compress(b"id,name\n1,a\n"), (), (WHOLE,)),
    "not compressed.csv.gz": Kind("id,name\n@1,a\n", (), (WHOLE,)),
    "cut.csv.gz": Kind(gzip.compress(b"id,name\n" + bytes(range(48, 58)) * 99)[:-9], (), (WHOLE,)),
    "wrong sum.csv.gz": Kind(gzip.compress(b"id,name\n1,a\n")[:-8] + bytes(8), (), (WHOLE,)),
    "no object.jsonl": Kind('[\n{"id":@1,"name":"a"}\n]\n', (1,), (1, 3)),
    "list.json": Kind('[\n {"id": @1,\n  "name": "a"}\n]', (), (WHOLE,)),
    "mark.jsonl": Kind('\ufeff{"id":@1,"name":"a"}\n', (1,)),
    "cr.jsonl": Kind('{"id":@1,"name":"a"}\r{"id":@2,"name":"b"}\r', (1, 2)),
    "commas.jsonl": Kind('{"id":@1,"name":"a"},\n{"id":@2,"name":"b"}\n', (2,), (1,)),
    "two in a line.jsonl": Kind('{"id":@1,"name":"a"}{"id":@2,"name":"b"}\n', (1, 2)),
    "nan.jsonl": Kind('{"id":@1,"name":"a"}\n{"id":NaN,"name":"b"}\n', (1,), (2,)),
    "a key twice.jsonl": Kind('{"id":@1,"id":@2}\n{"id":@3,"name":"b"}\n', (3,), (1,)),
    "half a line.jsonl": Kind('{"id":@1,"name":"a"}\n{"id":@2,"na', (1,), (2,)),
    "half a character.jsonl": Kind('{"id":@1,"name":"\\ud83d"}\n{"id":@2,"name":"b"}\n', (2,), (1,)),
    "zeros.jsonl": Kind('{"id":@1,"name":"a"}\n\0\0\0\n{"id":@2,"name":"b"}\n', (1, 2), (2,)),
    "deep.jsonl": Kind('{"id":@1,"name":"a"}\n{"id":@2,"name":' + "[" * 3000 + "]" * 3000 + "}\n", (1,), (2,)),
    "other case.jsonl": Kind('{"ID":@1,"Name":"a"}\n', (), (WHOLE,)),
    "an error.jsonl": Kind('{"error":{"code":403,"message":"denied"}}\n', (), (WHOLE,)),
    "a pointer.parquet": Kind(LFS, (), (WHOLE,)),
    "an archive.zip": Kind(archive(), (), (WHOLE,)),
    "UPPER.CSV": Kind("id,name\n@1,a\n", (1,)),
    "date=2026-01-01/part.csv": Kind("id,name\n@1,a\n", (1,)),
    "folder_$folder$": Kind(""),
    "day/_SUCCESS": Kind(""),
    "day/.part.csv.crc": Kind("junk"),
}


def tables(first: int) -> Mapping[str, tuple[bytes, tuple[int, ...], tuple[int | None, ...]]]:
    """Files that are not text: the content, the ids that go in, and the bad rows (None: the whole file)."""
    ids = [first + 1, first + 2]
    plain = pa.table({"id": ids, "name": ["a", "b"]})
    both, none = (1, 2), ()
    return {
        "members.csv.gz": (b"".join(gzip.compress(f"{row}\n".encode()) for row in ("id", *ids)), both, none),
        "padded.csv.gz": (gzip.compress(f"id,name\n{ids[0]},a\n".encode()) + bytes(512), (1,), none),
        "a.csv.bz2": (bz2.compress(f"id,name\n{ids[0]},a\n".encode()), (1,), none),
        "cut.parquet": (parquet(plain)[:-10], none, (None,)),
        "no rows.parquet": (parquet(plain.slice(0, 0)), none, none),
        "order.parquet": (parquet(plain.select(["name", "id"])), both, none),
        "no name.parquet": (parquet(plain.select(["id"])), both, none),
        "more.parquet": (parquet(plain.append_column("z", pa.array(ids))), none, (None,)),
        "smaller.parquet": (
            parquet(pa.table({"id": pa.array(ids, pa.int32()), "name": pa.array(["a", "b"]).dictionary_encode()})),
            both, none,
        ),
        "unsigned.parquet": (
            parquet(pa.table({"id": pa.array([ids[0], 2**63], pa.uint64()), "name": ["a", "b"]})), (1,), (1,),
        ),
        "decimal.parquet": (
            parquet(pa.table({"id": pa.array(ids, pa.decimal128(20)), "name": ["a", "b"]})), both, none,
        ),
        "bytes.parquet": (parquet(pa.table({"id": ids, "name": [b"a", b"\xff"]})), (1,), (1,)),
        "no type.parquet": (parquet(pa.table({"id": ids, "name": pa.nulls(2)})), both, none),
        "no columns.parquet": (parquet(pa.table({})), none, (None,)),
        "twice.parquet": (parquet(pa.table([ids, ids], names=["id", "id"])), none, (None,)),
        "stream.arrow": (stream(plain), both, none),
        "cut.arrow": (stream(plain)[:-40], none, (None,)),
    }  # fmt: skip


def test_odd_deliveries_do_not_stop_others(landing: Path) -> None:
    ids, bad = [0], set[tuple[str, int | None]]()

    def deliver(name: str, content: bytes) -> None:
        path = landing / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    Dataset.from_dict({"id": [0], "name": ["zero"]}).save("rows")
    for number, (name, kind) in enumerate(TEXTS.items(), 1):
        content = kind.content.encode() if isinstance(kind.content, str) else kind.content
        deliver(name, content if b"\0i\0" in content else content.replace(b"@", b"%d00" % number))
        ids += [int(f"{number}00{row}") for row in kind.good]
        bad |= {(name, None if line == WHOLE else line) for line in kind.bad}
    names = {name: number * 10_000_000 for number, name in enumerate(tables(0), 1)}
    rows = {(name, row) for name in names for row in tables(0)[name][2]}
    for name, first in names.items():
        content, good, _ = tables(first)[name]
        deliver(name, content)
        ids += [first + row for row in good]
    source = FolderSource("rows", "rows", "landing", settle=0, drift="quarantine")
    list(ingest(source))
    assert sorted(Dataset("rows").to_arrow()["id"].to_pylist()) == sorted(ids)
    entries = Dataset("rows_quarantine").to_arrow().to_pylist()
    assert {(each["file"], each["line"]) for each in entries if each["file"] in TEXTS} == bad
    assert {(each["file"], each["row"]) for each in entries if each["file"] in names} == rows
    assert all(each["reason"] for each in entries)
    reasons = {each["file"]: each["reason"] for each in entries}
    assert "so lines 3 to 5 are one row" in reasons["a quote never closed.csv"]
    assert "not text but gzip" in reasons["compressed.csv"]
    assert "has no columns" in reasons["no columns.parquet"]
    assert list(ingest(source)) == []


def test_a_file_that_does_not_fit_waits_after_two_runs_wherever_it_stands(landing: Path) -> None:
    Dataset.from_dict({"id": [0], "n": [0]}).save("rows")
    for name, text in {"a": "other\n2", "b": "id\n1", "c": "id,n\n3,3", "d": "id,id\n1,1", "e": "n,id\n5,5"}.items():
        (landing / f"{name}.csv").write_text(f"{text}\n")
    source = FolderSource("rows", "rows", "landing", settle=0)
    for name in "aadd":
        with pytest.raises(SchemaError, match=rf"{name}\.csv"):
            list(ingest(source))
        assert Dataset("rows").count() == 1
    list(ingest(source))
    assert Dataset("rows").to_arrow().to_pydict() == {"id": [0, 1, 3, 5], "n": [0, None, 3, 5]}
    assert [file.path for file in arrivals(source).failed] == ["a.csv", "d.csv"]
    (landing / "a.csv").write_text("id\n20\n")  # mended
    (landing / "d.csv").write_text("id\n21\n")
    list(ingest(source))
    assert Dataset("rows").to_arrow()["id"].to_pylist() == [0, 1, 3, 5, 20, 21]


def test_files_that_disagree_before_there_is_a_dataset_make_none(landing: Path) -> None:
    (landing / "a.csv").write_text("login\npage\n")
    (landing / "b.csv").write_text("id\n1\n")
    with pytest.raises(SchemaError):
        list(ingest(FolderSource("rows", "rows", "landing", settle=0)))
    assert not Dataset.exists("rows")


def test_values_that_a_type_would_cut_go_aside(landing: Path) -> None:
    import datetime as dt

    day, noon = dt.date(2026, 1, 2), dt.datetime(2026, 1, 2, 12)
    Dataset.from_dict({"on": [True], "day": [day], "s": [{"a": 1}]}).save("rows")
    (landing / "a.csv").write_text("on,day\n1,2026-01-03\n0,2026-01-04\n5,2026-01-05\n")
    (landing / "b.csv").write_text("on,day\ntrue,2026-01-06 00:00:00\nfalse,2026-01-07 10:00:00\n")
    table = {"on": [1.0, 0.5], "day": [noon.replace(hour=0), noon], "s": pa.array([{"a": 1}, {"a": 1}])}
    (landing / "c.parquet").write_bytes(parquet(pa.table(table)))
    (landing / "d.parquet").write_bytes(parquet(pa.table({"s": [{"a": 1, "b": 2}]})))
    list(ingest(FolderSource("rows", "rows", "landing", settle=0, drift="quarantine")))
    days = [row["day"].day for row in Dataset("rows").to_arrow().to_pylist()]
    assert days == [2, 3, 4, 6, 2]
    entries = Dataset("rows_quarantine").to_arrow().to_pylist()
    assert [(each["file"], each["row"]) for each in entries] == [
        ("a.csv", 2), ("b.csv", 1), ("c.parquet", 1), ("d.parquet", 0),
    ]  # fmt: skip
    assert all("would lose" in each["reason"] or "no fields 'b'" in each["reason"] for each in entries)


def test_values_are_cast_exactly_or_go_aside(landing: Path) -> None:
    import datetime as dt

    noon = dt.datetime(2026, 1, 2, 12)
    columns: Mapping[str, tuple[Any, Any, list[bool]]] = {
        "single": (pa.array([1.0], pa.float32()), pa.array([0.1, 1e300, float("inf")]), [True, False, True]),
        "vector": (pa.array([[1.0]], pa.list_(pa.float32())), pa.array([[0.1], None]), [True, True]),
        "flags": (pa.array([[True]]), pa.array([[0, 1], [5]]), [True, False]),
        "when": (pa.array([noon]), pa.array([1_767_225_600]), [False]),
        "time": (pa.array([dt.time(1)]), pa.array([noon]), [False]),
        "inner": (pa.array([{"d": noon.date()}]), pa.array([{"d": noon}, {"d": noon.replace(hour=0)}]), [False, True]),
        "text": (pa.array(["a"]), pa.array([1, 2]), [True, True]),
    }
    for name, (known, given, fits) in columns.items():
        Dataset.from_arrow(pa.table({"x": known})).save(name)
        (landing / f"{name}.parquet").write_bytes(parquet(pa.table({"x": given})))
        list(ingest(FolderSource(name, name, "landing", f"{name}.parquet", settle=0, drift="quarantine")))
        aside = f"{name}_quarantine"
        bad = Dataset(aside).to_arrow()["row"].to_pylist() if Dataset.exists(aside) else []
        assert [row not in bad for row in range(len(given))] == fits, name


@pytest.mark.parametrize("text", ["x\n2.5\n", "x,\n2,3\n"])
def test_a_column_that_the_dataset_cannot_follow_is_one_files_trouble(landing: Path, text: str) -> None:
    Dataset.from_dict({"x": [1]}).save("rows")
    for name, content in (("a", "x\n2\n"), ("b", text), ("c", "x,y\n3,4\n")):
        (landing / f"{name}.csv").write_text(content)
    source = FolderSource("rows", "rows", "landing", settle=0, drift="evolve")
    for _ in range(2):
        with pytest.raises(SchemaError, match=r"b\.csv"):
            list(ingest(source))
    list(ingest(source))
    assert Dataset("rows").to_arrow().to_pydict() == {"x": [1, 2, 3], "y": [None, None, 4]}


def test_whether_text_is_encoded_by_a_dictionary_changes_no_type(landing: Path) -> None:
    for name, column in {"a": pa.array(["x"]), "b": pa.array(["y"]).dictionary_encode()}.items():
        (landing / f"{name}.parquet").write_bytes(parquet(pa.table({"s": column})))
    source = FolderSource("rows", "rows", "landing", settle=0, drift="evolve")
    list(ingest(source))
    assert Dataset("rows").to_arrow()["s"].to_pylist() == ["x", "y"]
    (landing / "c.parquet").write_bytes(parquet(pa.table({"s": [b"\xff"]})))
    with pytest.raises(SchemaError, match=r"'c\.parquet'"):
        list(ingest(source))


@pytest.mark.parametrize("cell", ["name", "bytes"])
def test_an_image_that_is_damaged_goes_aside_like_a_missing_one(landing: Path, cell: str) -> None:
    contents: list[Any] = []
    for number in range(4):
        path = landing / f"{number}.img"
        Image.new("RGB", (40, 40), number).save(path, "PNG" if number % 2 else "JPEG")
        if number < 2:
            path.write_bytes(path.read_bytes()[:-40])
        contents.append(path.read_bytes() if cell == "bytes" else path.name)
    (landing / "rows.parquet").write_bytes(parquet(pa.table({"id": [0, 1, 2, 3], "image": contents})))
    for on_error, expected in (("quarantine", [2, 3]), ("null", [0, 1, 2, 3]), ("fail", [0, 1, 2, 3])):
        source = FolderSource(
            on_error, on_error, "landing", "*.parquet", settle=0, column_types={"image": "image"}, on_error=on_error
        )
        list(ingest(source))
        rows = Dataset(on_error).to_arrow()
        assert rows["id"].to_pylist() == expected
        present = [2, 3] if on_error != "fail" else expected
        assert [row["id"] for row in rows.to_pylist() if row["image"] is not None] == present
        if on_error != "fail":
            entries = Dataset(f"{on_error}_quarantine").to_arrow().to_pylist()
            assert [entry["row"] for entry in entries] == [0, 1]
            assert all("cannot be read as image" in entry["reason"] for entry in entries)


def test_a_file_that_vanishes_after_the_listing_is_told(landing: Path) -> None:
    for name in "ab":
        (landing / f"{name}.csv").write_text(f"id\n{ord(name)}\n")

    def read(path: Path) -> Dataset:
        (landing / "b.csv").unlink(missing_ok=True)
        return Dataset.from_file(str(path))

    with pytest.raises(FileError, match=r"b\.csv"):
        list(ingest(FolderSource("rows", "rows", "landing", settle=0, read=read)))
    assert Dataset("rows").to_arrow()["id"].to_pylist() == [ord("a")]
