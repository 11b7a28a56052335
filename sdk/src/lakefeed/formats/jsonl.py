"""JSON lines: one object a line, streamed; types come from the first block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.json as pajson

from lakefeed.errors import FormatError
from lakefeed.formats.base import ADVICE, Streamed, lines, opened
from lakefeed.formats.text import BLOCK_BYTES, blocks, first_block, in_memory
from lakefeed.storage.streams import Stream
from lakefeed.storage.urls import shown

SHOWN_CHARS = 80
ONE_DOCUMENT = "; it begins like one list of all rows: write one object a line, or give the list to from_pylist"
EMPTY = "Empty JSON"


class JsonLines(Streamed):
    """``.jsonl``, ``.ndjson`` and ``.json`` files of one object a line, also compressed. A missing key is null."""

    name: ClassVar[str] = "jsonl"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".json")
    kind: ClassVar[str] = "JSON lines (one object a line)"

    def head(self, stream: Stream) -> pa.Schema:
        with _Place(stream.url, None).located():
            return _parsed(first_block(stream.file), None).schema

    def rows(
        self, stream: Stream, schema: pa.Schema, columns: Sequence[str] | None, exact: bool
    ) -> Iterator[pa.RecordBatch]:
        parse = pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error" if exact else "ignore")
        place = _Place(stream.url, parse)
        with place.located(may_be_empty=not exact):
            for block in _blocks(stream.file):
                table = _parsed(block, parse)
                yield from (table if columns is None else table.select(list(columns))).to_batches()
                place.rows += table.num_rows


def _blocks(file: Any) -> Iterator[bytes]:
    """The blocks of a file that hold rows; one of no bytes where none does, of which Arrow complains."""
    found = False
    for block in blocks(file):
        if block.strip():
            found = True
            yield block
    if not found:
        yield b""


class _Place:
    """How far a file was read, to tell the line at which it is broken."""

    def __init__(self, url: str, parse: Any) -> None:
        self.url = url
        self.parse = parse
        self.rows = 0

    @contextmanager
    def located(self, *, may_be_empty: bool = False) -> Iterator[None]:
        """Adds the line to the complaint.

        ``may_be_empty``: a file without any bytes is none, as its types are known.
        """
        try:
            yield
        except pa.ArrowInvalid as error:
            if may_be_empty and EMPTY in str(error):
                return
            found = self._find()
            if found is None:
                raise
            number, line, reason = found
            advice = ONE_DOCUMENT if not self.rows and line.startswith("[") else ADVICE
            raise FormatError(
                f"{shown(self.url)}, line {number}: {line[:SHOWN_CHARS]!r} cannot be read as {JsonLines.kind}: {reason}"
                f"{advice}"
            ) from error

    def _find(self) -> tuple[int, str, str] | None:
        """The first line that does not fit those before it: halving the block in which it is."""
        block = self._block()
        good, bad = 0, len(block)
        reason = self._complaint(block) if block else None
        if reason is None:
            return None
        while bad - good > 1:
            middle = (good + bad) // 2
            found = self._complaint(block[:middle])
            good, bad, reason = (middle, bad, reason) if found is None else (good, middle, found)
        number, line = block[bad - 1]
        return number, line.decode(errors="replace").strip(), reason

    def _block(self) -> list[tuple[int, bytes]]:
        """The lines, numbered, from the first one that was not read as a row yet."""
        block: list[tuple[int, bytes]] = []
        before, size = self.rows, 0
        with opened(self.url) as file:
            for number, line in enumerate(lines(file), 1):
                if not line.strip():
                    continue
                if before:
                    before -= 1
                    continue
                block.append((number, line))
                size += len(line)
                if size > 2 * BLOCK_BYTES:
                    break
        return block

    def _complaint(self, block: list[tuple[int, bytes]]) -> str | None:
        try:
            _parsed(b"\n".join(line for _, line in block), self.parse)
        except pa.ArrowInvalid as error:
            return str(error)
        return None


def _parsed(block: bytes, parse: Any) -> pa.Table:
    """The rows of whole lines."""
    # At once: a boundary within could cut a line that is longer than half of it.
    options = pajson.ReadOptions(block_size=max(len(block), 1))
    return pajson.read_json(in_memory(block), read_options=options, parse_options=parse)
