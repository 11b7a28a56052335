"""Scan: the leaf of a plan that reads a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import pyarrow as pa

from lakefeed.plan import Input, Node, Pushdown, Source, project_schema


@dataclass(frozen=True, eq=False, repr=False)
class Scan(Node):
    """The rows of a source under a pushdown."""

    source: Source
    pushdown: Pushdown = Pushdown()

    keeps_order: ClassVar[bool] = True

    @property
    def leaf_source(self) -> Source:
        return self.source

    def output_schema(self) -> pa.Schema:
        return project_schema(self.source.schema, self.pushdown)

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        for fragment in self.source.fragments(self.pushdown):
            yield from self.source.read(fragment, self.pushdown)

    def pushed(self, **changes: object) -> Scan:
        """Returns this scan with parts of its pushdown replaced."""
        return replace(self, pushdown=replace(self.pushdown, **changes))  # type: ignore[arg-type]  # names are Pushdown's

    def describe(self) -> str:
        return f"Scan {self.source.describe(self.pushdown)}{self.pushdown.describe()}"

    def identity(self) -> dict[str, object]:
        """Returns the source alone, because the pushdown does not change the result."""
        return {"source": self.source.identity}
