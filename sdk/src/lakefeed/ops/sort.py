"""Sort: sorts rows by columns."""

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
    """The rows by ``by``, the first column first. The sort is stable; nulls come last; NaN is above every number.

    DuckDB sorts the keys with the positions of their rows, out of core; the rows are then read by position. So every
    column may have any type, and 8 to 24 bytes for each row are held in memory.
    """

    child: Node
    by: tuple[str, ...]
    descending: tuple[bool, ...]
    settings: Settings

    keeps_columns: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, by: Any, descending: Any, settings: Settings) -> Sort:
        """Returns the node of ``sort``; ``descending`` is one flag for all columns, or one for each.

        Raises:
            InvalidArgumentError: an argument is invalid.
            ColumnNotFoundError: a column does not exist.
            TypeMismatchError: DuckDB cannot sort a type.
        """
        names = () if isinstance(by, set | frozenset) else list_names(by)
        if not names:
            raise InvalidArgumentError(f"sort takes a column name or a list of them, got {by!r:.80}")
        flags = (descending,) * len(names) if isinstance(descending, bool) else descending
        if not isinstance(flags, Sequence) or not all(isinstance(flag, bool) for flag in flags):
            raise InvalidArgumentError(
                f"descending must be True or False, or a list with one for each column, got {descending!r:.80}"
            )
        return cls(child, names, tuple(flags), settings)

    @property
    def uses_disk(self) -> bool:
        return True

    def output_schema(self) -> pa.Schema:
        schema = self.child.schema
        missing = [name for name in self.by if name not in schema.names]
        if missing:
            raise ColumnNotFoundError.of(missing, schema.names)
        if not self.by or len(set(self.by)) < len(self.by) or len(self.by) != len(self.descending):
            raise InvalidArgumentError(
                "sort needs different columns, and one direction for all or one for each, got "
                f"by={list(self.by)}, descending={list(self.descending)}"
            )
        sql.require_supported(pa.schema([schema.field(name) for name in self.by]), "sort")
        return schema

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        return self, wanted | frozenset(self.by)

    def passes_filter(self, columns: frozenset[str]) -> bool:
        return True

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        rows = inputs[0].reusable()
        yield from rows.at(self._positions(rows))

    def _positions(self, rows: Input) -> Indices:
        schema = pa.schema([self.child.schema.field(name) for name in self.by])
        chunks = list(sql.sorted_positions(self.settings, schema, lambda: rows.batches(self.by), self.descending))
        return np.concatenate([np.empty(0, np.int64), *chunks])

    def identity(self) -> dict[str, object]:
        return {"by": self.by, "descending": self.descending}

    def describe(self) -> str:
        keys = (f"{name}{' descending' if down else ''}" for name, down in zip(self.by, self.descending, strict=True))
        return f"Sort by {', '.join(keys)}"
