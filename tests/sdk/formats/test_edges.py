"""M14: what users' CSV, JSON lines and Arrow files are like, and what is said of those that cannot be read."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from lakefeed import Dataset
from lakefeed.errors import FormatError, InvalidArgumentError, SchemaError, TypeMismatchError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(name: str, content: bytes | str) -> str:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def read(location: str | list[str], **options: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = Dataset.from_file(location, **options).to_arrow().to_pylist()
    return rows


# ------------------------------------------------------------------------------------------------ csv


def test_csv_with_a_byte_order_mark() -> None:
    assert read(written("b.csv", b"\xef\xbb\xbfx,y\n1,a\n")) == [{"x": 1, "y": "a"}]
    assert read(written("b.jsonl", b'\xef\xbb\xbf{"x":1}\n{"x":2}')) == [{"x": 1}, {"x": 2}]


def test_csv_line_ends_and_quotes() -> None:
    assert read(written("w.csv", "x,y\r\n1,a\r\n2,b\r\n")) == [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]
    assert read(written("n.csv", "x,y\n1,a\n2,b"))[-1] == {"x": 2, "y": "b"}
    quoted = 'x,y\n1,"two\nlines, and ""quotes"""\n\n2,5" disk\n'
    assert [row["y"] for row in read(written("q.csv", quoted))] == ['two\nlines, and "quotes"', '5" disk']


def test_csv_quoted_newlines_far_down_and_long_lines() -> None:
    text = "a line\n" * 40
    rows = [f'{n},"{text}"\n' for n in range(40_000)]
    long = "z" * 3_000_000
    content = "x,y\n" + "".join(rows) + f"-1,{long}\n" + "".join(rows)
    assert len(content) > 20_000_000
    dataset = Dataset.from_file(written("q.csv", content))
    found = dataset.to_arrow()
    assert found.num_rows == 80_001
    assert found["y"][39_999].as_py() == text
    assert found["y"][40_000].as_py() == long


def test_csv_of_an_odd_quote_reads_on() -> None:
    content = "x,y\n" + '1,5" disk\n' * 200_001
    assert Dataset.from_file(written("o.csv", content)).count() == 200_001


def test_csv_without_rows_or_without_anything() -> None:
    assert read(written("h.csv", "x,y\n")) == []
    schema = pa.schema({"x": pa.int64()})
    for name in ("e.csv", "e.jsonl"):
        with pytest.raises(FormatError, match=name):
            Dataset.from_file(written(name, b""))
        assert read(name, schema=schema) == []
    assert read([written("a.csv", "x\n1\n"), "e.csv"], schema=schema) == [{"x": 1}]


@pytest.mark.parametrize("rows", [3, 2_000_000])
def test_csv_ragged_lines_are_named(rows: int) -> None:
    good = '1,"a\nb"\n' + "1,2\n" * (rows - 1)
    broken = written("ragged.csv", "x,y\n" + good + "1,2,3\n4\n")
    with pytest.raises(FormatError, match=rf"ragged\.csv', line {rows + 3}: 3 cells where the header has 2: '1,2,3'"):
        Dataset.from_file(broken).count()


def test_csv_ragged_in_an_archive(folder: Path) -> None:
    import zipfile

    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("r.csv", "x,y\n1,2\n1\n")
    with pytest.raises(FormatError, match=r"'zip://r\.csv::a\.zip', line 3: 1 cells"):
        Dataset.from_file("zip://r.csv::a.zip").count()


@pytest.mark.parametrize("first", ["", "7"])
def test_csv_a_type_that_changes_far_down(first: str) -> None:
    content = "name,x\n" + f"a,{first}\n" * 3_000_000 + "b,word\n"
    broken = written("late.csv", content)
    dataset = Dataset.from_file(broken)
    assert dataset.schema.field("x").type == (pa.int64() if first else pa.null())
    with pytest.raises(FormatError, match=r"late\.csv', line 3000002: 'word' in column 'x'.*schema="):
        dataset.to_arrow()
    told = pa.schema({"x": pa.string(), "name": pa.string()})
    assert Dataset.from_file(broken, schema=told).select(["x"]).to_arrow()["x"][-1].as_py() == "word"


# ------------------------------------------------------------------------------------------------ json lines


def test_jsonl_keys_may_be_missing_and_objects_nested() -> None:
    lines = '{"a":1}\n\n{"b":{"c":[1],"d":null}}\n{"b":{"d":"x"}}\n'
    assert read(written("n.jsonl", lines)) == [
        {"a": 1, "b": None},
        {"a": None, "b": {"c": [1], "d": None}},
        {"a": None, "b": {"c": None, "d": "x"}},
    ]


