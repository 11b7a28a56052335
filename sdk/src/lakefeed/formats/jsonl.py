"""JSON lines: one object a line, streamed; types come from the first block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.json as pajson

from lakefeed.errors import FormatError
from lakefeed.expr import Expr
from lakefeed.formats.base import FilePart, opened


class JsonLines:
    """``.jsonl``, ``.ndjson`` and ``.json`` files of one object a line, also compressed."""

    name: ClassVar[str] = "jsonl"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".json")
    counted: ClassVar[bool] = False

    def schema(self, url: str) -> pa.Schema:
        with opened(url) as file, _open(url, file, None) as reader:
            schema: pa.Schema = reader.schema
            return schema

    def parts(self, url: str, predicate: Expr | None) -> Iterator[FilePart]:
        yield FilePart(0, None)

    def read(
        self, url: str, part: FilePart, schema: pa.Schema, columns: Sequence[str] | None, start: int, stop: int | None
    ) -> Iterator[pa.RecordBatch]:
        with opened(url) as file, _open(url, file, schema) as reader:
            try:
                for batch in reader:
                    yield batch.select(list(columns)) if columns is not None else batch
            except pa.ArrowInvalid as error:
                raise _broken(url, error) from error


def _open(url: str, file: Any, schema: pa.Schema | None) -> Any:
    parse = None if schema is None else pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    try:
        return pajson.open_json(file, parse_options=parse)
    except pa.ArrowInvalid as error:
        raise _broken(url, error) from error


def _broken(url: str, error: pa.ArrowInvalid) -> FormatError:
    return FormatError(f"{url!r} cannot be read as JSON lines (one object a line): {error}")
