"""Query: a SQL query over one or several inputs, run by DuckDB out of core."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import pyarrow as pa

from lakefeed._validate import check_seed
from lakefeed.config import Settings
from lakefeed.errors import InvalidArgumentError, quoted_list
from lakefeed.ops.common_schema import conform_batch
from lakefeed.plan import Input, Node
from lakefeed.sql import QueryAnalysis, QueryTable, analyze_query, run_query, unambiguous_schema


@dataclass(frozen=True, eq=False, repr=False)
class Query(Node):
    """The rows of ``query`` over ``inputs``, whose table names are ``names``; ``seed`` seeds ``random()``."""

    query: str
    names: tuple[str, ...]
    inputs: tuple[Node, ...]
    settings: Settings
    seed: int | None = None

    @cached_property
    def analysis(self) -> QueryAnalysis:
        return analyze_query(
            self.query, {name: node.schema for name, node in zip(self.names, self.inputs, strict=True)}
        )

    @classmethod
    def of(cls, query: str, tables: Mapping[str, Node], settings: Settings, seed: int | None) -> Query:
        """Returns the node of ``sql``.

        Raises:
            ExpressionError: as `lakefeed.sql.analyze_query`.
            UnsupportedError: as `lakefeed.sql.analyze_query`.
            InvalidArgumentError: the seed is invalid.
        """
        checked_seed = None if seed is None else check_seed(seed)
        return cls(query, tuple(tables), tuple(tables.values()), settings, checked_seed)

    @property
    def uses_disk(self) -> bool:
        return True

    def output_schema(self) -> pa.Schema:
        return self.analysis.schema

    def narrow_each(self, wanted: frozenset[str]) -> tuple[Node, tuple[frozenset[str] | None, ...]]:
        referenced = self.analysis.columns
        if referenced is None:
            return self, (None,) * len(self.inputs)
        return self, tuple(
            frozenset(name for name in node.schema.names if name.lower() in referenced) for node in self.inputs
        )

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        tables = {
            name: _query_table(node.schema, rows)
            for name, node, rows in zip(self.names, self.inputs, inputs, strict=True)
        }
        return run_query(self.settings, self.query, tables, self.schema, self.seed)

    def identity(self) -> dict[str, object]:
        return {"query": self.query, "names": self.names, "seed": self.seed}

    def describe(self) -> str:
        return f"Query {' '.join(self.query.split())}"


def _query_table(schema: pa.Schema, rows: Input) -> QueryTable:
    """Returns the rows without columns that SQL cannot name, which the query does not read."""
    visible = unambiguous_schema(schema)
    if visible is schema:
        return QueryTable(schema, rows.batches)
    names = [name for name in visible.names if name in schema.names]
    return QueryTable(visible, lambda: (conform_batch(batch, visible) for batch in rows.batches(names)))


def check_tables(table_name: Any, others: Any) -> Mapping[str, Any]:
    """Returns the other tables of a query by name.

    Raises:
        InvalidArgumentError: a name is not an identifier, or names differ only in case.
    """
    more = {} if others is None else others
    plain = isinstance(more, Mapping) and all(isinstance(name, str) and name.isidentifier() for name in more)
    if not plain or not isinstance(table_name, str) or not table_name.isidentifier():
        raise InvalidArgumentError(
            f"table_name must be an identifier and tables a mapping of identifiers to datasets, got "
            f"table_name={table_name!r:.80}, tables={others!r:.80}"
        )
    folded = {name.lower() for name in (table_name, *more)}
    if len(folded) < 1 + len(more):
        raise InvalidArgumentError(
            f"the table names {quoted_list({table_name: None, **more})} must not differ only in case; "
            "rename one of them"
        )
    return cast("Mapping[str, Any]", more)
