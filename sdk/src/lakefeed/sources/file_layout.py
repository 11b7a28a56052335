"""The layout of one data file of a table: the columns to read, their conversion, and the row filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from lakefeed.catalog.categories import CATEGORIES
from lakefeed.catalog.compatibility import cast
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
        self.cast = self._column_cast(wanted)
        self.leaves = [leaf for field in wanted for leaf in self._leaves(field)]
        self._wanted = frozenset(wanted.names)
        self._readable = project_schema(schema, replace(pushdown, columns=columns_to_read(schema, pushdown)))
        self._predicate = pushdown.predicate
        self.selective = self._predicate is not None and all(
            _has_path(self._readable, p) for p in paths(self._predicate)
        )
        """True if the predicate can be evaluated on the rows of the file; else it only prunes row groups."""
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
        footer, column_cast = self._footer, self._column_cast(declared, dictionaries=True)
        extra = {name: self._leaves(field) for name, field in stored if field.name not in self._wanted}
        read = frozenset(name for name, _ in stored)
        if not stored and not self.leaves:
            # A batch without columns could not be filtered.
            extra = {(smallest := _smallest_column(footer)): [smallest]}
        return RowFilter(
            columns=read or frozenset(extra),
            predicate=lambda batch: evaluate(predicate, column_cast(batch)),
            dictionary_columns=frozenset(
                n for n, field in stored if _is_text(field) and _is_text(footer.schema.field(n))
            ),
            extra_columns=extra,
            selectivity=self._selectivity,
        )

    def _column_cast(self, schema: pa.Schema, *, dictionaries: bool = False) -> ColumnCast:
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


class ColumnCast:
    """Casts batches of a file to ``schema``. Remembers the layout of batches that need no cast of values. Thread-safe.

    Args:
        names: the name in the file of each column of the schema; None if the file does not have the column.
        schema: the schema of the result.
        dictionaries: the caller looks at values only, so dictionary-encoded text and metadata of the file may stay.
        constants: the values of columns that the file does not have, by their names in the schema; null for others.
        reshaped: functions that convert columns of the file before the cast, by their names in the schema.
    """

    def __init__(
        self,
        names: Sequence[str | None],
        schema: pa.Schema,
        *,
        dictionaries: bool = False,
        constants: Mapping[str, Any] = MappingProxyType({}),
        reshaped: Mapping[str, Callable[[pa.Array[Any]], pa.Array[Any]]] = MappingProxyType({}),
    ) -> None:
        self._constants, self._reshaped = constants, reshaped
        self.names, self.schema, self._dictionaries = names, schema, dictionaries
        self._layout: tuple[pa.Schema, list[int] | None, pa.Schema] | None = None
        self._simple = all(
            not pa.types.is_nested(field.type) and CATEGORIES not in (field.metadata or {}) for field in schema
        )

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        layout = self._layout
        if layout is not None and batch.schema.equals(layout[0]):
            return _select_columns(batch, layout[1], layout[2])
        if not self.names:
            return cast(batch, self.schema)
        arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
        fields = list(zip(self.names, self.schema, strict=True))
        columns = [self._column(arrays, name, field, batch.num_rows) for name, field in fields]
        schema = _with_dictionaries(self.schema, columns) if self._dictionaries else self.schema
        if self._simple and all(self._fits(batch, *each) for each in zip(columns, self.names, schema, strict=True)):
            # The types match, so no cast is needed.
            if None not in self.names:
                unchanged = self._dictionaries and batch.schema.names == schema.names == self.names
                positions = None if unchanged else [batch.schema.get_field_index(str(name)) for name in self.names]
                self._layout = batch.schema, positions, schema
            return pa.RecordBatch.from_arrays(columns, schema=schema)
        return cast(pa.RecordBatch.from_arrays(columns, names=schema.names), schema)

    @staticmethod
    def _fits(batch: pa.RecordBatch, column: pa.Array[Any], name: str | None, field: pa.Field[Any]) -> bool:
        """Returns whether a column of any batch of a file needs no cast: the file has no nulls where none may be."""
        required = field.nullable or (name is not None and not batch.schema.field(name).nullable)
        return required and column.type == field.type

    def _column(
        self, arrays: Mapping[str, pa.Array[Any]], name: str | None, field: pa.Field[Any], rows: int
    ) -> pa.Array[Any]:
        if name is not None:
            reshape = self._reshaped.get(field.name)
            return arrays[name] if reshape is None else reshape(arrays[name])
        value = self._constants.get(field.name)
        constant: pa.Array[Any] = pa.nulls(rows, field.type) if value is None else pa.repeat(value, rows)
        return constant


def _select_columns(batch: pa.RecordBatch, positions: list[int] | None, schema: pa.Schema) -> pa.RecordBatch:
    if positions is None:
        return batch
    return pa.RecordBatch.from_arrays([batch.column(position) for position in positions], schema=schema)


def _is_text(field: pa.Field[Any]) -> bool:
    return pa.types.is_string(field.type) or pa.types.is_large_string(field.type)


def _with_dictionaries(schema: pa.Schema, columns: Sequence[pa.Array[Any]]) -> pa.Schema:
    """Returns the schema with dictionary types for encoded text columns, on which filters are faster."""
    if not any(isinstance(column, pa.DictionaryArray) for column in columns):
        return schema
    pairs = zip(schema, columns, strict=True)
    return pa.schema(
        [f.with_type(c.type) if _is_text(f) and isinstance(c, pa.DictionaryArray) else f for f, c in pairs]
    )
