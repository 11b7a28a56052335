"""Text formats against other readers: the rows are those that they read, whatever the bytes and the size of blocks."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakefeed.errors import FormatError
from lakefeed.formats.csv_format import Csv
from lakefeed.formats.csv_records import count_lines, header_end, last_record_end, open_quote, record_ends
from lakefeed.formats.jsonl_format import JsonLines
from lakefeed.storage.archives.streams import Stream

Cells = list[list[Any]]
NEWLINES = pacsv.ParseOptions(newlines_in_values=True)

TOKENS = st.sampled_from(['"', '"', '""', '",', '"\n', ",", ",", "\n", "\r", "\r\n", "a", "1", " ", "é", "NA"])
TEXTS = st.lists(TOKENS, max_size=40).map("".join)
SIZES = st.integers(1, 50)
LINE_ENDS = st.sampled_from(["\n", "\r", "\r\n"])
LONELY = st.sampled_from(
    ['5" disk', 'x"', 'a"b"c', '"q"x', '"a, b"', '"l\n\r"', '"a ""b"""', '""', "", "w", "12", "NA", " "]
)
HEADERS = st.sampled_from(['a,b "', 'a",b', '"a\n",b', '"a,""",b', "a,b", "\n\r\na,b", "\ufeffa,b", '\ufeff"a",b'])
PLAIN_CELLS = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\ufeff", exclude_categories=["Cs"]), max_size=8
)
NUMBERS = st.one_of(
    st.integers(-(10**40), 10**40),
    st.integers(-(2**64), 2**64),
    st.integers(-9, 9),
    st.sampled_from(["", "NA", "null"]),
)
VALUES = st.sampled_from(["1", "-7", "1.5", "1e3", "", "NA", "null", "true", "2020-01-01", "12:30", "x", " ", "9" * 19])


# ------------------------------------------------------------------------------------------------ where records end


def by_machine(text: bytes) -> tuple[list[int], int | None]:
    """Where the records of CSV end and which quote is open at the end, byte by byte."""
    ends, state, place, opened = [], "start", 0, None
    while place < len(text):
        byte, place = text[place : place + 1], place + 1
        if state == "start" and byte == b'"':
            state, opened = "quoted", place - 1
        elif state == "quoted":
            if byte == b'"' and text[place : place + 1] == b'"':
                place += 1
            elif byte == b'"':
                state = "cell"
        elif byte in b"\r\n":
            place += byte == b"\r" and text[place : place + 1] == b"\n"
            ends.append(place)
            state = "start"
        else:
            state = "start" if byte == b"," else "cell"
    return ends, opened if state == "quoted" else None


