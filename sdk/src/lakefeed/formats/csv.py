"""CSV with a header line, streamed; types come from the first block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.csv as pacsv

from lakefeed.expr import Expr
from lakefeed.formats.base import FilePart, opened, reading

BLOCK_BYTES = 8 << 20
"""What is parsed at a time, and looked at for types; no line may be longer."""

ADVICE = ". Types were taken from the first rows; a column that changes its kind further down needs a cleaned file"


class Csv:
    """``.csv`` files, also compressed. An empty cell is null; quoted it is an empty text."""

    name: ClassVar[str] = "csv"
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)
    counted: ClassVar[bool] = False

    def schema(self, url: str) -> pa.Schema:
        with reading(url, self.name), opened(url) as file, _open(file, None, None) as reader:
            return reader.schema

    def parts(self, url: str, predicate: Expr | None) -> Iterator[FilePart]:
        yield FilePart(0, None)

    def read(
        self, url: str, part: FilePart, schema: pa.Schema, columns: Sequence[str] | None, start: int, stop: int | None
    ) -> Iterator[pa.RecordBatch]:
        with reading(url, self.name, ADVICE), opened(url) as file, _open(file, schema, columns) as reader:
            yield from reader


def _open(file: Any, schema: pa.Schema | None, columns: Sequence[str] | None) -> pacsv.CSVStreamingReader:
    convert = pacsv.ConvertOptions(
        column_types=None if schema is None else {field.name: field.type for field in schema},
        include_columns=None if columns is None else list(columns),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    return pacsv.open_csv(
        file,
        read_options=pacsv.ReadOptions(block_size=BLOCK_BYTES),
        convert_options=convert,
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
    )
