"""The failed rows of a routine: recorded in the commit of the position, and shown in the dataset of the errors.

The commit that moves the position also refers to an immutable file with all rows that are failed then, so that both
change together. The dataset ``<output>_errors`` shows the content of that file. It is brought up to date after the
commit and before every run, whatever was killed in between, and records which file it shows.
"""

from __future__ import annotations

import datetime as dt
import io
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakefeed.catalog import Draft, Fence, Lake, Provenance, edit, fence_value
from lakefeed.catalog.delete_files import deleted_positions
from lakefeed.dataset import Dataset
from lakefeed.errors import (
    CommitConflictError,
    DamagedDatasetError,
    DatasetExistsError,
    DatasetNotFoundError,
    FenceError,
    SchemaError,
)
from lakefeed.expr import parse
from lakefeed.routines.pending import table_or_none
from lakefeed.routines.routine_declaration import Routine
from lakefeed.routines.skipped_rows import errors_key
from lakefeed.run.row_edits import newest
from lakefeed.run.row_errors import RowError
from lakefeed.run.write_context import write_context
from lakefeed.storage.blobs.blob_writer import BlobWriter

logger = logging.getLogger(__name__)

BLOB = "blob:"
"""Marks a fence value as the sha256 of a blob that is in use, for whoever collects garbage."""
COLUMNS: dict[str, pa.DataType] = {
    "routine": pa.string(),
    "source": pa.string(),
    "version": pa.int64(),
    "row": pa.int64(),
    "key": pa.string(),
    "file": pa.string(),
    "error": pa.string(),
    "message": pa.string(),
    "traceback": pa.string(),
    "attempts": pa.int64(),
    "failed_at": pa.timestamp("us", tz="UTC"),
    "run": pa.string(),
    "null_row": pa.bool_(),
    "after_version": pa.int64(),
    "table": pa.string(),
}
ERRORS_SCHEMA = pa.schema(COLUMNS)
ROUNDS = 20
"""The number of times that other runs may change the failed rows while they are copied to their dataset."""


@dataclass(frozen=True)
class FailedRow:
    """A row on which the function of a routine raised. The dataset ``<output>_errors`` has these columns.

    Attributes:
        routine: the name of the routine.
        source: the dataset of the row.
        version: the version that added the row; the last one, if several were read together.
        row: the position of the row among those that were added, from 0.
        key: the value of the column that identifies the row, as text.
        file: the name or URL of the row's file.
        error: the name of the error's class.
        message: the text of the error.
        traceback: the end of the traceback.
        attempts: the number of calls that failed.
        failed_at: the time of the last one.
        run: the id of the last run.
        null_row: the output has a row of nulls for it.
        after_version: the rows are those that were added after this version; None for the beginning.
        table: the uuid of the source's table.
    """

    routine: str
    source: str
    version: int
    row: int
    key: str | None
    file: str | None
    error: str
    message: str
    traceback: str
    attempts: int
    failed_at: dt.datetime
    run: str | None
    null_row: bool
    after_version: int | None
    table: str


def failed_rows(routine: Routine) -> list[FailedRow]:
    """Returns the rows on which the function raised and that were not retried with success, oldest first.

    The dataset ``<output>_errors`` shows the same rows. They are read from the output, so they are those of its newest
    commit.

    Args:
        routine: the routine.

    Example:
        >>> failed_rows(Routine("labels", lambda rows: rows, "digits", "digit_labels"))
        []
    """
    return read_failed_rows(stored_reference(routine))


def stored_reference(routine: Routine) -> str | None:
    """Returns the reference to the failed rows that is stored with the output; None if there never were any."""
    target = table_or_none(routine.target)
    return None if target is None else fence_value(target, errors_key(routine)) or None


def read_failed_rows(reference: str | None) -> list[FailedRow]:
    """Returns the failed rows to which a commit refers."""
    if not reference:
        return []
    content = Lake.current().blobs.read(reference.removeprefix(BLOB))
    return [FailedRow(**row) for row in pq.read_table(io.BytesIO(content), schema=ERRORS_SCHEMA).to_pylist()]


def store_failed_rows(rows: Iterable[FailedRow], saving: BlobWriter) -> str:
    """Stores failed rows, and returns the reference to them. They are durable then."""
    sink = io.BytesIO()
    pq.write_table(_to_table(rows), sink, compression="zstd")
    blob = saving.put_single(io.BytesIO(sink.getvalue()))
    saving.flush()
    return f"{BLOB}{blob.sha256}"


