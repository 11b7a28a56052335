"""`retry_failed`: passes the failed rows of a routine to its function again."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from lakefeed._validate import is_list
from lakefeed.catalog import DatasetVersion, Fence, Provenance, fence_value, resolve
from lakefeed.catalog.action import WriteOptions
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.renaming import current_name
from lakefeed.dataset import Dataset, dataset_of, lake_of, pinned_dataset, rows_changed_after
from lakefeed.errors import CommitConflictError, FenceError, InvalidArgumentError, VersionNotFoundError
from lakefeed.ops import Take
from lakefeed.routines.derived_columns import write_derived
from lakefeed.routines.error_records import (
    FailedRow,
    check_errors_dataset,
    read_failed_rows,
    show_failed_rows,
    store_failed_rows,
)
from lakefeed.routines.function_call import cast_to_schema, returned_rows
from lakefeed.routines.pending import table_or_none
from lakefeed.routines.routine_declaration import Routine, RoutineRun
from lakefeed.routines.routine_history import retry_work_of
from lakefeed.routines.row_work import OutputRows, RowSearch, guard_rows, on_disk
from lakefeed.routines.skipped_rows import errors_key
from lakefeed.routines.unit_commit import input_scan, known_schema, open_blob_writer, output_version
from lakefeed.run.row_errors import RowError, RowErrors, key_column

ROUNDS = 20
"""The number of times that other runs may change the failed rows meanwhile."""


@dataclass(frozen=True)
class RetryResult:
    """The result of a retry.

    Attributes:
        succeeded: the number of rows that no longer fail.
        failed: the number of rows that failed again.
        unavailable: the number of rows that could not be read again: their dataset was deleted and made again, or their
            version has expired. They stay among the failed rows; see `drop_failed`.
        rows_out: the number of rows that were written.
        output_versions: the versions of the output that were made.
    """

    succeeded: int = 0
    failed: int = 0
    unavailable: int = 0
    rows_out: int = 0
    output_versions: tuple[int, ...] = ()

    def __add__(self, other: RetryResult) -> RetryResult:
        return RetryResult(
            self.succeeded + other.succeeded,
            self.failed + other.failed,
            self.unavailable + other.unavailable,
            self.rows_out + other.rows_out,
            (*self.output_versions, *other.output_versions),
        )


def retry_failed(
    routine: Routine,
    rows: Iterable[FailedRow] | None = None,
    *,
    run: str | None = None,
    code: str | None = None,
    resources: Mapping[str, Any] | None = None,
) -> RetryResult:
    """Passes failed rows to the function again, for example after its code was mended.

    The rows that it makes are appended to the output, in the same commit in which their rows leave the failed ones. So
    killed and concurrent retries write nothing twice. A row of nulls of ``on_error="null"`` is replaced. Rows that fail
    again stay among the failed rows.

    Args:
        routine: the routine.
        rows: some of `failed_rows`. None retries all of them.
        run: the id of the run, for the provenance.
        code: the version of the code, for the provenance.
        resources: the objects that the routine requests by name.

    Returns:
        The numbers of rows.

    Raises:
        InvalidArgumentError: a resource is missing, or the output lacks the key by which its rows of nulls are found.
        TransformError, SchemaError: as in `run_routine`.

    Example:
        >>> retry_failed(Routine("labels", lambda rows: rows, "digits", "digit_labels"))
        RetryResult(succeeded=0, failed=0, unavailable=0, rows_out=0, output_versions=())
    """
    missing = sorted(set(routine.resources).difference(resources or {}))
    if missing:
        raise InvalidArgumentError(f"routine {routine.name!r} needs the resources {missing}: pass them with resources=")
    check_errors_dataset(routine)
    show_failed_rows(routine)
    provenance = Provenance(run=run, code=code)
    todo = _stored(routine)[1] if rows is None else _checked(routine, rows)
    result = RetryResult()
    for _, group in groupby(sorted(todo, key=_order), _group):
        result += _retry_group(routine, list(group), provenance, resources or {})
        show_failed_rows(routine)
    return result


def drop_failed(routine: Routine, reason: str, rows: Iterable[FailedRow] | None = None) -> int:
    """Removes failed rows without another call of the function. The output gets a version that records the reason.

    Args:
        routine: the routine.
        reason: the reason, for the record.
        rows: some of `failed_rows`. None removes all of them.

    Returns:
        The number of rows.

    Raises:
        InvalidArgumentError: a row is not one of the failed rows of the routine.

    Example:
        >>> drop_failed(Routine("labels", lambda rows: rows, "digits", "digit_labels"), "the camera was covered")
        0
    """
    chosen = None if rows is None else set(_checked(routine, rows))
    for _ in range(ROUNDS):
        reference, stored = _stored(routine)
        gone = [row for row in stored if chosen is None or row in chosen]
        schema = known_schema(routine)
        if not gone or schema is None:
            show_failed_rows(routine)
            return 0
        try:
            provenance = Provenance(message=f"routine {routine.name}: {len(gone)} failed rows dropped: {reason}"[:500])
            with _fence(routine, reference, [row for row in stored if row not in set(gone)]) as fence:
                Dataset.from_arrow(schema.empty_table()).append_to(routine.target, provenance=provenance, fence=fence)
        except FenceError:
            continue
        show_failed_rows(routine)
        return len(gone)
    raise _conflict_error(routine)


def _retry_group(
    routine: Routine, group: Sequence[FailedRow], provenance: Provenance, resources: Mapping[str, Any]
) -> RetryResult:
    """Retries rows that were read together."""
    inputs = _scan(routine, group[0])
    if inputs is None:
        return RetryResult(unavailable=len(group))
    for _ in range(ROUNDS):
        reference, stored = _stored(routine)
        identities = set(map(_identity, stored))
        left = [row for row in group if _identity(row) in identities]
        if not left:  # another retry was faster
            return RetryResult()
        output = _make(routine, inputs, left, RoutineRun(routine.name, _token(left), resources, provenance.run))
        try:
            return _commit(routine, left, output, reference, stored, provenance)
        except FenceError:
            continue
    raise _conflict_error(routine)


def _make(routine: Routine, inputs: Dataset, rows: Sequence[FailedRow], routine_run: RoutineRun) -> OutputRows:
    """Makes the rows of failed rows. The positions of errors are those in ``rows``."""
    errors = RowErrors("quarantine")

    def read(begin: int, end: int) -> Dataset:
        places = tuple(row.row for row in rows[begin:end])
        return dataset_of(lake_of(inputs), Take(input_scan(inputs), places))

    def call(begin: int, end: int) -> Dataset:
        return _call(read(begin, end))

    def _call(chosen: Dataset) -> Dataset:
        return cast_to_schema(routine, returned_rows(routine, [chosen], routine_run, known_schema(routine)))

    chosen = read(0, len(rows))
    search = RowSearch(call, read, errors, routine.key, known_schema(routine))
    try:
        first = _call(chosen)
    except Exception as error:  # noqa: BLE001 - any error of the user's function
        return search.make(0, len(rows), None, error)
    guarded = guard_rows(first, input_scan(chosen), errors, routine.key)
    if guarded is None:
        return search.make(0, len(rows), first)
    output = on_disk(guarded)
    numbers = {row.row: number for number, row in enumerate(rows)}
    errors.renumber(numbers)
    return output


def _commit(
    routine: Routine,
    rows: Sequence[FailedRow],
    output: OutputRows,
    reference: str | None,
    stored: Sequence[FailedRow],
    provenance: Provenance,
) -> RetryResult:
    """Commits what was made, together with the failed rows that are left."""
    errors = output.errors or RowErrors("quarantine")
    done = [row for number, row in enumerate(rows) if number not in errors.errors and not errors.is_past_end(number)]
    again = {_identity(rows[number]): error for number, error in errors.errors.items()}
    result = RetryResult(len(done), len(rows) - len(done))
    if done:
        finished = set(map(_identity, done))
        left = [_failed_again(row, again, provenance.run) for row in stored if _identity(row) not in finished]
        work = retry_work_of(routine, rows[0].source, rows[0].version, len(rows), len(again))
        message = (
            f"routine {routine.name}: {len(done)} of {len(rows)} failed rows of {rows[0].source} v{rows[0].version}"
        )
        commit = replace(provenance, message=message, work=work, depth=_depth(rows[0]))
        with _fence(routine, reference, left) as fence:
            options: WriteOptions = {"provenance": commit, "fence": fence}
            written: Dataset | DatasetVersion
            if routine.columns:
                written = write_derived(routine, rows[0].version, output.rows, options)
            else:
                written = _write(routine, rows[0].null_row, output.rows, options)
        version = output_version(routine, written.version)
        rows_out = len(output.rows) if routine.columns else version.added_records
        result = replace(result, rows_out=rows_out, output_versions=(version.version,))
    if errors.stop is not None:
        raise errors.stop.error
    return result


def _write(routine: Routine, null_rows: bool, output: Dataset, options: WriteOptions) -> Dataset:
    if not null_rows:
        return output.append_to(routine.target, **options)
    schema = Dataset(routine.target).schema
    key = key_column(Dataset(routine.sources[0]).schema, routine.key)
    if key is None or key not in schema.names or key not in output.schema.names:
        raise InvalidArgumentError(
            f"the rows of nulls in {routine.target!r} cannot be replaced, because it lacks a column that identifies a "
            f"row of {routine.sources[0]!r}: name one with key= that the function returns, or use drop_failed"
        )
    return output.upsert_into(routine.target, key, **options)


def _scan(routine: Routine, row: FailedRow) -> Dataset | None:
    """Returns the rows among which a row failed; None if they can no longer be read."""
    name = current_name(Lake.current(), row.source, row.table)
    table = table_or_none(name)
    if table is None or str(table.metadata.table_uuid) != row.table:
        return None
    source = pinned_dataset(name, row.version, row.table)
    try:
        if row.after_version is None:
            return source.removed_since() if routine.reads_removed else source.added_since()
        return rows_changed_after(source, "removed" if routine.reads_removed else "added", row.after_version)
    except VersionNotFoundError:
        return None


def _depth(row: FailedRow) -> int:
    table = table_or_none(current_name(Lake.current(), row.source, row.table))
    return 1 if table is None else 1 + resolve(table, row.version).depth


@contextmanager
def _fence(routine: Routine, reference: str | None, rows: Sequence[FailedRow]) -> Iterator[Fence]:
    """The time in which a commit changes the failed rows."""
    if not rows:
        yield Fence(errors_key(routine), reference, "")
        return
    with open_blob_writer() as saving:
        yield Fence(errors_key(routine), reference, store_failed_rows(rows, saving))


def _stored(routine: Routine) -> tuple[str | None, list[FailedRow]]:
    """Returns the stored reference to the failed rows, and the rows."""
    target = table_or_none(routine.target)
    reference = None if target is None else fence_value(target, errors_key(routine))
    return reference, read_failed_rows(reference)


def _failed_again(row: FailedRow, again: Mapping[Any, RowError], run: str | None) -> FailedRow:
    error = again.get(_identity(row))
    if error is None:
        return row
    return replace(
        row,
        error=error.error,
        message=error.message,
        traceback=error.traceback,
        attempts=row.attempts + 1,
        failed_at=dt.datetime.now(dt.UTC),
        run=run,
    )


def _checked(routine: Routine, rows: Iterable[FailedRow]) -> list[FailedRow]:
    chosen = list(rows) if is_list(rows) else [None]
    if not all(isinstance(row, FailedRow) and row.routine == routine.stored_name for row in chosen):
        raise InvalidArgumentError(f"rows must be a list of some of failed_rows({routine.name}), got {rows!r:.80}")
    return chosen  # type: ignore[return-value]  # checked


def _identity(row: FailedRow) -> tuple[str, int | None, int, int]:
    return row.table, row.after_version, row.version, row.row


def _group(row: FailedRow) -> tuple[object, ...]:
    return row.table, row.after_version or 0, row.version, row.null_row


def _order(row: FailedRow) -> tuple[Any, ...]:
    return (*_group(row), row.row)


def _token(rows: Sequence[FailedRow]) -> str:
    return hashlib.sha256(repr([_identity(row) for row in rows]).encode()).hexdigest()[:32]


def _conflict_error(routine: Routine) -> CommitConflictError:
    return CommitConflictError(
        f"other runs kept changing the failed rows of routine {routine.name!r}. Nothing was written; try again"
    )