def check_records(text: str) -> None:
    content = text.encode()
    ends, opened = by_machine(content)
    assert record_ends(content).tolist() == ends
    assert open_quote(content) == opened
    sure = [end for end in ends if end < len(content) or not content.endswith(b"\r")]
    assert last_record_end(content) == (sure[-1] if sure else 0)
    blank = len(content) - len(content.lstrip(b"\r\n"))
    assert header_end(content) == next((end for end in ends if end > blank), len(content))
    assert count_lines(content) == len(content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")) - 1


# ------------------------------------------------------------------------------------------------ any text


def ours(content: bytes, size: int) -> tuple[list[str], Cells]:
    """The names and the columns, all of them as text."""
    form = Csv(piece_bytes=size)
    names = form.head(Stream("rows.csv", io.BytesIO(content))).names
    schema = pa.schema([(name, pa.string()) for name in names])
    batches = list(form.rows(Stream("rows.csv", io.BytesIO(content)), schema, None, True))
    return names, [[cell for batch in batches for cell in batch.column(n).to_pylist()] for n in range(len(names))]


def arrows(content: bytes) -> tuple[list[str], Cells]:
    """The same by Arrow, from the whole file at once. A line end is added, without which it reads `"a",` wrong."""
    content += b"\n"
    names = pacsv.read_csv(io.BytesIO(content), parse_options=NEWLINES).schema.names
    convert = pacsv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    table = pacsv.read_csv(io.BytesIO(content), parse_options=NEWLINES, convert_options=convert)
    return names, [column.to_pylist() for column in table.columns]


def pandas_complaint(content: bytes) -> str:
    try:
        pd.read_csv(io.BytesIO(content), dtype=str)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        return str(error)
    return ""


def check_against_arrow(content: bytes, size: int) -> None:
    try:
        expected = arrows(content)
    except pa.ArrowInvalid:
        with pytest.raises(FormatError):
            ours(content, size)
        return
    if len(set(expected[0])) < len(expected[0]):
        return  # names that come twice are refused
    complaint, found = complaint_of(content, size)
    if complaint:
        # Arrow takes a quoted cell that does not end for one that ends with the file; pandas and we do not.
        assert "is not closed" in complaint
        assert "EOF inside string" in pandas_complaint(content)
    else:
        assert found == expected


def complaint_of(content: bytes, size: int) -> tuple[str, tuple[list[str], Cells] | None]:
    try:
        return "", ours(content, size)
    except FormatError as error:
        return str(error), None


def lonely(header: str, rows: Cells, ends: list[str]) -> bytes:
    lines = [header, *(",".join(row) for row in rows)]
    return "".join(line + ends[n % len(ends)] for n, line in enumerate(lines)).encode()


LONELY_FILES = st.builds(
    lonely, HEADERS, st.lists(st.lists(LONELY, min_size=2, max_size=2), max_size=8), st.lists(LINE_ENDS, min_size=1)
)


# ------------------------------------------------------------------------------------------------ sound text


def written(rows: list[list[str]], ends: str, always_quoted: bool) -> bytes:
    lines = [",".join(_quoted(cell, always_quoted) for cell in row) for row in [["a", "b"], *rows]]
    return "".join(line + ends for line in lines).encode()


def _quoted(cell: str, always: bool) -> str:
    return '"' + cell.replace('"', '""') + '"' if always or any(mark in cell for mark in '",\r\n') else cell


SOUND_FILES = st.builds(
    written,
    st.lists(st.lists(PLAIN_CELLS, min_size=2, max_size=2), max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)


def check_against_all(content: bytes, size: int) -> None:
    names, columns = ours(content, size)
    found = [["" if cell is None else cell for cell in column] for column in columns]
    frame = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, na_filter=False)
    assert names == list(frame) == ["a", "b"]
    (_, *records) = [row for row in csv.reader(io.StringIO(content.decode(), newline="")) if row]
    assert [list(row) for row in zip(*found, strict=True)] == records
    if not any(line.isspace() for line in content.decode().splitlines()):  # pandas takes such lines for blank ones
        assert found == [frame[name].to_list() for name in names]
    assert by_duckdb(content) == [tuple(row) for row in zip(*found, strict=True)]


def by_duckdb(content: bytes) -> list[tuple[str, ...]]:
    ends = "\\r\\n" if content.startswith((b"a,b\r\n", b'"a","b"\r\n')) else "\\n"
    options = {"header": "true", "auto_detect": "false", "delim": "','", "quote": "'\"'", "escape": "'\"'"}
    options |= {"columns": "{'a': 'VARCHAR', 'b': 'VARCHAR'}", "nullstr": "'no such text'", "new_line": f"'{ends}'"}
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        file.write(content)
        file.flush()
        given_options = ", ".join(f"{name}={value}" for name, value in options.items())
        rows: list[tuple[str, ...]] = duckdb.sql(f"SELECT * FROM read_csv('{file.name}', {given_options})").fetchall()
        return rows


# ------------------------------------------------------------------------------------------------ types


def types_of(content: bytes) -> list[pa.DataType]:
    return Csv().head(Stream("rows.csv", io.BytesIO(content))).types


def check_types(values: list[str]) -> None:
    """Arrow's types, but where null words are all that there is, and where whole numbers would be floats."""
    content = "".join(f"{value},0\n" for value in ["a", *values]).encode()
    (kind, _), expected = types_of(content), pacsv.read_csv(io.BytesIO(content)).schema.types[0]
    numbers = [value.strip() for value in values if value not in ("", "NA", "null")]
    if pa.types.is_float64(expected) and all(value.lstrip("-").isdecimal() for value in numbers):
        assert pa.types.is_decimal(kind)
    elif pa.types.is_null(expected) and any(values):
        assert kind == pa.string()
    else:
        assert kind == expected


def check_numbers(values: list[Any], size: int) -> None:
    """Whole numbers come back as they are, in both formats."""
    present = [value if isinstance(value, int) else None for value in values]
    content = "".join(f"{value},0\n" for value in ["a", *values]).encode()
    lines = "".join(f"{json.dumps({'a': value, 'b': 0})}\n" for value in present).encode()
    for form, text in ((Csv(piece_bytes=size), content), (JsonLines(), lines)):
        if not text:
            continue
        schema = form.head(Stream("rows", io.BytesIO(text)))
        batches = form.rows(Stream("rows", io.BytesIO(text)), schema, None, True)
        found = [cell for batch in batches for cell in batch.column(0).to_pylist()]
        if pa.types.is_string(schema.types[0]):
            assert not any(present)
        else:
            assert found == present


# ------------------------------------------------------------------------------------------------ a share, and all

CHECKS: dict[str, tuple[Callable[..., None], list[st.SearchStrategy[Any]]]] = {
    "records end where a machine says": (check_records, [TEXTS]),
    "any text is read as Arrow reads it whole": (
        check_against_arrow,
        [st.one_of(LONELY_FILES, TEXTS.map(lambda text: ("a,b\n" + text).encode())), SIZES],
    ),
    "sound text is read as others read it": (check_against_all, [SOUND_FILES, SIZES]),
    "types are those of Arrow": (check_types, [st.lists(VALUES, max_size=6)]),
    "whole numbers stay as they are": (check_numbers, [st.lists(NUMBERS, max_size=6), SIZES]),
}


@pytest.mark.parametrize("check", CHECKS)
def test_text_formats_agree(check: str) -> None:
    function, strategies = CHECKS[check]
    given(*strategies)(function)()


@pytest.mark.soak
@pytest.mark.parametrize("check", CHECKS)
def test_text_formats_agree_at_length(check: str) -> None:
    function, strategies = CHECKS[check]
    settings(max_examples=20_000, derandomize=False)(given(*strategies)(function))()
