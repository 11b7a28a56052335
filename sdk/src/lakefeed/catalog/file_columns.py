"""The columns of a file as those of a schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from lakefeed.catalog.categories import CATEGORIES
from lakefeed.catalog.compatibility import cast


class ColumnCast:
    """The columns of these names in a file as those of ``schema``.

    Where the name is None, a column has the value of ``constants``, else null. ``reshaped`` says, by the names of the
    schema, what makes a column of the file one of the schema before types are looked at. ``dictionaries``: for what
    looks at values only; texts that come as dictionaries stay such, and metadata of the file's schema may. What fits
    without a look at the values is known once a batch of the same types was seen. Thread-safe.
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
        self._known: tuple[pa.Schema, list[int] | None, pa.Schema] | None = None
        self._simple = all(
            field.nullable and not pa.types.is_nested(field.type) and CATEGORIES not in (field.metadata or {})
            for field in schema
        )

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        known = self._known
        if known is not None and batch.schema.equals(known[0]):
            return _select_columns(batch, known[1], known[2])
        if not self.names:
            return cast(batch, self.schema)
        given = dict(zip(batch.schema.names, batch.columns, strict=True))
        fields = list(zip(self.names, self.schema, strict=True))
        columns = [self._column(given, name, field, batch.num_rows) for name, field in fields]
        schema = _with_dictionaries(self.schema, columns) if self._dictionaries else self.schema
        if self._simple and all(c.type == f.type for c, f in zip(columns, schema, strict=True)):
            # A schema that says what they are spares the cast, which would look into each.
            if None not in self.names:
                as_it_is = self._dictionaries and batch.schema.names == schema.names == self.names
                places = None if as_it_is else [batch.schema.get_field_index(str(name)) for name in self.names]
                self._known = batch.schema, places, schema
            return pa.RecordBatch.from_arrays(columns, schema=schema)
        return cast(pa.RecordBatch.from_arrays(columns, names=schema.names), schema)

    def _column(
        self, given: Mapping[str, pa.Array[Any]], name: str | None, field: pa.Field[Any], rows: int
    ) -> pa.Array[Any]:
        if name is not None:
            reshape = self._reshaped.get(field.name)
            return given[name] if reshape is None else reshape(given[name])
        value = self._constants.get(field.name)
        absent: pa.Array[Any] = pa.nulls(rows, field.type) if value is None else pa.repeat(value, rows)
        return absent


def _select_columns(batch: pa.RecordBatch, places: list[int] | None, schema: pa.Schema) -> pa.RecordBatch:
    if places is None:
        return batch
    return pa.RecordBatch.from_arrays([batch.column(place) for place in places], schema=schema)


def is_text(field: pa.Field[Any]) -> bool:
    return pa.types.is_string(field.type) or pa.types.is_large_string(field.type)


def _with_dictionaries(schema: pa.Schema, columns: Sequence[pa.Array[Any]]) -> pa.Schema:
    """The schema with dictionaries where texts came as such: a condition on them is faster than on their values."""
    if not any(isinstance(column, pa.DictionaryArray) for column in columns):
        return schema
    pairs = zip(schema, columns, strict=True)
    return pa.schema([f.with_type(c.type) if is_text(f) and isinstance(c, pa.DictionaryArray) else f for f, c in pairs])
