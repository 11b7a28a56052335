"""WithColumn: adds or replaces a column that an expression computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pyarrow as pa

from lakefeed._validate import check_column_name
from lakefeed.expr import Column, Expr, dtype, evaluate, expression_text, parse_value, roots, to_text
from lakefeed.plan import Node, Step


@dataclass(frozen=True, eq=False, repr=False)
class WithColumn(Step):
    """The rows with column ``name`` as ``value``; a column that is replaced keeps its position."""

    name: str
    value: Expr
    order: tuple[str, ...] = ()
    """The order of the columns, for when the replaced column is not read and its position would be unknown."""

    keeps_row_count: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, name: Any, value: Any) -> WithColumn:
        """Returns the node of ``with_column`` for a name and an expression.

        Raises:
            InvalidArgumentError: an argument is not text, or the name is empty.
            ExpressionError: as `lakefeed.expr.parse_value`.
            ColumnNotFoundError: as `lakefeed.expr.parse_value`.
        """
        return cls(child, check_column_name(name, "name"), parse_value(expression_text(value, "value"), child.schema))

    def output_schema(self) -> pa.Schema:
        schema = self.child.schema
        field = pa.field(self.name, dtype(self.value))
        if isinstance(self.value, Column) and pa.types.is_struct(field.type) and len(self.value.path) == 1:
            from lakefeed._sparse import field_of_copy  # not on the way to a first row

            field = field_of_copy(schema.field(self.value.path[0]), field)
        index = schema.get_field_index(self.name)
        output = schema.append(field) if index < 0 else schema.set(index, field)
        return pa.schema([output.field(name) for name in self.order if name in output.names]) if self.order else output

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        below = (wanted - {self.name}) | roots(self.value)
        return replace(self, order=tuple(self.schema.names)), below

    def made_of(self, column: str) -> Sequence[tuple[int, str]]:
        return [(0, name) for name in sorted(roots(self.value))] if column == self.name else [(0, column)]

    def passes_filter(self, columns: frozenset[str]) -> bool:
        return self.name not in columns

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        columns[self.name] = evaluate(self.value, batch)
        return pa.RecordBatch.from_arrays([columns[name] for name in self.schema.names], schema=self.schema)

    def identity(self) -> dict[str, object]:
        return {"name": self.name, "value": self.value}

    def describe(self) -> str:
        return f"WithColumn {self.name} = {to_text(self.value)}"
