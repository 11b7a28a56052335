"""The contents of file columns in the local cache, pinned there, so that they are there when nothing else is."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa

from lakefeed._units import MIB
from lakefeed.config import Settings
from lakefeed.media import column_type
from lakefeed.media.cells import FileReference, file_references
from lakefeed.media.load_columns import ColumnLoader
from lakefeed.ops import Project, Scan
from lakefeed.plan import Source
from lakefeed.run import LocalRunner
from lakefeed.storage import BlobStore
from lakefeed.storage.cache.blob_cache import BlobCache
from lakefeed.storage.cache.pins import Pins

WORKERS = 16
FETCH_TIMEOUT = 60.0
MAX_BYTES = 256 * MIB
STRETCH_ROWS = 256
TRIES = 3
"""A copy may be gone between its making and its pinning: somebody emptied the cache, or stopped this process."""


def fetch_files(source: Source, store: BlobStore, settings: Settings, folder: Path) -> None:
    """Copies every file that the rows of ``source`` refer to into the cache, unless it is there, and pins it.

    Args:
        source: the rows.
        store: where the blobs are.
        settings: of the reading.
        folder: where the pins are, see `lakefeed.storage.cache.pins`.

    Raises:
        MissingFileError, IntegrityError, FileError: one cannot be had.
    """
    types = {field.name: media for field in source.schema if (media := column_type(field)) is not None}
    held = getattr(source, "columns", frozenset(source.schema.names))
    names = tuple(name for name in types if name in held)
    if not names:
        return
    pins = Pins(BlobCache(store.cache_dir), folder)
    with (
        closing(LocalRunner(settings).sized(Project(Scan(source), names), STRETCH_ROWS)) as batches,
        closing(ColumnLoader(store, WORKERS, "raise", FETCH_TIMEOUT, MAX_BYTES, fresh=0.0)) as loads,
    ):
        for batch in batches:
            for name in names:
                _keep(batch.column(name), types[name], loads, pins)


def _keep(column: pa.Array[Any], media: str, loads: ColumnLoader, pins: Pins) -> None:
    for attempt in range(1, TRIES + 1):
        loads.finish([loads.begin(loads.inspect(column, media, "path"))])
        try:
            for file in file_references(column):
                _pin(file, pins)
        except FileNotFoundError:
            if attempt == TRIES:
                raise
        else:
            return


def _pin(file: FileReference | None, pins: Pins) -> None:
    if file is None:
        return
    if file.sha256 is not None:
        pins.pin(file.sha256, file.suffix)
    elif file.url is not None:
        pins.pin_url(file.url, file.suffix)
