"""JSON Lines files: one object per line. Types are inferred from the first block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pyarrow as pa
import pyarrow.json as pajson

from lakefeed._typing import Block
from lakefeed.errors import FormatError
from lakefeed.formats.file_format import SCHEMA_ADVICE, Divided
from lakefeed.formats.json_times import cast_timestamps, has_timestamps, infer_zones, timestamps_as_text
from lakefeed.formats.text_blocks import BLOCK_BYTES, CHUNK_BYTES, blocks, check_utf8, memory_file
from lakefeed.formats.whole_numbers import may_be_inexact, rounded_number, with_whole_numbers
from lakefeed.storage.archives.streams import Stream
from lakefeed.storage.urls import display_url

SHOWN_CHARS = 80
DOCUMENT_ADVICE = "; it looks like one list of all rows: write one object a line, or give the list to from_pylist"


class JsonLines(Divided):
    """``.jsonl``, ``.ndjson`` and ``.json`` files with one object per line, also compressed. A missing key is null."""

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
            schema = with_whole_numbers(schema, part.text, display_url(stream.url))
        return schema

    def parts_of(
        self, stream: Stream, schema: pa.Schema, columns: Sequence[str] | None, strict: bool
    ) -> Iterator[Block]:
        reader = _Reader(schema, strict, reject_rounding=strict)
        part = None
        for part in _read_parts(stream, CHUNK_BYTES):
            yield partial(part.batches, reader, columns)
        if part is None and strict:
            raise _empty_error(stream.url)


class _Reader:
    """Reads complete lines as rows of a schema; None to infer the types.

    With ``strict``, a key that the schema lacks is an error. With ``reject_rounding``, a number that a type of the
    schema would round is an error, because the schema was inferred from earlier rows.
    """

    def __init__(self, schema: pa.Schema | None = None, strict: bool = True, *, reject_rounding: bool = False) -> None:
        self._inferred_schema = schema if reject_rounding else None
        self._schema = schema if schema is not None and any(has_timestamps(kind) for kind in schema.types) else None
        self._parse = None
        if schema is not None:
            self._parse = pajson.ParseOptions(
                explicit_schema=timestamps_as_text(schema), unexpected_field_behavior="error" if strict else "ignore"
            )

    def table(self, text: bytes) -> pa.Table:
        """Returns the rows.

        Raises:
            pa.ArrowInvalid: a line is malformed or does not have the types of the schema.
        """
        # One block: a block boundary could cut a line that is longer than half a block.
        options = pajson.ReadOptions(block_size=max(len(text), 1))
        table = pajson.read_json(memory_file(text), read_options=options, parse_options=self._parse)
        if self._inferred_schema is not None and any(map(may_be_inexact, table.columns)):
            message = rounded_number(self._inferred_schema, text)
            if message is not None:
                raise pa.ArrowInvalid(message)
        return table if self._schema is None else cast_timestamps(table, self._schema)


@dataclass(frozen=True)
class _Part:
    """Complete lines of a file, of which at least one holds an object. The first one has the number ``line``."""

    url: str
    text: bytes
    line: int
    is_first: bool

    def batches(self, reader: _Reader, columns: Sequence[str] | None) -> list[pa.RecordBatch]:
        """Returns the rows with these columns; None for all."""
        table = self.read(reader)
        return (table if columns is None else table.select(list(columns))).to_batches()

    def read(self, reader: _Reader) -> pa.Table:
        """Returns the rows.

        Raises:
            FormatError: a line cannot be read; the message names the number of the first one.
        """
        check_utf8(self.text, display_url(self.url), self.line)  # Arrow does not check it
        try:
            return reader.table(self.text)
        except pa.ArrowInvalid as error:
            raise self._locate_error(reader, str(error)) from None

    def _locate_error(self, reader: _Reader, reason: str) -> FormatError:
        """Finds the first line that cannot be read together with the lines before it, by binary search."""
        lines = [(number, line) for number, line in enumerate(self.text.split(b"\n"), self.line) if line.strip()]
        good, bad = 0, len(lines)
        while bad - good > 1:
            middle = (good + bad) // 2
            error = _read_error(lines[:middle], reader)
            good, bad, reason = (middle, bad, reason) if error is None else (good, middle, error)
        number, line = lines[bad - 1]
        shown_line = line.decode().strip()[:SHOWN_CHARS]
        advice = DOCUMENT_ADVICE if self.is_first and bad == 1 and shown_line.startswith("[") else SCHEMA_ADVICE
        return FormatError(
            f"{display_url(self.url)}, line {number}: {shown_line!r} cannot be read as {JsonLines.kind}: {reason}"
            f"{advice}"
        )


def _read_parts(stream: Stream, size: int) -> Iterator[_Part]:
    """Yields the lines of a file, about ``size`` bytes at a time. Parts of blank lines are left out."""
    is_first = True
    for line, block in blocks(stream.file, size, display_url(stream.url)):
        if block and not block.isspace():
            yield _Part(stream.url, block, line, is_first)
            is_first = False


def _read_error(lines: list[tuple[int, bytes]], reader: _Reader) -> str | None:
    try:
        reader.table(b"\n".join(line for _, line in lines))
    except pa.ArrowInvalid as error:
        return str(error)
    return None


def _empty_error(url: str) -> FormatError:
    return FormatError(f"{display_url(url)} is empty; JSON lines have one object a line")
