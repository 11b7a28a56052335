"""Rename: new names for some columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError, quoted_list
from lakefeed.plan import Node, Step
from lakefeed.plan.duplicate_names import duplicate_names


@dataclass(frozen=True, eq=False, repr=False)
class Rename(Step):
    """Renames columns; ``names`` are (old, new) pairs. Pairs whose old column does not exist are ignored."""

    names: tuple[tuple[str, str], ...]

    keeps_row_count: ClassVar[bool] = True
    vectorized: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, names: Any) -> Rename:
        """Returns the node of ``rename`` for a mapping of old to new names.

        Raises:
            InvalidArgumentError: ``names`` is not such a mapping, or several columns would have one name.
            ColumnNotFoundError: a column does not exist.
        """
        valid = isinstance(names, Mapping) and all(isinstance(name, str) for pair in names.items() for name in pair)
        if not valid or not all(names.values()):
            raise InvalidArgumentError(
                f"rename takes a mapping of old to new names of columns, got {names!r:.80}; move renames a dataset"
            )
        known = frozenset(child.schema.names)
        missing = [name for name in names if name not in known]
        if missing:
            raise ColumnNotFoundError.of(missing, child.schema.names)
        return cls(child, tuple(names.items()))

    def output_schema(self) -> pa.Schema:
        new = dict(self.names)
        fields = [field.with_name(new.get(field.name, field.name)) for field in self.child.schema]
        duplicates = duplicate_names(field.name for field in fields)
        if duplicates:
            raise InvalidArgumentError(f"rename would give several columns the name {quoted_list(duplicates)}")
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
