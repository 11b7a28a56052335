"""Project: selects columns, in the given order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pyarrow as pa

from lakefeed._validate import is_list, list_names
from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError, quoted_list
from lakefeed.plan import Node, Step
from lakefeed.plan.duplicate_names import duplicate_names


@dataclass(frozen=True, eq=False, repr=False)
class Project(Step):
    """The named columns, in that order."""

    columns: tuple[str, ...]

    keeps_columns: ClassVar[bool] = True
    keeps_row_count: ClassVar[bool] = True
    vectorized: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, columns: Any) -> Project:
        """Returns the node of ``select``.

        Raises:
            InvalidArgumentError: ``columns`` is not a list of names, or names a column twice.
            ColumnNotFoundError: a column does not exist.
        """
        names = () if isinstance(columns, str) else list_names(columns)
        if not names:
            raise InvalidArgumentError(f"select takes a list of column names, at least one, got {columns!r:.80}")
        return cls(child, names)

    @classmethod
    def without(cls, child: Node, columns: Any) -> Project:
        """Returns the node of ``drop``, which selects the other columns.

        Raises:
            InvalidArgumentError: ``columns`` is not a list of names, or names all columns.
            ColumnNotFoundError: a column does not exist.
        """
        names = list_names(columns)
        if not names and not (is_list(columns) and not list(columns)):
            raise InvalidArgumentError(f"drop takes a column name or a list of them, got {columns!r:.80}")
        known, dropped = frozenset(child.schema.names), frozenset(names)
        missing = [name for name in names if name not in known]
        if missing:
            raise ColumnNotFoundError.of(missing, child.schema.names)
        remaining = tuple(name for name in child.schema.names if name not in dropped)
        if not remaining:
            raise InvalidArgumentError(f"drop({list(names)!r:.80}) would drop all columns")
        return cls(child, remaining)

    def output_schema(self) -> pa.Schema:
        names = self.child.schema.names
        known = frozenset(names)
        missing = [name for name in self.columns if name not in known]
        if missing:
            raise ColumnNotFoundError.of(missing, names)
        duplicates = duplicate_names(self.columns)
        if duplicates:
            raise InvalidArgumentError(f"select names {quoted_list(duplicates)} more than once; name each column once")
        schema = self.child.schema
        return pa.schema([schema.field(name) for name in self.columns])

    def fields_read(self) -> tuple[()]:
        return ()

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        columns = tuple(name for name in self.columns if name in wanted)
        return replace(self, columns=columns), frozenset(columns)

    def passes_filter(self, columns: frozenset[str]) -> bool:
        return True

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        return batch.select(list(self.columns))

    def describe(self) -> str:
        return f"Project [{', '.join(self.columns)}]"
