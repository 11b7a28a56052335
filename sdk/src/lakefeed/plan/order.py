"""The order of an epoch: the position of every row as a pure function.

*Partitions* (fragments after the row-local steps above them) hold the rows. The order depends only on the lengths and
sizes of the partitions, the window and the seed. Ranks, workers, threads and timing have no effect. So a checkpoint is
one number, the global position, and any number of ranks and workers can continue from it.

A shuffled epoch:

1. Partitions are assigned at random to *pools* of about `POOL_BYTES` decoded, or of the window's rows if those are
   more. This happens stratum by stratum, so that every pool has partitions from everywhere. Resident partitions count
   as a single one, so the chunks of a table do not matter.
2. In a pool the rows are cut into *blocks* (slices of partitions), and the blocks are permuted.
3. The sequence of blocks is cut into *windows*, and the rows of each window are permuted.

So every partition is decoded once in an epoch, memory is bounded by two pools, and a resume costs one pool. A single
large partition is mixed as well as many small ones, and a window of at least all rows is a fair shuffle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, Protocol, TypeAlias

import numpy as np

from lakefeed._rng import Indices, Words, permutation, words
from lakefeed._units import MIB

POOL_BYTES = 64 * MIB
"""The cost of a resume, which decodes one pool. Row groups of 8 MiB make pools that span the table."""
SPAN_ROWS = 1 << 20
"""The positions of a larger window are computed in parts of so many rows."""
BLOCKS_IN_WINDOW = 256
"""Enough for the rows of a window, and of a batch, to come from everywhere in the pool."""

MIN_WINDOW_ROWS = 2
"""A window of fewer rows does not shuffle."""

_PARTITIONS, _BLOCKS, _ROWS = 1, 2, 3
_WHOLE_PARTITIONS, _ROWS_IN_PARTITION = 6, 7  # 4 and 5: streams

Arrangement: TypeAlias = Literal["mixed", "permuted", "in order"]
"""The partitions of a shuffled epoch: mixed with one another, permuted as wholes, or in their own order."""


@dataclass(frozen=True)
class Pick:
    """Rows of one partition, by their positions in it, in the order of the epoch."""

    partition: int
    rows: Indices


@dataclass(frozen=True)
class Pool:
    """Partitions that are decoded together. They hold the positions ``[start, stop)`` of the epoch."""

    start: int
    stop: int
    partitions: tuple[int, ...]


@dataclass(frozen=True)
class Span:
    """Consecutive positions ``[start, stop)`` of the epoch within one pool."""

    start: int
    stop: int
    pool: Pool
    partitions: Indices | None = None
    """For a shuffled span, the partition of each position. None: the span is its only partition, in order."""
    rows: Indices | None = None
    """For a shuffled span, the row within that partition."""

    def picks(self, places: Indices) -> tuple[list[Pick], Indices]:
        """Returns, for positions of a shuffled span, the rows to take and how to arrange them once joined."""
        assert self.partitions is not None, "an unshuffled span is a slice of its partition"
        assert self.rows is not None
        partitions, rows = self.partitions[places - self.start], self.rows[places - self.start]
        few = int(partitions.max(initial=0)) <= np.iinfo(np.int16).max
        # 16 bits: a radix sort.
        by_partition = np.argsort(partitions.astype(np.int16) if few else partitions, kind="stable")
        ordered = partitions[by_partition]
        edges = [0, *(np.flatnonzero(np.diff(ordered)) + 1).tolist(), len(ordered)]
        picks = [Pick(int(ordered[low]), rows[by_partition[low:high]]) for low, high in pairwise(edges) if low < high]
        arrange = np.empty(len(by_partition), np.int64)
        arrange[by_partition] = np.arange(len(by_partition))
        return picks, arrange


class Order(Protocol):
    """The positions of one epoch."""

    def __len__(self) -> int:
        """Returns the number of rows in the epoch."""

    def spans(self, start: int = 0) -> Iterator[Span]:
        """Yields the spans from the one with position ``start`` on, in order; their union is ``[…, len)``."""

    def upcoming(self, start: int = 0) -> Iterator[Pool]:
        """Yields the pools of those spans, each once, in order, to be decoded ahead. No partition is in two pools."""


def order(
    lengths: Sequence[int],
    sizes: Sequence[int],
    seed: int | None,
    window: int | None,
    arrangement: Arrangement = "mixed",
) -> Order:
    """Returns the order of an epoch over partitions.

    Args:
        lengths: rows of each partition.
        sizes: bytes of each partition, decoded.
        seed: of the shuffle; None: the partitions in their own order.
        window: rows that are mixed; 1: the partitions in their own order, None: all rows.
        arrangement: of the partitions; unless it is "mixed", windows end with their partition.
    """
    rows, held = np.asarray(lengths, dtype=np.int64), np.asarray(sizes, dtype=np.int64)
    if seed is not None and window is not None and arrangement != "mixed":
        return WholePartitions(rows, seed, window, arrangement == "permuted")
    if seed is None or window == 1:
        return InOrder(rows)
    total = int(rows.sum())
    window = max(total, 1) if window is None else window
    if held.any():
        return Shuffled(rows, held, seed, window)
    return Shuffled(np.array([total]), np.zeros(1, np.int64), seed, window, chunks=rows)


def bounded_window(window: int, window_bytes: int, rows: int, size: int) -> int:
    """Returns the rows of a window that takes about ``window_bytes`` at most, if all ``rows`` take ``size`` bytes.

    Example:
        >>> bounded_window(1_000, 100, 50, 500)
        10
    """
    return max(min(window, window_bytes * rows // size), MIN_WINDOW_ROWS) if size else window


@dataclass(frozen=True, eq=False)
class InOrder:
    """Every row at its own position."""

    lengths: Indices

    @cached_property
    def ends(self) -> Indices:
        return np.cumsum(self.lengths)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def spans(self, start: int = 0) -> Iterator[Span]:
        return (Span(pool.start, pool.stop, pool) for pool in self.upcoming(start))

    def upcoming(self, start: int = 0) -> Iterator[Pool]:
        for partition in range(int(np.searchsorted(self.ends, start, side="right")), len(self.ends)):
            stop, length = int(self.ends[partition]), int(self.lengths[partition])
            if length:
                yield Pool(stop - length, stop, (partition,))


@dataclass(frozen=True, eq=False)
class Shuffled:
    """Permuted partitions, blocks and rows (see the module). ``chunks``: the parts of the single resident partition."""

    lengths: Indices
    sizes: Indices
    seed: int
    window: int
    chunks: Indices | None = None

    def __len__(self) -> int:
        return int(self.lengths.sum())

    @cached_property
    def pools(self) -> list[Indices]:
        """The partitions of each pool, without empty ones: a source may or may not have pruned those."""
        filled = np.flatnonzero(self.lengths)
        by_size, by_rows = -(-int(self.sizes[filled].sum()) // POOL_BYTES), len(self) // self.window
        count = max(min(by_size, by_rows, len(filled)), 1)
        strata = -(-len(filled) // count)
        dealt = [permutation(count, self.seed, _PARTITIONS, stratum) for stratum in range(0, strata, 2)]
        # Each second stratum mirrors the one before, so that no pool has partitions that lie earlier than another's.
        pool_of = np.array([pools for deal in dealt for pools in (deal, count - 1 - deal)], np.int64).ravel()
        return [filled[pool_of[: len(filled)] == pool] for pool in range(count)] if len(filled) else []

    @cached_property
    def ends(self) -> Indices:
        return np.cumsum([self.lengths[pool].sum() for pool in self.pools], dtype=np.int64)

    def spans(self, start: int = 0) -> Iterator[Span]:
        for index in self._from(start):
            yield from self._windows(index, start)

    def upcoming(self, start: int = 0) -> Iterator[Pool]:
        return map(self._pool, self._from(start))

    def _from(self, start: int) -> range:
        """Returns the indices of the pools from the one with position ``start`` on."""
        return range(int(np.searchsorted(self.ends, start, side="right")), len(self.pools))

    def _pool(self, index: int) -> Pool:
        partitions = self.pools[index] if self.chunks is None else np.flatnonzero(self.chunks)
        return Pool(int(self.ends[index - 1]) if index else 0, int(self.ends[index]), tuple(partitions.tolist()))

    def _windows(self, index: int, start: int) -> Iterator[Span]:
        """Yields the spans of a pool from the one with position ``start`` on: its windows, large ones in several."""
        pool = self._pool(index)
        partitions, begins, lengths = self._blocks(index, self.pools[index])
        ends = np.cumsum(lengths)
        shift = begins - (ends - lengths)
        total = pool.stop - pool.start
        skip = max(start - pool.start, 0)
        for number in range(skip // self.window, -(-total // self.window)):
            low, high = number * self.window, min((number + 1) * self.window, total)
            first, last = np.searchsorted(ends, (low, high - 1), side="right").tolist()
            edges = np.clip(ends[first : last + 1], low, high)
            # A global shuffle has a window of all rows, so what is held for each of them is kept small.
            block = np.repeat(np.arange(first, last + 1, dtype=_narrow(last)), np.diff(edges, prepend=low))
            mixed = permutation(high - low, self.seed, _ROWS, index, number)
            for begin in range(max(skip - low, 0) // SPAN_ROWS * SPAN_ROWS, high - low, SPAN_ROWS):
                some = mixed[begin : begin + SPAN_ROWS]
                mine = block[some]
                position = pool.start + low + begin
                yield Span(
                    position, position + len(some), pool, *self._located(partitions[mine], low + some + shift[mine])
                )

    def keys(self, start: int, stop: int) -> tuple[Words, Indices]:
        """Returns the sort keys of the rows ``[start, stop)`` in a global shuffle of resident rows.

        A key is a random word, and then a position, because words may be equal.
        """
        _, begins, lengths = self._blocks(0, self.pools[0])
        before = np.cumsum(lengths) - lengths
        by_begin = np.argsort(begins)
        edges = begins[by_begin]
        drawn: list[Words] = []
        positions: list[Indices] = []
        for block in by_begin[np.searchsorted(edges, start, side="right") - 1 : np.searchsorted(edges, stop)].tolist():
            begin = int(begins[block])
            low, high = max(start, begin), min(stop, begin + int(lengths[block]))
            position = int(before[block]) + low - begin
            drawn.append(words(high - low, self.seed, _ROWS, 0, 0, start=position))
            positions.append(np.arange(position, position + high - low))
        return np.concatenate(drawn), np.concatenate(positions)

    def _located(self, partitions: Indices, rows: Indices) -> tuple[Indices, Indices]:
        """Returns the positions as rows of real partitions."""
        if self.chunks is None:
            return partitions, rows
        ends = np.cumsum(self.chunks)
        chunk = np.searchsorted(ends, rows, side="right").astype(np.int64, copy=False)
        return chunk, rows - (ends - self.chunks)[chunk]

    def _blocks(self, index: int, pool: Indices) -> tuple[Indices, Indices, Indices]:
        """Returns the partition, first row and length of every block of the pool, permuted."""
        size = max(1, self.window // BLOCKS_IN_WINDOW)
        lengths = self.lengths[pool]
        counts = -(-lengths // size)
        partitions = np.repeat(pool, counts)
        number = np.arange(len(partitions)) - np.repeat(np.cumsum(counts) - counts, counts)
        begins = number * size
        sizes = np.minimum(np.repeat(lengths, counts) - begins, size)
        mixed = permutation(len(partitions), self.seed, _BLOCKS, index)
        return partitions[mixed], begins[mixed], sizes[mixed]


@dataclass(frozen=True, eq=False)
class WholePartitions:
    """One partition after the other, permuted or not; the rows of each window within a partition are permuted.

    A resume costs one partition.
    """

    lengths: Indices
    seed: int
    window: int
    permuted: bool

    @cached_property
    def partitions(self) -> Indices:
        """The partitions that hold rows, in the order of the epoch."""
        filled = np.flatnonzero(self.lengths)
        return filled[permutation(len(filled), self.seed, _WHOLE_PARTITIONS)] if self.permuted else filled

    @cached_property
    def ends(self) -> Indices:
        return np.cumsum(self.lengths[self.partitions], dtype=np.int64)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def upcoming(self, start: int = 0) -> Iterator[Pool]:
        for index in range(int(np.searchsorted(self.ends, start, side="right")), len(self.ends)):
            partition, stop = int(self.partitions[index]), int(self.ends[index])
            yield Pool(stop - int(self.lengths[partition]), stop, (partition,))

    def spans(self, start: int = 0) -> Iterator[Span]:
        for pool in self.upcoming(start):
            if self.window < MIN_WINDOW_ROWS:
                yield Span(pool.start, pool.stop, pool)
                continue
            first = max(start - pool.start, 0) // self.window * self.window
            for low in range(pool.start + first, pool.stop, self.window):
                yield self._window(pool, low, min(low + self.window, pool.stop))

    def _window(self, pool: Pool, low: int, high: int) -> Span:
        (partition,) = pool.partitions
        begin, number = low - pool.start, int(np.searchsorted(self.ends, pool.start, side="right"))
        rows = permutation(high - low, self.seed, _ROWS_IN_PARTITION, number, begin // self.window) + begin
        return Span(low, high, pool, np.full(high - low, partition, np.int64), rows)


def _narrow(most: int) -> type[np.uint16 | np.int64]:
    """Returns the dtype that holds numbers up to ``most``."""
    return np.uint16 if most < 1 << 16 else np.int64
