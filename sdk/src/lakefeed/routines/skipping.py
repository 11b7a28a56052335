"""`skip`: versions, and rows of versions, that a routine leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import pyarrow as pa

from lakefeed._validate import check_text, is_list, is_whole
from lakefeed.catalog import Fence, Provenance
from lakefeed.catalog.action import Action, Condition, OpenFence
from lakefeed.dataset import Dataset
from lakefeed.errors import InvalidArgumentError, quoted_list
from lakefeed.routines.pending import Pending, VersionRange, pending, table_or_none
from lakefeed.routines.routine_declaration import Routine
from lakefeed.routines.routine_history import RoutineResult, result_of, work_of
from lakefeed.routines.skipped_rows import SkippedRows, from_json, skips_key, to_json
from lakefeed.routines.unit_commit import RunContext, commit_unit, known_schema, output_version
from lakefeed.routines.work_unit import SourcePart, WorkUnit, leave_out_version, next_work_unit
from lakefeed.run.row_errors import key_column


def skip(
    routine: Routine,
    version: int,
    reason: str,
    *,
    source: str | None = None,
    rows: tuple[int, int] | None = None,
    keys: Sequence[Any] | None = None,
) -> RoutineResult:
    """Leaves out a version, or some rows of it, that the function cannot process.

    A whole version must be the next to read. Rows may be those of any version that is not read yet. The output gets a
    version without rows that records this.

    Args:
        routine: the routine.
        version: the number of the version.
        reason: the reason, for the record.
        source: the dataset of the version. None is the first source.
        rows: leave out only the rows from the first position to before the second, counted from 0 in the rows that the
            version added (or removed).
        keys: leave out only the rows with these values in the column ``key`` of the routine. Text stands for the value
            that it is in the type of the column, as in `FailedRow`.

    Returns:
        The commit.

    Raises:
        InvalidArgumentError: another version is the next, the rows do not exist or are read already, or the columns of
            the output are unknown.
        FenceError: a run has just moved the position.

    Example:
        >>> skip(routine, 1, "the camera was covered", rows=(600, 700))  # doctest: +SKIP
    """
    check_text(reason, "reason")
    name = source or routine.sources[0]
    todo = pending(replace(routine, only_checked=False))
    source_range = next((each for each in todo.ranges if each.source == name and each.versions), None) if todo else None
    if rows is not None or keys is not None:
        return _skip_rows(routine, todo, source_range, version, name, f"skipped by hand: {reason}", rows, keys)
    if todo is None or source_range is None or source_range.versions[0].version != version:
        following = f"v{source_range.versions[0].version} of {name!r}" if source_range else f"no version of {name!r}"
        raise InvalidArgumentError(
            f"routine {routine.name!r} cannot skip v{version}: the next version that it reads is {following}"
        )
    alone = replace(source_range, versions=source_range.versions[:1])
    others = tuple(alone if each.source == name else replace(each, versions=()) for each in todo.ranges)
    marked = leave_out_version(replace(todo, ranges=others), name, version, f"skipped by hand: {reason}")
    done = commit_unit(routine, next_work_unit(marked, None, None), RunContext())
    if done is None:
        raise _unknown_columns_error(routine)
    return done.result


def _skip_rows(
    routine: Routine,
    todo: Pending | None,
    source_range: VersionRange | None,
    version: int,
    source: str,
    reason: str,
    rows: tuple[int, int] | None,
    keys: Sequence[Any] | None,
) -> RoutineResult:
    if rows is not None and keys is not None:
        raise InvalidArgumentError("give the rows to skip as rows= or as keys=, not both")
    unread = [] if source_range is None else [each.version for each in source_range.versions]
    if todo is None or source_range is None or version not in unread:
        raise InvalidArgumentError(
            f"routine {routine.name!r} cannot skip rows of v{version} of {source!r}: the versions that it has not read "
            f"are {[f'v{number}' for number in unread]}"
        )
    index = unread.index(version)
    part = SourcePart(source_range, source_range.versions[index : index + 1])
    begin = source_range.begin if index == 0 else 0
    ranges = _checked_range(rows, part, begin) if rows is not None else _ranges_of_keys(routine, part, keys, begin)
    new = [SkippedRows(source_range.table_uuid, version, start, stop, reason) for start, stop in ranges]
    return _commit_skips(routine, todo, new)


def _checked_range(rows: Any, part: SourcePart, begin: int) -> list[tuple[int, int]]:
    if not is_list(rows) or len(rows) != 2 or not all(map(is_whole, rows)) or not 0 <= rows[0] < rows[1]:
        raise InvalidArgumentError(f"rows must be (start, stop) with 0 <= start < stop, got {rows!r:.80}")
    count, version = part.dataset.count(), part.versions[0].version
    if rows[1] > count:
        raise InvalidArgumentError(f"rows={tuple(rows)}: v{version} has only {count} rows for the routine")
    if rows[0] < begin:
        raise InvalidArgumentError(f"rows={tuple(rows)}: rows up to {begin - 1} of v{version} are read already")
    return [(int(rows[0]), int(rows[1]))]


def _ranges_of_keys(routine: Routine, part: SourcePart, keys: Any, begin: int) -> list[tuple[int, int]]:
    wanted = list(keys) if is_list(keys) else []
    if not wanted:
        raise InvalidArgumentError(f"keys must be a list of at least one value, got {keys!r:.80}")
    dataset = part.dataset
    column = key_column(dataset.schema, routine.key)
    if column is None:
        raise InvalidArgumentError(
            f"routine {routine.name!r} cannot skip rows by key: name the column that identifies a row with key="
        )
    wanted = [_typed(key, dataset.schema.field(column).type) for key in wanted]
    positions = {}
    for position, value in enumerate(_values(dataset, column)):
        if position >= begin and value in wanted:
            positions[position] = value
    missing = [key for key in wanted if key not in positions.values()]
    if missing:
        raise InvalidArgumentError(
            f"no unread row of v{part.versions[0].version} has {column} {quoted_list(map(str, missing))}"
        )
    runs = groupby(enumerate(sorted(positions)), lambda each: each[1] - each[0])
    consecutive = [[position for _, position in run] for _, run in runs]
    return [(run[0], run[-1] + 1) for run in consecutive]


def _typed(key: Any, kind: pa.DataType) -> Any:
    """Returns a key; of text, the value of the column's type if there is one."""
    if not isinstance(key, str):
        return key
    try:
        return pa.scalar(key).cast(kind).as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return key


