"""For the unit tests of those who write routines: a function is tried on rows in memory, without a lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from lakefeed.dataset import Dataset
from lakefeed.errors import InvalidArgumentError
from lakefeed.routines.routine import Routine, RoutineFn, RoutineRun
from lakefeed.routines.routine_run import call_function, run_function

__all__ = ["run_routine"]

TOKEN = "test"


def run_routine(
    routine: Routine | RoutineFn,
    *rows: Dataset | pa.Table | Mapping[str, Sequence[Any]],
    schema: pa.Schema | None = None,
    resources: Mapping[str, Any] | None = None,
) -> Dataset:
    """What a routine makes of these rows, one argument for each dataset that it reads; nothing is written.

    The result is what a run would commit: of the declared columns, refused where it does not fit them. A routine
    without an output gives what it would log. A plain function may be given, with the ``schema`` of its output.

    Raises:
        InvalidArgumentError: not as many arguments as the routine reads datasets; a resource is missing.
        TransformError, SchemaError: as in a run.

    Example:
        >>> def doubled(rows):
        ...     return rows.with_column("double", "x * 2")
        >>> run_routine(doubled, {"x": [1, 2]}).to_arrow().to_pydict()
        {'x': [1, 2], 'double': [2, 4]}
    """
    given = [each if isinstance(each, Dataset) else _dataset(each) for each in rows]
    tried = routine if isinstance(routine, Routine) else _routine_of(routine, len(given), schema)
    if len(given) != len(tried.sources):
        raise InvalidArgumentError(f"routine {tried.name!r} reads {len(tried.sources)} dataset(s), not {len(given)}")
    missing = sorted(set(tried.resources).difference(resources or {}))
    if missing:
        raise InvalidArgumentError(f"routine {tried.name!r} needs the resources {missing}: give them with resources=")
    told = RoutineRun(tried.name, TOKEN, resources or {})
    if tried.output is None:
        call_function(tried, given, told)
        return Dataset.from_dict({"token": [TOKEN], "rows": [sum(each.count() for each in given)]})
    return run_function(tried, given, told, tried.schema)


def _routine_of(fn: RoutineFn, sources: int, schema: pa.Schema | None) -> Routine:
    return replace(Routine("tried", fn, tuple(f"source-{n}" for n in range(sources)), "output"), schema=schema)


def _dataset(rows: pa.Table | Mapping[str, Sequence[Any]]) -> Dataset:
    return Dataset.from_arrow(rows) if isinstance(rows, pa.Table) else Dataset.from_dict(rows)
