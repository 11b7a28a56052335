"""Rows of CSV and JSON lines of which each is read on its own where some cannot be read.

The types are given. A row that does not have them is reported with its line and text, and the others are read.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
from pyarrow import types

from lakefeed.dataset import Dataset, plan_of
from lakefeed.errors import FormatError, quoted_list
from lakefeed.formats.csv_conversion import BLANK, Conversion, NullWords, infer_schema
from lakefeed.formats.csv_format import Csv
from lakefeed.formats.csv_records import count_lines, header_end, record_ends
from lakefeed.formats.file_format import content_errors
from lakefeed.formats.format_registry import FORMATS
from lakefeed.formats.json_times import cast_timestamps, check_depth, has_timestamps, infer_zones, timestamps_as_text
from lakefeed.formats.text_blocks import BLOCK_BYTES, CHUNK_BYTES, NOT_UTF8, OpenQuoteError, blocks, memory_file
from lakefeed.formats.whole_numbers import may_be_inexact, rounded_number
from lakefeed.ops import Scan
from lakefeed.sources.file_source import FilesSource, create_file_source
from lakefeed.storage.archives.streams import Stream, open_streams
from lakefeed.storage.urls import display_url

SAMPLE_BYTES = CHUNK_BYTES
"""The size of the beginning of a file that shows the types of its columns."""
MAX_TEXT_CHARS = 100_000
"""The most characters of a row that cannot be read that are stored."""

READ_ERRORS = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, UnicodeDecodeError)


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read. ``row`` counts from 0, ``line`` from 1."""

    row: int
    line: int
    text: str
    reason: str


@dataclass(frozen=True)
class _Record:
    """The place of a row in a block, and the number of its line."""

    start: int
    stop: int
    line: int


@dataclass(frozen=True)
class Piece:
    """Rows that were read. The first one has the number ``row``."""

    batch: pa.RecordBatch
    row: int
    records: Sequence[_Record] = ()
    block: bytes = b""

    def locate(self, index: int) -> tuple[int, str] | None:
        """Returns the line and the text of one of the rows; None if they are unknown."""
        if len(self.records) != self.batch.num_rows:
            return None
        record = self.records[index]
        return record.line, _text_of(self.block[record.start : record.stop])


class _OpenBlock(bytes):
    """The record that begins a quoted cell which does not end, to the end of the file."""

    reason: str


class TextRows(ABC):
    """The rows of the text files at a URL."""

    def __init__(self, source: FilesSource) -> None:
        self.url = source.urls[0]
        self.declared = source.declared

    @cached_property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """The columns that the beginning of the first file shows, in the types that most rows have.

        Raises:
            FormatError: the file is empty, or no row can be read.
            FileError: the file cannot be read.
        """

    @abstractmethod
    def everywhere(self, name: str) -> bool:
        """Returns whether all rows at the beginning have a column."""

    def pieces(self, target: pa.Schema) -> Iterator[Piece | BadRow]:
        """Yields the rows in order, in types that can be cast to those of ``target``, and the rows that have others.

        Raises:
            FormatError: the file is damaged as a whole, or empty.
            FileError: the file cannot be read.
        """
        kinds, row = self._kinds(target), 0
        with closing(open_streams(self.url)) as opened:
            for stream in opened:
                with content_errors(stream.url, self._format):
                    count = 0
                    for line, names, block in self._blocks(stream, CHUNK_BYTES):
                        count += 1
                        if isinstance(block, _OpenBlock):
                            yield BadRow(row, line, _text_of(block), block.reason)
                            continue
                        try:
                            table = self._table(block, names, kinds)
                            yield from self._whole_block(table, row, line, block)
                            row += table.num_rows
                        except READ_ERRORS:
                            records = self._records(block, line)
                            yield from self._split(block, records, names, kinds, row)
                            row += len(records)
                    if not count:
                        raise FormatError(f"{display_url(stream.url)} is empty")

    def _whole_block(self, table: pa.Table, row: int, line: int, block: bytes) -> Iterator[Piece]:
        for batch in table.to_batches():
            yield _LazyPiece(batch, row, self, line, block) if len(table) == len(batch) else Piece(batch, row)
            row += batch.num_rows

    def _split(
        self, block: bytes, records: Sequence[_Record], names: Sequence[str], kinds: pa.Schema, row: int
    ) -> Iterator[Piece | BadRow]:
        """Yields the rows of a block of which some cannot be read, by halving what contains them."""
        if not records:
            return
        text = block[records[0].start : records[-1].stop]
        try:
            table = self._table(text, names, kinds)
            for batch in table.to_batches():
                yield Piece(batch, row, records if len(table) == len(batch) else (), block)
            return
        except READ_ERRORS as error:
            if len(records) == 1:
                own = self._second_try(text, names)
                if own is None:
                    yield BadRow(row, records[0].line, _text_of(text), self._reason(text, kinds, error))
                else:
                    yield Piece(own, row, records, block)
                return
        half = len(records) // 2
        yield from self._split(block, records[:half], names, kinds, row)
        yield from self._split(block, records[half:], names, kinds, row + half)

    @property
    @abstractmethod
    def _format(self) -> str: ...

    @abstractmethod
    def _kinds(self, target: pa.Schema) -> pa.Schema:
        """Returns the types in which columns are read."""

    @abstractmethod
    def _blocks(self, stream: Stream, size: int) -> Iterator[tuple[int, Sequence[str], bytes]]:
        """Yields blocks of complete records, with the number of their first line and the names of their columns."""

    @abstractmethod
    def _records(self, block: bytes, line: int) -> list[_Record]:
        """Returns the records of a block without blank lines."""

    @abstractmethod
    def _table(self, text: bytes, names: Sequence[str], kinds: pa.Schema) -> pa.Table:
        """Returns the rows of complete records. Raises one of READ_ERRORS if a record has other types."""

    @abstractmethod
    def _second_try(self, text: bytes, names: Sequence[str]) -> pa.RecordBatch | None:
        """Returns a record in its own types; None if it cannot be read at all."""

    @abstractmethod
    def _reason(self, text: bytes, kinds: pa.Schema, error: Exception) -> str:
        """Returns why a record cannot be read."""


