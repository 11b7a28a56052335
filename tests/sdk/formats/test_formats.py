"""Files by path, glob and URL: what they give, and what broken ones say."""

from __future__ import annotations

import gzip
import threading
import zipfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed import Dataset
from lakefeed.errors import FormatError, InvalidArgumentError, MissingFileError, SchemaError, TypeMismatchError
from lakefeed.expr import parse
from lakefeed.formats import FORMATS, format_of
from lakefeed.formats.parquet_format import Parquet
from lakefeed.ingest import ManifestSource, ingest

ROWS = [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}, {"x": None, "y": None}]
CSV = b"x,y\n1,a\n2,b\n,\n"
LINES = b'{"x":1,"y":"a"}\n{"x":2,"y":"b"}\n{"x":null,"y":null}\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(name: str, content: bytes) -> str:
    Path(name).write_bytes(content)
    return name


def parquet(name: str, **columns: list[object]) -> str:
    pq.write_table(pa.table(columns), name)
    return name


def read(location: str | list[str]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = Dataset.from_file(location).to_arrow().to_pylist()
    return rows


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.csv", CSV),
        ("r.CSV", CSV),
        ("r.csv.gz", gzip.compress(CSV, mtime=0)),
        ("r.jsonl", LINES),
        ("r.json", LINES),
        ("r.ndjson", LINES),
        ("r.jsonl.gz", gzip.compress(LINES, mtime=0)),
    ],
)
def test_text_files(name: str, content: bytes, folder: Path) -> None:
    written(name, content)
    for location in (name, str(folder / name), f"file://{folder / name}"):
        assert read(location) == ROWS


@pytest.mark.parametrize("pattern", ["part-*.parquet", "part-?.parquet", "part-[01].parquet", "**/part-*.parquet"])
def test_globs_read_in_the_order_of_names(pattern: str) -> None:
    parquet("part-1.parquet", x=[3])
    parquet("part-0.parquet", x=[1, 2])
    assert read(pattern) == [{"x": 1}, {"x": 2}, {"x": 3}]


def test_a_name_that_looks_like_a_glob_is_a_name_first() -> None:
    assert read(parquet("x[1].parquet", x=[9])) == [{"x": 9}]


def test_file_urls_are_decoded(folder: Path) -> None:
    inner = folder / "my dir é"
    inner.mkdir()
    (inner / "a b.csv").write_text("x\n1\n")
    (inner / "c%20d.csv").write_text("x\n2\n")
    with zipfile.ZipFile(inner / "z z.zip", "w") as archive:
        archive.writestr("in.csv", "x\n3\n")
    one = (inner / "a b.csv").as_uri()
    assert "%20" in one
    for location in (one, one.replace("file://", "file://localhost"), one.replace("file://", "FILE:")):
        assert read(location) == [{"x": 1}]
    assert read(f"file://{inner / 'a b.csv'}") == [{"x": 1}]
    assert read((inner / "c%20d.csv").as_uri()) == read(f"file://{inner / 'c%20d.csv'}") == [{"x": 2}]
    assert read(f"{inner.as_uri()}/*.csv") == [{"x": 1}, {"x": 2}]
    assert read(f"zip://in.csv::{(inner / 'z z.zip').as_uri()}") == [{"x": 3}]
    (inner / "list 1.txt").write_text(f"{one}\n")
    source = ManifestSource("numbers", "numbers", (inner / "list 1.txt").as_uri())
    assert [result.rows for result in ingest(source)] == [1]
    (inner / "c d.csv").write_text("x\n4\n")
    assert read(f"file://{inner / 'c%20d.csv'}") == [{"x": 4}], "by the rules of URLs this is the other file"
    with pytest.raises(MissingFileError, match="no%20such"):
        read(f"{inner.as_uri()}/no%20such.csv")


