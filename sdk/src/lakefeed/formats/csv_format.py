"""CSV files with a header line. Types are inferred from the first block."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, TypeVar

import pyarrow as pa
import pyarrow.csv as pacsv
from pyarrow import types

from lakefeed._typing import Block
from lakefeed.errors import FormatError, SchemaError, quoted_list
from lakefeed.formats.csv_conversion import BLANK, Conversion, NullWords, infer_schema, is_cell_error
from lakefeed.formats.csv_records import count_lines, header_end, record_ends
from lakefeed.formats.file_format import SCHEMA_ADVICE, Divided, require_columns
from lakefeed.formats.text_blocks import BLOCK_BYTES, CHUNK_BYTES, NOT_UTF8, blocks, memory_file
from lakefeed.storage.archives.streams import Stream
from lakefeed.storage.urls import display_url

SHOWN_CHARS = 80
LARGER_PARTS = 4
"""Parts grow up to this factor. Arrow's parser takes half the time for a byte of large parts."""
Result = TypeVar("Result")

_RAGGED = re.compile(r"Expected (\d+) columns, got (\d+): (.*)", re.DOTALL)
_COLUMN = re.compile(r"In CSV column #(\d+): ")


@dataclass(frozen=True)
class Csv(Divided):
    """``.csv`` files, also compressed. An empty cell is null, and a quoted empty cell is empty text.

    Attributes:
        null_values: the cells that are null instead of the default ones; see `NullWords`.
        piece_bytes: the approximate number of bytes of the first part that is converted at once.
    """

    name: ClassVar[str] = "csv"
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)
    null_values: tuple[str, ...] | None = None
    piece_bytes: int = CHUNK_BYTES

    def head(self, stream: Stream) -> pa.Schema:
        part = None
        for part in _read_parts(stream, BLOCK_BYTES):
            if part.records.strip(BLANK):
                break
        if part is None:
            raise _empty_error(stream.url)
        nulls = NullWords.of(self.null_values)
        schema = part.read(lambda records: infer_schema(records, part.names, nulls))
        broken = [name for name, kind in zip(schema.names, schema.types, strict=True) if types.is_binary(kind)]
        if broken:  # some cell is not UTF-8; reading the columns as text finds it
            part.read(Conversion(part.names, dict.fromkeys(broken, pa.string()), broken, nulls).table)
        return schema

    def parts_of(
        self, stream: Stream, schema: pa.Schema, columns: Sequence[str] | None, strict: bool
    ) -> Iterator[Block]:
        selected = list(columns) if columns is not None else None if strict else schema.names
        conversion = None
        for part in _read_parts(stream, self.piece_bytes, LARGER_PARTS * self.piece_bytes):
            if conversion is None:
                _check_columns(stream.url, part.names, schema, selected)
                kinds = {field.name: field.type for field in schema}
                conversion = Conversion(
                    part.names, kinds, selected, NullWords.of(self.null_values), reject_rounding=strict
                )
            yield partial(part.batches, conversion)
        if conversion is None and strict:
            raise _empty_error(stream.url)


