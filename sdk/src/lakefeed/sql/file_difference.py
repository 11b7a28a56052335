"""The rows of files that other files lack, by their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa

from lakefeed import sql
from lakefeed.catalog import version_files
from lakefeed.catalog.file_refs import DataFileRef, Delta
from lakefeed.plan.take_rows import take_sorted

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyiceberg.table import Table

    from lakefeed.config import Settings

    Positions: TypeAlias = NDArray[np.int64]

RowsOf: TypeAlias = Callable[[tuple[DataFileRef, ...]], sql.QueryTable]
"""Returns the rows of files in types that every engine can compare."""


def remaining_positions(
    settings: Settings, table: Table, delta: Delta, rows_of: RowsOf, less_of: RowsOf
) -> Iterator[Positions]:
    """Yields the positions of the remaining rows for each file of a delta.

    Args:
        settings: the settings of the lake.
        table: the table.
        delta: the files, and those whose rows they lose.
        rows_of: reads the files.
        less_of: reads those whose rows they lose.
    """
    less = less_of(delta.less)
    if delta.moved:
        moved = sql.subtract_rows(settings, less, less_of(delta.moved))
        less = sql.QueryTable(less.schema, partial(_take_from_table, less, moved))
    remaining = sql.subtract_rows(settings, rows_of(delta.files), less)
    first = 0
    for file in delta.files:
        selection = version_files.select_rows(table, file) if file.has_deletes else None
        rows = file.rows if selection is None else len(selection)
        low, high = np.searchsorted(remaining, [first, first + rows])
        positions = remaining[low:high] - first
        yield positions if selection is None else selection.within(0, file.rows)[positions]
        first += rows


def _take_from_table(rows: sql.QueryTable, positions: Positions) -> Iterator[pa.RecordBatch]:
    return take_sorted(iter(rows.batches()), positions)
