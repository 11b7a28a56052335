"""Filter: keep the rows for which an expression is true."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from lakefeed.expr import Expr, evaluate, paths, roots, text
from lakefeed.ops.rows import kept
from lakefeed.plan import Node, Step


@dataclass(frozen=True, eq=False, repr=False)
class Filter(Step):
    """Rows for which ``predicate`` is true; null counts as not true, as in SQL."""

    predicate: Expr

    def output_schema(self) -> pa.Schema:
        return self.child.schema

    def fields_read(self) -> frozenset[tuple[str | int, ...]]:
        return paths(self.predicate)

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        return self, wanted | roots(self.predicate)

    def passes_filter(self, columns: frozenset[str]) -> bool:
        return True

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        return kept(batch, evaluate(self.predicate, batch))

    def describe(self) -> str:
        return f"Filter {text(self.predicate)}"
