"""Map: a Python function for each row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from lakefeed._typing import RowFn
from lakefeed._validate import check_function, check_schema
from lakefeed.errors import TransformError, quoted_list
from lakefeed.ops.row_functions import build_column, handle_rows, raised_stop
from lakefeed.plan import Node, Step, name_of
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
        """Returns the node of ``map``.

        Raises:
            InvalidArgumentError: ``fn`` is not callable.
            SchemaError: the schema is invalid.
        """
        return cls(child, check_function(fn, "map"), check_schema(schema), store)

    def output_schema(self) -> pa.Schema:
        return self.result

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        rows = [self._call(row, offset + index) for index, row in enumerate(handle_rows(batch, self.store))]
        arrays = [self._array(field, rows, offset) for field in self.result]
        return pa.RecordBatch.from_arrays(arrays, schema=self.result)

    def _call(self, row: dict[str, Any], row_index: int) -> Mapping[str, Any]:
        try:
            result = self.fn(row)
        except StopIteration as error:
            raise raised_stop(f"map function {name_of(self.fn)} for row {row_index}") from error
        if not isinstance(result, Mapping):
            raise TransformError(
                f"map function {name_of(self.fn)} returned {type(result).__name__} for row {row_index}; "
                f"it must return a dict with {quoted_list(self.result.names)}"
            )
        if result.keys() != set(self.result.names):
            raise TransformError(
                f"map function {name_of(self.fn)} returned columns {quoted_list(result)} for row {row_index} "
                f"where its schema says {quoted_list(self.result.names)}"
            )
        return result

    def _array(self, field: pa.Field[Any], rows: list[Mapping[str, Any]], offset: int) -> pa.Array[Any]:
        values = [row[field.name] for row in rows]
        try:
            column = build_column(values, field.type)
        except (pa.ArrowNotImplementedError, ValueError, TypeError, OverflowError) as error:
            raise TransformError(
                f"map function {name_of(self.fn)} returned values for column {field.name!r} that do not fit "
                f"{field.type} (rows from {offset}): {error}"
            ) from error
        if column.null_count and not field.nullable:
            raise TransformError(
                f"map function {name_of(self.fn)} returned None for column {field.name!r}, which is not nullable"
            )
        return column

    def identity(self) -> dict[str, object]:
        return {"fn": self.fn, "result": self.result}

    def describe(self) -> str:
        return f"Map {name_of(self.fn)} -> [{', '.join(self.result.names)}]"
