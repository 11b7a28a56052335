"""CSV with a header line, streamed; types come from the first block."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.csv as pacsv

from lakefeed.errors import FormatError, SchemaError, listed
from lakefeed.formats.base import ADVICE, Streamed, opened
from lakefeed.formats.text import blocks, first_block, header, in_memory
from lakefeed.storage.streams import Stream
from lakefeed.storage.urls import shown

SHOWN_CHARS = 80
EMPTY = "Empty CSV file"

_RAGGED = re.compile(r"Expected (\d+) columns, got (\d+): (.*)", re.DOTALL)
_BAD_VALUE = re.compile(r"In CSV column #(\d+): .*invalid value '(.*)'", re.DOTALL)


class Csv(Streamed):
    """``.csv`` files, also compressed. An empty cell is null; quoted it is an empty text."""

    name: ClassVar[str] = "csv"
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)

    def head(self, stream: Stream) -> pa.Schema:
        with _located(stream.url):
            return _parsed(None, None, first_block(stream.file, quoted=True)).schema

    def rows(
        self, stream: Stream, schema: pa.Schema, columns: Sequence[str] | None, exact: bool
    ) -> Iterator[pa.RecordBatch]:
        wanted = list(columns) if columns is not None else None if exact else schema.names
        with _located(stream.url, may_be_empty=not exact):
            above = b""
            for block in _blocks(stream.file):
                table = _parsed(schema, wanted, above, block)
                if wanted is None and sorted(table.schema.names) != sorted(schema.names):
                    raise SchemaError(
                        f"{shown(stream.url)} has columns {listed(table.schema.names)}, not {listed(schema.names)}; "
                        "files read together must have the same columns"
                    )
                yield from table.to_batches()
                above = above or header(block)


def _blocks(file: Any) -> Iterator[bytes]:
    """The blocks of a file; one of no bytes where it has none, of which Arrow complains."""
    found = False
    for block in blocks(file, quoted=True):
        found = True
        yield block
    if not found:
        yield b""


@contextmanager
def _located(url: str, *, may_be_empty: bool = False) -> Iterator[None]:
    """Adds the line at which a file is broken to the complaint.

    ``may_be_empty``: a file without any bytes is none, as its types are known.
    """
    try:
        yield
    except pa.ArrowKeyError as error:
        with opened(url) as file:
            header = next(csv.reader(_text(file)), [])
        raise SchemaError(f"{shown(url)} has columns {listed(header)}: {error.args[0]}") from error
    except pa.ArrowInvalid as error:
        if may_be_empty and EMPTY in str(error):
            return
        bad, ragged = _BAD_VALUE.search(str(error)), _RAGGED.search(str(error))
        if ragged is not None:
            expected, there, text = int(ragged[1]), int(ragged[2]), ragged[3]
            line, _ = _find(url, lambda cells: bool(cells) and len(cells) != expected)
            raise FormatError(
                f"{shown(url)}{line}: {there} cells where the header has {expected}: {text[:SHOWN_CHARS]!r}"
            ) from error
        if bad is None:
            raise
        place, value = int(bad[1]), bad[2]
        line, header = _find(url, lambda cells: len(cells) > place and cells[place] == value)
        name = header[place] if place < len(header) else place
        raise FormatError(
            f"{shown(url)}{line}: {value[:SHOWN_CHARS]!r} in column {name!r} does not fit: {error}{ADVICE}"
        ) from error


def _find(url: str, wrong: Callable[[list[str]], bool]) -> tuple[str, list[str]]:
    """Where the first line (below the header) is that is wrong, and the header. Only run when there is one."""
    with opened(url) as file:
        reader = csv.reader(_text(file))
        header = next(reader, [])
        try:
            found = any(wrong(cells) for cells in reader)
        except csv.Error:  # Python takes no cells as long as Arrow does
            found = False
        return f", line {reader.line_num}" if found else "", header


def _text(file: Any) -> Any:
    return io.TextIOWrapper(io.BufferedReader(_Raw(file)), "utf-8-sig", "replace", newline="")


class _Raw(io.RawIOBase):
    """Any file as one of Python's."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._file.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def _parsed(schema: pa.Schema | None, columns: Sequence[str] | None, *pieces: bytes) -> pa.Table:
    """The rows of a header and whole lines."""
    convert = pacsv.ConvertOptions(
        column_types=None if schema is None else {field.name: field.type for field in schema},
        include_columns=None if columns is None else list(columns),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    return pacsv.read_csv(
        in_memory(*pieces),
        # At once: a boundary within could cut a line that is longer than half of it.
        read_options=pacsv.ReadOptions(block_size=max(sum(map(len, pieces)), 1)),
        convert_options=convert,
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
    )
