"""Rename: other names for some columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from lakefeed.errors import InvalidArgumentError, listed
from lakefeed.plan import Node, Step
from lakefeed.plan.repeated import repeated


@dataclass(frozen=True, eq=False, repr=False)
class Rename(Step):
    """Columns by their new names; ``names`` are (old, new) pairs, of which those count whose old column is there."""

    names: tuple[tuple[str, str], ...]

    keeps_row_count: ClassVar[bool] = True
    vectorized: ClassVar[bool] = True

    def output_schema(self) -> pa.Schema:
        new = dict(self.names)
        fields = [field.with_name(new.get(field.name, field.name)) for field in self.child.schema]
        twice = repeated(field.name for field in fields)
        if twice:
            raise InvalidArgumentError(f"rename would give several columns the name {listed(twice)}")
        return pa.schema(fields)

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        back = {new: old for old, new in self.names}
        return self, frozenset(back.get(name, name) for name in wanted)

    def made_of(self, column: str) -> Sequence[tuple[int, str]]:
        known = frozenset(self.child.schema.names)
        back = {new: old for old, new in self.names if old in known}
        return [(0, back.get(column, column))]

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        new = dict(self.names)
        return batch.rename_columns([new.get(name, name) for name in batch.schema.names])

    def describe(self) -> str:
        return f"Rename {', '.join(f'{old} -> {new}' for old, new in self.names)}"
