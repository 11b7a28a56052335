"""CSV as users have it: quotes that are text, null words, whole numbers beyond int64, and text that is not UTF-8."""

from __future__ import annotations

import gzip
import io
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import FormatError, InvalidArgumentError
from lakefeed.formats.csv_format import Csv
from lakefeed.sources.file_source import create_file_source
from lakefeed.storage.archives.streams import Stream

SIZES = [1, 2, 3, 5, 7, 16, 100, 1 << 20]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(content: bytes | str, name: str = "rows.csv", **options: Any) -> pa.Table:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return Dataset.from_file(name, **options).to_arrow()


def columns(content: bytes | str, **options: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = table(content, **options).to_pydict()
    return found


def in_pieces(content: str, size: int) -> list[dict[str, Any]]:
    form = Csv(piece_bytes=size)
    schema = form.head(Stream("rows.csv", io.BytesIO(content.encode())))
    batches = form.rows(Stream("rows.csv", io.BytesIO(content.encode())), schema, None, True)
    return [row for batch in batches for row in batch.to_pylist()]


# ------------------------------------------------------------------------------------------------ quotes and line ends


@pytest.mark.parametrize(
    ("header", "ends"),
    [
        ('id,screen size "', "\n"),
        ('id,"screen\nsize"', "\r,\n"),
        ("id,size", "\r,\n"),
        ('id,a "b" c', "\r\n"),
        ("\nid,size", "\r"),
    ],
)
def test_a_lone_quote_is_text_and_each_row_comes_once(header: str, ends: str) -> None:
    """``ends``: of the header and of the rows."""
    after_header, _, after_row = ends.partition(",")
    after_row = after_row or after_header
    cells = ['5" disk', '"a\n""b"",\r"', '"', '""', "plain", '"x"y', '12"x"']
    lines = [f"{n},{cells[n % 2] if n % 100 else cells[n // 100 % 2 + 4]}" for n in range(90_000)]
    content = header + after_header + after_row.join(lines)
    assert len(content) > 1 << 20
    begun = time.process_time()
    found = table(content.encode())
    seconds = time.process_time() - begun
    assert found["id"].to_pylist() == list(range(90_000))
    assert found.column(1)[1:3].to_pylist() == ['a\n"b",\r', '5" disk']
    assert seconds < 5


def test_lone_quotes_in_blocks_of_every_size() -> None:
    content = 'id,5" "\r1,"a\n"\n2,5" disk\r\n\r\n3,"""x"", y"\n\n4,x"y"\n5,"last\r\n"'
    expected = [
        {"id": 1, '5" "': "a\n"},
        {"id": 2, '5" "': '5" disk'},
        {"id": 3, '5" "': '"x", y'},
        {"id": 4, '5" "': 'x"y"'},
        {"id": 5, '5" "': "last\r\n"},
    ]
    assert pd.read_csv(io.StringIO(content, newline="")).to_dict("records") == expected
    for size in SIZES:
        assert in_pieces(content, size) == expected, size


@pytest.mark.parametrize("content", ["x,y", "x,y\n", "x,y\r", "\n\nx,y\r\n\r\n", '"x","y"'])
def test_a_file_of_a_header_alone_has_no_rows(content: str) -> None:
    assert columns(content) == {"x": [], "y": []}


def test_small_shapes() -> None:
    assert columns("x\n1\n\n2") == {"x": [1, 2]}
    assert columns("x,y,\n1,2,\n") == {"x": [1], "y": [2], "": [None]}
    assert columns(b'\xef\xbb\xbf"x",y\n1,a') == {"x": [1], "y": ["a"]}
    assert columns('x,y\n"a",') == {"x": ["a"], "y": [None]}
    assert table(gzip.compress(b'x\n5" disk\n'), "rows.csv.gz")["x"].to_pylist() == ['5" disk']


def test_the_types_come_from_rows_also_where_the_header_fills_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakefeed.formats.csv_format.BLOCK_BYTES", 8)
    assert columns("long name,y\n1,a\n2,b\n") == {"long name": [1, 2], "y": ["a", "b"]}


@pytest.mark.parametrize(("content", "line"), [('x,y\n1,"a\n2,b\n', 2), ('x,"y\n1,a\n', 1), ('x\na\n"""\nb\n', 3)])
def test_a_quoted_cell_that_does_not_end_is_an_error(content: str, line: int) -> None:
    with pytest.raises(FormatError, match=rf"rows\.csv', line {line}: the quote that opens a cell is not closed"):
        columns(content)
    with pytest.raises(FormatError, match=rf"line {line}: the quote"):
        in_pieces(content, 4)


def test_the_line_of_an_error_counts_all_kinds_of_line_ends() -> None:
    with pytest.raises(FormatError, match=r"rows\.csv', line 8: 'b' in column 'y' does not fit"):
        columns('x,y\r"1\n\r\n",1\r\n\n3,2\r\r\n4,b\n5,6', schema=pa.schema({"y": pa.int64()}))
    long = "z" * 300_000
    with pytest.raises(FormatError, match=r"rows\.csv', line 3: 1 cells where the header has 2: 'only'"):
        columns(f"x,y\n{long},1\nonly\n")


# ------------------------------------------------------------------------------------------------ nulls

WORDS = 'c,n,f,d,b\nNA,1,1.5,2020-01-01,true\nnull,NA,nan,N/A,null\nnan,"",,,\n,4,NA,NaN,false\n"",null,inf,#N/A,\n'


def test_only_the_empty_cell_is_null_in_text_and_words_are_in_other_columns() -> None:
    for options in ({}, {"schema": table(WORDS).schema}):
        found = table(WORDS, **options)
        assert found.schema.types == [pa.string(), pa.int64(), pa.float64(), pa.date32(), pa.bool_()]
        assert found["c"].to_pylist() == ["NA", "null", "nan", None, ""]
        assert found["n"].to_pylist() == [1, None, None, 4, None]
        assert [str(value) for value in found["f"].to_pylist()] == ["1.5", "nan", "None", "None", "inf"]
        assert found["d"].null_count == 4
        assert found["b"].to_pylist() == [True, None, None, False, None]
    assert columns("c\nNA\n\nNA\n", schema=pa.schema({"c": pa.large_string()})) == {"c": ["NA", "NA"]}
    assert columns("c,n\nNA,\nnull,\n") == {"c": ["NA", "null"], "n": [None, None]}
    assert columns("n\n1\nnan\n") == {"n": [1, None]}


def test_words_in_a_later_block_are_null_in_numbers_and_text_in_text() -> None:
    content = "c,n\n" + "a,1\n" * 20 + "NA,NA\n" + "a,2\n" * 20
    for size in SIZES:
        rows = in_pieces(content, size)
        assert rows[20] == {"c": "NA", "n": None}
        assert rows[21:] == [{"c": "a", "n": 2}] * 20


def test_null_values_choose_what_is_null() -> None:
    content = 'c,n\nNA,1\n-,-\n,\n"-",4\n'
    assert columns(content, null_values=["-"]) == {"c": ["NA", None, "", "-"], "n": [1, None, None, 4]}
    assert columns(content, null_values=["", "-", "NA"]) == {"c": [None, None, None, "-"], "n": [1, None, None, 4]}
    assert columns(content, null_values=[]) == {"c": ["NA", "-", "", "-"], "n": ["1", "-", "", "4"]}
    assert columns("f\n1.5\nnan\n", null_values=["nan"]) == {"f": [1.5, None]}
    assert columns("n\n1\nNA\n", null_values=[""]) == {"n": ["1", "NA"]}
    with pytest.raises(FormatError, match=r"line 3: 'NA' in column 'n'"):
        columns("n\n1\nNA\n", null_values=[""], schema=pa.schema({"n": pa.int64()}))


def test_null_values_are_a_part_of_what_rows_there_are() -> None:
    Path("rows.csv").write_text("c\nNA\n")
    assert create_file_source("rows.csv").identity != create_file_source("rows.csv", null_values=["NA"]).identity
    chosen = Dataset.from_file("rows.csv", null_values=["NA"])
    assert chosen.save("chosen").to_arrow()["c"].to_pylist() == [None]
    for wrong in ("NA", [1], b"NA", 7):
        with pytest.raises(InvalidArgumentError, match="null_values must be a list of texts"):
            Dataset.from_file("rows.csv", null_values=wrong)  # type: ignore[arg-type]
    Path("rows.jsonl").write_text('{"c": "NA"}\n')
    with pytest.raises(InvalidArgumentError, match=r"rows\.jsonl' is read as jsonl"):
        Dataset.from_file("rows.jsonl", null_values=["NA"])


# ------------------------------------------------------------------------------------------------ whole numbers

BIG = 10**20 - 1


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_whole_numbers_beyond_int64_are_decimals_and_never_floats(suffix: str) -> None:
    def written(values: list[Any]) -> pa.ChunkedArray[Any]:
        shown = ["" if value is None else value for value in values]
        lines = [f'{{"k":0,"x":{value if value != "" else "null"}}}' for value in shown]
        content = "k,x\n" + "".join(f"0,{value}\n" for value in shown) if suffix == "csv" else "\n".join(lines)
        return table(content, f"rows.{suffix}")["x"]

    for values, kind in (
        ([1, BIG, None, -3], pa.decimal128(38, 0)),
        ([2**63 - 1, 2**63], pa.decimal128(38, 0)),
        ([2**63 - 1, -(2**63)], pa.int64() if suffix == "jsonl" else pa.decimal128(38, 0)),
        ([2**53 + 1, 2**63 - 1], pa.int64()),
        ([10**38 - 1, 1], pa.decimal128(38, 0)),
        ([10**38, 1], pa.decimal256(76, 0)),
    ):
        found = written(values)
        assert found.to_pylist() == values
        assert found.type in (kind, pa.int64())
    assert written(["1e30", 2]).type == pa.float64()
    assert written([1.5, 2**53 + 2]).type == pa.float64()
    for number in (BIG, 2**53 + 1, -(2**53) - 1):
        assert written([1.5, number]).to_pylist() == [Decimal("1.5"), Decimal(number)]
        assert written([number, "25e-3", None]).to_pylist() == [Decimal(number), Decimal("0.025"), None]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_whole_numbers_that_a_float_would_round_are_told_further_down(
    suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"lakefeed.formats.{suffix}_format.BLOCK_BYTES", 64)
    values = [0.5] * 50 + [2**53 + 2, 1e300, 2**53 + 1]
    lines = ["x", *map(str, values)] if suffix == "csv" else [f'{{"x": {value}}}' for value in values]
    path = Path(f"far.{suffix}")
    path.write_text("\n".join(lines))
    at = 54 if suffix == "csv" else 53
    with pytest.raises(FormatError, match=f"line {at}: .*9007199254740993.*double"):
        Dataset.from_file(str(path)).to_arrow()
    told = Dataset.from_file(str(path), schema=pa.schema({"x": pa.float64()})).to_arrow()
    assert told["x"].to_pylist() == [float(value) for value in values]


def test_whole_numbers_inside_others_are_not_rounded_and_those_that_nothing_holds_are_told() -> None:
    nested = table(f'{{"a":[{2**53 + 1},0.5],"s":{{"c":{2**60 + 1}}}}}\n{{"s":{{"c":0.25}}}}\n', "inside.jsonl")
    assert nested["a"].to_pylist() == [[Decimal(2**53 + 1), Decimal("0.5")], None]
    assert nested["s"].to_pylist() == [{"c": Decimal(2**60 + 1)}, {"c": Decimal("0.25")}]
    with pytest.raises(FormatError, match="'x' has a whole number that float64 would round"):
        table(f'{{"x":{2**53 + 1}}}\n{{"x":1e300}}\n', "wide.jsonl")
    assert columns(f"x\n{2**53 + 1}\n1e300\n") == {"x": [str(2**53 + 1), "1e300"]}


def test_whole_numbers_of_other_shapes() -> None:
    assert columns("x\nNA\n 99999999999999999999\n") == {"x": [None, BIG]}
    assert columns(f"x\n+{2**53 + 1}\n") == {"x": [2**53 + 1]}
    assert columns(f"x\n{10**80}\n1\n") == {"x": [str(10**80), "1"]}
    saved = Dataset.from_file("rows.csv").save("texts")
    assert saved.to_arrow()["x"].to_pylist() == [str(10**80), "1"]
    Path("big.csv").write_text(f"x\n{BIG}\n")
    Path("small.csv").write_text("x\n1\n")
    both = Dataset.from_file(["small.csv", "big.csv"]).save("numbers").to_arrow()
    assert both["x"].to_pylist() == [Decimal(1), Decimal(BIG)]
    nested = table(f'{{"a":[{{"b":{BIG}}}],"f":1.5}}\n{{"a":null,"f":2}}\n{{"a":[{{"b":null}}]}}\n', "n.jsonl")
    assert nested["a"].to_pylist() == [[{"b": BIG}], None, [{"b": None}]]
    assert nested["f"].type == pa.float64()
    with pytest.raises(FormatError, match=r"n\.jsonl': 'a'\.'b' has a whole number of more than 76 digits"):
        table(f'{{"a":{{"b":{10**80}}}}}\n', "n.jsonl")


@pytest.mark.parametrize("first", [1, BIG, 10**40])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_later_number_that_does_not_fit_is_an_error_with_its_line(
    suffix: str, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"lakefeed.formats.{suffix}_format.BLOCK_BYTES", 1000)
    late: Any = 10**80 if first == 1 else 1.5
    values = [first] + [2] * 1000 + [late, 3]
    lines = [str(value) if suffix == "csv" else f'{{"x":{value}}}' for value in values]
    header = ["x"] if suffix == "csv" else []
    with pytest.raises(FormatError, match=rf"rows\.{suffix}', line {1002 + len(header)}: .*{late}.*schema="):
        table("\n".join(header + lines), f"rows.{suffix}")


# ------------------------------------------------------------------------------------------------ encodings


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_utf16_is_an_error_that_says_so(suffix: str, encoding: str) -> None:
    content = "x,y\n1,é\n" if suffix == "csv" else '{"x":"é"}\n'
    for options in ({}, {"schema": pa.schema({"x": pa.string()})}):
        with pytest.raises(FormatError, match=rf"rows\.{suffix}', line 1: the text is UTF-16 .*iconv"):
            table(content.encode(encoding), f"rows.{suffix}", **options)


@pytest.mark.parametrize("rows", [2, 100_000])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_cell_that_is_not_utf8_is_an_error_with_its_line(
    suffix: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"lakefeed.formats.{suffix}_format.BLOCK_BYTES", 1000)
    good, bad = ("1,é\n", "2,h\xe9\n") if suffix == "csv" else ('{"x":1,"y":"é"}\n', '{"x":2,"y":"h\xe9"}\n')
    header = b"x,y\n" if suffix == "csv" else b""
    content = header + good.encode() * rows + bad.encode("latin-1") + good.encode()
    line = rows + 1 + len(header) // 4
    named = r"b'h\\xe9' in column 'y'" if suffix == "csv" else r"b'{\"x\":2,\"y\":\"h\\xe9\"}'"
    for options in ({}, {"schema": pa.schema({"y": pa.string()})}):
        with pytest.raises(FormatError, match=rf"rows\.{suffix}', line {line}: {named} is not UTF-8"):
            table(content, f"rows.{suffix}", **options)


def test_a_name_that_is_not_utf8_is_an_error_with_its_line() -> None:
    with pytest.raises(FormatError, match=r"rows\.csv', line 2: the header .* is not UTF-8"):
        table("\nx,h\xe9\n1,2\n".encode("latin-1"))
    with pytest.raises(FormatError, match=r"rows\.jsonl', line 1: .* is not UTF-8"):
        table('{"h\xe9":1}\n'.encode("latin-1"), "rows.jsonl")
    declared = pa.schema({"y": pa.binary()})
    assert table("x,y\n1,h\xe9\n".encode("latin-1"), schema=declared)["y"].to_pylist() == [b"h\xe9"]
