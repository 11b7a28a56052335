"""Rows of CSV and JSON lines of which each is read on its own where some cannot be read.

The types are given. A row that does not have them is reported with its line and text, and the others are read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
from pyarrow import types

from lakefeed.errors import FormatError
from lakefeed.formats.csv_conversion import BLANK
from lakefeed.formats.file_format import content_errors
from lakefeed.formats.text_blocks import CHUNK_BYTES
from lakefeed.sources.file_source import FilesSource
from lakefeed.storage.archives.streams import Stream, open_streams
from lakefeed.storage.urls import display_url

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
class Record:
    """The place of a row in a block, and the number of its line."""

    start: int
    stop: int
    line: int


@dataclass(frozen=True)
class Piece:
    """Rows that were read. The first one has the number ``row``."""

    batch: pa.RecordBatch
    row: int
    records: Sequence[Record] = ()
    block: bytes = b""

    def locate(self, index: int) -> tuple[int, str] | None:
        """Returns the line and the text of one of the rows; None if they are unknown."""
        if len(self.records) != self.batch.num_rows:
            return None
        record = self.records[index]
        return record.line, _text_of(self.block[record.start : record.stop])


class OpenBlock(bytes):
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
                        if isinstance(block, OpenBlock):
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
        self, block: bytes, records: Sequence[Record], names: Sequence[str], kinds: pa.Schema, row: int
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
    def _records(self, block: bytes, line: int) -> list[Record]:
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


def _text_of(record: bytes) -> str:
    return record.rstrip(BLANK).decode(errors="backslashreplace")[:MAX_TEXT_CHARS]


def is_text_type(kind: pa.DataType) -> bool:
    return types.is_string(kind) or types.is_large_string(kind)
