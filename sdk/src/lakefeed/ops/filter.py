"""Filter: keeps the rows for which an expression is true."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pyarrow as pa

from lakefeed.expr import Expr, Term, evaluate, expression_text, parse, paths, roots, to_text
from lakefeed.plan import Node, Step
from lakefeed.plan.take_rows import filter_by_mask


@dataclass(frozen=True, eq=False, repr=False)
class Filter(Step):
    """Rows for which ``predicate`` is true; null counts as not true, as in SQL."""

    predicate: Expr
    keep: tuple[str, ...] | None = None
    """The output columns (None: all); columns that only the predicate reads are not copied."""

    keeps_columns: ClassVar[bool] = True
    vectorized: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, predicate: str | Term) -> Filter:
        """Returns the node of ``filter`` with an expression.

        Raises:
            ExpressionError: as `lakefeed.expr.parse`.
            ColumnNotFoundError: as `lakefeed.expr.parse`.
        """
        return cls(child, parse(expression_text(predicate, "predicate"), child.schema))

    def output_schema(self) -> pa.Schema:
        schema = self.child.schema
        return schema if self.keep is None else pa.schema([schema.field(name) for name in self.keep])

    def fields_read(self) -> frozenset[tuple[str | int, ...]]:
        return paths(self.predicate)

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        read = roots(self.predicate)
        # A batch without columns could not be filtered.
        keep = tuple(name for name in self.schema.names if name in (wanted or read))
        return replace(self, keep=keep), wanted | read

    def passes_filter(self, columns: frozenset[str]) -> bool:
        return True

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        mask = evaluate(self.predicate, batch)
        return filter_by_mask(batch if self.keep is None else batch.select(list(self.keep)), mask)

    def identity(self) -> dict[str, object]:
        """Returns the predicate alone, because unused columns do not change the result."""
        return {"predicate": self.predicate}

    def describe(self) -> str:
        return f"Filter {to_text(self.predicate)}"
