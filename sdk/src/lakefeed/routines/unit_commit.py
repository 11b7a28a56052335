"""The commit of a unit of work: rows, position and failed rows change together."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from lakefeed.catalog import DatasetVersion, Fence, Lake, Provenance, resolve
from lakefeed.catalog.action import Action, Condition, OpenFence, WriteOptions
from lakefeed.catalog.reclaim import reclaim_when_full
from lakefeed.compute import Engine, append_to, save
from lakefeed.dataset import Dataset, plan_of
from lakefeed.errors import DatasetExistsError, FenceError, InvalidArgumentError
from lakefeed.optimize.pushdown import push_down
from lakefeed.optimize.slice_pushdown import PushSlices
from lakefeed.plan import Node, Step
from lakefeed.plan.walk import nodes
from lakefeed.routines.column_lineage import Lineage, column_lineage
from lakefeed.routines.derived_columns import derived_schema, write_derived
from lakefeed.routines.error_records import FailedRow, failed_row, read_failed_rows, store_failed_rows
from lakefeed.routines.function_call import call_function, cast_to_schema, returned_rows
from lakefeed.routines.pending import table_or_none
from lakefeed.routines.routine_declaration import LOG_SCHEMA, Routine, RoutineRun
from lakefeed.routines.routine_history import RoutineResult, describe_work, history, result_of, work_of
from lakefeed.routines.row_work import OutputRows, RowSearch, guard_rows
from lakefeed.routines.skipped_rows import errors_key, from_json, skips_key, to_json
from lakefeed.routines.work_unit import SourcePart, WorkUnit
from lakefeed.run.row_errors import RowError, RowErrors, Stop
from lakefeed.run.step_chain import peel
from lakefeed.storage.blobs.blob_writer import BlobWriter

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunContext:
    """The provenance, resources and engine of a run."""

    provenance: Provenance = field(default_factory=Provenance)
    resources: Mapping[str, Any] = field(default_factory=dict)
    engine: Engine | None = None


@dataclass(frozen=True)
class Commit:
    """A commit, and the error that ended it before the last row of its unit."""

    result: RoutineResult
    error: Exception | None = None


class JoinedVersionsError(Exception):
    """A row failed among those of several versions, and no position lies between them. Nothing was committed."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def commit_unit(routine: Routine, unit: WorkUnit, context: RunContext) -> Commit | None:
    """Commits a unit of work, or the rows before the first one that failed.

    Returns None if it reads nothing and no output exists that could record it.

    Raises:
        JoinedVersionsError: a row failed, and each version should be read by itself.
    """
    try:
        output = make_rows(routine, unit, context)
        if output is None:
            return None
        return _write(routine, unit, context, output)
    except (FenceError, DatasetExistsError, JoinedVersionsError):
        raise
    except Exception as error:
        if unit.reads:
            _name_unit(routine, unit, error)
        if _may_separate(routine, unit):
            raise JoinedVersionsError(error) from error
        raise


def make_rows(routine: Routine, unit: WorkUnit, context: RunContext) -> OutputRows | None:
    """Returns the rows of a unit; None if there are none and their columns are unknown."""
    if not unit.reads:
        schema = known_schema(routine)
        if schema is None:
            return None
        empty = Dataset.from_arrow(schema.empty_table())
        return OutputRows(empty, None, empty)
    if routine.output is None:
        routine_run = _routine_run(routine, unit, context)
        call_function(routine, [part.dataset for part in unit.parts], routine_run)
        rows = _log_rows(unit, routine_run)
        return OutputRows(rows, None, rows)
    return _make_output(routine, unit, context)


def _make_output(routine: Routine, unit: WorkUnit, context: RunContext) -> OutputRows:
    errors = RowErrors(routine.on_error, routine.max_errors)
    inputs = [part.dataset for part in unit.parts]
    try:
        first, error = _call(routine, unit, inputs, context), None
    except Exception as raised:
        if routine.on_error == "fail":
            raise
        first, error = None, raised
    # An edit calls for its rows more than once, so they are made before.
    edits = bool(routine.columns) or (unit.pending.remade and routine.on_remade == "replace")
    if first is not None and not edits and (routine.on_error != "fail" or _may_commit_parts(routine, unit, first)):
        output = guard_rows(first, input_scan(inputs[unit.parts.index(_reading(unit))]), errors, routine.key)
        if output is not None:
            return output
    if routine.on_error == "fail" and first is not None and not routine.columns:
        return OutputRows(first, None, first)
    return _search(routine, unit, context, errors).make(*_bounds(unit), first, error)


