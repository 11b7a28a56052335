"""The quarantine: the dataset ``<name>_quarantine`` of files and rows that did not fit, with the reasons."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakefeed.catalog import Provenance, cast, check_compatible
from lakefeed.dataset import Dataset
from lakefeed.errors import DatasetExistsError, SchemaError
from lakefeed.ingest.ingestion_source import FencedSource
from lakefeed.ingest.ledger import ListedFile

# A file with more rows that do not fit is a file of another kind, and is quarantined as a whole.
MAX_ROWS = 1_000
COLUMNS: dict[str, pa.DataType] = {
    "source": pa.string(),
    "file": pa.string(),
    "row": pa.int64(),
    "reason": pa.string(),
    "content": pa.string(),
}
QUARANTINE_SCHEMA = pa.schema(COLUMNS)


@dataclass(frozen=True)
class Entry:
    """A file (``row`` is None) or a row of a file (counted from 0) that did not fit. ``content`` is the row as JSON."""

    source: str
    file: str
    row: int | None
    reason: str
    content: str | None


def quarantine_of(dataset: str) -> str:
    """Returns the name of the dataset that holds the files and rows that did not fit another.

    Args:
        dataset: the name of the other dataset.

    Example:
        >>> quarantine_of("digits")
        'digits_quarantine'
    """
    return f"{dataset}_quarantine"


def file_entry(source: FencedSource, file: ListedFile, reason: str) -> Entry:
    """Returns the entry of a file that did not fit at all."""
    return Entry(source.name, file.path, None, reason, None)


def row_entry(source: FencedSource, file: ListedFile, index: int, reason: str, batch: pa.RecordBatch) -> Entry:
    """Returns the entry of a row. ``batch`` holds that row only."""
    [content] = batch.to_pylist()
    return Entry(source.name, file.path, index, reason, json.dumps(content, default=str))


def add_entries(source: FencedSource, file: ListedFile, entries: Sequence[Entry], provenance: Provenance) -> None:
    """Adds the entries of a file, once for each state of it, even if the ingestion is repeated."""
    name = quarantine_of(source.into)
    rows = Dataset.from_pylist([asdict(entry) for entry in entries], schema=QUARANTINE_SCHEMA)
    # The text under which earlier releases stored the key.
    listed = f"Landed(path={file.path!r}, size={file.size}, modified_ns={file.modified_ns}, stamp={file.stamp!r})"
    state = f"{source.fence} {listed} {len(entries)}"
    key = f"quarantine/{hashlib.sha256(state.encode()).hexdigest()[:32]}"
    commit = replace(provenance, message=f"ingest {source.name}: {file.path} {entries[0].reason}"[:500])
    if not Dataset.exists(name):
        try:
            rows.save(name, f"Rows that did not fit {source.into}", None, provenance=commit, idempotency_key=key)
            return
        except DatasetExistsError:  # another process made it just now
            pass
    rows.append_to(name, provenance=commit, idempotency_key=key)


def check_columns(schema: pa.Schema, required: pa.Schema) -> None:
    """Checks that a file has the required columns. The values are checked row by row.

    Raises:
        SchemaError: a column is unexpected, occurs twice, or is required and missing.
    """
    check_compatible(pa.schema([required.field(f.name) if f.name in required.names else f for f in schema]), required)


def split_batch(
    batch: pa.RecordBatch, schema: pa.Schema, begin: int = 0
) -> tuple[list[pa.RecordBatch], list[tuple[int, str, pa.RecordBatch]]]:
    """Returns the rows that fit, in order, and the index, reason and content of each other row."""
    try:
        return [cast(_parse_texts(batch, schema), schema)], []
    except (SchemaError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        if batch.num_rows == 1:
            return [], [(begin, str(error), batch)]
    half = batch.num_rows // 2
    first, second = (
        split_batch(batch.slice(0, half), schema, begin),
        split_batch(batch.slice(half), schema, begin + half),
    )
    return [*first[0], *second[0]], [*first[1], *second[1]]


def _parse_texts(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Returns the batch with texts parsed where the dataset has another type."""
    columns = [
        _parse_text(values, schema.field(name).type)
        for name, values in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _parse_text(values: pa.Array[Any], kind: pa.DataType) -> pa.Array[Any]:
    textual = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    simple = not (pa.types.is_nested(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))
    return pc.cast(values, kind) if textual and simple and not values.type.equals(kind) else values
