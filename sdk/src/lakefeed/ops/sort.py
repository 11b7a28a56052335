"""Sort: rows by the values of columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from lakefeed import sql
from lakefeed._rng import Indices
from lakefeed._validate import list_names
from lakefeed.config import Settings
from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError
from lakefeed.plan import Input, Node


@dataclass(frozen=True, eq=False, repr=False)
class Sort(Node):
    """The rows by ``by``, the first column first; stable; nulls last either way; NaN is above every number.

    DuckDB sorts the keys with the places of their rows, out of core; the rows are then taken by place. So every column
    may be of any type, and 8 to 24 bytes a row are held in memory.
    """

    child: Node
    by: tuple[str, ...]
    descending: tuple[bool, ...]
    settings: Settings

    keeps_columns: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, by: Any, descending: Any, settings: Settings) -> Sort:
        """Returns the node of ``sort``: by columns, and for each whether the largest comes first."""
        names = () if isinstance(by, set | frozenset) else list_names(by)
        if not names:
            raise InvalidArgumentError(f"sort takes a column name or a list of them, not {by!r:.80}")
        given = (descending,) * len(names) if isinstance(descending, bool) else descending
        if not isinstance(given, Sequence) or not all(isinstance(down, bool) for down in given):
            raise InvalidArgumentError(
                f"sort(descending={descending!r:.80}): give True or False, or one for each column"
            )
        return cls(child, names, tuple(given), settings)

    def output_schema(self) -> pa.Schema:
        schema = self.child.schema
        missing = [name for name in self.by if name not in schema.names]
        if missing:
            raise ColumnNotFoundError.of(missing, schema.names)
        if not self.by or len(set(self.by)) < len(self.by) or len(self.by) != len(self.descending):
            raise InvalidArgumentError(
                f"sort(by={list(self.by)}, descending={list(self.descending)}): name one or several different columns, "
                "and one direction for all or for each"
            )
        sql.require_supported(pa.schema([schema.field(name) for name in self.by]), "sort")
        return schema

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        return self, wanted | frozenset(self.by)

    def passes_filter(self, columns: frozenset[str]) -> bool:
        return True

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        rows = inputs[0].kept()
        yield from rows.at(self._places(rows))

    def _places(self, rows: Input) -> Indices:
        schema = pa.schema([self.child.schema.field(name) for name in self.by])
        found = list(sql.sorted_positions(self.settings, schema, lambda: rows.batches(self.by), self.descending))
        return np.concatenate([np.empty(0, np.int64), *found])

    def identity(self) -> dict[str, object]:
        return {"by": self.by, "descending": self.descending}

    def describe(self) -> str:
        keys = (f"{name}{' descending' if down else ''}" for name, down in zip(self.by, self.descending, strict=True))
        return f"Sort by {', '.join(keys)}"