HEAD = '{"x":null,"y":1}\n' * 1_000_000
LATE = {
    "null first": ('{"x":"word","y":1}\n', r"line 1000001: .*word.*changed from null to string"),
    "a word": ('{"x":null,"y":"word"}\n', r"line 1000001: .*word"),
    "a fraction": ('{"x":null,"y":1.5}\n', r"line 1000001: .*1\.5"),
    "an object": ('{"x":null,"y":{"z":1}}\n', r"line 1000001: "),
    "a new key": ('{"x":null,"y":1,"z":1}\n', r"line 1000001: .*unexpected field"),
    "half a line": ('{"x":null,\n', r"line 1000001: "),
    "no object": ("[1]\n", r"line 1000001: "),
}


@pytest.mark.live
@pytest.mark.parametrize("late", LATE)
def test_jsonl_what_changes_far_down_is_named_with_advice(late: str) -> None:
    line, message = LATE[late]
    dataset = Dataset.from_file(written("late.jsonl", HEAD + line))
    with pytest.raises(FormatError, match=rf"(?s)late\.jsonl', {message}.*schema="):
        dataset.count()


def test_jsonl_a_schema_overrides_what_the_beginning_shows() -> None:
    told = pa.schema({"y": pa.float64(), "x": pa.string(), "z": pa.int64()})
    lines = HEAD + LATE["null first"][0] + LATE["a fraction"][0] + LATE["a new key"][0] + '{"other":1}\n'
    table = Dataset.from_file(written("late.jsonl", lines), schema=told).to_arrow()
    assert table.schema == told
    assert table.slice(1_000_000).to_pylist() == [
        {"y": 1.0, "x": "word", "z": None},
        {"y": 1.5, "x": None, "z": None},
        {"y": 1.0, "x": None, "z": 1},
        {"y": None, "x": None, "z": None},
    ]


@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_of_all_rows_is_told_apart_from_lines(indent: int | None) -> None:
    one = written("one.json", json.dumps([{"x": 1}, {"x": 2}], indent=indent))
    with pytest.raises(FormatError, match=r"one\.json', line 1: .*one object a line, or give the list to from_pylist"):
        Dataset.from_file(one)


def test_jsonl_a_type_that_changes_at_once() -> None:
    broken = written("m.jsonl", '{"x":1}\n{"x":"a"}\n')
    with pytest.raises(FormatError, match=r"m\.jsonl', line 2: .*changed from number to string.*schema="):
        Dataset.from_file(broken)
    with pytest.raises(FormatError, match=r"m\.jsonl', line 2"):
        Dataset.from_file(broken, schema=pa.schema({"x": pa.int64()}))


# ------------------------------------------------------------------------------------------------ any


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet", "x.arrow"])
@pytest.mark.parametrize(
    "content",
    [b"\x1f\x8b broken", gzip.compress(b"x\n1\n" * 100)[:-12], b"x\n1\n"],
    ids=["no gzip inside", "cut short", "plain"],
)
def test_bad_gzip(name: str, content: bytes) -> None:
    with pytest.raises(FormatError, match=rf"{name}\.gz"):
        Dataset.from_file(written(f"{name}.gz", content)).count()


def tables(name: str, table: pa.Table) -> str:
    if name.endswith("parquet"):
        pq.write_table(table, name)
    else:
        feather.write_feather(table, name)
    return name


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv", "jsonl"])
def test_a_schema_chooses_columns_and_types(suffix: str) -> None:
    name = f"r.{suffix}"
    if suffix == "csv":
        written(name, "x,y,z\n1,2,3\n")
    elif suffix == "jsonl":
        written(name, '{"x":1,"y":2,"z":3}\n')
    else:
        tables(name, pa.table({"x": [1], "y": [2], "z": [3]}))
    told = pa.schema({"z": pa.float32(), "x": pa.int8()})
    dataset = Dataset.from_file(name, schema=told)
    assert dataset.schema == told == dataset.to_arrow().schema
    assert dataset.to_arrow().to_pylist() == [{"z": 3.0, "x": 1}]
    assert dataset.select(["x"]).to_arrow().to_pylist() == [{"x": 1}]
    if suffix != "jsonl":
        with pytest.raises(SchemaError, match=rf"r\.{suffix}.*nosuch"):
            Dataset.from_file(name, schema=pa.schema({"nosuch": pa.int64()})).to_arrow()
    with pytest.raises(TypeMismatchError):
        Dataset.from_file(name, schema={"x": "int"})  # type: ignore[arg-type]


