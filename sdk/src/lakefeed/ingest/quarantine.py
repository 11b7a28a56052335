"""The quarantine: the dataset ``<name>_quarantine`` of files and rows that did not fit, with the reasons.

It also holds a record of each file that is not in the ledger yet: the rows of it that are in the quarantine, and the
failed attempts to read it. Entries and records are one commit. So a run that dies before it commits the rows that fit
is repeated with the same rows in the quarantine, and no entry comes twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lakefeed.catalog import Fence, Lake, Provenance, cast, check_compatible, check_name, fence_value
from lakefeed.dataset import Dataset
from lakefeed.errors import SchemaError, quoted_list
from lakefeed.ingest import ledger
from lakefeed.ingest.ingestion_source import FencedSource
from lakefeed.ingest.ledger import ListedFile, read_table, store_table
from lakefeed.storage.urls import redact, scheme

logger = logging.getLogger(__name__)

MAX_ROWS = 1_000
"""A file with more rows that do not fit is quarantined as a whole if these are most of its rows."""
MAX_ENTRIES = 100_000
"""A file with more rows that do not fit is quarantined as a whole."""
MAX_NAME_CHARS = 63
LOGGED_ROWS = 5
"""The most rows of a file that are logged one by one."""
SUFFIX = "_quarantine"
EARLIER_COLUMNS: dict[str, pa.DataType] = {
    "source": pa.string(),
    "file": pa.string(),
    "row": pa.int64(),
    "reason": pa.string(),
    "content": pa.string(),
}
COLUMNS: dict[str, pa.DataType] = {**EARLIER_COLUMNS, "line": pa.int64()}
QUARANTINE_SCHEMA = pa.schema(COLUMNS)
RECORD_COLUMNS: dict[str, pa.DataType] = {
    **ledger.COLUMNS,
    "whole": pa.bool_(),
    "rows": pa.list_(pa.int64()),
    "attempts": pa.int64(),
    "next_try_ns": pa.int64(),
    "error": pa.string(),
}
RECORD_SCHEMA = pa.schema(RECORD_COLUMNS)


@dataclass(frozen=True)
class Entry:
    """A file (``row`` is None) or a row of a file (counted from 0) that did not fit.

    ``content`` is the row as JSON, or the text of the line ``line`` (counted from 1) if it could not be read.
    """

    source: str
    file: str
    row: int | None
    reason: str
    content: str | None
    line: int | None = None


class FileRecord(NamedTuple):
    """A file that is not in the ledger yet.

    Attributes:
        file: the state of the file.
        whole: whether the file is in the quarantine as a whole.
        rows: the rows that are in the quarantine, counted from 0.
        attempts: the number of failed attempts to read the file.
        next_try_ns: the time of the next attempt, in nanoseconds since 1970.
        error: the error of the last attempt.
    """

    file: ListedFile
    whole: bool = False
    rows: tuple[int, ...] = ()
    attempts: int = 0
    next_try_ns: int = 0
    error: str = ""


@dataclass(frozen=True)
class Records:
    """The records of a source as they were read: ``dataset`` holds them, and its fence was at ``pointer``.

    ``ledger_path`` returns the path under which a file is recorded.
    """

    dataset: str
    pointer: str | None
    files: Mapping[str, FileRecord]
    ledger_path: Callable[[str], str] = field(default=str, compare=False)

    def of(self, file: ListedFile) -> FileRecord:
        """Returns the record of a file; an empty one if there is none, or the file has changed since."""
        own = file._replace(path=self.ledger_path(file.path))
        record = self.files.get(own.path)
        return record if record is not None and record.file == own else FileRecord(own)


def quarantine_of(dataset: str) -> str:
    """Returns the name of the dataset that holds the files and rows that did not fit another.

    A name that would be too long is shortened. A dataset of this name with other columns is left alone; the next free
    one of ``<name>_2``, ``<name>_3``, … is used instead, and a log line says so.

    Args:
        dataset: the name of the other dataset.

    Example:
        >>> quarantine_of("digits")
        'digits_quarantine'
    """
    namespace, dot, table = dataset.rpartition(".")
    return f"{namespace}{dot}{_with_suffix(table, SUFFIX)}"


def read_records(source: FencedSource, ledger_path: Callable[[str], str] = str) -> Records:
    """Returns the records of the files of a source.

    Args:
        source: the source.
        ledger_path: returns the path under which a file is recorded.
    """
    name = _own_dataset(source)
    pointer = fence_value(Lake.current().table(name), source.fence) if Dataset.exists(name) else None
    rows = [] if pointer is None else read_table(pointer, RECORD_SCHEMA).to_pylist()
    records = map(_record, rows)
    return Records(name, pointer, {record.file.path: record for record in records}, ledger_path)


def add_entries(
    source: FencedSource,
    before: Records,
    entries: Sequence[Entry],
    records: Iterable[FileRecord],
    provenance: Provenance,
) -> None:
    """Adds entries, and replaces the records, in one commit.

    Args:
        source: the source.
        before: the records that were read before.
        entries: the new entries.
        records: all records from now on.
        provenance: the run and code that write.

    Raises:
        FenceError, DatasetExistsError: another run has changed the records since they were read.
    """
    files = sorted({entry.file for entry in entries})
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    message = f"ingest {source.name}: {files[0]}{more}: {entries[0].reason}" if files else f"ingest {source.name}"
    commit = replace(provenance, message=message[:500])
    rows = Dataset.from_pylist([asdict(entry) for entry in entries], schema=QUARANTINE_SCHEMA)
    table = pa.Table.from_pylist(
        [{**record.file._asdict(), **record._asdict()} for record in records], schema=RECORD_SCHEMA
    )
    with store_table(table) as value:
        fence = Fence(source.fence, before.pointer, value)
        if not Dataset.exists(before.dataset):
            description = f"Files and rows that did not fit {source.into}, or could not be read"
            rows.save(before.dataset, description, None, provenance=commit, fence=fence)
            return
        if "line" not in Dataset(before.dataset).schema.names:  # of an earlier release
            Dataset(before.dataset).add_column("line", pa.int64())
        rows.append_to(before.dataset, provenance=commit, fence=fence)


def shown_path(path: str) -> str:
    """Returns the path of a file for messages and tables: a URL without credentials."""
    return redact(path) if scheme(path) else path


def file_entry(source: FencedSource, file: ListedFile, reason: str) -> Entry:
    """Returns the entry of a file that did not fit at all."""
    return Entry(source.name, shown_path(file.path), None, reason, None)


def row_entry(
    source: FencedSource,
    file: ListedFile,
    index: int,
    reason: str,
    batch: pa.RecordBatch,
    location: tuple[int, str] | None = None,
) -> Entry:
    """Returns the entry of a row. ``batch`` holds that row only. ``location`` is its line and text, if known."""
    [content] = batch.to_pylist()
    text = json.dumps(content, default=str)
    return Entry(source.name, shown_path(file.path), index, reason, text, None if location is None else location[0])


def text_entry(source: FencedSource, file: ListedFile, index: int, line: int, text: str, reason: str) -> Entry:
    """Returns the entry of a row that could not be read."""
    return Entry(source.name, shown_path(file.path), index, reason, text, line)


def check_columns(schema: pa.Schema, required: pa.Schema) -> None:
    """Checks that a file has the required columns. The values are checked row by row.

    Raises:
        SchemaError: a column is unexpected, occurs twice, or is required and missing.
    """
    check_compatible(pa.schema([required.field(f.name) if f.name in required.names else f for f in schema]), required)


def split_batch(
    batch: pa.RecordBatch, schema: pa.Schema, begin: int = 0
) -> tuple[list[tuple[int, pa.RecordBatch]], list[tuple[int, str, pa.RecordBatch]]]:
    """Returns the rows that fit, in order and with the index of the first, and each other row with index and reason."""
    if not batch.num_rows:
        return [], []
    try:
        return [(begin, cast(_parse_texts(batch, schema), schema))], []
    except (SchemaError, pa.ArrowException) as error:
        if batch.num_rows == 1:
            return [], [(begin, str(error), batch)]
    half = batch.num_rows // 2
    first, second = (
        split_batch(batch.slice(0, half), schema, begin),
        split_batch(batch.slice(half), schema, begin + half),
    )
    return [*first[0], *second[0]], [*first[1], *second[1]]


def _own_dataset(source: FencedSource) -> str:
    """Returns the name of the quarantine that exists, or is to be created. A dataset of somebody else is left alone."""
    first = name = quarantine_of(source.into)
    namespace, dot, table = first.rpartition(".")
    number = 1
    while Dataset.exists(name) and not _is_quarantine(name):
        number += 1
        name = f"{namespace}{dot}{_with_suffix(table, f'_{number}')}"
    if name != first:
        _report_other_dataset(source.name, first, name)
    return name


@lru_cache(64)  # once in a process
def _report_other_dataset(source: str, first: str, name: str) -> None:
    logger.warning("ingest %s: %r is a dataset with other columns, so the quarantine is %r", source, first, name)


def _is_quarantine(name: str) -> bool:
    existing = {field.name: field for field in Dataset(name).schema}
    own = all(column in existing and existing[column].type == kind for column, kind in EARLIER_COLUMNS.items())
    line = existing.get("line")
    others = (field for column, field in existing.items() if column not in COLUMNS)
    return own and (line is None or line.type == pa.int64()) and all(field.nullable for field in others)


def _with_suffix(table: str, suffix: str) -> str:
    """Returns the name of a table with a suffix, shortened where it would be too long."""
    if len(table) + len(suffix) <= MAX_NAME_CHARS:
        return table + suffix
    digest = f"_{hashlib.sha256(table.encode()).hexdigest()[:8]}"
    short = table[: MAX_NAME_CHARS - len(suffix) - len(digest)] + digest + suffix
    check_name(short)
    return short


def _record(row: dict[str, Any]) -> FileRecord:
    file = ListedFile(row["path"], row["size"], row["modified_ns"], row["stamp"])
    return FileRecord(file, row["whole"], tuple(row["rows"]), row["attempts"], row["next_try_ns"], row["error"])


def _parse_texts(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Returns the batch with texts parsed where the dataset has another type."""
    columns = [
        _parse_column(name, values, schema.field(name).type) if name in schema.names else values
        for name, values in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _parse_column(name: str, values: pa.Array[Any], kind: pa.DataType) -> pa.Array[Any]:
    try:
        parsed = _parse_text(values, kind)
        _check_exact(parsed, kind)
    except pa.ArrowInvalid as error:
        raise pa.ArrowInvalid(f"column {name!r}: {error}") from error
    return parsed


def _check_exact(values: pa.Array[Any], kind: pa.DataType) -> None:
    """Checks that a cast loses nothing where Arrow would lose it: a date, a time of day, a number, fields of a struct.

    Raises:
        pa.ArrowInvalid: it would.
    """
    given = values.type
    if given.equals(kind):
        return
    _check_types(given, kind)
    if _may_cut(given, kind) and not values.cast(kind).cast(given).equals(values):
        raise pa.ArrowInvalid(f"{given} as {kind} would lose a part of the value")
    if pa.types.is_floating(given) and pa.types.is_floating(kind):
        infinite = pc.and_(pc.is_finite(values), pc.invert(pc.is_finite(values.cast(kind))))
        if pc.any(infinite).as_py():
            raise pa.ArrowInvalid(f"a value of {given} is too large for {kind}")


def _check_types(given: pa.DataType, kind: pa.DataType) -> None:
    """Raises pa.ArrowInvalid for types of which no value can be cast without a guess or a loss."""
    types = pa.types
    if types.is_integer(given) and (types.is_timestamp(kind) or types.is_time(kind) or types.is_duration(kind)):
        raise pa.ArrowInvalid(f"{given} as {kind}: a number does not say its unit")
    if types.is_timestamp(given) and types.is_time(kind):
        raise pa.ArrowInvalid(f"{given} as {kind} would lose the date")
    if types.is_struct(given) and types.is_struct(kind):
        extra = sorted({field.name for field in given} - {field.name for field in kind})
        if extra:
            raise pa.ArrowInvalid(f"the column has no fields {quoted_list(extra)}")
    for one, other in _inner_types(given, kind):
        _check_types(one, other)


def _may_cut(given: pa.DataType, kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_boolean(kind):
        return types.is_integer(given) or types.is_floating(given)
    if types.is_date(kind):
        return types.is_timestamp(given)
    return any(_may_cut(one, other) for one, other in _inner_types(given, kind))


def _inner_types(given: pa.DataType, kind: pa.DataType) -> list[tuple[pa.DataType, pa.DataType]]:
    """Returns the types of values within values, in pairs."""
    if pa.types.is_struct(given) and pa.types.is_struct(kind):
        known = {field.name: field.type for field in kind}
        return [(field.type, known[field.name]) for field in given if field.name in known]
    if pa.types.is_nested(given) and pa.types.is_nested(kind) and given.num_fields == kind.num_fields:
        return [(given.field(at).type, kind.field(at).type) for at in range(given.num_fields)]
    return []


def _parse_text(values: pa.Array[Any], kind: pa.DataType) -> pa.Array[Any]:
    if pa.types.is_dictionary(values.type) and not pa.types.is_dictionary(kind):
        values = values.cast(values.type.value_type)
    if not _is_text(values.type) or _is_text(kind) or pa.types.is_nested(kind) or pa.types.is_dictionary(kind):
        return values
    try:
        return pc.cast(values, kind)
    except pa.ArrowInvalid as error:
        if not pa.types.is_integer(kind):
            raise
        try:
            # "1.0" is a whole number too. Not by way of a float, which would round long ones.
            return pc.cast(pc.cast(values, pa.decimal128(38, 9)), kind)
        except pa.ArrowInvalid:
            raise error from None


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def log_entries(name: str, entries: Sequence[Entry]) -> None:
    """Logs entries, and of a file with many bad rows only the first ones."""
    counts = Counter(entry.file for entry in entries)
    logged: Counter[str] = Counter()
    for entry in entries:
        logged[entry.file] += 1
        if logged[entry.file] <= LOGGED_ROWS:
            line = "" if entry.line is None else f", line {entry.line}"
            row = "" if entry.row is None else f", row {entry.row}{line}"
            logger.warning("ingest %s: %s%s goes to the quarantine: %s", name, entry.file, row, entry.reason)
    for file, count in counts.items():
        if count > LOGGED_ROWS:
            logger.warning("ingest %s: %s: %d more rows go to the quarantine", name, file, count - LOGGED_ROWS)
