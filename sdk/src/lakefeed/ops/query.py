"""Query: a SQL query over one or several inputs, run by DuckDB out of core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from lakefeed.config import Settings
from lakefeed.ops.alike import conformed
from lakefeed.plan import Input, Node
from lakefeed.sql import Rows, Understood, distinct, stream, understand


@dataclass(frozen=True, eq=False, repr=False)
class Query(Node):
    """The rows of ``query`` over ``inputs``, which it knows by ``names``; ``seed`` is that of ``random()``."""

    query: str
    names: tuple[str, ...]
    inputs: tuple[Node, ...]
    settings: Settings
    seed: int | None = None

    @cached_property
    def understood(self) -> Understood:
        return understand(self.query, {name: node.schema for name, node in zip(self.names, self.inputs, strict=True)})

    def output_schema(self) -> pa.Schema:
        return self.understood.schema

    def narrow_each(self, wanted: frozenset[str]) -> tuple[Node, tuple[frozenset[str] | None, ...]]:
        named = self.understood.columns
        if named is None:
            return self, (None,) * len(self.inputs)
        return self, tuple(
            frozenset(name for name in node.schema.names if name.lower() in named) for node in self.inputs
        )

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        tables = {
            name: _rows(node.schema, given) for name, node, given in zip(self.names, self.inputs, inputs, strict=True)
        }
        return stream(self.settings, self.query, tables, self.schema, self.seed)

    def identity(self) -> dict[str, object]:
        return {"query": self.query, "names": self.names, "seed": self.seed}

    def describe(self) -> str:
        return f"Query {' '.join(self.query.split())}"


def _rows(schema: pa.Schema, given: Input) -> Rows:
    """The rows, less columns that SQL cannot name, which the query does not read."""
    seen = distinct(schema)
    if seen is schema:
        return Rows(schema, given.batches)
    names = [name for name in seen.names if name in schema.names]
    return Rows(seen, lambda: (conformed(batch, seen) for batch in given.batches(names)))
