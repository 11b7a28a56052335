"""JSON lines: one object a line, streamed; types come from the first block."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.json as pajson

from lakefeed.errors import FormatError
from lakefeed.formats.base import ADVICE, Streamed, lines, opened, reader_of
from lakefeed.storage.streams import Stream

BLOCK_BYTES = 8 << 20
"""What is parsed at a time, and looked at for types; no line may be longer."""

SHOWN_CHARS = 80
EMPTY = "Empty JSON"


class JsonLines(Streamed):
    """``.jsonl``, ``.ndjson`` and ``.json`` files of one object a line, also compressed. A missing key is null."""

    name: ClassVar[str] = "jsonl"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".json")
    kind: ClassVar[str] = "JSON lines (one object a line)"

    def head(self, stream: Stream) -> pa.Schema:
        with _Place(stream.url, None).located(), _open(stream.file, None) as reader:
            schema: pa.Schema = reader.schema
            return schema

    def rows(
        self, stream: Stream, schema: pa.Schema, columns: Sequence[str] | None, exact: bool
    ) -> Iterator[pa.RecordBatch]:
        parse = pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error" if exact else "ignore")
        place = _Place(stream.url, parse)
        with place.located(may_be_empty=not exact), _open(stream.file, parse) as reader:
            for batch in reader:
                yield batch if columns is None else batch.select(list(columns))
                place.rows += batch.num_rows


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
            raise FormatError(
                f"{self.url!r}, line {number}: {line[:SHOWN_CHARS]!r} cannot be read as {JsonLines.kind}: {reason}"
                f"{ADVICE}"
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
            with _open(io.BytesIO(b"\n".join(line for _, line in block)), self.parse) as reader:
                for _ in reader:
                    pass
        except pa.ArrowInvalid as error:
            return str(error)
        return None


def _open(file: Any, parse: Any) -> Any:
    options = pajson.ReadOptions(block_size=BLOCK_BYTES)
    return reader_of(file, partial(pajson.open_json, read_options=options, parse_options=parse))