def input_scan(rows: Dataset) -> Node:
    """Returns the node at which the steps of a function begin."""
    return peel(push_down(plan_of(rows, "a routine"), PushSlices()))[1]


def _call(routine: Routine, unit: WorkUnit, inputs: Sequence[Dataset], context: RunContext) -> Dataset:
    output = returned_rows(routine, inputs, _routine_run(routine, unit, context), known_schema(routine))
    return cast_to_schema(routine, output)


def _search(routine: Routine, unit: WorkUnit, context: RunContext, errors: RowErrors) -> RowSearch:
    def call(begin: int, end: int) -> Dataset:
        part = unit.between(begin, end)
        return _call(routine, part, [each.dataset for each in part.parts], context)

    def read(begin: int, end: int) -> Dataset:
        return _reading(unit.between(begin, end)).dataset

    return RowSearch(call, read, errors, routine.key, known_schema(routine))


def _bounds(unit: WorkUnit) -> tuple[int, int]:
    part = _reading(unit)
    return part.begin, part.begin + part.dataset.count()


def _reading(unit: WorkUnit) -> SourcePart:
    assert unit.reading is not None, "a routine of one source"
    return unit.reading


def _may_commit_parts(routine: Routine, unit: WorkUnit, output: Dataset) -> bool:
    """Returns whether the rows before one that fails can be committed, and there is something that may fail."""
    if not routine.commit_parts or not unit.may_end_early or len(routine.sources) > 1:
        return False
    steps = (node for node in nodes(plan_of(output, "a routine")) if isinstance(node, Step))
    return any(step.runs_user_code or step.works_ahead for step in steps)


def _may_separate(routine: Routine, unit: WorkUnit) -> bool:
    """Returns whether versions that were read together can be read one by one."""
    joined = unit.reading is not None and len(unit.reading.versions) > 1
    return joined and routine.commit_parts and len(routine.sources) == 1 and routine.output is not None


def _routine_run(routine: Routine, unit: WorkUnit, context: RunContext) -> RoutineRun:
    return RoutineRun(routine.name, unit.token(routine.fence), context.resources, context.provenance.run)


# ------------------------------------------------------------------------------------------ the commit


def _write(routine: Routine, unit: WorkUnit, context: RunContext, output: OutputRows) -> Commit:
    completion = _Completion(routine, unit, context.provenance, output)
    fence = OpenFence(routine.fence, unit.pending.stored, unit.value, completion)
    target, rows, engine = table_or_none(routine.target), output.rows, context.engine
    options: WriteOptions = {"provenance": context.provenance, "fence": fence}
    written: Dataset | DatasetVersion
    with completion:
        if routine.distributed and engine is not None and unit.reads and not unit.pending.remade:
            write = save if target is None else append_to
            written = write(rows, routine.target, engine, **options)
        elif routine.columns:
            written = write_derived(routine, unit.last_version, rows, options)
        elif target is None:
            written = rows.save(routine.target, **options)
        elif unit.pending.remade and routine.on_remade == "replace":
            written = rows.overwrite(routine.target, **options)
        else:
            written = rows.append_to(routine.target, **options)
    latest = output_version(routine, written.version)
    for part in unit.parts:
        for number, reason in part.skipped:
            logger.warning("routine %s: %s v%d %s", routine.name, part.range.source, number, reason)
    logger.info("%s -> %s v%d", completion.message, routine.target, latest.version)
    result, stop = result_of(latest), completion.stop
    if output.errors is not None:
        output.errors.skipped.log()
    if result.failed:
        logger.warning("routine %s: %d rows failed, see %r", routine.name, result.failed, routine.errors_dataset)
    if stop is None:
        return Commit(result)
    stop.error.add_note(f"The rows before are committed, as {routine.target!r} v{latest.version}.")
    return Commit(result, stop.error)


