"""Rows of JSON lines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.json as pajson
from pyarrow import types

from lakefeed.errors import FormatError, quoted_list
from lakefeed.formats.file_format import content_errors
from lakefeed.formats.json_times import cast_timestamps, check_depth, has_timestamps, infer_zones, timestamps_as_text
from lakefeed.formats.text_blocks import CHUNK_BYTES, NOT_UTF8, blocks, memory_file
from lakefeed.formats.whole_numbers import may_be_inexact, rounded_number
from lakefeed.ingest.text_rows import READ_ERRORS, Record, TextRows, is_text_type
from lakefeed.storage.archives.streams import Stream, open_streams
from lakefeed.storage.urls import display_url

SAMPLE_BYTES = CHUNK_BYTES
"""The size of the beginning of a file that shows the types of its columns."""


class JsonRows(TextRows):
    """The rows of JSON lines."""

    @cached_property
    def schema(self) -> pa.Schema:
        if self.declared is not None:
            return self.declared
        votes = self._head
        fields = [pa.field(name, _common_type(counts)) for name, counts in votes.items()]
        return pa.schema(fields)

    def everywhere(self, name: str) -> bool:
        counts: Counter[pa.DataType] = self._head.get(name, Counter())
        return sum(counts.values()) == self._head_rows

    @cached_property
    def _head(self) -> dict[str, Counter[pa.DataType]]:
        """For each column the types of its values, and how many rows at the beginning have each."""
        votes: dict[str, Counter[pa.DataType]] = {}
        self._head_rows = 0
        with closing(open_streams(self.url)) as opened:
            stream = next(opened)
            with content_errors(stream.url, self._format):
                line, _, block = next(self._blocks(stream, SAMPLE_BYTES), (1, (), b""))
        if not block:
            raise FormatError(f"{display_url(self.url)} is empty; JSON lines have one object a line")
        records = self._records(block, line)
        for table in _inferred_tables(block, records):
            self._head_rows += len(table)
            for name, column in zip(table.schema.names, table.columns, strict=True):
                votes.setdefault(name, Counter())[column.type] += len(column) - column.null_count
        if not votes:
            reason = self._reason(block[records[0].start : records[0].stop], pa.schema([]), pa.ArrowInvalid(""))
            raise FormatError(f"{display_url(self.url)}, line {records[0].line}: no row can be read: {reason}")
        return votes

    @property
    def _format(self) -> str:
        return "JSON lines (one object a line)"

    def _kinds(self, target: pa.Schema) -> pa.Schema:
        """The types of ``target`` where Arrow reads them from JSON, else those of the file, which are cast later."""
        if self.declared is not None:
            return self.declared
        own = self.schema
        return pa.schema(
            [
                field.with_type(_json_type(field.type, own.field(field.name).type if field.name in own.names else None))
                for field in target
            ]
        )

    def _blocks(self, stream: Stream, size: int) -> Iterator[tuple[int, Sequence[str], bytes]]:
        for line, block in blocks(stream.file, size, display_url(stream.url)):
            if block.strip():
                yield line, (), block

    def _records(self, block: bytes, line: int) -> list[Record]:
        records, start = [], 0
        for text in block.split(b"\n"):
            stop = min(start + len(text) + 1, len(block))
            if text.strip():
                records.append(Record(start, stop, line))
            start, line = stop, line + 1
        return records

    def _table(self, text: bytes, names: Sequence[str], kinds: pa.Schema) -> pa.Table:
        if not text.isascii():
            text.decode()  # Arrow does not check it
        timed = any(has_timestamps(kind) for kind in kinds.types)
        options = pajson.ParseOptions(
            explicit_schema=timestamps_as_text(kinds),
            unexpected_field_behavior="error" if self.declared is None else "ignore",
        )
        table = _read_json(text, options)
        if self.declared is None and any(map(may_be_inexact, table.columns)):
            message = rounded_number(kinds, text)
            if message is not None:
                raise pa.ArrowInvalid(message)
        return cast_timestamps(table, kinds) if timed else table

    def _second_try(self, text: bytes, names: Sequence[str]) -> pa.RecordBatch | None:
        return None

    def _reason(self, text: bytes, kinds: pa.Schema, error: Exception) -> str:
        """Returns why a line cannot be read. Arrow's own words name no column of an unexpected key."""
        try:
            value = json.loads(text)
        except UnicodeDecodeError:
            return f"the line {NOT_UTF8}"
        except (ValueError, RecursionError) as cause:
            return f"the line is not valid JSON: {cause}"
        if not isinstance(value, dict):
            return f"the line is a {type(value).__name__}, not an object"
        extra = [name for name in value if name not in kinds.names]
        if extra and "unexpected field" in str(error):
            return f"the line has the keys {quoted_list(extra)}; the columns are {quoted_list(kinds.names)}"
        return str(error).removesuffix(" in row 0")


def _inferred_tables(block: bytes, records: Sequence[Record]) -> Iterator[pa.Table]:
    """Yields the rows of lines in types that Arrow infers, in parts that have one type for each column."""
    if not records:
        return
    text = block[records[0].start : records[-1].stop]
    try:
        text.decode()
        table = _read_json(text, None)
        if any(has_timestamps(kind) for kind in table.schema.types):
            as_text = pajson.ParseOptions(explicit_schema=timestamps_as_text(table.schema))
            table = _read_json(text, None).cast(infer_zones(table.schema, _read_json(text, as_text)))
        yield table
    except READ_ERRORS:
        half = len(records) // 2
        if half:
            yield from _inferred_tables(block, records[:half])
            yield from _inferred_tables(block, records[half:])


def _read_json(text: bytes, options: Any) -> pa.Table:
    # One block: a block boundary could cut a line that is longer than half a block.
    read = pajson.ReadOptions(block_size=max(len(text), 1))
    table = pajson.read_json(memory_file(text), read_options=read, parse_options=options)
    check_depth(table.schema)
    return table


def _common_type(counts: Counter[pa.DataType]) -> pa.DataType:
    """Returns the type that most values have. Numbers count together."""
    total = Counter({kind: count for kind, count in counts.items() if count and not types.is_null(kind)})
    if not total:
        return pa.string()
    numbers = [kind for kind in total if types.is_integer(kind) or types.is_floating(kind)]
    if len(numbers) > 1:
        total[pa.float64()] = sum(total.pop(kind) for kind in numbers)
    return max(total, key=lambda kind: total[kind])


def _json_type(target: pa.DataType, own: pa.DataType | None) -> pa.DataType:
    """Returns the type in which a column is read from JSON."""
    if types.is_integer(target) and own is not None and types.is_floating(own):
        return own  # 1.0 is a whole number too: the cast decides
    if _is_read_from_json(target):
        return target
    return pa.string() if own is None else own


def _is_read_from_json(kind: pa.DataType) -> bool:
    if types.is_struct(kind):
        return all(_is_read_from_json(kind.field(n).type) for n in range(kind.num_fields))
    if types.is_list(kind):
        return _is_read_from_json(kind.value_type)
    return (
        types.is_boolean(kind) or types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind)
        or types.is_decimal128(kind) or types.is_timestamp(kind) or is_text_type(kind)
    )  # fmt: skip
