"""The keys of a take, in the forms that users have them in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from lakefeed.errors import InvalidArgumentError, SchemaError, TypeMismatchError, quoted_list
from lakefeed.keyed.key_matching import one_batch


def key_batches(key_table: Any, schema: pa.Schema, size: int | None) -> Iterator[pa.RecordBatch]:
    """Returns the keys in batches. Columns that ``schema`` lacks are ignored.

    Args:
        key_table: a table, batch or reader.
        schema: the key columns, and those that the scan reads of the table of keys.
        size: the most rows of a batch; None for one batch, or for those of the reader.

    Raises:
        InvalidArgumentError: this is not a table of keys, or a reader is given with a size.
        SchemaError, TypeMismatchError: one of the columns is missing or has another type.
    """
    if isinstance(key_table, pa.RecordBatchReader):
        if size is not None:
            raise InvalidArgumentError("batch_size: a reader of keys has batches of its own; leave batch_size out")
        _check(key_table.schema, schema)
        return (one_batch(_fitted(pa.Table.from_batches([batch]), schema)) for batch in key_table)
    if isinstance(key_table, pa.RecordBatch):
        key_table = pa.Table.from_batches([key_table])
    if not isinstance(key_table, pa.Table):
        raise InvalidArgumentError(
            f"key_table must be a pyarrow Table, RecordBatch or RecordBatchReader, got {key_table!r:.80}"
        )
    _check(key_table.schema, schema)
    whole = one_batch(_fitted(key_table, schema))
    step = size or max(whole.num_rows, 1)
    return (whole.slice(start, step) for start in range(0, whole.num_rows, step))


def _check(given: pa.Schema, schema: pa.Schema) -> None:
    missing = [name for name in schema.names if name not in given.names]
    if missing:
        raise SchemaError(
            f"key_table lacks the column {quoted_list(missing)}; it has the columns {quoted_list(given.names)}"
        )


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    try:
        return table.select(schema.names).cast(pa.schema([field.with_nullable(True) for field in schema]))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TypeMismatchError(
            f"key_table: the keys do not fit {dict(zip(schema.names, schema.types, strict=True))}: {error}"
        ) from None
