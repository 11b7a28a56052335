"""Where files and rows go that do not fit: a dataset of their own, ``<name>_quarantine``, with the reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakefeed.catalog import Provenance, cast, check_fits
from lakefeed.dataset import Dataset
from lakefeed.errors import DatasetExistsError, SchemaError
from lakefeed.ingest.ingestion_source import FencedSource
from lakefeed.ingest.ledger import ListedFile

# More rows than this that do not fit are no rows gone astray, but a file of another kind.
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
    """A file (``row`` None) or a row of one (counted from 0) that did not fit, as JSON in ``content``."""

    source: str
    file: str
    row: int | None
    reason: str
    content: str | None


def quarantine_of(dataset: str) -> str:
    """The dataset that keeps what did not fit another.

    Example:
        >>> quarantine_of("digits")
        'digits_quarantine'
    """
    return f"{dataset}_quarantine"


def file_entry(source: FencedSource, file: ListedFile, reason: str) -> Entry:
    """The entry of a file none of which went in."""
    return Entry(source.name, file.path, None, reason, None)


def row_entry(source: FencedSource, file: ListedFile, index: int, reason: str, batch: pa.RecordBatch) -> Entry:
    """The entry of a row; ``batch`` is the one row that it was."""
    [content] = batch.to_pylist()
    return Entry(source.name, file.path, index, reason, json.dumps(content, default=str))


def add_entries(source: FencedSource, file: ListedFile, entries: Sequence[Entry], provenance: Provenance) -> None:
    """Adds the entries of a file, once for each state of it, however often it is tried."""
    name = quarantine_of(source.into)
    rows = Dataset.from_pylist([asdict(entry) for entry in entries], schema=QUARANTINE_SCHEMA)
    seen = f"{source.fence} {file} {len(entries)}"
    key = f"quarantine/{hashlib.sha256(seen.encode()).hexdigest()[:32]}"
    said = replace(provenance, message=f"ingest {source.name}: {file.path} {entries[0].reason}"[:500])
    if not Dataset.exists(name):
        try:
            rows.save(name, f"What did not fit {source.into}", None, provenance=said, idempotency_key=key)
            return
        except DatasetExistsError:  # another process made it just now
            pass
    rows.append_to(name, provenance=said, idempotency_key=key)


def check_columns(given: pa.Schema, wanted: pa.Schema) -> None:
    """That a file has the columns wanted; whether their values fit is seen row by row.

    Raises:
        SchemaError: a column too many, twice, or one that is required and missing.
    """
    check_fits(pa.schema([wanted.field(f.name) if f.name in wanted.names else f for f in given]), wanted)


def split_batch(
    batch: pa.RecordBatch, schema: pa.Schema, begin: int = 0
) -> tuple[list[pa.RecordBatch], list[tuple[int, str, pa.RecordBatch]]]:
    """The rows that fit, in order, and of the others place, reason and the row; halved until the bad ones are found."""
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
    """Texts as what they say, where the dataset has another type."""
    columns = [
        _parse_text(values, schema.field(name).type)
        for name, values in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _parse_text(values: pa.Array[Any], kind: pa.DataType) -> pa.Array[Any]:
    textual = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    simple = not (pa.types.is_nested(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))
    return pc.cast(values, kind) if textual and simple and not values.type.equals(kind) else values
