"""Results as Python objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from lakefeed._typing import Row
from lakefeed.ops.rows import handle_columns, handle_rows
from lakefeed.storage import BlobStore


def rows(batches: Iterable[pa.RecordBatch], store: BlobStore | None) -> Iterator[Row]:
    """One dict a row; file cells are handles where there is a store to open them from."""
    for batch in batches:
        yield from handle_rows(batch, store)


def dict_batches(batches: Iterable[pa.RecordBatch], store: BlobStore | None) -> Iterator[dict[str, list[Any]]]:
    """One dict of lists a batch."""
    for batch in batches:
        yield handle_columns(batch, store)
