"""Loads one file column at once."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Any

import pyarrow as pa

from lakefeed.media.load_columns import ColumnLoader, OnError
from lakefeed.storage import BlobStore


def load_column(
    column: pa.Array[Any],
    media: str,
    mode: str,
    store: BlobStore,
    *,
    workers: int = 4,
    on_error: OnError = "raise",
    timeout: float = 30.0,
) -> pa.Array[Any]:
    with closing(ColumnLoader(store, workers, on_error, timeout, sys.maxsize)) as loader:
        [loaded] = loader.finish([loader.begin(loader.inspect(column, media, mode))])
        return loaded
