"""How the rows of one file of a table are read: what of it, as what, and which of them."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from lakefeed.catalog.file_columns import Fitting, is_text
from lakefeed.expr import Bounds, Expr, conjuncts, evaluate, paths, residual, roots
from lakefeed.formats.parquet_footer import Footer
from lakefeed.formats.row_filter import RowFilter, Selectivity
from lakefeed.plan import Pushdown, projected
from lakefeed.sources.column_projection import FileProjection


class FileLayout:
    """How the rows of a file, which has ``columns``, are read as those of ``schema`` under a pushdown.

    ``odds``: what was seen of the predicate in other files. Thread-safe.
    """

    def __init__(self, columns: FileProjection, schema: pa.Schema, pushdown: Pushdown, odds: Selectivity) -> None:
        self._columns, self._footer, self._fields, self._odds = columns, columns.footer, pushdown.fields, odds
        asked = projected(schema, pushdown)
        self.fit = self._fitting(asked)
        self.leaves = [leaf for field in asked for leaf in self._leaves(field)]
        self._asked = frozenset(asked.names)
        self._tested = projected(schema, replace(pushdown, columns=columns_to_read(schema, pushdown)))
        self._predicate = pushdown.predicate
        self.selective = self._predicate is not None and all(_has_path(self._tested, p) for p in paths(self._predicate))
        """Whether the predicate can be found of the file's rows; else it is a hint on what is not read."""
        self._known: dict[int, RowFilter | None] = {}
        self._made: dict[tuple[int, ...], RowFilter] = {}

    def where(self, group: int) -> RowFilter | None:
        """Which rows of a row group are wanted; None for all: if nobody filters them, or its statistics tell so."""
        if self._predicate is None or not self.selective:
            return None
        if group not in self._known:
            self._known[group] = self._where(self._predicate, group)
        return self._known[group]

    def _where(self, predicate: Expr, group: int) -> RowFilter | None:
        left = residual(predicate, {path: groups[group] for path, groups in self._bounds.items()})
        if left is None:
            return None
        key = tuple(map(id, conjuncts(left)))  # a long predicate takes long to be hashed
        if key not in self._made:
            self._made[key] = self._of(left)
        return self._made[key]

    @cached_property
    def _bounds(self) -> dict[tuple[str, ...], list[Bounds]]:
        """The statistics of what the predicate reads, in every row group."""
        found: dict[tuple[str, ...], list[Bounds]] = {}
        for path in paths(self._predicate) if self._predicate is not None else ():
            name = self._columns.by_path[str(path[0])]
            steps = tuple(step for step in path[1:] if isinstance(step, str))
            groups = self._footer.bounds((name, *steps)) if name is not None and len(steps) == len(path) - 1 else None
            if groups is not None:
                found[str(path[0]), *steps] = groups
        return found

    def _of(self, predicate: Expr) -> RowFilter:
        declared = pa.schema([field for field in self._tested if field.name in roots(predicate)])
        there = [(name, field) for field in declared if (name := self._columns.names[field.name]) is not None]
        footer, fit = self._footer, self._fitting(declared, dictionaries=True)
        beside = {name: self._leaves(field) for name, field in there if field.name not in self._asked}
        read = frozenset(name for name, _ in there)
        if not there and not self.leaves:
            # Rows without any column could not be filtered.
            beside = {(smallest := _smallest_column(footer)): [smallest]}
        return RowFilter(
            columns=read or frozenset(beside),
            predicate=lambda batch: evaluate(predicate, fit(batch)),
            dictionary_columns=frozenset(n for n, field in there if is_text(field) and is_text(footer.schema.field(n))),
            extra_columns=beside,
            selectivity=self._odds,
        )

    def _fitting(self, schema: pa.Schema, *, dictionaries: bool = False) -> Fitting:
        columns = self._columns
        names = [columns.names[name] for name in schema.names]
        return Fitting(names, schema, dictionaries=dictionaries, constants=columns.constants, reshaped=columns.reshaped)

    def _leaves(self, field: pa.Field[Any]) -> list[str]:
        """What to read of the file for a column: its name there, or the dotted paths of the fields that are wanted."""
        name = self._columns.names[field.name]
        if name is None:
            return []
        wanted = [".".join((name, *path[1:])) for path in self._fields if path[0] == field.name]
        # A file that lacks one of the fields (it came later), or names them otherwise, is read for the whole column.
        there = field.name not in self._columns.reshaped and all(path in self._footer.stored for path in wanted)
        return wanted if wanted and there else [name]


def _smallest_column(footer: Footer) -> str:
    """The column that takes the fewest bytes."""
    groups = [footer.metadata.row_group(number) for number in range(footer.metadata.num_row_groups)]

    def size(name: str) -> int:
        return sum(group.column(index).total_compressed_size for group in groups for index in footer.stored[name])

    return min(footer.schema.names, key=size)


def columns_to_read(schema: pa.Schema, pushdown: Pushdown) -> tuple[str, ...] | None:
    """The columns that are asked for, and those that the predicate reads."""
    if pushdown.columns is None or pushdown.predicate is None:
        return pushdown.columns
    wanted = {*pushdown.columns, *roots(pushdown.predicate)}
    return tuple(name for name in schema.names if name in wanted)


def _has_path(schema: pa.Schema, path: tuple[str | int, ...]) -> bool:
    """Whether a column, or field of a struct column, is there."""
    inner: Any = pa.struct(list(schema))
    for step in path:
        if isinstance(inner, pa.StructType):
            place = inner.get_field_index(str(step))
            if place < 0:
                return False
            inner = inner.field(place).type
    return True
