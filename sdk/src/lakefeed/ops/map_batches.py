"""MapBatches: a Python function for each Arrow batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from lakefeed._typing import BatchFn
from lakefeed._validate import check_function, check_schema
from lakefeed.errors import FailedRow, TransformError
from lakefeed.ops.row_failures import function_error, is_about_row
from lakefeed.ops.row_functions import check_batch
from lakefeed.plan import Node, Step, name_of


@dataclass(frozen=True, eq=False, repr=False)
class MapBatches(Step):
    """``fn(batch)`` for each batch; the number of rows may change."""

    fn: BatchFn
    result: pa.Schema

    batchwise: ClassVar[bool] = True
    runs_user_code: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, fn: Any, schema: pa.Schema) -> MapBatches:
        """Returns the node of ``map_batches``.

        Raises:
            InvalidArgumentError: ``fn`` is not callable.
            SchemaError: the schema is invalid.
        """
        return cls(child, check_function(fn, "map_batches"), check_schema(schema))

    def output_schema(self) -> pa.Schema:
        return self.result

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        function = f"map_batches function {name_of(self.fn)}"
        try:
            result = self.fn(batch)
        except Exception as error:
            if not is_about_row(error):
                raise
            rows = FailedRow(None, description=f"rows {offset} to {offset + batch.num_rows - 1}")
            failure = function_error(function, rows, error)
            if failure is error:
                raise
            raise failure from error
        if not isinstance(result, pa.RecordBatch):
            raise TransformError(f"{function} returned {type(result).__name__}; it must return a pyarrow.RecordBatch")
        return check_batch(result, self.result, function)

    def describe(self) -> str:
        return f"MapBatches {name_of(self.fn)} -> [{', '.join(self.result.names)}]"
