"""Footers of Parquet files, and row group pruning by their statistics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from lakefeed.expr import Bounds, Expr, can_match, merge_bounds, paths
from lakefeed.formats.file_format import FilePart

Path: TypeAlias = tuple[str, ...]

INT96 = "INT96"
INT96_UNIT = "us"
"""The unit for timestamps of this old type. In nanoseconds, those before 1677 and after 2262 would overflow."""
FAN_OUT = 8
"""The number of neighbouring row groups (or blocks) that are tested as one block before each is tested."""


@dataclass(frozen=True, eq=False)
class Footer:
    """A footer with everything that is computed from it, for repeated reads of one file. Thread-safe."""

    metadata: pq.FileMetaData
    _levels: dict[Path, list[list[Bounds]]] = field(default_factory=dict, repr=False)

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema."""
        schema, stored = self.metadata.schema.to_arrow_schema(), self.metadata.schema
        kinds = [stored.column(index).physical_type for index in range(len(stored))]
        return _with_int96_unit(schema, kinds) if INT96 in kinds else schema

    @cached_property
    def stored(self) -> dict[str, list[int]]:
        """The indices of the leaf columns under each name or dotted path."""
        indices: dict[str, list[int]] = {}
        for index in range(len(self.metadata.schema)):
            path = self.metadata.schema.column(index).path
            for end in (*(position for position, char in enumerate(path) if char == "."), len(path)):
                indices.setdefault(path[:end], []).append(index)
        return indices

    @cached_property
    def starts(self) -> list[int]:
        """The position of the first row of each row group, and the number of rows."""
        rows = (self.metadata.row_group(group).num_rows for group in range(self.metadata.num_row_groups))
        return list(accumulate(rows, initial=0))

    def groups(self, predicate: Expr | None) -> Iterator[FilePart]:
        """Yields the row groups in which a row may match."""
        groups = range(self.metadata.num_row_groups) if predicate is None else self._matching_groups(predicate)
        for group in groups:
            info = self.metadata.row_group(group)
            yield FilePart(group, info.num_rows, info.total_byte_size)

    def bounds(self, path: Path) -> list[Bounds] | None:
        """Returns the statistics of a column or struct field in every row group; None if the file lacks the column."""
        levels = self._bounds_of(path)
        return levels[0] if levels else None

    def _matching_groups(self, predicate: Expr) -> Iterator[int]:
        """Yields the row groups in which a row may match. Tests the largest blocks first, then their parts."""
        named = [path for path in map(_struct_path, paths(predicate)) if path]
        levels = {path: bounds for path in named if (bounds := self._bounds_of(path))}
        sizes = [len(level) for level in next(iter(levels.values()), [range(self.metadata.num_row_groups)])]
        answers: dict[tuple[Bounds, ...], bool] = {}
        stack = [(len(sizes) - 1, index) for index in reversed(range(sizes[-1]))]
        while stack:
            level, index = stack.pop()
            stats = {path: bounds[level][index] for path, bounds in levels.items()}
            key = tuple(stats.values())
            if key not in answers:
                answers[key] = can_match(predicate, stats)
            if not answers[key]:
                continue
            if level:
                end = min((index + 1) * FAN_OUT, sizes[level - 1])
                stack += [(level - 1, child) for child in reversed(range(index * FAN_OUT, end))]
            else:
                yield index

    def _bounds_of(self, path: Path) -> list[list[Bounds]]:
        """Returns the bounds per level: of row groups, of blocks of row groups, of blocks of blocks."""
        levels = self._levels.get(path)
        if levels is None:
            levels = self._levels[path] = self._read_bounds(path)
        return levels

    def _read_bounds(self, path: Path) -> list[list[Bounds]]:
        if path not in self._leaves:
            return []
        index = self._leaves.index(path)
        groups = [self.metadata.row_group(group) for group in range(self.metadata.num_row_groups)]
        levels = [[_column_bounds(group.column(index), group.num_rows) for group in groups]]
        while len(levels[-1]) > FAN_OUT:
            below = levels[-1]
            levels.append([merge_bounds(below[start : start + FAN_OUT]) for start in range(0, len(below), FAN_OUT)])
        return levels

    @cached_property
    def _leaves(self) -> list[Path | None]:
        leaves = _leaf_paths(self.schema)
        return leaves if len(leaves) == self.metadata.num_columns else []


def _with_int96_unit(schema: pa.Schema, kinds: Sequence[str]) -> pa.Schema:
    """Returns the schema with `INT96_UNIT` for old timestamps. ``kinds`` are the physical types of the leaves."""
    remaining = iter(kinds)
    metadata: Any = schema.metadata
    return pa.schema([_field_with_int96_unit(column, remaining) for column in schema], metadata)


def _field_with_int96_unit(column: pa.Field[Any], kinds: Iterator[str]) -> pa.Field[Any]:
    kind = column.type
    match kind:
        case pa.StructType():
            inner = [_field_with_int96_unit(kind.field(index), kinds) for index in range(kind.num_fields)]
            return column.with_type(pa.struct(inner))
        case pa.ListType():
            return column.with_type(pa.list_(_field_with_int96_unit(kind.value_field, kinds)))
        case pa.LargeListType():
            return column.with_type(pa.large_list(_field_with_int96_unit(kind.value_field, kinds)))
        case pa.FixedSizeListType():
            return column.with_type(pa.list_(_field_with_int96_unit(kind.value_field, kinds), kind.list_size))
        case pa.MapType():
            key, item = _field_with_int96_unit(kind.key_field, kinds), _field_with_int96_unit(kind.item_field, kinds)
            return column.with_type(pa.map_(key, item, kind.keys_sorted))
        case _:
            old = next(kinds) == INT96
            return column.with_type(pa.timestamp(INT96_UNIT, getattr(kind, "tz", None))) if old else column


def _struct_path(path: tuple[str | int, ...]) -> Path | None:
    """Returns the path if it leads through structs only."""
    names = tuple(step for step in path if isinstance(step, str))
    return names if names == path else None


def _leaf_paths(fields: Iterable[pa.Field[Any]], above: Path = ()) -> list[Path | None]:
    """Returns the path of each leaf column in storage order; None for leaves inside lists and maps.

    Names are ambiguous: a column "a.b" and the field b of a struct a are both stored as "a.b".
    """
    leaves: list[Path | None] = []
    for column in fields:
        kind = column.type
        inner = [kind.field(index) for index in range(kind.num_fields)]
        if not inner or isinstance(kind, pa.DictionaryType):
            leaves.append((*above, column.name))
        elif isinstance(kind, pa.StructType):
            leaves += _leaf_paths(inner, (*above, column.name))
        else:
            leaves += [None] * len(_leaf_paths(inner))
    return leaves


def _column_bounds(column: pq.ColumnChunkMetaData, rows: int) -> Bounds:
    statistics = column.statistics if column.is_stats_set else None
    if statistics is None:
        return Bounds()
    try:
        low, high = (statistics.min, statistics.max) if statistics.has_min_max else (None, None)
    except (pa.ArrowException, ArithmeticError, ImportError, ValueError):
        low = high = None  # it has no Python value: nanoseconds without pandas, years beyond 9999
    return Bounds(low, high, statistics.null_count, rows)
