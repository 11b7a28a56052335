"""The cast of the columns of a file to a schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from lakefeed.catalog.categories import CATEGORIES
from lakefeed.catalog.compatibility import cast


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
            field.nullable and not pa.types.is_nested(field.type) and CATEGORIES not in (field.metadata or {})
            for field in schema
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
        if self._simple and all(c.type == f.type for c, f in zip(columns, schema, strict=True)):
            # The types match, so no cast is needed.
            if None not in self.names:
                unchanged = self._dictionaries and batch.schema.names == schema.names == self.names
                positions = None if unchanged else [batch.schema.get_field_index(str(name)) for name in self.names]
                self._layout = batch.schema, positions, schema
            return pa.RecordBatch.from_arrays(columns, schema=schema)
        return cast(pa.RecordBatch.from_arrays(columns, names=schema.names), schema)

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


def is_text(field: pa.Field[Any]) -> bool:
    return pa.types.is_string(field.type) or pa.types.is_large_string(field.type)


def _with_dictionaries(schema: pa.Schema, columns: Sequence[pa.Array[Any]]) -> pa.Schema:
    """Returns the schema with dictionary types for encoded text columns, on which filters are faster."""
    if not any(isinstance(column, pa.DictionaryArray) for column in columns):
        return schema
    pairs = zip(schema, columns, strict=True)
    return pa.schema([f.with_type(c.type) if is_text(f) and isinstance(c, pa.DictionaryArray) else f for f, c in pairs])
