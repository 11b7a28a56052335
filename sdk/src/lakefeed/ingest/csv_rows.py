"""Rows of CSV files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cached_property
from itertools import pairwise

import pyarrow as pa
import pyarrow.csv as pacsv

from lakefeed.errors import FormatError
from lakefeed.formats.csv_conversion import BLANK, Conversion, NullWords, infer_schema
from lakefeed.formats.csv_records import count_lines, header_end, record_ends
from lakefeed.formats.file_format import content_errors
from lakefeed.formats.text_blocks import BLOCK_BYTES, NOT_UTF8, OpenQuoteError, blocks, memory_file
from lakefeed.ingest.text_rows import READ_ERRORS, BadRow, OpenBlock, Record, TextRows, is_text_type
from lakefeed.sources.file_source import FilesSource
from lakefeed.storage.archives.streams import Stream, open_streams
from lakefeed.storage.urls import display_url


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
                if self.declared is None and field.name in target.names and is_text_type(target.field(field.name).type)
                else field
                for field in self.schema
            ]
        )

    def _blocks(self, stream: Stream, size: int) -> Iterator[tuple[int, Sequence[str], bytes]]:
        names: tuple[str, ...] | None = None
        for line, block in _with_open_block(blocks(stream.file, size, display_url(stream.url), quoted=True)):
            if names is not None and isinstance(block, OpenBlock):
                yield line, names, block
                return
            start = 0
            if names is None and block.strip(BLANK):
                start = header_end(block)
                names = _header(block[:start], stream.url, line)
            if names is not None:
                yield line + count_lines(block[:start]), names, block[start:]

    def _records(self, block: bytes, line: int) -> list[Record]:
        edges = [0, *record_ends(block).tolist()]
        if edges[-1] < len(block):
            edges.append(len(block))
        records = []
        for start, stop in pairwise(edges):
            if block[start:stop].strip(BLANK):
                records.append(Record(start, stop, line))
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
        rest = OpenBlock(error.text[begin:])
        last = first + count_lines(rest.rstrip(BLANK))
        at = error.line + count_lines(error.text[: error.quote])
        swallowed = f", so lines {first} to {last} are one row" if last > first else ""
        rest.reason = f"the quote that opens a cell in line {at} is not closed{swallowed}"
        yield first, rest


def _header(header: bytes, url: str, line: int) -> tuple[str, ...]:
    try:
        header.decode()
    except UnicodeDecodeError:
        raise FormatError(f"{display_url(url)}, line {line}: the header {NOT_UTF8}") from None
    options = pacsv.ReadOptions(block_size=len(header) + 1)
    table = pacsv.read_csv(memory_file(header, b"\n"), options, pacsv.ParseOptions(newlines_in_values=True))
    return tuple(table.schema.names)
