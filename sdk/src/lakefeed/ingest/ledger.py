"""The ledger: the ingested files, in an immutable file of the blob store to which a fence points."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

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


@dataclass(frozen=True, order=True)
class ListedFile:
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


def read_ledger(pointer: str | None) -> tuple[ListedFile, ...]:
    """Returns the files of the ledger that a fence points at."""
    if pointer is None:
        return ()
    table = pq.read_table(io.BytesIO(Lake.current().blobs.read(pointer.removeprefix(BLOB))), schema=SCHEMA)
    return tuple(ListedFile(**{**row, "stamp": row["stamp"] or ""}) for row in table.to_pylist())


@contextmanager
def store_ledger(files: Sequence[ListedFile]) -> Iterator[str]:
    """Stores a ledger of these files, and yields the fence's value that points at it. The block commits that value."""
    lake = Lake.current()
    saving = lake.blobs.open_writer()
    with reclaim_when_full(lake, lambda: saving.new_objects), saving:
        blob = saving.put_single(io.BytesIO(_to_parquet(files)))
        saving.flush()
        yield f"{BLOB}{blob.sha256}"


def _to_parquet(files: Iterable[ListedFile]) -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pylist([asdict(file) for file in sorted(files)], schema=SCHEMA)
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