def test_several_files_in_the_order_given() -> None:
    files = [parquet("b.parquet", x=[2]), parquet("a.parquet", x=[1])]
    assert read(files) == [{"x": 2}, {"x": 1}]
    assert len(Dataset.from_file([Path(file) for file in files])) == 2


def test_files_may_have_wider_types_and_another_column_order() -> None:
    parquet("a.parquet", x=[1], y=["p"])
    parquet("b.parquet", y=[None], x=[2.5])
    assert read(["a.parquet", "b.parquet"]) == [{"x": 1.0, "y": "p"}, {"x": 2.5, "y": None}]
    assert read([written("a.csv", b"x,y\n1,\n"), written("b.csv", b"x,y\n1.5,t\n")])[1] == {"x": 1.5, "y": "t"}


def test_a_filter_holds_over_files_of_other_types() -> None:
    parquet("a.parquet", x=[1, 3])
    parquet("b.parquet", x=[2.5, None])
    assert Dataset.from_file(["a.parquet", "b.parquet"]).filter("x > 2").to_arrow()["x"].to_pylist() == [3.0, 2.5]


def test_memory_urls() -> None:
    fs = fsspec.filesystem("memory")
    parquet("local.parquet", x=[1, 2, 3])
    fs.put_file("local.parquet", "/formats/p.parquet")
    fs.pipe({"/formats/1.csv": b"x\n1\n", "/formats/2.csv": b"x\n2\n", "/formats/3.csv.gz": gzip.compress(b"x\n3\n")})
    assert read("memory://formats/*.csv") == [{"x": 1}, {"x": 2}]
    assert read("memory://formats/3.csv.gz") == [{"x": 3}]
    assert Dataset.from_file("memory://formats/p.parquet").filter("x > 1").select(["x"]).count() == 2
    with pytest.raises(MissingFileError, match="no file 'memory://formats/none"):
        Dataset.from_file("memory://formats/none.csv")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("e.csv", b""),
        ("ragged.csv", b"x,y\n1\n"),
        ("cut.csv.gz", gzip.compress(CSV, mtime=0)[:-9]),
        ("plain.csv.gz", CSV),
        ("e.jsonl", b""),
        ("array.json", b'[{"x":1}]'),
        ("half.jsonl", b'{"x":\n'),
        ("e.parquet", b""),
        ("text.parquet", b"no parquet at all"),
    ],
)
def test_broken_files_say_so_at_the_call(name: str, content: bytes) -> None:
    with pytest.raises(FormatError, match=name):
        Dataset.from_file(written(name, content))


def test_a_parquet_file_with_broken_pages() -> None:
    parquet("x.parquet", x=[1, 2, 3])
    content = bytearray(Path("x.parquet").read_bytes())
    content[8:40] = b"\xff" * 32
    broken = Dataset.from_file(written("y.parquet", bytes(content)))
    with pytest.raises(FormatError, match=r"y\.parquet"):
        broken.to_arrow()


def test_a_value_of_another_kind_far_down() -> None:
    head = b"".join(b"%d\n" % n for n in range(2_000_000))
    broken = Dataset.from_file(written("late.csv", b"x\n" + head + b"word\n"))
    with pytest.raises(FormatError, match=r"late\.csv., line 2000002: .word.*schema="):
        broken.count()


def test_long_lines_and_quoted_newlines() -> None:
    text = "a" * 3_000_000
    assert read(written("long.jsonl", b'{"x":"%s"}\n' % text.encode())) == [{"x": text}]
    assert read(written("q.csv", b'x,y\n1,"two\nlines"\n')) == [{"x": 1, "y": "two\nlines"}]


def test_csv_tells_an_empty_cell_from_an_empty_text() -> None:
    assert read(written("q.csv", b'x,y\n,""\n1,z\n')) == [{"x": None, "y": ""}, {"x": 1, "y": "z"}]


