"""FilterRows: keeps the rows for which a Python function returns True."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from lakefeed._typing import RowPredicate
from lakefeed._validate import check_function
from lakefeed.errors import RowMessage, TransformError
from lakefeed.ops.row_failures import failed_row, function_error, is_about_row
from lakefeed.ops.row_functions import handle_rows
from lakefeed.plan import Node, Step, name_of
from lakefeed.plan.take_rows import filter_by_mask
from lakefeed.storage import BlobStore


@dataclass(frozen=True, eq=False, repr=False)
class FilterRows(Step):
    """Rows for which ``predicate(row)`` is True."""

    predicate: RowPredicate
    store: BlobStore | None = None

    keeps_columns: ClassVar[bool] = True
    runs_user_code: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, predicate: Any, store: BlobStore) -> FilterRows:
        """Returns the node of ``filter`` with a function.

        Raises:
            InvalidArgumentError: ``predicate`` is not callable.
        """
        return cls(child, check_function(predicate, "filter"), store)

    def output_schema(self) -> pa.Schema:
        return self.child.schema

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        rows = handle_rows(batch, self.store)
        results = (self._call(row, batch, index, offset) for index, row in enumerate(rows))
        return filter_by_mask(batch, pa.array(np.fromiter(results, bool, batch.num_rows)))

    def _call(self, row: dict[str, object], batch: pa.RecordBatch, index: int, offset: int) -> bool:
        function = f"filter function {name_of(self.predicate)}"
        try:
            result = self.predicate(row)
        except Exception as error:
            if not is_about_row(error):
                raise
            failure = function_error(function, failed_row(batch, index, offset), error)
            if failure is error:
                raise
            raise failure from error
        if isinstance(result, bool | np.bool_):
            return bool(result)
        message = f"{function} returned {type(result).__name__} {result!r:.80} for"
        raise TransformError(RowMessage(message, failed_row(batch, index, offset), "; it must return True or False"))

    def identity(self) -> dict[str, object]:
        return {"predicate": self.predicate}

    def describe(self) -> str:
        return f"FilterRows {name_of(self.predicate)}"
