"""Map: a Python function for each row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from lakefeed._typing import RowFn
from lakefeed._validate import check_function, check_schema
from lakefeed.errors import TransformError, quoted_list
from lakefeed.ops.row_functions import handle_rows, unwrap_handle
from lakefeed.plan import Node, Step, name_of
from lakefeed.plan.arrays import exact_array
from lakefeed.storage import BlobStore


@dataclass(frozen=True, eq=False, repr=False)
class Map(Step):
    """``fn(row)`` for each row, as rows of ``result``."""

    fn: RowFn
    result: pa.Schema
    store: BlobStore | None = None

    keeps_row_count: ClassVar[bool] = True
    runs_user_code: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, fn: Any, schema: pa.Schema, store: BlobStore) -> Map:
        """Returns the node of ``map``."""
        return cls(child, check_function(fn, "map"), check_schema(schema), store)

    def output_schema(self) -> pa.Schema:
        return self.result

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        rows = [self._mapped(row, offset + place) for place, row in enumerate(handle_rows(batch, self.store))]
        arrays = [self._array(field, rows, offset) for field in self.result]
        return pa.RecordBatch.from_arrays(arrays, schema=self.result)

    def _mapped(self, row: dict[str, Any], place: int) -> Mapping[str, Any]:
        mapped = self.fn(row)
        if not isinstance(mapped, Mapping):
            raise TransformError(
                f"map function {name_of(self.fn)} returned {type(mapped).__name__} for row {place}; "
                f"it must return a dict with {quoted_list(self.result.names)}"
            )
        if mapped.keys() != set(self.result.names):
            raise TransformError(
                f"map function {name_of(self.fn)} returned columns {quoted_list(mapped)} for row {place} "
                f"where its schema says {quoted_list(self.result.names)}"
            )
        return mapped

    def _array(self, field: pa.Field[Any], rows: list[Mapping[str, Any]], offset: int) -> pa.Array[Any]:
        values = [unwrap_handle(row[field.name]) for row in rows]
        try:
            column = exact_array(values, field.type)
        except (pa.ArrowNotImplementedError, ValueError, TypeError, OverflowError) as error:
            raise TransformError(
                f"map function {name_of(self.fn)} gave values in column {field.name!r} that do not fit {field.type} "
                f"(rows from {offset} on): {error}"
            ) from error
        if column.null_count and not field.nullable:
            raise TransformError(
                f"map function {name_of(self.fn)} gave None in column {field.name!r}, which is not nullable"
            )
        return column

    def identity(self) -> dict[str, object]:
        return {"fn": self.fn, "result": self.result}

    def describe(self) -> str:
        return f"Map {name_of(self.fn)} -> [{', '.join(self.result.names)}]"