@pytest.mark.parametrize("location", ["none.csv", "none*.csv", "there/none.parquet", "folder.csv"])
def test_what_is_missing(location: str) -> None:
    Path("folder.csv").mkdir()
    with pytest.raises(MissingFileError, match=location.split("*")[0]):
        Dataset.from_file(location)


def test_bad_locations() -> None:
    Path("x.txt").touch()
    with pytest.raises(FormatError, match=r"'\.csv'.*'\.parquet'"):
        Dataset.from_file("x.txt")
    for bad in (5, None, [5], [], {}):
        with pytest.raises(InvalidArgumentError):
            Dataset.from_file(bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="several formats"):
        Dataset.from_file([written("a.csv", CSV), written("a.jsonl", LINES)])


def test_columns_that_do_not_fit_together() -> None:
    with pytest.raises(SchemaError, match="different names; duplicates: 'a'"):
        Dataset.from_file(written("d.csv", b"a,a\n1,2\n"))
    with pytest.raises(SchemaError, match="same columns"):
        Dataset.from_file([parquet("a.parquet", x=[1]), parquet("b.parquet", z=[1])])
    with pytest.raises(TypeMismatchError, match="int64 in the files before it"):
        Dataset.from_file([parquet("a.parquet", x=[1]), parquet("c.parquet", x=["t"])])


def test_a_file_that_goes_away() -> None:
    dataset = Dataset.from_file(written("x.csv", CSV))
    Path("x.csv").unlink()
    with pytest.raises(MissingFileError):
        dataset.to_arrow()


def test_files_without_rows() -> None:
    assert read(written("h.csv", b"x,y\n")) == []
    assert len(Dataset.from_file(parquet("h.parquet", x=[]))) == 0


def test_length_is_known_for_parquet_only() -> None:
    assert len(Dataset.from_file(parquet("a.parquet", x=[1, 2]))) == 2
    lines = Dataset.from_file(written("a.csv", CSV))
    with pytest.raises(TypeError, match=r"count\(\)"):
        len(lines)
    assert lines.count() == 3


def test_a_file_written_again_is_read_again() -> None:
    dataset = Dataset.from_file(parquet("a.parquet", x=[1]))
    assert dataset.count() == 1
    parquet("a.parquet", x=[1, 2, 3])
    assert dataset.to_arrow()["x"].to_pylist() == [1, 2, 3]


def test_stopping_early_closes_the_file() -> None:
    dataset = Dataset.from_file(written("a.csv", b"x\n" + b"1\n" * 9_000_000))
    before = set(threading.enumerate())
    batches = dataset.batches(format="arrow")
    next(batches)
    batches.close()
    assert not any(link.resolve().name == "a.csv" for link in Path("/proc/self/fd").iterdir())
    assert set(threading.enumerate()) <= before


def test_row_groups_that_cannot_match_are_left_out() -> None:
    table = pa.table({"x": range(100), "s": pa.StructArray.from_arrays([pa.array(range(100))], ["b"])})
    pq.write_table(table, "x.parquet", row_group_size=10)
    for text in ("x == 55", "s.b == 55"):
        assert [part.key for part in Parquet().parts("x.parquet", parse(text, table.schema))] == [5]


def test_a_column_named_like_a_field_never_prunes_for_it() -> None:
    table = pa.table({"s": pa.StructArray.from_arrays([pa.array([1, 2])], ["b"]), "s.b": [100, 200]})
    pq.write_table(table, "x.parquet")
    dataset = Dataset.from_file("x.parquet")
    assert dataset.filter("s.b == 2").count() == 1
    assert dataset.filter("`s.b` == 200").select(["s.b"]).to_arrow().to_pylist() == [{"s.b": 200}]


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_suffix_names_its_format(name: str) -> None:
    for suffix in FORMATS[name].suffixes:
        for url in (f"x{suffix}", f"s3://b/k/X{suffix.upper()}", f"https://h/x{suffix}?v=1.txt", f"x{suffix}.gz"):
            assert format_of(url).name == name
