"""Take: rows by position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from lakefeed._validate import is_list, is_whole
from lakefeed.errors import InvalidArgumentError, RowIndexError
from lakefeed.plan import Input, Node


@dataclass(frozen=True, eq=False, repr=False)
class Take(Node):
    """The rows at ``places``, in that order, with repetitions."""

    child: Node
    places: tuple[int, ...]

    keeps_columns: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, indices: Any, rows: int | None) -> Take:
        """Returns the node of ``take``.

        Raises:
            InvalidArgumentError: ``indices`` is not a list of whole numbers.
            RowIndexError: an index is negative, or not less than ``rows`` where that is known.
        """
        items = list(indices) if is_list(indices) else None
        if items is None or not all(map(is_whole, items)):
            raise InvalidArgumentError(f"take needs a list of whole numbers, got {indices!r:.80}")
        positions = tuple(int(item) for item in items)
        outside = [index for index in positions if index < 0 or (rows is not None and index >= rows)]
        if outside:
            size = "" if rows is None else f", and there are {rows} rows"
            raise RowIndexError(f"take: row index {outside[0]} is out of range: indices start at 0{size}")
        return cls(child, positions)

    def output_schema(self) -> pa.Schema:
        return self.child.schema

    def fields_read(self) -> tuple[()]:
        return ()

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        # A batch without columns would lose its number of rows.
        return self, wanted or frozenset(self.schema.names[:1])

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        return inputs[0].at(np.asarray(self.places, np.int64))

    def describe(self) -> str:
        shown = ", ".join(map(str, self.places[:8]))
        return f"Take {len(self.places)} rows [{shown}{', …' if len(self.places) > 8 else ''}]"