def test_a_schema_that_does_not_fit_says_so() -> None:
    tables("x.parquet", pa.table({"x": ["word"]}))
    with pytest.raises(FormatError, match=r"x\.parquet.*'x'.*int64"):
        Dataset.from_file("x.parquet", schema=pa.schema({"x": pa.int64()})).to_arrow()
    required = pa.schema([pa.field("x", pa.string(), nullable=False)])
    tables("n.parquet", pa.table({"x": ["word", None]}))
    with pytest.raises(FormatError, match=r"n\.parquet.*'x' has nulls"):
        Dataset.from_file("n.parquet", schema=required).to_arrow()


def test_a_format_named_in_place_of_a_suffix() -> None:
    assert read(written("data.txt", "x\n1\n"), format="csv") == [{"x": 1}]
    assert read(written("data.gz", gzip.compress(b'{"x":1}\n')), format="jsonl") == [{"x": 1}]
    with pytest.raises(FormatError, match=r"unknown format 'excel'; choose from 'arrow', 'csv', 'jsonl', 'parquet'"):
        Dataset.from_file("data.txt", format="excel")
    with pytest.raises(FormatError, match=r"format= names it"):
        Dataset.from_file("data.txt")


def test_several_files_are_compared_by_name_and_type_with_the_file_named() -> None:
    tables("a.parquet", pa.table({"x": [1], "y": ["a"]}))
    tables("b.parquet", pa.table({"y": ["b"], "x": [2.5]}))
    tables("c.parquet", pa.table({"x": ["word"], "y": ["c"]}))
    tables("d.parquet", pa.table({"x": [1]}))
    assert read(["a.parquet", "b.parquet"]) == [{"x": 1.0, "y": "a"}, {"x": 2.5, "y": "b"}]
    with pytest.raises(TypeMismatchError, match=r"column 'x' is string in 'c\.parquet' and double in the files before"):
        Dataset.from_file(["a.parquet", "b.parquet", "c.parquet"])
    with pytest.raises(SchemaError, match=r"'d\.parquet' has columns 'x' where 'a\.parquet' has 'x', 'y'"):
        Dataset.from_file(["a.parquet", "d.parquet"])
    wanted = pa.schema({"x": pa.float64()})
    assert read(["a.parquet", "d.parquet"], schema=wanted) == [{"x": 1.0}, {"x": 1.0}]


# ------------------------------------------------------------------------------------------------ arrow


TABLE = pa.table(
    {"x": range(1000), "d": pa.array(["a", "b"] * 500).dictionary_encode(), "s": [str(n) for n in range(1000)]}
)


def streamed(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, 100)
    return sink.getvalue()


@pytest.mark.parametrize("suffix", ["arrow", "feather", "ipc"])
@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_arrow_files(suffix: str, compression: str) -> None:
    feather.write_feather(TABLE, f"r.{suffix}", compression=compression, chunksize=100)
    dataset = Dataset.from_file(f"r.{suffix}")
    assert dataset.schema == TABLE.schema
    assert len(dataset) == 1000
    assert dataset.to_arrow().equals(TABLE)
    assert dataset.slice(250, 255).select(["s"]).to_arrow().to_pylist() == TABLE.slice(250, 5).select(["s"]).to_pylist()
    assert dataset.filter("x >= 990").select(["d"]).count() == 10


def test_arrow_streams() -> None:
    dataset = Dataset.from_file(written("r.arrow", streamed(TABLE)))
    assert dataset.to_arrow().equals(TABLE)
    assert dataset.select(["s"]).head(1).to_arrow().to_pylist() == [{"s": "0"}]
    with pytest.raises(TypeError):
        len(dataset)
    feather.write_feather(TABLE, "f.arrow", chunksize=300)
    both = Dataset.from_file(["f.arrow", "r.arrow"])
    assert both.count() == 2000


def test_arrow_that_is_broken() -> None:
    for name, content in (("e.arrow", b""), ("t.arrow", b"no arrow at all"), ("o.feather", b"FEA1 of old")):
        with pytest.raises(FormatError, match=name):
            Dataset.from_file(written(name, content))
    feather.write_feather(TABLE, "g.arrow")
    with pytest.raises(FormatError, match=r"c\.arrow"):
        Dataset.from_file(written("c.arrow", Path("g.arrow").read_bytes()[:-40])).to_arrow()


def test_a_chain_must_be_text() -> None:
    with pytest.raises(InvalidArgumentError):
        Dataset.from_file(b"x.csv")  # type: ignore[arg-type]
