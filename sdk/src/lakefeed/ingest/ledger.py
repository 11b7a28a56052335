"""The ledger: the ingested files, in an immutable file of the blob store to which a fence points."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from lakefeed.catalog import Lake
from lakefeed.catalog.reclaim import reclaim_when_full

# Marks a fence value as the sha256 of a blob that is in use, for whoever collects garbage.
BLOB = "blob:"
COLUMNS: dict[str, pa.DataType] = {
    "path": pa.string(),
    "size": pa.int64(),
    "modified_ns": pa.int64(),
    "stamp": pa.string(),
}
SCHEMA = pa.schema(COLUMNS)


class ListedFile(NamedTuple):
    """The state of a file in a listing or ledger. Unknown facts are -1 or "".

    Attributes:
        path: the path relative to the folder, with ``/``.
        size: in bytes.
        modified_ns: the time of the last change, in nanoseconds since 1970.
        stamp: another mark of the state, such as an ETag.
    """

    path: str
    size: int = -1
    modified_ns: int = -1
    stamp: str = ""


def read_ledger(pointer: str | None) -> MappingProxyType[str, ListedFile]:
    """Returns the files of the ledger that a fence points at, by path. Do not change the result: calls share it."""
    return MappingProxyType({}) if pointer is None else _read_ledger(pointer)


@lru_cache(2)  # a ledger is immutable, and a look at 100,000 files costs less than to read theirs
def _read_ledger(pointer: str) -> MappingProxyType[str, ListedFile]:
    columns = read_table(pointer, SCHEMA).to_pydict()
    stamps = [stamp or "" for stamp in columns["stamp"]]
    files = map(ListedFile, columns["path"], columns["size"], columns["modified_ns"], stamps)
    return MappingProxyType({file.path: file for file in files})


@contextmanager
def store_ledger(files: Iterable[ListedFile]) -> Iterator[str]:
    """Stores a ledger of these files, and yields the fence's value that points at it. The block commits that value."""
    ordered = sorted(files)
    columns = zip(*ordered, strict=True) if ordered else ((),) * len(COLUMNS)
    with store_table(pa.table(dict(zip(COLUMNS, map(list, columns), strict=True)), schema=SCHEMA)) as value:
        yield value


def read_table(pointer: str, schema: pa.Schema) -> pa.Table:
    """Returns the table that `store_table` stored under a fence's value."""
    return pq.read_table(io.BytesIO(Lake.current().blobs.read(pointer.removeprefix(BLOB))), schema=schema)


@contextmanager
def store_table(table: pa.Table) -> Iterator[str]:
    """Stores a table in the blob store, and yields the fence's value for it. The block commits that value."""
    lake = Lake.current()
    saving = lake.blobs.open_writer()
    sink: Any = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    with reclaim_when_full(lake, lambda: saving.new_objects), saving:
        blob = saving.put_single(io.BytesIO(sink.getvalue()))
        saving.flush()
        yield f"{BLOB}{blob.sha256}"
