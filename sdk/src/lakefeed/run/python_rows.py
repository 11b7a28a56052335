"""Results as Python objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed._typing import Row
from lakefeed._validate import is_whole
from lakefeed.errors import InvalidArgumentError
from lakefeed.media import column_type
from lakefeed.ops.row_functions import handle_columns, handle_rows

if TYPE_CHECKING:
    from lakefeed.catalog.lake import Lake
    from lakefeed.storage import BlobStore


def rows(batches: Iterable[pa.RecordBatch], lake: Lake | None) -> Iterator[Row]:
    """One dict a row; file cells are handles where there is a lake to open them from."""
    for batch, store in _with_stores(batches, lake):
        yield from handle_rows(batch, store)


def dict_batches(batches: Iterable[pa.RecordBatch], lake: Lake | None) -> Iterator[dict[str, list[Any]]]:
    """One dict of lists a batch."""
    for batch, store in _with_stores(batches, lake):
        yield handle_columns(batch, store)


def _with_stores(
    batches: Iterable[pa.RecordBatch], lake: Lake | None
) -> Iterator[tuple[pa.RecordBatch, BlobStore | None]]:
    """Yields batches with the store of their files, which is looked up once for all batches of a schema."""
    schema, store = None, None
    for batch in batches:
        if schema is None or not batch.schema.equals(schema, check_metadata=True):
            schema = batch.schema
            store = file_store(lake, schema)
        yield batch, store


def file_store(lake: Lake | None, schema: pa.Schema) -> BlobStore | None:
    """Returns the blob store if a column needs it. It is not imported for rows without files."""
    return lake.blobs if lake is not None and any(column_type(field) is not None for field in schema) else None


def check_batches(size: int | None, form: Any) -> None:
    """Raises unless the arguments of ``batches`` make sense."""
    if size is not None and (not is_whole(size) or size < 1):
        raise InvalidArgumentError(f"batches(size={size!r}): give a number of rows from 1 on, or None")
    if not isinstance(form, str) or form not in ("dict", "arrow"):
        raise InvalidArgumentError(f'batches(format={form!r}): the formats are "dict" and "arrow"')
