"""A feed: the rows of pieces in the order of an epoch, from any place on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from lakefeed.config import ReadSettings
from lakefeed.plan.order import Order, Span
from lakefeed.run.pieces import Pieces
from lakefeed.run.rebatch import joined

Range: TypeAlias = tuple[int, int]
Wanted: TypeAlias = Callable[[int, int], list[Range]]


def everything(start: int, stop: int) -> list[Range]:
    """The ranges of places that are wanted of ``[start, stop)``: all."""
    return [(start, stop)]


@dataclass(frozen=True, eq=False)
class Feed:
    """The rows of ``pieces`` in ``order``."""

    pieces: Pieces
    order: Order
    settings: ReadSettings

    def batches(self, start: int = 0, wanted: Wanted = everything) -> Generator[tuple[Range, pa.RecordBatch]]:
        """The rows of every wanted range of places from ``start`` on, in order, with the range.

        ``wanted(low, high)`` names the ranges that the caller needs of ``[low, high)`` (ascending, apart), so that a
        rank gathers its own rows only. Every piece is decoded once, ahead of its use.
        """
        with _Pools(self, start) as pools:
            for span in self.order.spans(start):
                ranges = [(low, high) for low, high in wanted(max(span.start, start), span.stop) if low < high]
                yield from (
                    self._standing(pools, span, ranges) if span.rows is None else self._mixed(pools, span, ranges)
                )

    def _standing(self, pools: _Pools, span: Span, ranges: list[Range]) -> Iterator[tuple[Range, pa.RecordBatch]]:
        for low, high in ranges:
            yield (low, high), pools.piece(span.pool[0], span.pool).slice(low - span.start, high - low)

    def _mixed(self, pools: _Pools, span: Span, ranges: list[Range]) -> Iterator[tuple[Range, pa.RecordBatch]]:
        if not ranges:
            return
        # One gather for the span, then slices of it: a gather for each range would touch every piece again.
        places = np.concatenate([np.arange(low, high) for low, high in ranges])
        parts, arrange = span.parts(places)
        taken = [pools.piece(part.piece, span.pool).take(part.rows) for part in parts]
        rows = joined(taken).take(arrange)
        place = 0
        for low, high in ranges:
            yield (low, high), rows.slice(place, high - low)
            place += high - low


class _Pools:
    """The decoded pieces of the pool in use, and pieces of the next pools decoded ahead."""

    def __init__(self, feed: Feed, start: int) -> None:
        self._pieces = feed.pieces
        self._sizes = feed.pieces.sizes
        self._settings = feed.settings
        self._threads = ThreadPoolExecutor(feed.settings.threads, thread_name_prefix="lakefeed-feed")
        self._threaded = not any(step.runs_user_code for step in feed.pieces.steps)
        self._coming = deque(piece for pool in feed.order.upcoming(start) for piece in pool)
        self._under_way: dict[int, Future[list[pa.RecordBatch]]] = {}
        self._ready: dict[int, pa.RecordBatch] = {}
        self._pool: tuple[int, ...] = ()

    def piece(self, index: int, pool: tuple[int, ...]) -> pa.RecordBatch:
        """The rows of one piece of ``pool``; pieces of pools gone by are let go."""
        if pool != self._pool:
            for gone in self._pool:
                self._ready.pop(gone, None)
                self._under_way.pop(gone, None)
            self._pool = pool
            self._submit(pool)
        if index not in self._ready:
            self._ready[index] = self._finished(index)
        return self._ready[index]

    def _submit(self, pool: tuple[int, ...]) -> None:
        due, begun = set(pool), 0
        held = 0
        while self._coming:
            piece = self._coming[0]
            if piece not in due:
                begun, held = begun + 1, held + self._sizes[piece]
                if begun > self._settings.threads or held > self._settings.prefetch_bytes:
                    return
            self._coming.popleft()
            self._under_way[piece] = self._threads.submit(self._read, piece)

    def _read(self, index: int) -> list[pa.RecordBatch]:
        if self._threaded:
            return [joined(list(self._pieces.batches(index)))]
        return list(self._pieces.raw(index))

    def _finished(self, index: int) -> pa.RecordBatch:
        batches = self._under_way.pop(index).result()
        return batches[0] if self._threaded else joined(list(self._pieces.stepped(index, batches)))

    def __enter__(self) -> _Pools:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