class _LazyPiece(Piece):
    """All rows of a block. Their lines are looked up only where a row is bad."""

    def __init__(self, batch: pa.RecordBatch, row: int, rows: TextRows, line: int, block: bytes) -> None:
        super().__init__(batch, row, (), block)
        object.__setattr__(self, "_origin", (rows, line))

    def locate(self, index: int) -> tuple[int, str] | None:
        return self._located.locate(index)

    @cached_property
    def _located(self) -> Piece:
        rows, line = self.__dict__["_origin"]
        return Piece(self.batch, self.row, rows._records(self.block, line), self.block)


class CsvRows(TextRows):
    """The rows of CSV files."""

    def __init__(self, source: FilesSource) -> None:
        super().__init__(source)
        self._nulls = NullWords.of(source.null_values)

    @cached_property
    def schema(self) -> pa.Schema:
        if self.declared is not None:
            return self.declared
        line, names, block = self._beginning()
        try:
            return infer_schema(block, names, self._nulls)
        except pa.ArrowInvalid:  # some records have too many or too few cells
            records = self._records(block, line)
            pieces = self._split(block, records, names, pa.schema([(name, pa.string()) for name in names]), 0)
            bad = {piece.line for piece in pieces if isinstance(piece, BadRow)}
            good = b"".join(block[record.start : record.stop] for record in records if record.line not in bad)
            return infer_schema(good, names, self._nulls)

    def everywhere(self, name: str) -> bool:
        return True

    def _beginning(self) -> tuple[int, Sequence[str], bytes]:
        with closing(open_streams(self.url)) as opened:
            stream = next(opened)
            with content_errors(stream.url, self._format):
                first = None
                for first in self._blocks(stream, BLOCK_BYTES):
                    if first[2].strip(BLANK):
                        break
        if first is None:
            raise FormatError(f"{display_url(self.url)} is empty; a CSV file begins with a line of column names")
        return first

    @property
    def _format(self) -> str:
        return "csv"

    def _kinds(self, target: pa.Schema) -> pa.Schema:
        """Text stays as it is written; the rest is read in its own types, and cast to those of ``target`` later."""
        return pa.schema(
            [
                field.with_type(pa.string())
                if self.declared is None and field.name in target.names and _is_text(target.field(field.name).type)
                else field
                for field in self.schema
            ]
        )

    def _blocks(self, stream: Stream, size: int) -> Iterator[tuple[int, Sequence[str], bytes]]:
        names: tuple[str, ...] | None = None
        for line, block in _with_open_block(blocks(stream.file, size, display_url(stream.url), quoted=True)):
            if names is not None and isinstance(block, _OpenBlock):
                yield line, names, block
                return
            start = 0
            if names is None and block.strip(BLANK):
                start = header_end(block)
                names = _header(block[:start], stream.url, line)
            if names is not None:
                yield line + count_lines(block[:start]), names, block[start:]

    def _records(self, block: bytes, line: int) -> list[_Record]:
        edges = [0, *record_ends(block).tolist()]
        if edges[-1] < len(block):
            edges.append(len(block))
        records = []
        for start, stop in pairwise(edges):
            if block[start:stop].strip(BLANK):
                records.append(_Record(start, stop, line))
            line += count_lines(block[start:stop])
        return records

    def _table(self, text: bytes, names: Sequence[str], kinds: pa.Schema) -> pa.Table:
        selected = None if self.declared is None else kinds.names
        by_name = {field.name: field.type for field in kinds}
        return Conversion(names, by_name, selected, self._nulls, reject_rounding=self.declared is None).table(text)

    def _second_try(self, text: bytes, names: Sequence[str]) -> pa.RecordBatch | None:
        try:
            table = self._table(text, names, pa.schema([(name, pa.string()) for name in names]))
        except READ_ERRORS:
            return None
        return table.to_batches()[0] if len(table) == 1 else None

    def _reason(self, text: bytes, kinds: pa.Schema, error: Exception) -> str:
        if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error):
            return f"the line {NOT_UTF8}"
        return str(error).strip()


