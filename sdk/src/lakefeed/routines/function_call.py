"""Calls of the function of a routine, and the rows that it returns."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from lakefeed.catalog import check_compatible
from lakefeed.dataset import Dataset, dataset_of, lake_of, plan_of
from lakefeed.errors import TransformError
from lakefeed.routines.routine_declaration import Routine, RoutineRun
from lakefeed.run.guarded_steps import CastRows


def run_function(
    routine: Routine, rows: Sequence[Dataset], routine_run: RoutineRun, schema: pa.Schema | None
) -> Dataset:
    """Returns the rows that the function makes. ``schema`` is that of the output, if it is known.

    Raises:
        TransformError: it returned something other than a Dataset, a Table or record batches, or no batch at all.
        SchemaError: the rows do not fit the declared schema.
    """
    return cast_to_schema(routine, returned_rows(routine, rows, routine_run, schema))


def returned_rows(
    routine: Routine, rows: Sequence[Dataset], routine_run: RoutineRun, schema: pa.Schema | None
) -> Dataset:
    """Does as `run_function`, without the declared types."""
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


def cast_to_schema(routine: Routine, produced: Dataset) -> Dataset:
    """Returns the rows with the declared types. Types that do not fit are an error before any row is read."""
    schema = routine.schema
    if schema is None or produced.schema.equals(schema, check_metadata=True):
        return produced
    check_compatible(produced.schema, schema)
    return dataset_of(lake_of(produced), CastRows(plan_of(produced, "a routine"), schema))


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
