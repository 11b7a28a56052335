"""`RowProfile`: statistics of the rows of a dataset, which print as a table in a shell and in a notebook."""

from __future__ import annotations

import datetime as dt
import html
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from lakefeed._sparse import type_text
from lakefeed.media import column_type
from lakefeed.run.progress import tracked
from lakefeed.run.text_table import html_table, short_line, text_table

if TYPE_CHECKING:
    from lakefeed.statistics import ColumnStatistics

HEADINGS = ("column", "type", "nulls", "distinct", "least", "mean", "median", "greatest")
LEFT = frozenset({"column", "type"})
MEDIAN = 2
"""The index of the median in `ColumnStatistics.quantiles`."""


@dataclass(frozen=True, repr=False)
class RowProfile:
    """The statistics of rows.

    Attributes:
        title: the dataset, as it prints.
        schema: the columns.
        rows: the number of rows.
        columns: the statistics of each column.
    """

    title: str
    schema: pa.Schema
    rows: int
    columns: Mapping[str, ColumnStatistics]

    def __repr__(self) -> str:
        return f"{self.rows:,} rows\n{text_table(HEADINGS, list(map(_cells, self.lines())), LEFT)}"

    def _repr_html_(self) -> str:
        """Returns the table for notebooks."""
        return (
            f"<div><p><b>{html.escape(self.title)}</b></p>{html_table(HEADINGS, list(map(_cells, self.lines())))}"
            f"<p>{self.rows:,} rows</p></div>"
        )

    def lines(self) -> Iterator[ProfileLine]:
        """Yields a line for each column, and for each measure of a column of files, such as ``photo.width``."""
        for field in self.schema:
            column = self.columns[field.name]
            yield ProfileLine.of(field.name, column_type(field) or type_text(field), column)
            for name, statistics in column.fields.items():
                yield ProfileLine.of(f"{field.name}.{name}", "", statistics)


class ProfileLine(NamedTuple):
    """A line of the table. ``exact``: False if ``distinct`` is an estimate."""

    column: str
    type: str
    nulls: int
    distinct: int | None
    exact: bool
    least: Any
    mean: float | None
    median: float | None
    greatest: Any

    @classmethod
    def of(cls, name: str, kind: str, column: ColumnStatistics) -> ProfileLine:
        """Returns the line of a column."""
        median = column.quantiles[MEDIAN] if column.quantiles else None
        distinct, exact = column.distinct, column.exact
        return cls(name, kind, column.nulls, distinct, exact, column.least, column.mean, median, column.greatest)


def profile_rows(title: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> RowProfile:
    """Reads the rows once and returns their statistics. A bar shows the progress on a terminal."""
    from lakefeed.statistics import Column

    columns, rows = {name: Column() for name in schema.names}, 0
    for batch in tracked(batches, "profiling"):
        rows += batch.num_rows
        for name, values in zip(batch.schema.names, batch.columns, strict=True):
            columns[name].add(values)
    return RowProfile(title, schema, rows, {name: column.statistics for name, column in columns.items()})


def _cells(line: ProfileLine) -> list[str]:
    distinct = "" if line.distinct is None else f"{'' if line.exact else '~'}{line.distinct:,}"
    numbers = [_text(each) for each in (line.least, line.mean, line.median, line.greatest)]
    return [short_line(line.column), short_line(line.type), f"{line.nulls:,}", distinct, *numbers]


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:,.3g}"
        case dt.datetime():
            return value.isoformat(" ", "seconds")
    return short_line(str(value))
