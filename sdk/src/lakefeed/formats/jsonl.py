"""JSON lines: one object a line, streamed; types come from the first block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.json as pajson

from lakefeed.expr import Expr
from lakefeed.formats.base import FilePart, opened, reading

BLOCK_BYTES = 8 << 20
"""What is parsed at a time, and looked at for types; no line may be longer."""

KIND = "JSON lines (one object a line)"


class JsonLines:
    """``.jsonl``, ``.ndjson`` and ``.json`` files of one object a line, also compressed."""

    name: ClassVar[str] = "jsonl"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".json")
    counted: ClassVar[bool] = False

    def schema(self, url: str) -> pa.Schema:
        with reading(url, KIND), opened(url) as file, _open(file, None) as reader:
            schema: pa.Schema = reader.schema
            return schema

    def parts(self, url: str, predicate: Expr | None) -> Iterator[FilePart]:
        yield FilePart(0, None)

    def read(
        self, url: str, part: FilePart, schema: pa.Schema, columns: Sequence[str] | None, start: int, stop: int | None
    ) -> Iterator[pa.RecordBatch]:
        with reading(url, KIND), opened(url) as file, _open(file, schema) as reader:
            for batch in reader:
                yield batch if columns is None else batch.select(list(columns))


def _open(file: Any, schema: pa.Schema | None) -> Any:
    parse = None if schema is None else pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    return pajson.open_json(file, read_options=pajson.ReadOptions(block_size=BLOCK_BYTES), parse_options=parse)