@dataclass(frozen=True)
class _Part:
    """Complete records of a file without the header. The first one begins at line number ``line``."""

    url: str
    names: tuple[str, ...]
    records: bytes
    line: int

    def batches(self, conversion: Conversion) -> list[pa.RecordBatch]:
        """Returns the rows."""
        return self.read(conversion.table).to_batches()

    def read(self, reader: Callable[[bytes], Result]) -> Result:
        """Returns the result of ``reader`` for the records.

        Raises:
            FormatError: ``reader`` fails; the message names the line of the first bad record.
        """
        try:
            return reader(self.records)
        except pa.ArrowInvalid as error:
            raise self._locate_error(reader, error) from None

    def _locate_error(self, reader: Callable[[bytes], object], error: pa.ArrowInvalid) -> FormatError:
        start, stop = self._first_bad(reader)
        record = self.records[start:stop]
        error = _read_error(reader, record) or error
        blank = len(record) - len(record.lstrip(BLANK))
        location = f"{display_url(self.url)}, line {self.line + count_lines(self.records[: start + blank])}"
        if ragged := _RAGGED.search(str(error)):
            expected, actual, text = ragged.groups()
            return FormatError(f"{location}: {actual} cells where the header has {expected}: {text[:SHOWN_CHARS]!r}")
        if not is_cell_error(error):
            return FormatError(f"{location}: {error}")
        reason = _COLUMN.sub("", str(error))
        name, cell = self._cell(record, error)
        if "UTF8" in reason:
            return FormatError(f"{location}: {cell[:SHOWN_CHARS]!r} in column {name!r} {NOT_UTF8}")
        value = cell.decode(errors="replace")[:SHOWN_CHARS]
        return FormatError(f"{location}: {value!r} in column {name!r} does not fit: {reason}{SCHEMA_ADVICE}")

    def _first_bad(self, reader: Callable[[bytes], object]) -> tuple[int, int]:
        """Returns the byte range of the first bad record, by binary search: each record is read independently."""
        ends = record_ends(self.records)
        edges = sorted({0, *ends.tolist(), len(self.records)})
        good, bad = 0, len(edges) - 1
        while bad - good > 1:
            middle = (good + bad) // 2
            is_valid = _read_error(reader, self.records[edges[good] : edges[middle]]) is None
            good, bad = (middle, bad) if is_valid else (good, middle)
        return edges[good], edges[bad]

    def _cell(self, record: bytes, error: pa.ArrowInvalid) -> tuple[str, bytes]:
        """Returns the name of the column that an error is about, and its cell in the record."""
        match = _COLUMN.search(str(error))
        name = self.names[int(match[1]) if match else 0]
        as_bytes = Conversion(self.names, {name: pa.binary()}, [name], NullWords.of([])).table(record)
        return name, as_bytes[name][0].as_py() or b""


def _read_error(reader: Callable[[bytes], object], records: bytes) -> pa.ArrowInvalid | None:
    try:
        reader(records)
    except pa.ArrowInvalid as error:
        return error
    return None


def _read_parts(stream: Stream, size: int, largest: int = 0) -> Iterator[_Part]:
    """Yields the records of a file, about ``size`` bytes at a time. A file with a header has at least one part."""
    names: tuple[str, ...] | None = None
    for line, block in blocks(stream.file, size, display_url(stream.url), quoted=True, largest=largest):
        start = 0
        if names is None and block.strip(BLANK):
            start = header_end(block)
            names = _read_header(block[:start], stream.url, line)
        if names is not None:
            yield _Part(stream.url, names, block[start:], line + count_lines(block[:start]))


def _read_header(header: bytes, url: str, line: int) -> tuple[str, ...]:
    try:
        header.decode()
    except UnicodeDecodeError as error:
        number = line + count_lines(header[: error.start])
        raise FormatError(
            f"{display_url(url)}, line {number}: the header {header.strip()[:SHOWN_CHARS]!r} {NOT_UTF8}"
        ) from None
    table = pacsv.read_csv(
        memory_file(header, b"\n"),
        read_options=pacsv.ReadOptions(block_size=len(header) + 1),
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
    )
    return tuple(table.schema.names)


def _check_columns(url: str, names: Sequence[str], schema: pa.Schema, columns: Sequence[str] | None) -> None:
    """Raises SchemaError if a file lacks a column to read or, where ``columns`` is None, has other columns."""
    if columns is not None:
        require_columns(url, names, columns)
    elif sorted(names) != sorted(schema.names):
        raise SchemaError(
            f"{display_url(url)} has columns {quoted_list(names)}, not {quoted_list(schema.names)}; "
            "files read together must have the same columns"
        )


def _empty_error(url: str) -> FormatError:
    return FormatError(f"{display_url(url)} is empty; a CSV file begins with a line of column names")
