"""CSV with a header line, streamed; types come from the first block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.csv as pacsv

from lakefeed.errors import FormatError
from lakefeed.expr import Expr
from lakefeed.formats.base import FilePart, opened


class Csv:
    """``.csv`` files, also compressed."""

    name: ClassVar[str] = "csv"
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)
    counted: ClassVar[bool] = False

    def schema(self, url: str) -> pa.Schema:
        with opened(url) as file, _open(url, file, None, None) as reader:
            return reader.schema

    def parts(self, url: str, predicate: Expr | None) -> Iterator[FilePart]:
        yield FilePart(0, None)

    def read(
        self, url: str, part: FilePart, schema: pa.Schema, columns: Sequence[str] | None, start: int, stop: int | None
    ) -> Iterator[pa.RecordBatch]:
        with opened(url) as file, _open(url, file, schema, columns) as reader:
            try:
                yield from reader
            except pa.ArrowInvalid as error:
                raise FormatError(
                    f"{url!r} cannot be read as csv: {error}. Types were taken from the first rows; a column that "
                    "changes its kind further down needs a cleaned file"
                ) from error


def _open(url: str, file: Any, schema: pa.Schema | None, columns: Sequence[str] | None) -> pacsv.CSVStreamingReader:
    types = None if schema is None else {field.name: field.type for field in schema}
    convert = pacsv.ConvertOptions(
        column_types=types, include_columns=list(columns) if columns is not None else None, strings_can_be_null=True
    )
    try:
        return pacsv.open_csv(file, convert_options=convert)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise FormatError(f"{url!r} cannot be read as csv: {error}") from error