class JsonRows(TextRows):
    """The rows of JSON lines."""

    @cached_property
    def schema(self) -> pa.Schema:
        if self.declared is not None:
            return self.declared
        votes = self._head
        fields = [pa.field(name, _common_type(counts)) for name, counts in votes.items()]
        return pa.schema(fields)

    def everywhere(self, name: str) -> bool:
        counts: Counter[pa.DataType] = self._head.get(name, Counter())
        return sum(counts.values()) == self._head_rows

    @cached_property
    def _head(self) -> dict[str, Counter[pa.DataType]]:
        """For each column the types of its values, and how many rows at the beginning have each."""
        votes: dict[str, Counter[pa.DataType]] = {}
        self._head_rows = 0
        with closing(open_streams(self.url)) as opened:
            stream = next(opened)
            with content_errors(stream.url, self._format):
                line, _, block = next(self._blocks(stream, SAMPLE_BYTES), (1, (), b""))
        if not block:
            raise FormatError(f"{display_url(self.url)} is empty; JSON lines have one object a line")
        records = self._records(block, line)
        for table in _inferred_tables(block, records):
            self._head_rows += len(table)
            for name, column in zip(table.schema.names, table.columns, strict=True):
                votes.setdefault(name, Counter())[column.type] += len(column) - column.null_count
        if not votes:
            reason = self._reason(block[records[0].start : records[0].stop], pa.schema([]), pa.ArrowInvalid(""))
            raise FormatError(f"{display_url(self.url)}, line {records[0].line}: no row can be read: {reason}")
        return votes

    @property
    def _format(self) -> str:
        return "JSON lines (one object a line)"

    def _kinds(self, target: pa.Schema) -> pa.Schema:
        """The types of ``target`` where Arrow reads them from JSON, else those of the file, which are cast later."""
        if self.declared is not None:
            return self.declared
        own = self.schema
        return pa.schema(
            [
                field.with_type(_json_type(field.type, own.field(field.name).type if field.name in own.names else None))
                for field in target
            ]
        )

    def _blocks(self, stream: Stream, size: int) -> Iterator[tuple[int, Sequence[str], bytes]]:
        for line, block in blocks(stream.file, size, display_url(stream.url)):
            if block.strip():
                yield line, (), block

    def _records(self, block: bytes, line: int) -> list[_Record]:
        records, start = [], 0
        for text in block.split(b"\n"):
            stop = min(start + len(text) + 1, len(block))
            if text.strip():
                records.append(_Record(start, stop, line))
            start, line = stop, line + 1
        return records

    def _table(self, text: bytes, names: Sequence[str], kinds: pa.Schema) -> pa.Table:
        if not text.isascii():
            text.decode()  # Arrow does not check it
        timed = any(has_timestamps(kind) for kind in kinds.types)
        options = pajson.ParseOptions(
            explicit_schema=timestamps_as_text(kinds),
            unexpected_field_behavior="error" if self.declared is None else "ignore",
        )
        table = _read_json(text, options)
        if self.declared is None and any(map(may_be_inexact, table.columns)):
            message = rounded_number(kinds, text)
            if message is not None:
                raise pa.ArrowInvalid(message)
        return cast_timestamps(table, kinds) if timed else table

    def _second_try(self, text: bytes, names: Sequence[str]) -> pa.RecordBatch | None:
        return None

    def _reason(self, text: bytes, kinds: pa.Schema, error: Exception) -> str:
        """Returns why a line cannot be read. Arrow's own words name no column of an unexpected key."""
        try:
            value = json.loads(text)
        except UnicodeDecodeError:
            return f"the line {NOT_UTF8}"
        except (ValueError, RecursionError) as cause:
            return f"the line is not valid JSON: {cause}"
        if not isinstance(value, dict):
            return f"the line is a {type(value).__name__}, not an object"
        extra = [name for name in value if name not in kinds.names]
        if extra and "unexpected field" in str(error):
            return f"the line has the keys {quoted_list(extra)}; the columns are {quoted_list(kinds.names)}"
        return str(error).removesuffix(" in row 0")


