"""Rows of datasets as output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from lakefeed.cli.invocation import Invocation

if TYPE_CHECKING:
    from lakefeed import Dataset

Item = TypeVar("Item")


def write_rows(invocation: Invocation, rows: Dataset) -> None:
    """Writes the rows of a dataset, streamed. Files are handles on a terminal, and records elsewhere."""
    invocation.write_table(rows.schema.names, row_values(rows, handles=invocation.on_terminal))


def row_values(rows: Dataset, *, handles: bool = False) -> Iterator[tuple[Any, ...]]:
    """Yields the values of each row."""
    names = rows.schema.names
    for row in rows.rows(load_files="auto" if handles else False):
        yield tuple(row[name] for name in names)


def select_columns(rows: Dataset, columns: str | None) -> Dataset:
    """Returns the columns whose names are joined by commas; None selects all."""
    return rows if columns is None else rows.select(split_names(columns))


def split_names(text: str) -> list[str]:
    """Returns the names in a text such as ``a,b``."""
    return [name.strip() for name in text.split(",") if name.strip()]


def describe_columns(dataset: Dataset) -> list[tuple[str, str, bool]]:
    """Returns name, type and nullability of each column. The type of a file column is that of its files."""
    from lakefeed._sparse import type_text  # it imports pyarrow, which the help needs not

    schema, files = dataset.schema, dataset.column_types
    return [(field.name, files.get(field.name, type_text(field)), field.nullable) for field in schema]


def group(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yields the items in lists of ``size``, the last of which may be shorter."""
    remaining = iter(items)
    while some := list(islice(remaining, size)):
        yield some
