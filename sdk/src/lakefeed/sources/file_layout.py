"""The layout of one data file of a table: the columns to read, their conversion, and the row filters."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from lakefeed.catalog.file_columns import ColumnCast, is_text
from lakefeed.expr import Bounds, Expr, conjuncts, evaluate, paths, residual, roots
from lakefeed.formats.parquet_footer import Footer
from lakefeed.formats.row_filter import RowFilter, Selectivity
from lakefeed.plan import Pushdown, project_schema
from lakefeed.sources.column_projection import FileProjection


class FileLayout:
    """The layout for reading the rows of a file with ``columns`` as rows of ``schema`` under a pushdown.

    ``selectivity``: statistics of the predicate in other files. Thread-safe.
    """

    def __init__(
        self, columns: FileProjection, schema: pa.Schema, pushdown: Pushdown, selectivity: Selectivity
    ) -> None:
        self._columns, self._footer, self._fields = columns, columns.footer, pushdown.fields
        self._selectivity = selectivity
        wanted = project_schema(schema, pushdown)
        self.fit = self._fitting(wanted)
        self.leaves = [leaf for field in wanted for leaf in self._leaves(field)]
        self._wanted = frozenset(wanted.names)
        self._readable = project_schema(schema, replace(pushdown, columns=columns_to_read(schema, pushdown)))
        self._predicate = pushdown.predicate
        self.selective = self._predicate is not None and all(
            _has_path(self._readable, p) for p in paths(self._predicate)
        )
        """Whether the predicate can be evaluated on the rows of the file; else it only prunes row groups."""
        self._group_filters: dict[int, RowFilter | None] = {}
        self._filters: dict[tuple[int, ...], RowFilter] = {}

    def row_filter(self, group: int) -> RowFilter | None:
        """Returns the filter of a row group; None if all rows are wanted, or its statistics prove so."""
        if self._predicate is None or not self.selective:
            return None
        if group not in self._group_filters:
            self._group_filters[group] = self._filter_group(self._predicate, group)
        return self._group_filters[group]

    def _filter_group(self, predicate: Expr, group: int) -> RowFilter | None:
        remaining = residual(predicate, {path: groups[group] for path, groups in self._bounds.items()})
        if remaining is None:
            return None
        key = tuple(map(id, conjuncts(remaining)))  # hashing a long predicate is slow
        if key not in self._filters:
            self._filters[key] = self._build_filter(remaining)
        return self._filters[key]

    @cached_property
    def _bounds(self) -> dict[tuple[str, ...], list[Bounds]]:
        """Returns the statistics of the columns of the predicate in every row group."""
        bounds: dict[tuple[str, ...], list[Bounds]] = {}
        for path in paths(self._predicate) if self._predicate is not None else ():
            name = self._columns.by_path[str(path[0])]
            steps = tuple(step for step in path[1:] if isinstance(step, str))
            groups = self._footer.bounds((name, *steps)) if name is not None and len(steps) == len(path) - 1 else None
            if groups is not None:
                bounds[str(path[0]), *steps] = groups
        return bounds

    def _build_filter(self, predicate: Expr) -> RowFilter:
        declared = pa.schema([field for field in self._readable if field.name in roots(predicate)])
        stored = [(name, field) for field in declared if (name := self._columns.names[field.name]) is not None]
        footer, fit = self._footer, self._fitting(declared, dictionaries=True)
        extra = {name: self._leaves(field) for name, field in stored if field.name not in self._wanted}
        read = frozenset(name for name, _ in stored)
        if not stored and not self.leaves:
            # A batch without columns could not be filtered.
            extra = {(smallest := _smallest_column(footer)): [smallest]}
        return RowFilter(
            columns=read or frozenset(extra),
            predicate=lambda batch: evaluate(predicate, fit(batch)),
            dictionary_columns=frozenset(
                n for n, field in stored if is_text(field) and is_text(footer.schema.field(n))
            ),
            extra_columns=extra,
            selectivity=self._selectivity,
        )

    def _fitting(self, schema: pa.Schema, *, dictionaries: bool = False) -> ColumnCast:
        columns = self._columns
        names = [columns.names[name] for name in schema.names]
        return ColumnCast(
            names, schema, dictionaries=dictionaries, constants=columns.constants, reshaped=columns.reshaped
        )

    def _leaves(self, field: pa.Field[Any]) -> list[str]:
        """Returns the columns to read for a column: its name in the file, or the dotted paths of the wanted fields."""
        name = self._columns.names[field.name]
        if name is None:
            return []
        wanted = [".".join((name, *path[1:])) for path in self._fields if path[0] == field.name]
        # If the file lacks a field (it was added later) or has other names, the whole column is read.
        has_fields = field.name not in self._columns.reshaped and all(path in self._footer.stored for path in wanted)
        return wanted if wanted and has_fields else [name]


def _smallest_column(footer: Footer) -> str:
    """Returns the column with the fewest bytes."""
    groups = [footer.metadata.row_group(number) for number in range(footer.metadata.num_row_groups)]

    def size(name: str) -> int:
        return sum(group.column(index).total_compressed_size for group in groups for index in footer.stored[name])

    return min(footer.schema.names, key=size)


def columns_to_read(schema: pa.Schema, pushdown: Pushdown) -> tuple[str, ...] | None:
    """Returns the wanted columns and those that the predicate reads; None for all."""
    if pushdown.columns is None or pushdown.predicate is None:
        return pushdown.columns
    wanted = {*pushdown.columns, *roots(pushdown.predicate)}
    return tuple(name for name in schema.names if name in wanted)


def _has_path(schema: pa.Schema, path: tuple[str | int, ...]) -> bool:
    """Returns whether the schema has the column or struct field."""
    inner: Any = pa.struct(list(schema))
    for step in path:
        if isinstance(inner, pa.StructType):
            index = inner.get_field_index(str(step))
            if index < 0:
                return False
            inner = inner.field(index).type
    return True
