"""The rows of a table in the order of the key: sorted files are merged, range by range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed._arrow import compute as pc
from lakefeed.expr import Expr, conjoin
from lakefeed.keyed.key_lookup import doubled_keys
from lakefeed.keyed.key_matching import key_arrays, show_keys, sort_positions
from lakefeed.keyed.key_ranges import Key, KeyRange, at_least, group_starts, plain_key
from lakefeed.keyed.pinned_table import PinnedTable
from lakefeed.plan import Fragment, Pushdown
from lakefeed.plan.take_rows import filter_by_mask, take_rows
from lakefeed.run.input_keys import Positions
from lakefeed.run.prefetch import read_ahead
from lakefeed.run.rebatch import joined


@dataclass(frozen=True)
class Piece:
    """Rows of a row group.

    Attributes:
        batch: the rows.
        live: which of them are not deleted; None if all are.
    """

    batch: pa.RecordBatch
    live: NDArray[np.bool_] | None

    def slice(self, start: int, rows: int) -> Piece:
        """Returns rows that follow each other."""
        return Piece(self.batch.slice(start, rows), None if self.live is None else self.live[start : start + rows])

    def filter(self, mask: Any) -> Piece:
        """Returns the rows for which a mask is true."""
        chosen = mask.to_numpy(zero_copy_only=False)
        return Piece(filter_by_mask(self.batch, mask), None if self.live is None else self.live[chosen])

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Returns which rows are not deleted."""
        return np.ones(self.batch.num_rows, np.bool_) if self.live is None else self.live


class KeyMerge:
    """Reads the rows of a table for ranges of keys that ascend. It decodes each row group once, ahead, in threads.

    Args:
        table: the version of the table.
        columns: the columns to read, among them the key.
        where: a condition over columns of the table; None for all rows.
        span: a range that holds all others.
    """

    def __init__(self, table: PinnedTable, columns: tuple[str, ...], where: Expr | None, span: KeyRange) -> None:
        self._table, self._columns, self._where = table, columns, where
        hint = span.hint(table.schema, table.keys)
        predicate = conjoin(each for each in (where, hint) if each is not None)
        self._kinds = [table.schema.field(name).type for name in table.keys]
        known = group_starts(table.source, table.keys, table.source.fragments(Pushdown(predicate=predicate)))
        pairs = [(plain_key(start, self._kinds), fragment) for start, fragment in known]
        pairs.sort(key=lambda pair: pair[0])
        self.fragments: list[Fragment] = [fragment for _, fragment in pairs]
        """The row groups to read."""
        self._starts = [start for start, _ in pairs]
        settings = table.lake.settings.read
        self._decoded = read_ahead(self.fragments, self._read, settings, lambda fragment: fragment.size)
        self._taken = 0
        self._rest: list[Piece] = []
        self._end: Key | None = None

    def close(self) -> None:
        """Stops reading ahead."""
        self._rest = []
        self._decoded.close()

    def rows(self, key_range: KeyRange) -> pa.RecordBatch | None:
        """Returns the rows of a range, which begins where the one before ended, or later; None if there are none.

        Raises:
            DuplicateKeyError: the table has two rows of one key.
        """
        end = key_range.end
        bound = None if end is None else plain_key(end, self._kinds)
        if bound is not None and len(bound) < len(end or ()):
            bound = None  # it says nothing about row groups
        while self._taken < len(self._starts) and (bound is None or self._starts[self._taken] < bound):
            self._rest += next(self._decoded)
            self._taken += 1
        keys, inside, rest = self._table.keys, [], []
        skipped = None if key_range.begin == self._end else key_range.begin
        for piece in self._rest:
            later = piece if skipped is None else _split(piece, keys, skipped)[1]
            if later is not None:
                before, after = (later, None) if end is None else _split(later, keys, end)
                inside += [before] if before is not None else []
                rest += [after] if after is not None else []
        self._rest, self._end = rest, end
        return self._in_order(inside) if inside else None

    def _read(self, fragment: Fragment) -> list[Piece]:
        source = self._table.source
        if self._where is not None:
            pushdown = Pushdown(self._columns, self._where, exact=True)
            return [Piece(batch, None) for batch in source.read_steps(fragment, pushdown)]
        live = source.live_mask(fragment)
        pieces, first = [], 0
        for batch in source.read_steps(fragment, Pushdown(self._columns), deleted=True):
            pieces.append(Piece(batch, None if live is None else live[first : first + batch.num_rows]))
            first += batch.num_rows
        return pieces

    def _in_order(self, pieces: list[Piece]) -> pa.RecordBatch:
        keys = self._table.keys
        rows = joined([piece.batch for piece in pieces])
        live = None
        if any(piece.live is not None for piece in pieces):
            live = np.concatenate([piece.mask for piece in pieces])
        if self._table.is_in_key_order:
            return rows if live is None else filter_by_mask(rows, pa.array(live))
        order = sort_positions(rows, keys)
        if live is not None:
            order = order[live[order]]
        if len(order) < rows.num_rows or not (np.diff(order) == 1).all():
            rows = take_rows(rows, order)
        doubled = _doubled(rows, keys)
        if len(doubled):
            raise doubled_keys(self._table.name, show_keys(rows, self._table.keys, doubled))
        return rows


def adjoining(ranges: Sequence[KeyRange]) -> Iterator[list[KeyRange]]:
    """Yields the ranges in lists of which each range begins where the one before ends."""
    first = 0
    for index, (before, after) in enumerate(pairwise(ranges), 1):
        if before.end is None or before.end != after.begin:
            yield list(ranges[first:index])
            first = index
    if ranges:
        yield list(ranges[first:])


def _split(piece: Piece, keys: Sequence[str], bound: Key) -> tuple[Piece | None, Piece | None]:
    """Returns the rows with keys before a bound, and the others."""
    beyond = at_least(key_arrays(piece.batch, keys), bound)
    before = len(beyond) - beyond.true_count
    if before in (0, len(beyond)):
        return (None, piece) if not before else (piece, None)
    if not beyond.slice(0, before).true_count:  # the rows are sorted
        return piece.slice(0, before), piece.slice(before, len(beyond) - before)
    return piece.filter(pc.invert(beyond)), piece.filter(beyond)


def _doubled(rows: pa.RecordBatch, keys: Sequence[str]) -> Positions:
    """Returns the positions of rows whose key is that of the row before."""
    if rows.num_rows < 2:
        return np.empty(0, np.int64)
    equal: Any = None
    for column in key_arrays(rows, keys):
        same = pc.equal(column.slice(1), column.slice(0, len(column) - 1))
        equal = same if equal is None else pc.and_(equal, same)
    return np.flatnonzero(equal.to_numpy(zero_copy_only=False)) + 1