class _Completion:
    """Completes the commit of a unit when its rows are written and the failed ones are known."""

    def __init__(self, routine: Routine, unit: WorkUnit, provenance: Provenance, output: OutputRows) -> None:
        self._routine, self._unit, self._output = routine, unit, output
        self._stack = ExitStack()
        lineage = lineage_if_new(routine, column_lineage(output.plain)) if unit.reads else None
        self._lineage, self._provenance = lineage, provenance
        self.stop: Stop | None = None
        self.message = ""

    def __enter__(self) -> None:
        self._stack.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def __call__(self, action: Action) -> Action:
        """Returns the action to commit.

        Raises:
            Exception: the error of a row before which nothing can be committed.
        """
        routine, unit, errors = self._routine, self._unit, self._output.errors
        self.stop = None if errors is None else errors.stop
        if self.stop is not None:
            part = _reading(unit)
            _name_row(routine, part, self.stop)
            if not unit.may_end_early or self.stop.row <= part.begin:
                raise self.stop.error
            unit = unit.until(self.stop.row)
        failed = [] if errors is None else [errors.errors[row] for row in sorted(errors.errors)]
        derived = self._output.rows.count() if routine.columns else 0
        work = work_of(routine, unit, self._lineage, failed=len(failed), derived=derived)
        self.message = describe_work(routine, unit)
        provenance = replace(self._provenance, message=self.message, work=work, depth=unit.depth)
        conditions = (self._errors_condition(failed), _skips_condition(routine, unit))
        fence = Fence(routine.fence, unit.pending.stored, unit.value)
        return replace(action, provenance=provenance, fence=fence, conditions=conditions)

    def _errors_condition(self, failed: Sequence[RowError]) -> Condition:
        routine, unit = self._routine, self._unit
        before, value = unit.pending.errors, None
        replaced = unit.pending.remade and routine.on_remade == "replace"
        if replaced and before and not failed:
            value = ""
        elif failed:
            old = [] if replaced else read_failed_rows(before)
            new = _failed_rows(routine, _reading(unit), failed, self._provenance.run)
            value = store_failed_rows([*old, *new], self._stack.enter_context(open_blob_writer()))
        return Condition(errors_key(routine), before, value)


@contextmanager
def open_blob_writer() -> Iterator[BlobWriter]:
    """Protects blobs that are written from the garbage collection, until the commit that refers to them."""
    lake = Lake.current()
    saving = lake.blobs.open_writer()
    with reclaim_when_full(lake, lambda: saving.new_objects), saving:
        yield saving


def _failed_rows(
    routine: Routine, part: SourcePart, errors: Sequence[RowError], run: str | None
) -> Iterator[FailedRow]:
    after, last = part.range.done_before(part.versions[0].version), part.versions[-1].version
    for error in errors:
        yield failed_row(routine, (part.range.source, part.range.table_uuid), (after, last), error, run)


def _skips_condition(routine: Routine, unit: WorkUnit) -> Condition:
    """Returns the condition that no other rows are to be left out, and drops those that the position has passed."""
    before = unit.pending.skips
    reached = {part.range.table_uuid: part.reached.version for part in unit.parts if part.reached is not None}
    skipped = from_json(before)
    left = [each for each in skipped if each.version > reached.get(each.table, 0)]
    return Condition(skips_key(routine), before, to_json(left) if len(left) < len(skipped) else None)


# ------------------------------------------------------------------------------------------ what it needs


def output_version(routine: Routine, version: int) -> DatasetVersion:
    """Returns the version of the output that a run has just written."""
    table = table_or_none(routine.target)
    if table is None:
        raise InvalidArgumentError(f"{routine.target!r} was deleted just after routine {routine.name!r} wrote to it")
    return resolve(table, version)


def known_schema(routine: Routine) -> pa.Schema | None:
    """Returns the columns of the output, if they are known."""
    if routine.output is None:
        return LOG_SCHEMA
    if routine.columns:
        return derived_schema(routine)
    return Dataset(routine.output).schema if table_or_none(routine.output) is not None else routine.schema


def lineage_if_new(routine: Routine, lineage: Lineage) -> Lineage | None:
    """Returns the lineage if it differs from that of the version before."""
    done = history(routine)
    return lineage if lineage != (done[-1].lineage if done else {}) else None


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


def _name_row(routine: Routine, part: SourcePart, stop: Stop) -> None:
    """Adds the row, its version and its file to an error."""
    details, version = stop.details, f"v{part.versions[-1].version} of {part.range.source!r}"
    names = [f"{name} {value!r}" for name, value in (("key", details.key), ("file", details.file)) if value is not None]
    named = f" ({', '.join(names)})" if names else ""
    rows = f"row {stop.row}{named}" if stop.last == stop.row else f"one of rows {stop.row}{named} to {stop.last}"
    stop.error.add_note(f"Routine {routine.name!r} failed on {rows} of {version}.")


def _name_unit(routine: Routine, unit: WorkUnit, error: Exception) -> None:
    """Adds the rows that were read to an error that does not name one."""
    prefix = f"Routine {routine.name!r} failed on "
    if any(note.startswith(prefix) for note in getattr(error, "__notes__", ())):
        return
    read = [
        f"{part.rows} rows from row {part.begin} of v{part.versions[0].version}"
        f"{f' to v{part.versions[-1].version}' if len(part.versions) > 1 else ''} of {part.range.source!r}"
        for part in unit.parts
        if part.versions
    ]
    error.add_note(f"{prefix}{', '.join(read)}.")
