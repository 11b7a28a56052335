"""CSV with a header line, streamed; types come from the first block."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.csv as pacsv

from lakefeed.errors import FormatError, SchemaError, listed
from lakefeed.formats.base import ADVICE, Streamed, opened, reader_of
from lakefeed.storage.streams import Stream

BLOCK_BYTES = 8 << 20
"""What is parsed at a time, and looked at for types; no line may be longer."""

SHOWN_CHARS = 80
EMPTY = "Empty CSV file"

_BAD_VALUE = re.compile(r"In CSV column #(\d+): .*invalid value '(.*)'", re.DOTALL)


class Csv(Streamed):
    """``.csv`` files, also compressed. An empty cell is null; quoted it is an empty text."""

    name: ClassVar[str] = "csv"
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)

    def head(self, stream: Stream) -> pa.Schema:
        ragged = _Ragged()
        with _located(stream.url, ragged), _open(stream.file, None, None, ragged) as reader:
            schema: pa.Schema = reader.schema
            return schema

    def rows(
        self, stream: Stream, schema: pa.Schema, columns: Sequence[str] | None, exact: bool
    ) -> Iterator[pa.RecordBatch]:
        wanted = list(columns) if columns is not None else None if exact else schema.names
        ragged = _Ragged()
        with _located(stream.url, ragged, may_be_empty=not exact), _open(stream.file, schema, wanted, ragged) as reader:
            if wanted is None and sorted(reader.schema.names) != sorted(schema.names):
                raise SchemaError(
                    f"{stream.url!r} has columns {listed(reader.schema.names)}, not {listed(schema.names)}; files "
                    "read together must have the same columns"
                )
            yield from reader


class _Ragged:
    """Notes the first line that has not as many cells as the header."""

    found: pacsv.InvalidRow | None = None

    def __call__(self, row: pacsv.InvalidRow) -> Literal["skip", "error"]:
        self.found = self.found or row
        return "error"


@contextmanager
def _located(url: str, ragged: _Ragged, *, may_be_empty: bool = False) -> Iterator[None]:
    """Adds the line at which a file is broken to the complaint.

    ``may_be_empty``: a file without any bytes is none, as its types are known.
    """
    try:
        yield
    except pa.ArrowKeyError as error:
        with opened(url) as file:
            header = next(csv.reader(_text(file)), [])
        raise SchemaError(f"{url!r} has columns {listed(header)}: {error.args[0]}") from error
    except pa.ArrowInvalid as error:
        if may_be_empty and EMPTY in str(error):
            return
        bad = _BAD_VALUE.search(str(error))
        if ragged.found is not None:
            row = ragged.found
            line, _ = _find(url, lambda cells: bool(cells) and len(cells) != row.expected_columns)
            raise FormatError(
                f"{url!r}{line}: {row.actual_columns} cells where the header has {row.expected_columns}: "
                f"{row.text[:SHOWN_CHARS]!r}"
            ) from error
        if bad is None:
            raise
        place, value = int(bad[1]), bad[2]
        line, header = _find(url, lambda cells: len(cells) > place and cells[place] == value)
        name = header[place] if place < len(header) else place
        raise FormatError(
            f"{url!r}{line}: {value[:SHOWN_CHARS]!r} in column {name!r} does not fit: {error}{ADVICE}"
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


def _open(file: Any, schema: pa.Schema | None, columns: Sequence[str] | None, ragged: _Ragged) -> Any:
    convert = pacsv.ConvertOptions(
        column_types=None if schema is None else {field.name: field.type for field in schema},
        include_columns=None if columns is None else list(columns),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    opener = partial(
        pacsv.open_csv,
        read_options=pacsv.ReadOptions(block_size=BLOCK_BYTES),
        convert_options=convert,
        parse_options=pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=ragged),
    )
    return reader_of(file, opener, quoted=True)
