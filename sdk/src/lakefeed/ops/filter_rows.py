"""FilterRows: keep the rows for which a Python function says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from lakefeed._typing import RowPredicate
from lakefeed._validate import check_function
from lakefeed.errors import TransformError
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
        """Returns the node of ``filter`` with a function."""
        return cls(child, check_function(predicate, "filter"), store)

    def output_schema(self) -> pa.Schema:
        return self.child.schema

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        rows = handle_rows(batch, self.store)
        verdicts = (self._verdict(row, offset + place) for place, row in enumerate(rows))
        return filter_by_mask(batch, pa.array(np.fromiter(verdicts, bool, batch.num_rows)))

    def _verdict(self, row: dict[str, object], place: int) -> bool:
        verdict = self.predicate(row)
        if isinstance(verdict, bool | np.bool_):
            return bool(verdict)
        raise TransformError(
            f"filter function {name_of(self.predicate)} returned {type(verdict).__name__} {verdict!r:.80} "
            f"for row {place}; it must return True or False"
        )

    def identity(self) -> dict[str, object]:
        return {"predicate": self.predicate}

    def describe(self) -> str:
        return f"FilterRows {name_of(self.predicate)}"
