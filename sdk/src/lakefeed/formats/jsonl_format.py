"""JSON lines: one object a line, streamed; types come from the first block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.json as pajson

from lakefeed.errors import FormatError
from lakefeed.formats.file_format import SCHEMA_ADVICE, StreamedFormat
from lakefeed.formats.json_times import cast_timestamps, has_timestamps, infer_zones, timestamps_as_text
from lakefeed.formats.text_blocks import BLOCK_BYTES, CHUNK_BYTES, blocks, check_utf8, memory_file
from lakefeed.formats.whole_numbers import may_be_inexact, rounded_number, with_whole_numbers
from lakefeed.storage.archives.streams import Stream
from lakefeed.storage.urls import shown

SHOWN_CHARS = 80
DOCUMENT_ADVICE = "; it begins like one list of all rows: write one object a line, or give the list to from_pylist"


class JsonLines(StreamedFormat):
    """``.jsonl``, ``.ndjson`` and ``.json`` files of one object a line, also compressed. A missing key is null."""

    name: ClassVar[str] = "jsonl"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".json")
    kind: ClassVar[str] = "JSON lines (one object a line)"

    def head(self, stream: Stream) -> pa.Schema:
        part = next(_read_parts(stream, BLOCK_BYTES), None)
        if part is None:
            raise _empty_error(stream.url)
        table = part.read(_Reader())
        schema = table.schema
        if any(has_timestamps(kind) for kind in schema.types):
            schema = infer_zones(schema, part.read(_Reader(timestamps_as_text(schema))))
        if any(may_be_inexact(column) for column in table.columns):
            schema = with_whole_numbers(schema, part.text, shown(stream.url))
        return schema

    def rows(
        self, stream: Stream, schema: pa.Schema, columns: Sequence[str] | None, exact: bool
    ) -> Iterator[pa.RecordBatch]:
        reader = _Reader(schema, exact, guessed=exact)
        part = None
        for part in _read_parts(stream, CHUNK_BYTES):
            table = part.read(reader)
            yield from (table if columns is None else table.select(list(columns))).to_batches()
        if part is None and exact:
            raise _empty_error(stream.url)


class _Reader:
    """Reads whole lines as rows of a schema; None: of the types that they show.

    ``exact``: a key that the schema lacks is an error. ``guessed``: earlier rows show the schema, and so a number that
    one of its types would round is an error too.
    """

    def __init__(self, schema: pa.Schema | None = None, exact: bool = True, *, guessed: bool = False) -> None:
        self._guessed = schema if guessed else None
        self._schema = schema if schema is not None and any(has_timestamps(kind) for kind in schema.types) else None
        self._parse = None
        if schema is not None:
            self._parse = pajson.ParseOptions(
                explicit_schema=timestamps_as_text(schema), unexpected_field_behavior="error" if exact else "ignore"
            )

    def table(self, text: bytes) -> pa.Table:
        """Returns the rows.

        Raises:
            pa.ArrowInvalid: they do not fit.
        """
        # At once: a boundary within could cut a line that is longer than half of it.
        options = pajson.ReadOptions(block_size=max(len(text), 1))
        table = pajson.read_json(memory_file(text), read_options=options, parse_options=self._parse)
        if self._guessed is not None and any(map(may_be_inexact, table.columns)):
            rounded = rounded_number(self._guessed, text)
            if rounded is not None:
                raise pa.ArrowInvalid(rounded)
        return table if self._schema is None else cast_timestamps(table, self._schema)


@dataclass(frozen=True)
class _Part:
    """Whole lines of a file, the first of which has the number ``line``; some hold objects."""

    url: str
    text: bytes
    line: int
    is_first: bool

    def read(self, reader: _Reader) -> pa.Table:
        """Returns the rows.

        Raises:
            FormatError: the first line that cannot be read, with its number.
        """
        check_utf8(self.text, shown(self.url), self.line)  # Arrow does not look at that
        try:
            return reader.table(self.text)
        except pa.ArrowInvalid as error:
            raise self._located(reader, str(error)) from None

    def _located(self, reader: _Reader, reason: str) -> FormatError:
        """The first line that does not fit those before it, by halving."""
        lines = [(number, line) for number, line in enumerate(self.text.split(b"\n"), self.line) if line.strip()]
        good, bad = 0, len(lines)
        while bad - good > 1:
            middle = (good + bad) // 2
            complaint = _read_error(lines[:middle], reader)
            good, bad, reason = (middle, bad, reason) if complaint is None else (good, middle, complaint)
        number, line = lines[bad - 1]
        shown_line = line.decode().strip()[:SHOWN_CHARS]
        advice = DOCUMENT_ADVICE if self.is_first and bad == 1 and shown_line.startswith("[") else SCHEMA_ADVICE
        return FormatError(
            f"{shown(self.url)}, line {number}: {shown_line!r} cannot be read as {JsonLines.kind}: {reason}{advice}"
        )


def _read_parts(stream: Stream, size: int) -> Iterator[_Part]:
    """Yields the lines of a file that hold objects, about ``size`` bytes at a time."""
    is_first = True
    for line, block in blocks(stream.file, size, shown(stream.url)):
        if block.strip():
            yield _Part(stream.url, block, line, is_first)
            is_first = False


def _read_error(lines: list[tuple[int, bytes]], reader: _Reader) -> str | None:
    try:
        reader.table(b"\n".join(line for _, line in lines))
    except pa.ArrowInvalid as error:
        return str(error)
    return None


def _empty_error(url: str) -> FormatError:
    return FormatError(f"{shown(url)} is empty: JSON lines have one object a line")
