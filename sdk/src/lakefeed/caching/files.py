"""The contents of file columns in the local cache of blobs, so that they are there when the store is not."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakefeed.config import Settings
from lakefeed.media import column_type, load_column
from lakefeed.ops import Project, Scan
from lakefeed.plan import Source
from lakefeed.run import Local
from lakefeed.storage import BlobStore

WORKERS = 8
FETCH_TIMEOUT = 300.0
STRETCH_ROWS = 1_024


def fetch_files(source: Source, store: BlobStore, settings: Settings) -> None:
    """Copies every stored file that the rows of ``source`` refer to into the cache, unless it is there.

    What is only referenced by its URL stays where it is.

    Raises:
        MissingFileError, IntegrityError: the store lacks one, or it is damaged.
    """
    types = {field.name: media for field in source.schema if (media := column_type(field)) is not None}
    scan = Scan(source)
    held = getattr(source, "columns", frozenset(source.schema.names))
    names = tuple(name for name in types if name in held)
    if not names:
        return
    with closing(Local(settings).sized(Project(scan, names), STRETCH_ROWS)) as batches:
        for batch in batches:
            for name in names:
                stored = _stored(batch.column(name))
                load_column(
                    stored, types[name], "path", store, workers=WORKERS, on_error="raise", timeout=FETCH_TIMEOUT
                )


def _stored(column: pa.Array[Any]) -> pa.Array[Any]:
    """The cells that name a blob."""
    assert isinstance(column, pa.StructArray), "a file column that is saved"
    return column.filter(pc.and_(column.is_valid(), column.field("sha256").is_valid()))
