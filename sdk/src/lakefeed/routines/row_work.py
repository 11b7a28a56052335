"""The rows that a routine makes of its input, and the rows of the input on which its function raises.

A Dataset of operations that work row by row is run with guarded steps, so that each function of a row is called once.
Anything else (a Table, a generator, a join) is made by calling the function: on all rows, and where that raises on
halves of them, down to single rows.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import TypeAlias

import pyarrow as pa

from lakefeed.catalog import Lake, cast
from lakefeed.dataset import Dataset, dataset_of, lake_of, plan_of
from lakefeed.errors import TransformError
from lakefeed.ops import Scan
from lakefeed.ops.common_schema import conform_batch
from lakefeed.plan import Lineage, Node, lineage
from lakefeed.run.guarded_steps import GuardedSteps, check_nullable
from lakefeed.run.local_runner import LocalRunner
from lakefeed.run.row_errors import OF_THE_MACHINE, RowError, RowErrors, key_column, names_of_row
from lakefeed.run.spill import spill
from lakefeed.sources.memory_source import MemorySource

Call: TypeAlias = Callable[[int, int], Dataset]
"""Returns the rows that the function makes of the rows ``[begin, end)``."""


@dataclass(frozen=True)
class OutputRows:
    """The rows that a routine makes.

    Attributes:
        rows: the rows.
        errors: records the errors of rows; complete when the rows are written. None: any error ends the work.
        plain: the rows as the function returned them, for their lineage.
    """

    rows: Dataset
    errors: RowErrors | None
    plain: Dataset


def guard_rows(output: Dataset, base: Node, errors: RowErrors, key: str | None) -> OutputRows | None:
    """Returns the rows of a Dataset with its steps guarded; None if it is not made of steps over ``base``."""
    guard = GuardedSteps.of(plan_of(output, "a routine"), base, errors, key)
    return None if guard is None else OutputRows(dataset_of(lake_of(output), guard), errors, output)


@dataclass
class RowSearch:
    """Makes rows by calls of the function, and finds those on which it raises.

    Attributes:
        call: calls the function.
        read: returns the rows ``[begin, end)`` of the input.
        errors: records the errors.
        key: the column that names a row.
        schema: the columns of the output, if they are known.
    """

    call: Call
    read: Callable[[int, int], Dataset]
    errors: RowErrors
    key: str | None
    schema: pa.Schema | None
    _tables: list[tuple[int, pa.Table]] = field(default_factory=list)
    _plain: Dataset | None = None
    _cause: Exception | None = None

    def make(self, begin: int, end: int, first: Dataset | None = None, error: Exception | None = None) -> OutputRows:
        """Returns the rows of ``[begin, end)``, on local disk.

        Args:
            begin: the position of the first row.
            end: the position after the last row.
            first: the rows of the first call, if there was one.
            error: the error that it raised.

        Raises:
            TransformError: no row could be made, and the columns of the output are unknown.
            Exception: the error, if there are no rows.
        """
        if begin == end and error is not None:
            raise error
        self._make(begin, end, first, error)
        schema = self.schema or (self._tables[0][1].schema if self._tables else None)
        if schema is None:
            raise TransformError(
                f"the function raised on every row ({type(self._cause).__name__}: {self._cause!s:.300}), so the "
                "columns of the output are unknown; mend the function, or give the routine a schema"
            ) from self._cause
        if self.errors.policy == "null":
            check_nullable(schema, self.key)
            self._tables += [(row, self._null_row(row, schema)) for row in self.errors.errors]
        whole = [table for row, table in sorted(self._tables, key=lambda each: each[0])]
        table = pa.concat_tables([schema.empty_table(), *(_fit(table, schema) for table in whole)])
        origin = Lineage() if self._plain is None else lineage(plan_of(self._plain, "a routine"))
        rows = dataset_of(Lake.current(), Scan(_MadeRows(table, origin)))
        return OutputRows(rows, self.errors, self._plain or rows)

    def _make(self, begin: int, end: int, first: Dataset | None = None, error: Exception | None = None) -> None:
        if self.errors.is_past_end(begin):
            return
        if error is None:
            try:
                self._tables.append((begin, self._rows(begin, end, first)))
                return
            except Exception as raised:  # noqa: BLE001 - any error of the user's function
                error = raised
        if end - begin <= 1 or isinstance(error, OF_THE_MACHINE):
            self._record(begin, end, error)
            return
        middle = (begin + end) // 2
        self._make(begin, middle)
        self._make(middle, end)

    def _rows(self, begin: int, end: int, first: Dataset | None) -> pa.Table:
        output = self.call(begin, end) if first is None else first
        self._plain = self._plain or output
        return _spilled(output)

    def _record(self, begin: int, end: int, error: Exception) -> None:
        self._cause = error
        [row] = self.read(begin, begin + 1).to_arrow().combine_chunks().to_batches()
        self.errors.add(RowError.of(begin, error, *names_of_row(row, 0, self.key)), error, end - 1)

    def _null_row(self, row: int, schema: pa.Schema) -> pa.Table:
        [batch] = self.read(row, row + 1).to_arrow().combine_chunks().to_batches()
        key = key_column(batch.schema, self.key)
        same = key is not None and key in schema.names and batch.schema.field(key).type == schema.field(key).type
        return pa.Table.from_batches([conform_batch(batch.select([key] if key is not None and same else []), schema)])


@dataclass(frozen=True, eq=False)
class _MadeRows(MemorySource):
    """Rows that were made of others."""

    origin: Lineage

    @property
    def lineage(self) -> Lineage:
        return self.origin


def on_disk(output: OutputRows) -> OutputRows:
    """Returns the rows on local disk, so that the errors are known."""
    table = _spilled(output.rows)
    rows = Scan(_MadeRows(table, lineage(plan_of(output.rows, "a routine"))))
    return OutputRows(dataset_of(lake_of(output.rows), rows), output.errors, output.plain)


def _spilled(rows: Dataset) -> pa.Table:
    settings = lake_of(rows).settings
    with closing(LocalRunner(settings).batches(plan_of(rows, "a routine"))) as batches:
        return spill(batches, rows.schema, settings.cache / "spill").table


def _fit(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if table.schema.equals(schema):
        return table
    return pa.Table.from_batches([cast(batch, schema) for batch in table.to_batches()], schema)
