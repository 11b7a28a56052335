"""Ranges of keys, and shards of a scan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise, takewhile
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lakefeed._arrow import compute as pc
from lakefeed.errors import InvalidArgumentError
from lakefeed.expr import And, Bounds, Expr, Or, conjoin, conjuncts
from lakefeed.expr.nodes import CompareOp
from lakefeed.expr.value_ranges import comparison, has_order, plain_value
from lakefeed.keyed.key_matching import key_arrays
from lakefeed.plan import Fragment, Pushdown
from lakefeed.plan.take_rows import take_rows
from lakefeed.run.input_keys import comparable
from lakefeed.sources.iceberg_source import IcebergSource

EQUAL: Final[CompareOp] = "=="
RANGE_ROWS = 131_072
"""About so many rows are read, sorted and joined at once."""

Key = tuple[Any, ...]


@dataclass(frozen=True)
class KeyRange:
    """The keys from ``begin`` up to but not including ``end``; None is unbounded.

    An end may have fewer values than the key has columns; it then stands before all keys that begin with it.
    """

    begin: Key | None = None
    end: Key | None = None

    def __post_init__(self) -> None:
        ends: tuple[tuple[str, Any], ...] = (("begin", self.begin), ("end", self.end))
        for name, end in ends:
            if end is not None and (not isinstance(end, tuple) or not end):
                raise InvalidArgumentError(f"{name} of a key range must be a tuple of key values, got {end!r:.80}")

    def __or__(self, other: KeyRange) -> KeyRange:
        """Returns the smallest range that holds both."""
        begins, ends = (self.begin, other.begin), (self.end, other.end)
        begin = None if None in begins else min(each for each in begins if each is not None)
        end = None if None in ends else max(each for each in ends if each is not None)
        return KeyRange(begin, end)

    def hint(self, schema: pa.Schema, keys: Sequence[str]) -> Expr | None:
        """Returns a condition that holds for every key of the range; None prunes nothing."""
        prunable = [schema.field(name) for name in takewhile(lambda name: has_order(schema.field(name).type), keys)]
        if not prunable:
            return None
        conditions: list[Expr] = []
        if self.begin is not None:
            conditions.append(_bound(prunable, self.begin, ">", ">="))
        if self.end is not None:
            # An end with values for further columns is not before all keys that begin like it.
            conditions.append(_bound(prunable, self.end, "<", "<" if len(self.end) <= len(prunable) else "<="))
        return conjoin(conditions)

    def mask(self, rows: pa.RecordBatch, keys: Sequence[str]) -> Any:
        """Returns which rows are in the range; None if all are."""
        arrays = key_arrays(rows, keys)
        masks = [at_least(arrays, self.begin)] if self.begin is not None else []
        if self.end is not None:
            masks.append(pc.invert(at_least(arrays, self.end)))
        return None if not masks else masks[0] if len(masks) == 1 else pc.and_(masks[0], masks[1])


def _bound(fields: Sequence[pa.Field[Any]], bound: Key, beyond: CompareOp, last: CompareOp) -> Expr:
    """Returns the condition that a key is beyond a bound, column by column; ``last`` compares the last column."""
    pairs = list(zip(fields, bound, strict=False))
    field, value = pairs[-1]
    condition: Expr = comparison(field.name, field.type, last, value)
    for field, value in reversed(pairs[:-1]):
        above, equal = (comparison(field.name, field.type, op, value) for op in (beyond, EQUAL))
        condition = Or((above, And((equal, *conjuncts(condition)))))
    return condition


def at_least(arrays: list[Any], bound: Key) -> Any:
    """Returns for each key whether it is not before ``bound``."""
    if len(bound) == 1:
        return pc.greater_equal(arrays[0], pa.scalar(bound[0], arrays[0].type))
    rows = len(arrays[0])
    above: Any = pa.array(np.zeros(rows, np.bool_))
    equal: Any = pa.array(np.ones(rows, np.bool_))
    for array, value in zip(arrays, bound, strict=False):
        scalar = pa.scalar(value, array.type)
        above = pc.or_(above, pc.and_(equal, pc.greater(array, scalar)))
        equal = pc.and_(equal, pc.equal(array, scalar))
    return pc.or_(above, equal)


@dataclass(frozen=True)
class Shard:
    """A part of a scan: a range of keys, and the number of its rows if that is known. Picklable.

    Example:
        >>> Shard(KeyRange(None, (5,)), 10) | Shard(KeyRange((7,), (9,)))
        Shard(key_range=KeyRange(begin=None, end=(9,)), cardinality=None)
    """

    key_range: KeyRange
    cardinality: int | None = None

    def __or__(self, other: Shard) -> Shard:
        """Returns the smallest shard that holds both."""
        return Shard(self.key_range | other.key_range)


def check_shards(shards: Any) -> list[KeyRange] | None:
    """Returns the ranges of shards; None for None.

    Raises:
        InvalidArgumentError: an item is not a shard.
    """
    if shards is None:
        return None
    if not isinstance(shards, list | tuple) or not all(isinstance(each, Shard) for each in shards):
        raise InvalidArgumentError(f"shards must be a list of shards, as shards() returns it, got {shards!r:.80}")
    return [each.key_range for each in shards]


def ranges_of(cuts: Iterable[Key]) -> list[KeyRange]:
    """Returns the ranges between ascending cuts."""
    edges: list[Key | None] = [None, *cuts, None]
    return [KeyRange(begin, end) for begin, end in pairwise(edges)]


def layout_ranges(
    source: IcebergSource, keys: Sequence[str], rows: int = RANGE_ROWS, *, where: Expr | None = None
) -> list[KeyRange]:
    """Returns ranges of about so many rows each, by the statistics of the row groups in which a row may match."""
    if not has_order(source.schema.field(keys[0]).type):
        return [KeyRange()]
    pairs = group_starts(source, keys, source.fragments(Pushdown(predicate=where)))
    return ranges_of(_cuts(sorted((start, fragment.rows or 0) for start, fragment in pairs if start), rows))


def group_starts(
    source: IcebergSource, keys: Sequence[str], fragments: Iterable[Fragment]
) -> list[tuple[Key, Fragment]]:
    """Returns row groups with the first key of each, as far as its statistics tell; () if they do not."""
    prunable = list(takewhile(lambda name: has_order(source.schema.field(name).type), keys))
    kinds = [source.schema.field(name).type for name in prunable]
    files: dict[int, list[Key]] = {}
    pairs = []
    for fragment in fragments:
        _, group, index = fragment.key
        if index not in files:
            bounds = [source.group_bounds(source.files[index], name) for name in prunable]
            files[index] = [_start(each, kinds) for each in zip(*bounds, strict=True)]
        pairs.append((files[index][group] if prunable else (), fragment))
    return pairs


def plain_key(key: Key, kinds: Sequence[pa.DataType]) -> Key:
    """Returns a key as numbers, texts and bytes that compare; only the values before the first that does not fit."""
    values = (plain_value(value, kind) for value, kind in zip(key, kinds, strict=False))
    return tuple(takewhile(lambda value: value is not None, values))


def _start(group: Sequence[Bounds], kinds: Sequence[pa.DataType]) -> Key:
    """Returns the first key of a row group, as far as its statistics tell: the columns up to the first that varies."""
    start = []
    for bounds, kind in zip(group, kinds, strict=True):
        if bounds.min is None:
            break
        start.append(_key_value(bounds.min, kind))
        if bounds.min != bounds.max:
            break
    return tuple(start)


def _key_value(value: Any, kind: pa.DataType) -> Any:
    if isinstance(value, pa.Scalar):
        value = value.as_py()
    return int(value) if isinstance(value, Decimal) and pa.types.is_integer(kind) else value


def _cuts(starts: list[tuple[Key, int]], rows: int) -> Iterator[Key]:
    total, last = 0, starts[0][0] if starts else None
    for start, count in starts:
        if total >= rows and start != last:
            yield start
            last, total = start, 0
        total += count


def shards_of_keys(batches: Iterable[pa.RecordBatch], keys: Sequence[str], rows: int) -> list[Shard]:
    """Returns shards of exactly so many rows (the last one of fewer), for keys that come in order."""
    cuts: list[Key] = []
    total = 0
    for batch in batches:
        first = -total % rows
        positions = [place for place in range(first, batch.num_rows, rows) if total + place > 0]
        if positions:
            at = take_rows(batch.select(list(keys)), np.array(positions))
            columns = [comparable(column).to_pylist() for column in at.columns]
            cuts += zip(*columns, strict=True)
        total += batch.num_rows
    sizes = [min(rows, total - start) for start in range(0, max(total, 1), rows)]
    return [Shard(each, size) for each, size in zip(ranges_of(cuts), sizes, strict=True)]
