"""Values of columns for the rows of one file, of which some are new and the others are those that the file has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyiceberg.table import Table

from lakefeed.catalog.compatibility import cast
from lakefeed.catalog.edit_commit import Draft
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.plan.take_rows import take_rows
from lakefeed.run.rebatch import joined
from lakefeed.sources.iceberg_source import IcebergSource

MAX_COLUMN_FILES = 4
"""A data file with so many column files gets one in their place."""


def columns_to_write(table: Table, file: DataFileRef, changed: Sequence[str]) -> tuple[str, ...]:
    """Returns the columns of the next column file of a data file.

    They are the changed ones, and all others that are in column files if the data file has many of these.
    """
    names = {each.field_id: each.name for each in table.schema().fields}
    others = [{names[number] for number in each.fields if number in names} for each in file.columns]
    remaining = [each for each in others if each - set(changed)]
    if len(remaining) < MAX_COLUMN_FILES:
        return tuple(changed)
    more = set[str]().union(*remaining) - set(changed)
    return (*changed, *(name for name in names.values() if name in more))


def read_whole_rows(draft: Draft, source: IcebergSource) -> None:
    """Lets a draft read whole rows, which it writes again if the table has no column files."""
    draft.whole_rows = lambda file: (joined(batches) for _, batches in source.row_groups(file))


def merge_values(
    stored: pa.RecordBatch, positions: NDArray[np.int64], new: pa.RecordBatch, schema: pa.Schema
) -> pa.RecordBatch:
    """Returns the columns of a schema: the new values at their positions, the stored ones elsewhere.

    Args:
        stored: the rows with the columns that they have; others are null.
        positions: the positions of the rows with new values.
        new: their new values, of some of the columns.
        schema: the columns.
    """
    if len(positions) == stored.num_rows and set(new.schema.names) == set(schema.names):
        return cast(new, schema)
    before = cast(stored, schema)
    rows = take_rows(before, positions)
    values = [new.column(name) if name in new.schema.names else rows.column(name) for name in schema.names]
    fresh = cast(pa.RecordBatch.from_arrays(values, names=schema.names), schema)
    at = np.arange(stored.num_rows)
    at[positions] = stored.num_rows + np.arange(len(positions))
    return take_rows(joined([before, fresh]), at)
