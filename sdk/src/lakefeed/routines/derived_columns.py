"""Routines that derive columns of their source: the values go beside the rows that were read."""

from __future__ import annotations

import pyarrow as pa

from lakefeed.catalog import DatasetVersion, Lake, declared_schema
from lakefeed.catalog.action import WriteOptions
from lakefeed.catalog.table_key import key_columns
from lakefeed.dataset import Dataset, lake_of, plan_of
from lakefeed.errors import InvalidArgumentError
from lakefeed.routines.routine_declaration import Routine
from lakefeed.run.column_writes import write_columns
from lakefeed.run.save import Writing


def derived_schema(routine: Routine) -> pa.Schema | None:
    """Returns the key and the columns that a routine derives; None if a column does not exist yet.

    Raises:
        InvalidArgumentError: the dataset has no key.
    """
    if routine.schema is not None:
        return routine.schema
    table = Lake.current().table(routine.target)
    keys, schema = key_columns(table), declared_schema(table)
    if not keys:
        raise InvalidArgumentError(
            f"routine {routine.name!r} derives columns of {routine.target!r}, which has no key: create it with "
            "lakefeed.Table.create, or append the rows to another dataset"
        )
    names = (*keys, *routine.columns)
    return pa.schema([schema.field(name) for name in names]) if set(names) <= set(schema.names) else None


def write_derived(routine: Routine, version: int, rows: Dataset, options: WriteOptions) -> DatasetVersion:
    """Writes columns beside the rows that they were derived from, which a version has added."""
    writing = Writing.of(options)
    return write_columns(
        lake_of(rows), plan_of(rows, "a routine"), routine.target, tuple(routine.columns), version, writing
    )
