"""Running a routine: rows and position land in one commit, or neither does."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import pyarrow as pa

from lakefeed.catalog import DatasetVersion, Fence, Provenance, cast, check_fits, resolve
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
    """Who runs a routine, and with what."""

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
    """Read what is pending (up to version ``up_to``), call the function, commit rows and position as one version.

    Returns None if there is nothing (left) to do, also because another run has just done it. ``run`` and ``code`` say
    in the version's provenance who wrote it. ``max_rows_per_run`` bounds it; a routine without an output goes one
    version further at a time, so that its tokens never depend on what came later. ``engine`` makes the rows of one that
    is ``distributed``.

    Raises:
        StateMismatchError: the source was deleted and made anew, and the routine is to stop then.
        TransformError: the function returned something else than a Dataset, a Table or record batches.
        InvalidArgumentError: a resource is missing; see also `pending`.

    Example:
        >>> def labels(rows):
        ...     return rows.select(["id", "label"])
        >>> run_routine(Routine("labels", labels, "digits", "digit_labels"))  # doctest: +SKIP
        RoutineResult(rows_in=600, rows_out=600, from_version=None, to_version=1, output_version=1, ...)
    """
    together = 0 if routine.output is None else None
    provenance = Provenance(run=run, code=code)
    by = RunContext(provenance, resources or {}, engine)
    return _run_one(routine, up_to, after, verdicts, together, routine.max_rows_per_run, by)


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
    """Work off what is pending now, oldest first; yields each commit as it lands. Arguments as for `run_routine`.

    One commit a source version, or one for as many as ``coalesce`` puts together: so each output version says what it
    was made of, memory and lost work are bounded, and a run that dies is continued where it died. It stops before
    ``max_rows`` rows are exceeded, but never without a commit.
    """
    todo = pending(routine, up_to, after=after, verdicts=verdicts)
    if todo is None:
        return
    ends = {each.source: each.versions[-1].version for each in todo.ranges if each.versions}
    bounds: Bounds = ends if len(routine.sources) > 1 else ends[routine.sources[0]]
    together = None if len(routine.sources) > 1 and routine.output is not None else routine.together
    by, left = RunContext(Provenance(run=run, code=code), resources or {}, engine), max_rows
    while left is None or left > 0:
        most = min((each for each in (routine.max_rows_per_run, left) if each is not None), default=None)
        if routine.output is None:
            most = routine.max_rows_per_run  # where it is split must not depend on what ran before
        result = _run_one(routine, bounds, after, verdicts, together, most, by)
        if result is None:
            return
        yield result
        left = None if left is None else left - result.rows_in


def skip(routine: Routine, version: int, reason: str, *, source: str | None = None) -> RoutineResult:
    """Leave out a version that the function cannot digest, by hand: what comes after it is read.

    It must be the next version to be read. The output gets a version without rows that says so, beside the position.

    Raises:
        InvalidArgumentError: another version comes first, or nothing says which columns the output has.
        FenceError: a run has just moved the position.
    """
    name = source or routine.sources[0]
    todo = pending(replace(routine, only_checked=False))
    found = next((each for each in todo.ranges if each.source == name and each.versions), None) if todo else None
    if todo is None or found is None or found.versions[0].version != version:
        stands = f"v{found.versions[0].version} of {name!r} is" if found else f"nothing of {name!r} is"
        raise InvalidArgumentError(f"routine {routine.name!r} cannot skip v{version}: {stands} the next that it reads")
    alone = replace(found, versions=found.versions[:1])
    others = tuple(alone if each.source == name else replace(each, versions=()) for each in todo.ranges)
    marked = leave_out_version(replace(todo, ranges=others), name, version, f"skipped by hand: {reason}")
    done = _commit_unit(routine, next_work_unit(marked, None, None), RunContext())
    if done is None:
        raise InvalidArgumentError(
            f"routine {routine.name!r} has written nothing yet, and nothing says which columns {routine.target!r} has: "
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
    by: RunContext,
) -> RoutineResult | None:
    _check_resources(routine, by)
    todo = pending(routine, up_to, after=after, verdicts=verdicts)
    while todo is not None:
        try:
            return _commit_unit(routine, next_work_unit(todo, together, most), by)
        except DatasetExistsError:
            logger.info("routine %s: %r has just been made by another", routine.name, routine.target)
            todo = pending(routine, up_to, after=after, verdicts=verdicts)
        except FenceError:
            again = pending(routine, up_to, after=after, verdicts=verdicts)
            if again == todo:  # not moved at all: trying once more would read everything again for nothing
                raise
            logger.info("routine %s: another run was first with v%d", routine.name, todo.to_version)
            todo = again
    return None


def _commit_unit(routine: Routine, portion: WorkUnit, by: RunContext) -> RoutineResult | None:
    """The commit of a portion; None where nothing is read and no output could say so."""
    fence = Fence(routine.fence, expected=portion.pending.stored, value=portion.value)
    made = _output_rows(routine, portion, by)
    if made is None:
        return None
    work = work_of(routine, portion, _lineage_if_new(routine, column_lineage(made)) if portion.reads else None)
    said = replace(by.provenance, message=describe_work(routine, portion), work=work, depth=portion.depth)
    target, produced = table_or_none(routine.target), _cast_to_schema(routine, made) if portion.reads else made
    if routine.distributed and by.engine is not None and portion.reads and not portion.pending.remade:
        write = save if target is None else append_to
        written = write(produced, routine.target, by.engine, provenance=said, fence=fence)
    elif target is None:
        written = produced.save(routine.target, provenance=said, fence=fence)
    elif portion.pending.remade and routine.on_remade == "replace":
        written = produced.overwrite(routine.target, provenance=said, fence=fence)
    else:
        written = produced.append_to(routine.target, provenance=said, fence=fence)
    output = _output_version(routine, written.version)
    for part in portion.parts:
        for number, reason in part.skipped:
            logger.warning("routine %s: %s v%d %s", routine.name, part.found.source, number, reason)
    logger.info("%s -> %s v%d", said.message, routine.target, output.version)
    return result_of(output)


def _output_version(routine: Routine, version: int) -> DatasetVersion:
    table = table_or_none(routine.target)
    if table is None:
        raise InvalidArgumentError(f"{routine.target!r} was deleted just after routine {routine.name!r} wrote to it")
    return resolve(table, version)


def _output_rows(routine: Routine, portion: WorkUnit, by: RunContext) -> Dataset | None:
    """The rows of the commit; None where there are none and nothing says which columns they would have."""
    if not portion.reads:
        schema = _known_schema(routine)
        return None if schema is None else Dataset.from_arrow(schema.empty_table())
    told = RoutineRun(routine.name, portion.token(routine.fence), by.resources, by.provenance.run)
    rows = [part.dataset for part in portion.parts]
    if routine.output is None:
        call_function(routine, rows, told)
        return _log_rows(portion, told)
    return _returned_rows(routine, rows, told, _known_schema(routine))


def _lineage_if_new(routine: Routine, lineage: Lineage) -> Lineage | None:
    """What the columns are made of, if the version before did not say so already."""
    done = history(routine)
    return lineage if lineage != (done[-1].lineage if done else {}) else None


def run_function(routine: Routine, rows: Sequence[Dataset], told: RoutineRun, schema: pa.Schema | None) -> Dataset:
    """What the function makes of the rows; ``schema`` is that of the output, as far as it is known.

    Raises:
        TransformError: it returned something else than a Dataset, a Table or record batches, or no batch at all.
        SchemaError: what it returned does not fit the declared schema.
    """
    return _cast_to_schema(routine, _returned_rows(routine, rows, told, schema))


def _returned_rows(routine: Routine, rows: Sequence[Dataset], told: RoutineRun, schema: pa.Schema | None) -> Dataset:
    result = call_function(routine, rows, told)
    if isinstance(result, Dataset):
        return result
    if isinstance(result, pa.Table):
        return Dataset.from_arrow(result)
    if not isinstance(result, Iterable):
        raise TransformError(
            f"routine {routine.name!r} returned a {type(result).__name__}; it must return a Dataset, a pyarrow.Table, "
            "or yield pyarrow.RecordBatch"
        )
    return _stream_batches(routine, iter(result), rows, told, schema)


def call_function(routine: Routine, rows: Sequence[Dataset], told: RoutineRun) -> Any:
    """What the function returns; a generator of a routine without an output is run to its end."""
    wants = "run" in inspect.signature(routine.fn).parameters
    result = routine.fn(*rows, **({"run": told} if wants else {}))
    if routine.output is None and isinstance(result, Iterator):
        for _ in result:
            pass
    return result


def _log_rows(portion: WorkUnit, told: RoutineRun) -> Dataset:
    lines = [
        {"source": part.found.source, "version": part.versions[-1].version, "rows": part.rows, "token": told.token}
        for part in portion.parts
        if part.versions
    ]
    return Dataset.from_pylist(lines, schema=LOG_SCHEMA)


def _stream_batches(
    routine: Routine,
    batches: Iterator[pa.RecordBatch],
    rows: Sequence[Dataset],
    told: RoutineRun,
    known: pa.Schema | None,
) -> Dataset:
    """The batches as a Dataset; its first pass goes on with the iterator whose schema was looked at."""
    first = next(batches, None)
    schema = first.schema if first is not None else known
    if schema is None:
        raise TransformError(
            f"routine {routine.name!r} returned no batch on its first run, so nothing says which columns "
            f"{routine.output!r} has; give the routine a schema, or yield an empty batch"
        )
    begun = [chain([] if first is None else [first], batches)]

    def once_then_again() -> Iterable[pa.RecordBatch]:
        return begun.pop() if begun else call_function(routine, rows, told)

    return Dataset.from_batches(once_then_again, schema=schema)


def _cast_to_schema(routine: Routine, produced: Dataset) -> Dataset:
    """With the declared types; what does not fit them is refused before a row is read."""
    schema = routine.schema
    if schema is None or produced.schema.equals(schema, check_metadata=True):
        return produced
    check_fits(produced.schema, schema)
    return produced.map_batches(lambda batch: cast(batch, schema), schema=schema)


def _known_schema(routine: Routine) -> pa.Schema | None:
    if routine.output is None:
        return LOG_SCHEMA
    return Dataset(routine.output).schema if table_or_none(routine.output) is not None else routine.schema


def _check_resources(routine: Routine, by: RunContext) -> None:
    if routine.distributed and by.engine is None:
        raise InvalidArgumentError(f"routine {routine.name!r} is distributed: give an engine with engine=")
    missing = sorted(set(routine.resources).difference(by.resources))
    if missing:
        raise InvalidArgumentError(f"routine {routine.name!r} needs the resources {missing}: give them with resources=")