def failed_row(
    routine: Routine, source: tuple[str, str], versions: tuple[int | None, int], error: RowError, run: str | None
) -> FailedRow:
    """Returns the record of a row on which the function has raised for the first time.

    Args:
        routine: the routine.
        source: the name of the dataset, and the uuid of its table.
        versions: the version after which the rows were added, and the last one that added some.
        error: the error.
        run: the id of the run.
    """
    return FailedRow(
        routine.stored_name, source[0], versions[1], error.row, error.key, error.file, error.error, error.message,
        error.traceback, 1, dt.datetime.now(dt.UTC), run, routine.on_error == "null", versions[0], source[1],
    )  # fmt: skip


def show_failed_rows(routine: Routine) -> None:
    """Brings the dataset of the errors up to date. Does nothing if it is.

    A damaged dataset is logged and holds nothing up, because the output refers to the failed rows itself.

    Raises:
        SchemaError: a dataset of that name has other columns.
    """
    try:
        _show_failed_rows(routine)
    except DamagedDatasetError as error:
        logger.warning(
            "routine %s: %r does not show the failed rows until it is mended or deleted; "
            "failed_rows() returns them: %s",
            routine.name,
            routine.errors_dataset,
            error,
        )


def _show_failed_rows(routine: Routine) -> None:
    for _ in range(ROUNDS):
        reference = stored_reference(routine)
        table = table_or_none(routine.errors_dataset)
        shown = (fence_value(table, errors_key(routine)) or None) if table is not None else None
        if reference == shown:
            return
        check_errors_dataset(routine)
        fence = Fence(errors_key(routine), shown, reference or "")
        try:
            _copy(routine, read_failed_rows(reference), fence, exists=table is not None)
            return
        except (FenceError, DatasetExistsError, DatasetNotFoundError):
            continue  # another run has just done so, or somebody has deleted the dataset
    raise CommitConflictError(f"other runs kept changing {routine.errors_dataset!r}; run the routine again")


def check_errors_dataset(routine: Routine) -> None:
    """Checks that the dataset of the errors can show them.

    Raises:
        SchemaError: a dataset of that name has other columns.
    """
    try:
        if table_or_none(routine.errors_dataset) is None:
            return
        schema = Dataset(routine.errors_dataset).schema
    except DamagedDatasetError:
        return  # as in `show_failed_rows`
    if schema.names != ERRORS_SCHEMA.names or schema.types != ERRORS_SCHEMA.types:
        raise SchemaError(
            f"failed rows of routine {routine.name!r} go to the dataset {routine.errors_dataset!r}, but it exists with "
            f"the columns {schema.names}: rename that dataset, or choose another output"
        )


def _copy(routine: Routine, rows: Sequence[FailedRow], fence: Fence, *, exists: bool) -> None:
    commit = Provenance(message=f"routine {routine.name}: {len(rows)} failed rows")
    if not exists:
        Dataset.from_arrow(_to_table(rows)).save(
            routine.errors_dataset, f"Rows on which routines of {routine.target} raised", None,
            provenance=commit, fence=fence,
        )  # fmt: skip
        return
    lake = Lake.current()

    def revise(draft: Draft) -> None:
        remaining = set(rows)
        if draft.table.metadata.current_snapshot() is not None:
            remaining = _drop_others(draft, routine, remaining)
        added = [row for row in rows if row in remaining]
        if added:
            key = (fence.value, tuple(each.row for each in added))
            draft.add(key, lambda: _to_table(added).to_batches())

    with write_context(lake) as before_commit:
        edit(lake, routine.errors_dataset, revise, provenance=commit, fence=fence, before_commit=before_commit)


def _drop_others(draft: Draft, routine: Routine, wanted: Collection[FailedRow]) -> set[FailedRow]:
    """Removes the routine's rows that are not wanted. Returns those that are missing."""
    source, missing = newest(draft, routine.errors_dataset), set(wanted)
    own = parse(f"routine = '{routine.stored_name}'", source.schema)
    for _, file in source.matching_files(own):
        removed = set(deleted_positions(draft.table, file.path, file.deletes).tolist())
        present = [(at, row) for at, row in _own_rows(source, file, routine) if at not in removed]
        unwanted = [position for position, row in present if row not in wanted]
        missing -= {row for _, row in present}
        draft.drop(file, np.asarray(unwanted, np.int64), partial(source.read_file, file))
    return missing


def _own_rows(source: Any, file: Any, routine: Routine) -> Iterator[tuple[int, FailedRow]]:
    for begin, batch in source.numbered_batches(file):
        for index, row in enumerate(batch.to_pylist()):
            if row["routine"] == routine.stored_name:
                yield begin + index, FailedRow(**row)


def _to_table(rows: Iterable[FailedRow]) -> pa.Table:
    return pa.Table.from_pylist([asdict(row) for row in rows], schema=ERRORS_SCHEMA)
