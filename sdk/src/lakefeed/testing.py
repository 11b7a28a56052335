"""`run_routine` for unit tests of routines: it runs a function on rows in memory, without a lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from lakefeed.dataset import Dataset
from lakefeed.errors import InvalidArgumentError
from lakefeed.routines.function_call import call_function, run_function
from lakefeed.routines.routine_declaration import Routine, RoutineFn, RoutineRun

__all__ = ["run_routine"]

TOKEN = "test"


def run_routine(
    routine: Routine | RoutineFn,
    *rows: Dataset | pa.Table | Mapping[str, Sequence[Any]],
    schema: pa.Schema | None = None,
    resources: Mapping[str, Any] | None = None,
) -> Dataset:
    """Returns the rows that a routine makes of the given rows. It writes nothing.

    The result is what a run would commit: it has the declared columns, and rows that do not fit them are an error. A
    routine without an output returns the row that it would log.

    Args:
        routine: the routine, or a plain function.
        rows: the rows of each dataset that the routine reads, in order.
        schema: the schema of the output of a plain function.
        resources: the objects that the routine requests by name.

    Raises:
        InvalidArgumentError: the number of arguments is not that of the datasets, or a resource is missing.
        TransformError: the function returned something other than a Dataset, a Table or record batches.
        SchemaError: the rows do not fit the declared schema.

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
        raise InvalidArgumentError(f"routine {tried.name!r} needs the resources {missing}: pass them with resources=")
    routine_run = RoutineRun(tried.name, TOKEN, resources or {})
    if tried.output is None:
        call_function(tried, given, routine_run)
        return Dataset.from_dict({"token": [TOKEN], "rows": [sum(each.count() for each in given)]})
    return run_function(tried, given, routine_run, tried.schema)


def _routine_of(fn: RoutineFn, sources: int, schema: pa.Schema | None) -> Routine:
    return replace(Routine("tried", fn, tuple(f"source-{n}" for n in range(sources)), "output"), schema=schema)


def _dataset(rows: pa.Table | Mapping[str, Sequence[Any]]) -> Dataset:
    return Dataset.from_arrow(rows) if isinstance(rows, pa.Table) else Dataset.from_dict(rows)
