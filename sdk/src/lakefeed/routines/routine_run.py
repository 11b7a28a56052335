"""Runs of routines: rows and position are one commit."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import pyarrow as pa

from lakefeed.catalog import DatasetVersion, Fence, Provenance, cast, check_compatible, resolve
from lakefeed.compute import Engine, append_to, save
from lakefeed.dataset import Dataset
from lakefeed.errors import DatasetExistsError, FenceError, InvalidArgumentError, TransformError
from lakefeed.routines.column_lineage import Lineage, column_lineage
from lakefeed.routines.pending import Bounds, Verdicts, pending, table_or_none
from lakefeed.routines.routine import LOG_SCHEMA, Routine, RoutineRun
from lakefeed.routines.routine_history import RoutineResult, describe_work, history, result_of, work_of
from lakefeed.routines.work_unit import WorkUnit, leave_out_version, next_work_unit

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunContext:
    """The provenance, resources and engine of a run."""

    provenance: Provenance = field(default_factory=Provenance)
    resources: Mapping[str, Any] = field(default_factory=dict)
    engine: Engine | None = None


def run_routine(
    routine: Routine,
    *,
    up_to: Bounds = None,
    after: int | None = None,
    run: str | None = None,
    code: str | None = None,
    verdicts: Verdicts | None = None,
    resources: Mapping[str, Any] | None = None,
    engine: Engine | None = None,
) -> RoutineResult | None:
    """Reads the pending versions, calls the function, and commits rows and position as one version.

    It makes one commit of at most ``max_rows_per_run`` rows. A routine without an output reads one version at a time,
    so that its tokens do not depend on later versions.

    Args:
        routine: the routine.
        up_to: as in `pending`.
        after: as in `pending`.
        run: the id of the run, for the provenance.
        code: the version of the code, for the provenance.
        verdicts: as in `pending`.
        resources: the objects that the routine requests by name.
        engine: makes the rows of a ``distributed`` routine.

    Returns:
        The commit; None if nothing is pending, for example because another run has just committed it.

    Raises:
        StateMismatchError: a source was deleted and made again, and ``on_remade`` is "stop".
        TransformError: the function returned something other than a Dataset, a Table or record batches.
        SchemaError: the rows do not fit the output.
        InvalidArgumentError: a resource or the engine is missing; see also `pending`.

    Example:
        >>> def labels(rows):
        ...     return rows.select(["id", "label"])
        >>> run_routine(Routine("labels", labels, "digits", "digit_labels"))  # doctest: +SKIP
        RoutineResult(rows_in=600, rows_out=600, from_version=None, to_version=1, output_version=1, ...)
    """
    together = 0 if routine.output is None else None
    provenance = Provenance(run=run, code=code)
    context = RunContext(provenance, resources or {}, engine)
    return _run_one(routine, up_to, after, verdicts, together, routine.max_rows_per_run, context)


def run_versions(
    routine: Routine,
    *,
    up_to: Bounds = None,
    after: int | None = None,
    run: str | None = None,
    code: str | None = None,
    verdicts: Verdicts | None = None,
    resources: Mapping[str, Any] | None = None,
    max_rows: int | None = None,
    engine: Engine | None = None,
) -> Iterator[RoutineResult]:
    """Processes everything that is pending now, oldest first. Yields each commit.

    It makes one commit for each version, or for as many versions as ``coalesce`` joins. So each output version records
    its input, memory and lost work are bounded, and a run continues where an earlier one died.

    Args:
        routine: the routine.
        up_to: as in `pending`.
        after: as in `pending`.
        run: as in `run_routine`.
        code: as in `run_routine`.
        verdicts: as in `pending`.
        resources: as in `run_routine`.
        max_rows: stop before this number of rows is exceeded, but not before the first commit.
        engine: as in `run_routine`.

    Raises:
        StateMismatchError, TransformError, SchemaError, InvalidArgumentError: as in `run_routine`.
    """
    todo = pending(routine, up_to, after=after, verdicts=verdicts)
    if todo is None:
        return
    ends = {each.source: each.versions[-1].version for each in todo.ranges if each.versions}
    bounds: Bounds = ends if len(routine.sources) > 1 else ends[routine.sources[0]]
    together = None if len(routine.sources) > 1 and routine.output is not None else routine.together
    context, left = RunContext(Provenance(run=run, code=code), resources or {}, engine), max_rows
    while left is None or left > 0:
        most = min((each for each in (routine.max_rows_per_run, left) if each is not None), default=None)
        if routine.output is None:
            most = routine.max_rows_per_run  # where it is split must not depend on what ran before
        result = _run_one(routine, bounds, after, verdicts, together, most, context)
        if result is None:
            return
        yield result
        left = None if left is None else left - result.rows_in


def skip(routine: Routine, version: int, reason: str, *, source: str | None = None) -> RoutineResult:
    """Leaves out a version that the function cannot process, so that later versions are read.

    It must be the next version to read. The output gets a version without rows that records this.

    Args:
        routine: the routine.
        version: the number of the version.
        reason: the reason, for the record.
        source: the dataset of the version. None is the first source.

    Returns:
        The commit.

    Raises:
        InvalidArgumentError: another version is the next, or the columns of the output are unknown.
        FenceError: a run has just moved the position.
    """
    name = source or routine.sources[0]
    todo = pending(replace(routine, only_checked=False))
    source_range = next((each for each in todo.ranges if each.source == name and each.versions), None) if todo else None
    if todo is None or source_range is None or source_range.versions[0].version != version:
        following = f"v{source_range.versions[0].version} of {name!r}" if source_range else f"no version of {name!r}"
        raise InvalidArgumentError(
            f"routine {routine.name!r} cannot skip v{version}: the next version that it reads is {following}"
        )
    alone = replace(source_range, versions=source_range.versions[:1])
    others = tuple(alone if each.source == name else replace(each, versions=()) for each in todo.ranges)
    marked = leave_out_version(replace(todo, ranges=others), name, version, f"skipped by hand: {reason}")
    done = _commit_unit(routine, next_work_unit(marked, None, None), RunContext())
    if done is None:
        raise InvalidArgumentError(
            f"routine {routine.name!r} has no output yet, so the columns of {routine.target!r} are unknown: "
            "give the routine a schema"
        )
    return done


def _run_one(
    routine: Routine,
    up_to: Bounds,
    after: int | None,
    verdicts: Verdicts | None,
    together: int | None,
    most: int | None,
    context: RunContext,
) -> RoutineResult | None:
    _check_resources(routine, context)
    todo = pending(routine, up_to, after=after, verdicts=verdicts)
    while todo is not None:
        try:
            return _commit_unit(routine, next_work_unit(todo, together, most), context)
        except DatasetExistsError:
            logger.info("routine %s: another run has just created %r", routine.name, routine.target)
            todo = pending(routine, up_to, after=after, verdicts=verdicts)
        except FenceError:
            again = pending(routine, up_to, after=after, verdicts=verdicts)
            if again == todo:  # not moved at all: trying once more would read everything again for nothing
                raise
            logger.info("routine %s: another run committed v%d first", routine.name, todo.to_version)
            todo = again
    return None


def _commit_unit(routine: Routine, unit: WorkUnit, context: RunContext) -> RoutineResult | None:
    """Commits a unit of work. Returns None if it reads nothing and no output exists that could record it."""
    fence = Fence(routine.fence, expected=unit.pending.stored, value=unit.value)
    rows = _output_rows(routine, unit, context)
    if rows is None:
        return None
    work = work_of(routine, unit, _lineage_if_new(routine, column_lineage(rows)) if unit.reads else None)
    commit = replace(context.provenance, message=describe_work(routine, unit), work=work, depth=unit.depth)
    target, produced = table_or_none(routine.target), _cast_to_schema(routine, rows) if unit.reads else rows
    if routine.distributed and context.engine is not None and unit.reads and not unit.pending.remade:
        write = save if target is None else append_to
        written = write(produced, routine.target, context.engine, provenance=commit, fence=fence)
    elif target is None:
        written = produced.save(routine.target, provenance=commit, fence=fence)
    elif unit.pending.remade and routine.on_remade == "replace":
        written = produced.overwrite(routine.target, provenance=commit, fence=fence)
    else:
        written = produced.append_to(routine.target, provenance=commit, fence=fence)
    output = _output_version(routine, written.version)
    for part in unit.parts:
        for number, reason in part.skipped:
            logger.warning("routine %s: %s v%d %s", routine.name, part.range.source, number, reason)
    logger.info("%s -> %s v%d", commit.message, routine.target, output.version)
    return result_of(output)


def _output_version(routine: Routine, version: int) -> DatasetVersion:
    table = table_or_none(routine.target)
    if table is None:
        raise InvalidArgumentError(f"{routine.target!r} was deleted just after routine {routine.name!r} wrote to it")
    return resolve(table, version)


def _output_rows(routine: Routine, unit: WorkUnit, context: RunContext) -> Dataset | None:
    """Returns the rows of the commit; None if there are none and their columns are unknown."""
    if not unit.reads:
        schema = _known_schema(routine)
        return None if schema is None else Dataset.from_arrow(schema.empty_table())
    routine_run = RoutineRun(routine.name, unit.token(routine.fence), context.resources, context.provenance.run)
    rows = [part.dataset for part in unit.parts]
    if routine.output is None:
        call_function(routine, rows, routine_run)
        return _log_rows(unit, routine_run)
    return _returned_rows(routine, rows, routine_run, _known_schema(routine))


def _lineage_if_new(routine: Routine, lineage: Lineage) -> Lineage | None:
    """Returns the lineage if it differs from that of the version before."""
    done = history(routine)
    return lineage if lineage != (done[-1].lineage if done else {}) else None


def run_function(
    routine: Routine, rows: Sequence[Dataset], routine_run: RoutineRun, schema: pa.Schema | None
) -> Dataset:
    """Returns the rows that the function makes. ``schema`` is that of the output, if it is known.

    Raises:
        TransformError: it returned something other than a Dataset, a Table or record batches, or no batch at all.
        SchemaError: the rows do not fit the declared schema.
    """
    return _cast_to_schema(routine, _returned_rows(routine, rows, routine_run, schema))


def _returned_rows(
    routine: Routine, rows: Sequence[Dataset], routine_run: RoutineRun, schema: pa.Schema | None
) -> Dataset:
    result = call_function(routine, rows, routine_run)
    if isinstance(result, Dataset):
        return result
    if isinstance(result, pa.Table):
        return Dataset.from_arrow(result)
    if not isinstance(result, Iterable):
        raise TransformError(
            f"routine {routine.name!r} returned a {type(result).__name__}; it must return a Dataset, a pyarrow.Table, "
            "or yield pyarrow.RecordBatch"
        )
    return _stream_batches(routine, iter(result), rows, routine_run, schema)


def call_function(routine: Routine, rows: Sequence[Dataset], routine_run: RoutineRun) -> Any:
    """Returns the result of the function. A generator of a routine without an output is run to its end."""
    wants = "run" in inspect.signature(routine.fn).parameters
    result = routine.fn(*rows, **({"run": routine_run} if wants else {}))
    if routine.output is None and isinstance(result, Iterator):
        for _ in result:
            pass
    return result


def _log_rows(unit: WorkUnit, routine_run: RoutineRun) -> Dataset:
    lines = [
        {
            "source": part.range.source,
            "version": part.versions[-1].version,
            "rows": part.rows,
            "token": routine_run.token,
        }
        for part in unit.parts
        if part.versions
    ]
    return Dataset.from_pylist(lines, schema=LOG_SCHEMA)


def _stream_batches(
    routine: Routine,
    batches: Iterator[pa.RecordBatch],
    rows: Sequence[Dataset],
    routine_run: RoutineRun,
    known: pa.Schema | None,
) -> Dataset:
    """Returns the batches as a Dataset. Its first pass continues with the iterator whose first batch was taken."""
    first = next(batches, None)
    schema = first.schema if first is not None else known
    if schema is None:
        raise TransformError(
            f"routine {routine.name!r} returned no batch on its first run, so the columns of "
            f"{routine.output!r} are unknown; give the routine a schema, or yield an empty batch"
        )
    begun = [chain([] if first is None else [first], batches)]

    def once_then_again() -> Iterable[pa.RecordBatch]:
        return begun.pop() if begun else call_function(routine, rows, routine_run)

    return Dataset.from_batches(once_then_again, schema=schema)


def _cast_to_schema(routine: Routine, produced: Dataset) -> Dataset:
    """Returns the rows with the declared types. Types that do not fit are an error before any row is read."""
    schema = routine.schema
    if schema is None or produced.schema.equals(schema, check_metadata=True):
        return produced
    check_compatible(produced.schema, schema)
    return produced.map_batches(lambda batch: cast(batch, schema), schema=schema)


def _known_schema(routine: Routine) -> pa.Schema | None:
    if routine.output is None:
        return LOG_SCHEMA
    return Dataset(routine.output).schema if table_or_none(routine.output) is not None else routine.schema


def _check_resources(routine: Routine, context: RunContext) -> None:
    if routine.distributed and context.engine is None:
        raise InvalidArgumentError(f"routine {routine.name!r} is distributed: pass an engine with engine=")
    missing = sorted(set(routine.resources).difference(context.resources))
    if missing:
        raise InvalidArgumentError(f"routine {routine.name!r} needs the resources {missing}: pass them with resources=")
