"""The filters of a search, bound to the filter fields of its indexes."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from lakefeed.catalog.lake import Lake
from lakefeed.errors import ColumnNotFoundError, quoted_list
from lakefeed.expr import Expr
from lakefeed.expr.parser import parse
from lakefeed.keyed.bound_values import Environment
from lakefeed.keyed.index_terms import INDEX
from lakefeed.keyed.indexed_rows import IndexedRows
from lakefeed.search.filter_query import check_conjunction


@dataclass(frozen=True)
class SearchFilters:
    """The filters of a search.

    Attributes:
        lake: the lake.
        text: the condition; None for all rows.
        indexes: the names of the indexes that are searched. A filter may name a field by any of them.
    """

    lake: Lake
    text: str | None
    indexes: tuple[str, ...]

    def condition(self, index: str, rows: IndexedRows, schema: pa.Schema) -> Expr | None:
        """Returns the condition, bound to the filter fields of an index.

        Args:
            index: the name of the index.
            rows: the rows of its table.
            schema: its filter fields.

        Raises:
            ColumnNotFoundError, ExpressionError: they do not fit.
            InvalidArgumentError: they have an ``or``.
        """
        if self.text is None:
            return None
        try:
            bound = parse(self.text, self.environment(rows, schema).schema_for(self.text))
        except ColumnNotFoundError as error:
            raise ColumnNotFoundError(
                f"filters do not fit the index {index!r}, whose filter fields are {quoted_list(schema.names)}: {error}"
            ) from None
        check_conjunction(bound)
        return bound

    def environment(self, rows: IndexedRows, schema: pa.Schema) -> Environment:
        """Returns the names of filter fields: alone, of an index, and of the table by its name of now or of then."""
        names = [*(INDEX + each for each in self.indexes), rows.table.source.name, rows.table.name]
        return Environment(self.lake, dict.fromkeys(names, schema))