def _with_open_block(text_blocks: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Yields blocks. Of a quoted cell that does not end, the whole record is the last one.

    Raises:
        OpenQuoteError: it is the first record, with the names of the columns.
    """
    try:
        yield from text_blocks
    except OpenQuoteError as error:
        ends = record_ends(error.text[: error.quote])
        begin = int(ends[-1]) if len(ends) else 0
        if begin == 0 and error.line == 1:
            raise
        if begin:
            yield error.line, error.text[:begin]
        first = error.line + count_lines(error.text[:begin])
        rest = _OpenBlock(error.text[begin:])
        last = first + count_lines(rest.rstrip(BLANK))
        at = error.line + count_lines(error.text[: error.quote])
        swallowed = f", so lines {first} to {last} are one row" if last > first else ""
        rest.reason = f"the quote that opens a cell in line {at} is not closed{swallowed}"
        yield first, rest


def text_rows(rows: Dataset | str) -> TextRows | None:
    """Returns the rows of one CSV or JSON lines file; None for other formats and for rows of operations.

    Args:
        rows: the rows of a file, or its path or URL.

    Raises:
        MissingFileError: the file does not exist.
        FormatError: no format has the suffix of the file.
    """
    if isinstance(rows, str):
        source: object = create_file_source(rows)
    else:
        plan = plan_of(rows, "text_rows")
        source = plan.source if isinstance(plan, Scan) else None
    if not isinstance(source, FilesSource) or len(source.urls) != 1:
        return None
    kind = FORMATS[source.format_name]
    return CsvRows(source) if isinstance(kind, Csv) else JsonRows(source) if kind.name == "jsonl" else None


def _header(header: bytes, url: str, line: int) -> tuple[str, ...]:
    try:
        header.decode()
    except UnicodeDecodeError:
        raise FormatError(f"{display_url(url)}, line {line}: the header {NOT_UTF8}") from None
    options = pacsv.ReadOptions(block_size=len(header) + 1)
    table = pacsv.read_csv(memory_file(header, b"\n"), options, pacsv.ParseOptions(newlines_in_values=True))
    return tuple(table.schema.names)


def _inferred_tables(block: bytes, records: Sequence[_Record]) -> Iterator[pa.Table]:
    """Yields the rows of lines in types that Arrow infers, in parts that have one type for each column."""
    if not records:
        return
    text = block[records[0].start : records[-1].stop]
    try:
        text.decode()
        table = _read_json(text, None)
        if any(has_timestamps(kind) for kind in table.schema.types):
            as_text = pajson.ParseOptions(explicit_schema=timestamps_as_text(table.schema))
            table = _read_json(text, None).cast(infer_zones(table.schema, _read_json(text, as_text)))
        yield table
    except READ_ERRORS:
        half = len(records) // 2
        if half:
            yield from _inferred_tables(block, records[:half])
            yield from _inferred_tables(block, records[half:])


def _read_json(text: bytes, options: Any) -> pa.Table:
    # One block: a block boundary could cut a line that is longer than half a block.
    read = pajson.ReadOptions(block_size=max(len(text), 1))
    table = pajson.read_json(memory_file(text), read_options=read, parse_options=options)
    check_depth(table.schema)
    return table


def _common_type(counts: Counter[pa.DataType]) -> pa.DataType:
    """Returns the type that most values have. Numbers count together."""
    total = Counter({kind: count for kind, count in counts.items() if count and not types.is_null(kind)})
    if not total:
        return pa.string()
    numbers = [kind for kind in total if types.is_integer(kind) or types.is_floating(kind)]
    if len(numbers) > 1:
        total[pa.float64()] = sum(total.pop(kind) for kind in numbers)
    return max(total, key=lambda kind: total[kind])


def _json_type(target: pa.DataType, own: pa.DataType | None) -> pa.DataType:
    """Returns the type in which a column is read from JSON."""
    if types.is_integer(target) and own is not None and types.is_floating(own):
        return own  # 1.0 is a whole number too: the cast decides
    if _is_read_from_json(target):
        return target
    return pa.string() if own is None else own


def _is_read_from_json(kind: pa.DataType) -> bool:
    if types.is_struct(kind):
        return all(_is_read_from_json(kind.field(n).type) for n in range(kind.num_fields))
    if types.is_list(kind):
        return _is_read_from_json(kind.value_type)
    return (
        types.is_boolean(kind) or types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind)
        or types.is_decimal128(kind) or types.is_timestamp(kind) or _is_text(kind)
    )  # fmt: skip


def _is_text(kind: pa.DataType) -> bool:
    return types.is_string(kind) or types.is_large_string(kind)


def _text_of(record: bytes) -> str:
    return record.rstrip(BLANK).decode(errors="backslashreplace")[:MAX_TEXT_CHARS]
