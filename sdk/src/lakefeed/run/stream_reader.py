"""Reads an epoch of rows that can only be streamed: rows without addresses, such as those of a CSV file or a generator.

Nothing is written to disk. In order, the rows come as the plan gives them. A windowed shuffle fills a buffer with the
next ``window`` rows, permutes them, and begins the next window: the row at position ``p`` of the stream leaves within
the window that holds position ``p``. Where a source has several shards (files, shards of a hub dataset), their order
is permuted as well, and a few of them are read at once, a short run of rows from each in turn. The order follows from
the rows of the source, the window and seed + epoch; neither batches nor threads change it.

To begin at a position is to read the stream again. Rows before it are skipped by the source where it can, and else
read and discarded.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakefeed._rng import Indices, permutation
from lakefeed.errors import StateMismatchError
from lakefeed.ops import Scan, Slice
from lakefeed.optimize import optimize
from lakefeed.plan import Fragment, Node, walk
from lakefeed.plan.row_bytes import row_bytes
from lakefeed.run.epoch_reader import JOIN_BYTES, Part, Wanted, all_ranges
from lakefeed.run.gather import Gatherable, Range, gather, measure, measured_groups
from lakefeed.run.prefetch import background
from lakefeed.run.step_chain import name_file, peel, run_chain

if TYPE_CHECKING:
    from lakefeed.run.local_runner import LocalRunner

_WINDOWS, _SHARDS = 4, 5

SHARDS_AT_ONCE = 4
SHARD_RUN_ROWS = 256
"""Rows that are taken from one shard before the next has its turn."""
SHARD_BATCHES_AHEAD = 2
RECENT_WINDOWS = 64
HEAD_ROWS = 16
"""The first rows, by which a stream that begins anew is recognized."""


@dataclass(frozen=True)
class Window:
    """One window of a shuffled stream; ``start``: the position of its first row, in the stream and in the epoch."""

    number: int = 0
    start: int = 0


@dataclass(eq=False)
class StreamProgress:
    """The facts about a running stream that a checkpoint needs to begin it again.

    ``head``: a digest of its first rows, once they were read. ``expected_head``: the digest that a checkpoint has.
    """

    head: str | None = None
    expected_head: str | None = None
    windows: deque[Window] = field(default_factory=deque)
    recent: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=RECENT_WINDOWS))
    """The number, start and stop of the windows that were permuted last."""

    def window_at(self, position: int) -> Window:
        """Returns the last known window that begins at or before ``position``, and forgets those before it."""
        while len(self.windows) > 1 and self.windows[1].start <= position:
            self.windows.popleft()
        return self.windows[0] if self.windows and self.windows[0].start <= position else Window()

    def entered(self, window: Window) -> Window:
        """Records and returns a window that is about to be delivered."""
        if not self.windows or self.windows[-1].start < window.start:
            self.windows.append(window)
        return window

    def check_head(self, head: str) -> None:
        """Records the digest of the first rows.

        Raises:
            StateMismatchError: the checkpoint was taken of a stream with other first rows.
        """
        self.head = head
        if self.expected_head not in (None, head):
            raise StateMismatchError(
                "the stream begins with other rows than when the checkpoint was written; an exact resume needs a "
                "source that gives the same rows in the same order each time. Keep the rows with mapped(), cache() "
                "or save()"
            )


@dataclass(frozen=True, eq=False)
class StreamReader:
    """The rows of an optimized plan, in order or shuffled in windows, from any position on.

    Args:
        plan: the optimized plan.
        runner: runs the plan.
        seed: of the shuffle, the epoch included; None: in order.
        window: rows of a window of the shuffle.
        window_bytes: a window ends early once its rows take as many bytes; None: however large they are.
        stop: the position after the last row; None: at the end of the stream.
        progress: records the facts that a checkpoint needs.
    """

    plan: Node
    runner: LocalRunner
    seed: int | None = None
    window: int = 1
    window_bytes: int | None = None
    stop: int | None = None
    progress: StreamProgress = field(default_factory=StreamProgress)

    @property
    def lends(self) -> bool:
        """True if the batches may share memory with the source (a caller's arrays)."""
        return not self._shuffles

    @property
    def prompt(self) -> bool:
        """True if a part is made ahead in threads already: never here."""
        return False

    @property
    def runs_user_code(self) -> bool:
        """True if reading calls functions of the user, which may not be thread-safe."""
        return any(node.runs_user_code for node in peel(self.plan)[0])

    def batches(self, start: int = 0, wanted: Wanted = all_ranges) -> Generator[tuple[Range, pa.RecordBatch]]:
        """Yields the rows of every wanted range of positions from ``start`` on, in order, with the range."""
        with closing(self.parts(start, wanted)) as parts:
            for part in parts:
                for (low, high), row in part.ranges:
                    yield (low, high), part.rows.slice(row, high - low)

    def parts(self, start: int = 0, wanted: Wanted = all_ranges) -> Generator[Part]:
        """Yields the rows of every wanted range of positions from ``start`` on, in order.

        Raises:
            StateMismatchError: the stream has other first rows than a checkpoint says, or ends before ``start``.
        """
        return self._windowed(start, wanted) if self._shuffles else self._in_order(start, wanted)

    def locate(self, position: int) -> tuple[int | None, str | None]:
        """Returns the row of the stream at a position that was read a moment ago, and its file, if they are known."""
        if not self._shuffles:
            return position, None
        window = next((each for each in self.progress.recent if each[1] <= position < each[2]), None)
        if window is None or self._shards():
            return None, None  # rows of several shards are numbered within their shards only
        number, start, stop = window
        return start + int(self._order(number, start, stop)[position - start]), None

    def _order(self, number: int, start: int, stop: int) -> Indices:
        assert self.seed is not None
        return permutation(stop - start, self.seed, _WINDOWS, number)

    @property
    def _shuffles(self) -> bool:
        return self.seed is not None and self.window > 1

    def _in_order(self, start: int, wanted: Wanted) -> Generator[Part]:
        position = start
        with closing(self._rows(start)) as batches:
            for batch in batches:
                stop = position + batch.num_rows
                ranges = tuple(((low, high), low - position) for low, high in wanted(position, stop))
                if ranges:
                    yield Part(batch, ranges)
                position = stop

    def _windowed(self, start: int, wanted: Wanted) -> Generator[Part]:
        first = self._first_window(start)
        number, low = first.number, first.start
        with closing(self._rows(low)) as batches, closing(self._filled(batches)) as windows:
            for rows in windows:
                window = self.progress.entered(Window(number, low))
                high = low + sum(batch.num_rows for batch in rows)
                if high > start:
                    last = high if self.stop is None else min(high, self.stop)
                    yield from self._permuted(rows, window, high, list(wanted(max(low, start), last)))
                number, low = number + 1, high
                if self.stop is not None and low >= self.stop:
                    return
        if low < start:
            raise _ended_early(low, start)

    def _first_window(self, start: int) -> Window:
        if self.window_bytes is not None:
            return self.progress.window_at(start)
        return Window(start // self.window, start // self.window * self.window)

    def _filled(self, batches: Iterator[pa.RecordBatch]) -> Generator[list[pa.RecordBatch]]:
        """Yields the rows of each window."""
        held: list[pa.RecordBatch] = []
        rows = size = 0
        for batch in batches:
            rest = batch
            while rest.num_rows:
                count = min(self.window - rows, rest.num_rows)
                if self.window_bytes is not None:
                    ends = size + np.cumsum(row_bytes(rest.slice(0, count)))
                    count = min(count, int(np.searchsorted(ends, self.window_bytes)) + 1)
                    size = int(ends[count - 1])
                held.append(rest.slice(0, count))
                rows, rest = rows + count, rest.slice(count)
                if rows == self.window or (self.window_bytes is not None and size >= self.window_bytes):
                    yield held
                    held, rows, size = [], 0, 0
        if held:
            yield held

    def _permuted(
        self, rows: Sequence[pa.RecordBatch], window: Window, stop: int, ranges: Sequence[Range]
    ) -> Iterator[Part]:
        self.progress.recent.append((window.number, window.start, stop))
        order = self._order(window.number, window.start, stop)
        held = Gatherable.of(rows, JOIN_BYTES)

        def row_of(positions: Indices) -> Indices:
            return order[positions - window.start]

        def measure_rows(positions: Indices) -> Indices:
            return measure(lambda _: held, np.zeros(len(positions), np.int64), row_of(positions))

        for together in measured_groups(ranges, self.plan.schema, measure_rows):
            chosen = row_of(np.concatenate([np.arange(low, high) for low, high in together]))
            part = gather(lambda _: held, np.zeros(len(chosen), np.int64), chosen)
            starts = accumulate((high - low for low, high in together), initial=0)
            yield Part(part, tuple(zip(together, starts, strict=False)))

    def _rows(self, skip: int) -> Generator[pa.RecordBatch]:
        """Yields the rows of the stream from row ``skip`` on, in the order in which windows take them."""
        shards = self._shards()
        exact = all(source.exact_identity for source in walk.sources(self.plan))
        if not shards and exact:
            return self.runner.stream(optimize(Slice(self.plan, skip, None)))
        rows = self._interleaved(shards) if shards else self.runner.stream(self.plan)
        return _after(skip, rows if exact else self._recognized(rows))

    def _recognized(self, batches: Generator[pa.RecordBatch]) -> Generator[pa.RecordBatch]:
        """Yields the batches, and compares the first rows with those of the checkpoint."""
        head: list[pa.RecordBatch] | None = []
        with closing(batches):
            for batch in batches:
                if head is not None:
                    head.append(batch.slice(0, HEAD_ROWS - sum(map(len, head))))
                    if sum(map(len, head)) == HEAD_ROWS:
                        self.progress.check_head(_digest(head))
                        head = None
                yield batch
        if head is not None:
            self.progress.check_head(_digest(head))

    def _shards(self) -> list[Fragment]:
        """Returns the fragments that a shuffle permutes and reads at once; none if there is but one."""
        steps, base = peel(self.plan)
        if not self._shuffles or not isinstance(base, Scan) or any(step.positional for step in steps):
            return []
        fragments = list(base.source.fragments(base.pushdown))
        return fragments if len(fragments) > 1 else []

    def _interleaved(self, shards: Sequence[Fragment]) -> Generator[pa.RecordBatch]:
        """Yields runs of rows of a few shards in turn; the next shard takes over from one that ends."""
        assert self.seed is not None
        order: Indices = permutation(len(shards), self.seed, _SHARDS)
        upcoming = iter(order.tolist())
        with ExitStack() as stack:

            def opened() -> Iterator[_Shard]:
                for index in upcoming:
                    shard = _Shard(self._opened(shards[index]))
                    stack.callback(shard.close)
                    yield shard

            following = opened()
            turns = deque(islice(following, SHARDS_AT_ONCE))
            while turns:
                shard = turns.popleft()
                yield from shard.take(SHARD_RUN_ROWS)
                if shard.ended:
                    shard.close()
                    turns.extend(islice(following, 1))
                else:
                    turns.append(shard)

    def _opened(self, fragment: Fragment) -> Generator[pa.RecordBatch]:
        steps, base = peel(self.plan)
        assert isinstance(base, Scan)
        batches = run_chain(steps, base.source.read(fragment, base.pushdown), None, self.runner.skipped)
        batches = name_file(batches, lambda: fragment.file, within_file=True)
        return background(batches, 0 if self.runs_user_code else SHARD_BATCHES_AHEAD)


class _Shard:
    """One shard while it is read."""

    def __init__(self, batches: Generator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._rest: pa.RecordBatch | None = None
        self.ended = False

    def take(self, rows: int) -> Iterator[pa.RecordBatch]:
        """Yields the next ``rows`` rows, or those that are left; then `ended` is set."""
        while rows:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            self._rest = None
            if batch is None:
                self.ended = True
                return
            some = batch.slice(0, rows)
            rows -= some.num_rows
            if some.num_rows < batch.num_rows:
                self._rest = batch.slice(some.num_rows)
            yield some

    def close(self) -> None:
        self._batches.close()


def _after(skip: int, batches: Generator[pa.RecordBatch]) -> Generator[pa.RecordBatch]:
    """Yields the rows from row ``skip`` on."""
    row = 0
    with closing(batches):
        for batch in batches:
            low = min(max(skip - row, 0), batch.num_rows)
            row += batch.num_rows
            if low < batch.num_rows:
                yield batch.slice(low)
    if row < skip:
        raise _ended_early(row, skip)


def _digest(head: Iterable[pa.RecordBatch]) -> str:
    rows: list[dict[str, Any]] = [row for batch in head for row in batch.to_pylist()]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


def _ended_early(rows: int, position: int) -> StateMismatchError:
    return StateMismatchError(
        f"the stream has {rows} rows now and the checkpoint was written at row {position}; an exact resume needs a "
        "source that gives the same rows in the same order each time. Keep the rows with mapped(), cache() or save()"
    )
