"""Take: rows by their places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from lakefeed.plan import Input, Node


@dataclass(frozen=True, eq=False, repr=False)
class Take(Node):
    """The rows at ``places``, in that order, as often as named."""

    child: Node
    places: tuple[int, ...]

    keeps_columns: ClassVar[bool] = True

    def output_schema(self) -> pa.Schema:
        return self.child.schema

    def fields_read(self) -> tuple[()]:
        return ()

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        # Without any column there would be no rows to hold.
        return self, wanted or frozenset(self.schema.names[:1])

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        return inputs[0].at(np.asarray(self.places, np.int64))

    def describe(self) -> str:
        shown = ", ".join(map(str, self.places[:8]))
        return f"Take {len(self.places)} rows [{shown}{', …' if len(self.places) > 8 else ''}]"
