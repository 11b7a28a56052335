"""Runs of routines: rows and position are one commit."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from lakefeed.catalog import Provenance
from lakefeed.compute import Engine
from lakefeed.errors import DatasetExistsError, FenceError, InvalidArgumentError
from lakefeed.routines.error_records import check_errors_dataset, show_failed_rows
from lakefeed.routines.pending import Bounds, Verdicts, pending
from lakefeed.routines.routine_declaration import Routine
from lakefeed.routines.routine_history import RoutineResult
from lakefeed.routines.unit_commit import Commit, JoinedVersionsError, RunContext, commit_unit
from lakefeed.routines.work_unit import next_work_unit

logger = logging.getLogger(__name__)


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
    together = 0 if routine.output is None or routine.columns else None
    context = RunContext(Provenance(run=run, code=code), resources or {}, engine)
    try:
        commit = _run_one(routine, up_to, after, verdicts, together, routine.max_rows_per_run, context)
    except JoinedVersionsError as joined:
        # Each version by itself, up to the one that fails.
        for commit in iter(
            lambda: _run_one(routine, up_to, after, verdicts, 0, routine.max_rows_per_run, context), None
        ):
            if commit.error is not None:
                raise commit.error from None
        raise joined.error from None
    if commit is None:
        return None
    if commit.error is not None:
        raise commit.error
    return commit.result


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
    if routine.on_error != "fail":
        show_failed_rows(routine)  # those of a run that was killed
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
        try:
            commit = _run_one(routine, bounds, after, verdicts, together, most, context)
        except JoinedVersionsError:
            together = 0  # each version by itself, so that those before the one that fails are committed
            continue
        if commit is None:
            return
        yield commit.result
        if commit.error is not None:
            raise commit.error
        left = None if left is None else left - commit.result.rows_in


def _run_one(
    routine: Routine,
    up_to: Bounds,
    after: int | None,
    verdicts: Verdicts | None,
    together: int | None,
    most: int | None,
    context: RunContext,
) -> Commit | None:
    _check_resources(routine, context)
    if routine.on_error != "fail":
        check_errors_dataset(routine)
        show_failed_rows(routine)
    todo = pending(routine, up_to, after=after, verdicts=verdicts)
    while todo is not None:
        try:
            commit = commit_unit(routine, next_work_unit(todo, together, most), context)
        except DatasetExistsError:
            logger.info("routine %s: another run has just created %r", routine.name, routine.target)
            todo = pending(routine, up_to, after=after, verdicts=verdicts)
        except FenceError:
            again = pending(routine, up_to, after=after, verdicts=verdicts)
            if again == todo:  # not moved at all: trying once more would read everything again for nothing
                raise
            logger.info("routine %s: another run committed v%d first", routine.name, todo.to_version)
            todo = again
        else:
            if routine.on_error != "fail":
                show_failed_rows(routine)
            return commit
    return None


def _check_resources(routine: Routine, context: RunContext) -> None:
    if routine.distributed and context.engine is None:
        raise InvalidArgumentError(f"routine {routine.name!r} is distributed: pass an engine with engine=")
    missing = sorted(set(routine.resources).difference(context.resources))
    if missing:
        raise InvalidArgumentError(f"routine {routine.name!r} needs the resources {missing}: pass them with resources=")
