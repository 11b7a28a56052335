"""JSON lines: one object a line, streamed; types come from the first block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.json as pajson

from lakefeed.errors import FormatError
from lakefeed.formats.base import ADVICE, Streamed
from lakefeed.formats.integers import may_be_inexact, with_whole_numbers
from lakefeed.formats.text import BLOCK_BYTES, PIECE_BYTES, blocks, check_utf8, in_memory
from lakefeed.storage.streams import Stream
from lakefeed.storage.urls import shown

SHOWN_CHARS = 80
ONE_DOCUMENT = "; it begins like one list of all rows: write one object a line, or give the list to from_pylist"


class JsonLines(Streamed):
    """``.jsonl``, ``.ndjson`` and ``.json`` files of one object a line, also compressed. A missing key is null."""

    name: ClassVar[str] = "jsonl"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".json")
    kind: ClassVar[str] = "JSON lines (one object a line)"

    def head(self, stream: Stream) -> pa.Schema:
        part = next(_parts(stream, BLOCK_BYTES), None)
        if part is None:
            raise _empty(stream.url)
        table = part.read(None)
        if not any(may_be_inexact(column) for column in table.columns):
            return table.schema
        return with_whole_numbers(table.schema, part.text, shown(stream.url))

    def rows(
        self, stream: Stream, schema: pa.Schema, columns: Sequence[str] | None, exact: bool
    ) -> Iterator[pa.RecordBatch]:
        parse = pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error" if exact else "ignore")
        part = None
        for part in _parts(stream, PIECE_BYTES):
            table = part.read(parse)
            yield from (table if columns is None else table.select(list(columns))).to_batches()
        if part is None and exact:
            raise _empty(stream.url)


@dataclass(frozen=True)
class _Part:
    """Whole lines of a file, the first of which has the number ``line``; some hold objects."""

    url: str
    text: bytes
    line: int
    is_first: bool

    def read(self, parse: Any) -> pa.Table:
        """Returns the rows.

        Raises:
            FormatError: the first line that cannot be read, with its number.
        """
        check_utf8(self.text, shown(self.url), self.line)  # Arrow does not look at that
        try:
            return _parsed(self.text, parse)
        except pa.ArrowInvalid as error:
            raise self._located(parse, str(error)) from None

    def _located(self, parse: Any, reason: str) -> FormatError:
        """The first line that does not fit those before it, by halving."""
        lines = [(number, line) for number, line in enumerate(self.text.split(b"\n"), self.line) if line.strip()]
        good, bad = 0, len(lines)
        while bad - good > 1:
            middle = (good + bad) // 2
            complaint = _complaint(lines[:middle], parse)
            good, bad, reason = (middle, bad, reason) if complaint is None else (good, middle, complaint)
        number, line = lines[bad - 1]
        shown_line = line.decode().strip()[:SHOWN_CHARS]
        advice = ONE_DOCUMENT if self.is_first and bad == 1 and shown_line.startswith("[") else ADVICE
        return FormatError(
            f"{shown(self.url)}, line {number}: {shown_line!r} cannot be read as {JsonLines.kind}: {reason}{advice}"
        )


def _parts(stream: Stream, size: int) -> Iterator[_Part]:
    """Yields the lines of a file that hold objects, about ``size`` bytes at a time."""
    is_first = True
    for line, block in blocks(stream.file, size, shown(stream.url)):
        if block.strip():
            yield _Part(stream.url, block, line, is_first)
            is_first = False


def _complaint(lines: list[tuple[int, bytes]], parse: Any) -> str | None:
    try:
        _parsed(b"\n".join(line for _, line in lines), parse)
    except pa.ArrowInvalid as error:
        return str(error)
    return None


def _parsed(text: bytes, parse: Any) -> pa.Table:
    """The rows of whole lines."""
    # At once: a boundary within could cut a line that is longer than half of it.
    options = pajson.ReadOptions(block_size=max(len(text), 1))
    return pajson.read_json(in_memory(text), read_options=options, parse_options=parse)


def _empty(url: str) -> FormatError:
    return FormatError(f"{shown(url)} is empty: JSON lines have one object a line")