def _values(dataset: Dataset, column: str) -> Iterator[Any]:
    for batch in dataset.select([column]).batches(format="arrow"):
        yield from batch[column].to_pylist()


def _commit_skips(routine: Routine, todo: Pending, new: Sequence[SkippedRows]) -> RoutineResult:
    schema = known_schema(routine)
    if schema is None:
        raise _unknown_columns_error(routine)
    unit = WorkUnit(todo, tuple(SourcePart(each) for each in todo.ranges))
    provenance = Provenance(
        message=f"routine {routine.name}: {'; '.join(map(str, new))}"[:500], work=work_of(routine, unit, None, new)
    )

    def complete(action: Action) -> Action:
        return replace(action, conditions=(Condition(routine.fence, todo.stored, None),))

    skips = to_json(_merged((*from_json(todo.skips), *new)))
    fence: Fence = OpenFence(skips_key(routine), todo.skips, skips, complete)
    empty = Dataset.from_arrow(schema.empty_table())
    write = empty.save if table_or_none(routine.target) is None else empty.append_to
    written = write(routine.target, provenance=provenance, fence=fence)
    return result_of(output_version(routine, written.version))


def _merged(skipped: Sequence[SkippedRows]) -> list[SkippedRows]:
    """Returns the ranges without those rows that an earlier range has already."""
    merged: list[SkippedRows] = []
    for each in sorted(skipped):
        same = bool(merged) and (merged[-1].table, merged[-1].version) == (each.table, each.version)
        start = max(each.start, merged[-1].stop) if same else each.start
        if start < each.stop:
            merged.append(replace(each, start=start))
    return merged


def _unknown_columns_error(routine: Routine) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"routine {routine.name!r} has no output yet, so the columns of {routine.target!r} are unknown: "
        "give the routine a schema"
    )
