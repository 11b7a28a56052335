"""Rows of a version of a table by their keys. Only the row groups that hold a key are decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed._arrow import compute as pc
from lakefeed.errors import DuplicateKeyError, ExpressionError
from lakefeed.expr import Expr, lit, parse
from lakefeed.keyed.key_matching import ABSENT, Positions, key_arrays, match_keys, show_keys
from lakefeed.plan import Fragment, Pushdown
from lakefeed.plan.take_rows import take_rows
from lakefeed.run.rebatch import joined
from lakefeed.sources.iceberg_source import IcebergSource

KEYS_IN_A_FILTER = 1_000
"""Up to so many keys are named in the filter that prunes; of more keys only the bounds are."""


@dataclass
class LookupCounts:
    """The row groups that a lookup considered, and those of which it read the other columns."""

    row_groups: int = 0
    row_groups_read: int = 0
    rows: int = 0


def can_prune(kind: pa.DataType) -> bool:
    """Returns whether values of a key column can stand in filters, so that row groups are skipped."""
    types = pa.types
    return types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind) or types.is_date32(kind)


def key_hint(schema: pa.Schema, key: str, values: Any) -> Expr | None:
    """Returns a condition that is true for each row with one of these values in its first key column."""
    if not can_prune(schema.field(key).type) or not len(values):
        return None
    distinct = pc.unique(values)
    column = f"`{key.replace('`', '``')}`"
    if len(distinct) <= KEYS_IN_A_FILTER:
        text = f"{column} in ({', '.join(lit(value).text for value in distinct.to_pylist())})"
    else:
        ends = pc.min_max(distinct)
        text = f"{column} between {lit(ends['min'].as_py()).text} and {lit(ends['max'].as_py()).text}"
    try:
        return parse(text, schema)
    except ExpressionError:  # a value that the grammar cannot name prunes nothing
        return None


@dataclass(frozen=True)
class KeyLookup:
    """Finds rows of one version by their keys.

    Attributes:
        source: the version.
        keys: the names of the key columns.
    """

    source: IcebergSource
    keys: tuple[str, ...]

    def take(
        self, wanted: pa.RecordBatch, columns: Sequence[str], counts: LookupCounts | None = None
    ) -> tuple[pa.RecordBatch | None, Positions]:
        """Returns rows of ``columns``, and for each wanted key the position of its row, or `ABSENT`.

        Args:
            wanted: the keys; they may repeat and come in any order.
            columns: the columns to read.
            counts: counts what was read.

        Raises:
            DuplicateKeyError: the table has two rows of one of the keys.
        """
        positions = np.full(wanted.num_rows, ABSENT, np.int64)
        parts: list[pa.RecordBatch] = []
        rows = 0
        for fragment, inside, which in self._hits(wanted, counts):
            self._check_new(wanted, positions, which)
            taken, back = np.unique(inside, return_inverse=True)
            parts.append(self._rows(fragment, taken, tuple(columns)))
            positions[which] = rows + back
            rows += len(taken)
            if counts is not None:
                counts.row_groups_read += 1
                counts.rows += len(taken)
        return (joined(parts) if parts else None), positions

    def _hits(
        self, wanted: pa.RecordBatch, counts: LookupCounts | None
    ) -> Iterator[tuple[Fragment, Positions, Positions]]:
        """Yields the fragments with a wanted key: the positions in the fragment, and those among the keys."""
        if not wanted.num_rows:
            return
        arrays = key_arrays(wanted, self.keys)
        hint = key_hint(self.source.schema, self.keys[0], wanted.column(self.keys[0]))
        for fragment in self.source.fragments(Pushdown(self.keys, hint)):
            if counts is not None:
                counts.row_groups += 1
            present = self._keys_of(fragment)
            places = match_keys(arrays, key_arrays(present, self.keys))
            which = np.flatnonzero(places != ABSENT)
            if len(which):
                self._check_single(present, arrays)
                yield fragment, places[which], which

    def _keys_of(self, fragment: Fragment) -> pa.RecordBatch:
        batches = list(self.source.read(fragment, Pushdown(self.keys)))
        return joined(batches).select(list(self.keys))

    def _rows(self, fragment: Fragment, positions: NDArray[np.int64], columns: tuple[str, ...]) -> pa.RecordBatch:
        batches = list(self.source.read(fragment, Pushdown(columns)))
        return take_rows(joined(batches).select(list(columns)), positions)

    def _check_new(self, wanted: pa.RecordBatch, positions: Positions, which: Positions) -> None:
        doubled = which[positions[which] != ABSENT]
        if len(doubled):
            raise doubled_keys(self.source.name, show_keys(wanted, self.keys, doubled))

    def _check_single(self, present: pa.RecordBatch, arrays: list[Any]) -> None:
        first = match_keys(key_arrays(present, self.keys), arrays)
        hits = first[first != ABSENT]
        values, times = np.unique(hits, return_counts=True)
        if (times > 1).any():
            rows = np.flatnonzero(np.isin(first, values[times > 1]))
            raise doubled_keys(self.source.name, show_keys(present, self.keys, rows))


def doubled_keys(name: str, shown: str) -> DuplicateKeyError:
    """Returns the error for a table that another program gave two rows of one key."""
    return DuplicateKeyError(
        f"{name!r} has two rows of one key: {shown}. Another program appended them. Write the key again, which "
        "replaces both rows, delete it with delete_keys, or call Table.compact(), which keeps the later row"
    )
