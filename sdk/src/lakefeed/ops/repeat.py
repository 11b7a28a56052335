"""Repeat: the rows several times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from lakefeed._validate import check_whole
from lakefeed.plan import Input, Node


@dataclass(frozen=True, eq=False, repr=False)
class Repeat(Node):
    """All rows, ``times`` times, one pass after the other."""

    child: Node
    times: int

    keeps_columns: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, times: int) -> Repeat:
        """Returns the node of ``repeat``.

        Raises:
            InvalidArgumentError: ``times`` is not a whole number of at least 0.
        """
        return cls(child, check_whole(times, "repeat"))

    def output_schema(self) -> pa.Schema:
        return self.child.schema

    def fields_read(self) -> tuple[()]:
        return ()

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        return self, wanted

    def passes_filter(self, columns: frozenset[str]) -> bool:
        return True

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        for _ in range(self.times):
            yield from inputs[0].batches()

    def describe(self) -> str:
        return f"Repeat {self.times} times"
