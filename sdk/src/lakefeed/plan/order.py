"""Which row comes when: the place of every row in an epoch as a pure function.

Rows live in *pieces* (fragments after the row-local steps above them). The order depends on the pieces' lengths and
sizes, the window and the seed, and on nothing else: not on ranks, workers, threads or timing. So a checkpoint is one
number, the global position, and any number of ranks and workers can continue from it.

A shuffled epoch:

1. the pieces are dealt at random to *pools* of about `POOL_BYTES` decoded or the window's rows, whichever is more,
   stratum by stratum, so that every pool has pieces from everywhere (pieces that are all resident count as a single
   one, however the table happens to be chunked);
2. in a pool the rows are cut into *blocks* (slices of pieces), and the blocks are permuted;
3. the sequence of blocks is cut into *windows*, and inside each window the rows are permuted.

So every piece is decoded once an epoch, memory is bounded by two pools, a resume costs one pool, a single large piece
is mixed as well as many small ones, and a window of at least all rows is a fair shuffle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np

from lakefeed._rng import Indices, Words, permutation, words
from lakefeed._units import MIB

POOL_BYTES = 64 * MIB
"""A resume decodes one pool, so this is what it costs; row groups of 8 MiB make pools that span the table."""
SPAN_ROWS = 1 << 20
"""Where a window has more rows, the places of so many at a time are worked out."""
BLOCKS_IN_WINDOW = 256
"""So many that the rows of a window, and of a batch of it, come from everywhere in the pool."""

MIN_WINDOW_ROWS = 2
"""A window of fewer rows is no shuffle."""

_PIECES, _BLOCKS, _ROWS = 1, 2, 3


@dataclass(frozen=True)
class Pick:
    """Rows of one piece: their places in it, in the order wanted."""

    piece: int
    rows: Indices


@dataclass(frozen=True)
class Pool:
    """Pieces to hold decoded together: they make the places ``[start, stop)`` of the epoch."""

    start: int
    stop: int
    pieces: tuple[int, ...]


@dataclass(frozen=True)
class Span:
    """A run of consecutive places ``[start, stop)`` of the epoch within one pool."""

    start: int
    stop: int
    pool: Pool
    pieces: Indices | None = None
    """For a shuffled span: the piece of each place; None when the span is its (only) piece as it stands."""
    rows: Indices | None = None
    """For a shuffled span: the row within that piece."""

    def picks(self, places: Indices) -> tuple[list[Pick], Indices]:
        """For a shuffled span: what to take for these places of the epoch, and how to arrange them when joined."""
        assert self.pieces is not None, "an unshuffled span is a slice of its piece"
        assert self.rows is not None
        pieces, rows = self.pieces[places - self.start], self.rows[places - self.start]
        few = int(pieces.max(initial=0)) <= np.iinfo(np.int16).max
        by_piece = np.argsort(pieces.astype(np.int16) if few else pieces, kind="stable")  # 16 bits: a radix sort
        ordered = pieces[by_piece]
        edges = [0, *(np.flatnonzero(np.diff(ordered)) + 1).tolist(), len(ordered)]
        picks = [Pick(int(ordered[low]), rows[by_piece[low:high]]) for low, high in pairwise(edges) if low < high]
        arrange = np.empty(len(by_piece), np.int64)
        arrange[by_piece] = np.arange(len(by_piece))
        return picks, arrange


class Order(Protocol):
    """The places of one epoch."""

    def __len__(self) -> int:
        """Rows in the epoch."""

    def spans(self, start: int = 0) -> Iterator[Span]:
        """The spans from the one that holds place ``start`` on, in order; their union is ``[…, len)``."""

    def upcoming(self, start: int = 0) -> Iterator[Pool]:
        """The pools of those spans, each once, in order: what to decode ahead. No piece is in two pools."""


def order(lengths: Sequence[int], sizes: Sequence[int], seed: int | None, window: int | None) -> Order:
    """Returns the order of an epoch over pieces.

    Args:
        lengths: rows of each piece.
        sizes: bytes of each piece, decoded.
        seed: of the shuffle; None: the pieces in their own order.
        window: rows that are mixed; 1: the pieces in their own order, None: all rows.
    """
    rows, held = np.asarray(lengths, dtype=np.int64), np.asarray(sizes, dtype=np.int64)
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
    """Every row where it stands."""

    lengths: Indices

    @cached_property
    def ends(self) -> Indices:
        return np.cumsum(self.lengths)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def spans(self, start: int = 0) -> Iterator[Span]:
        return (Span(pool.start, pool.stop, pool) for pool in self.upcoming(start))

    def upcoming(self, start: int = 0) -> Iterator[Pool]:
        for piece in range(int(np.searchsorted(self.ends, start, side="right")), len(self.ends)):
            stop, length = int(self.ends[piece]), int(self.lengths[piece])
            if length:
                yield Pool(stop - length, stop, (piece,))


@dataclass(frozen=True, eq=False)
class Shuffled:
    """Pieces, blocks and rows permuted (see the module). ``chunks``: what the single resident piece consists of."""

    lengths: Indices
    sizes: Indices
    seed: int
    window: int
    chunks: Indices | None = None

    def __len__(self) -> int:
        return int(self.lengths.sum())

    @cached_property
    def pools(self) -> list[Indices]:
        """The pieces of each pool. Empty pieces take no part: whether a filter's source pruned them must not matter."""
        filled = np.flatnonzero(self.lengths)
        by_size, by_rows = -(-int(self.sizes[filled].sum()) // POOL_BYTES), len(self) // self.window
        count = max(min(by_size, by_rows, len(filled)), 1)
        strata = -(-len(filled) // count)
        dealt = [permutation(count, self.seed, _PIECES, stratum) for stratum in range(0, strata, 2)]
        # Each second stratum mirrors the one before, so that no pool has pieces that lie earlier than another's.
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
        """The indices of the pools from the one that holds place ``start`` on."""
        return range(int(np.searchsorted(self.ends, start, side="right")), len(self.pools))

    def _pool(self, index: int) -> Pool:
        pieces = self.pools[index] if self.chunks is None else np.flatnonzero(self.chunks)
        return Pool(int(self.ends[index - 1]) if index else 0, int(self.ends[index]), tuple(pieces.tolist()))

    def _windows(self, index: int, start: int) -> Iterator[Span]:
        """The spans of a pool from the one with place ``start`` on: its windows, large ones in several spans."""
        pool = self._pool(index)
        pieces, begins, lengths = self._blocks(index, self.pools[index])
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
                place = pool.start + low + begin
                yield Span(place, place + len(some), pool, *self._located(pieces[mine], low + some + shift[mine]))

    def keys(self, start: int, stop: int) -> tuple[Words, Indices]:
        """Of a global shuffle of resident rows: for each of the rows ``[start, stop)`` what the rows are sorted by.

        A random word, and then (words may be equal) a place.
        """
        _, begins, lengths = self._blocks(0, self.pools[0])
        before = np.cumsum(lengths) - lengths
        by_begin = np.argsort(begins)
        edges = begins[by_begin]
        drawn: list[Words] = []
        places: list[Indices] = []
        for block in by_begin[np.searchsorted(edges, start, side="right") - 1 : np.searchsorted(edges, stop)].tolist():
            begin = int(begins[block])
            low, high = max(start, begin), min(stop, begin + int(lengths[block]))
            place = int(before[block]) + low - begin
            drawn.append(words(high - low, self.seed, _ROWS, 0, 0, start=place))
            places.append(np.arange(place, place + high - low))
        return np.concatenate(drawn), np.concatenate(places)

    def _located(self, pieces: Indices, rows: Indices) -> tuple[Indices, Indices]:
        """The places as rows of real pieces."""
        if self.chunks is None:
            return pieces, rows
        ends = np.cumsum(self.chunks)
        chunk = np.searchsorted(ends, rows, side="right").astype(np.int64, copy=False)
        return chunk, rows - (ends - self.chunks)[chunk]

    def _blocks(self, index: int, pool: Indices) -> tuple[Indices, Indices, Indices]:
        """Piece, first row and length of every block of the pool, permuted."""
        size = max(1, self.window // BLOCKS_IN_WINDOW)
        lengths = self.lengths[pool]
        counts = -(-lengths // size)
        pieces = np.repeat(pool, counts)
        number = np.arange(len(pieces)) - np.repeat(np.cumsum(counts) - counts, counts)
        begins = number * size
        sizes = np.minimum(np.repeat(lengths, counts) - begins, size)
        mixed = permutation(len(pieces), self.seed, _BLOCKS, index)
        return pieces[mixed], begins[mixed], sizes[mixed]


def _narrow(most: int) -> type[np.uint16 | np.int64]:
    """What numbers up to ``most`` fit into."""
    return np.uint16 if most < 1 << 16 else np.int64
