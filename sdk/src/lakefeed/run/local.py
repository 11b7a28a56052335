"""Runs plans in this process."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa

from lakefeed._rng import Indices
from lakefeed.config import Settings
from lakefeed.ops import Scan
from lakefeed.optimize import optimize
from lakefeed.plan import Fragment, Node
from lakefeed.plan.order import order
from lakefeed.run.chain import peel, run_chain
from lakefeed.run.feed import Feed
from lakefeed.run.pick import rows_at
from lakefeed.run.pieces import Pieces, pieces_of
from lakefeed.run.prefetch import read_ahead
from lakefeed.run.rebatch import rebatch
from lakefeed.run.spill import spill
from lakefeed.sources.memory import MemorySource


@dataclass(frozen=True)
class Local:
    """Runs plans with threads of this process."""

    settings: Settings

    def batches(self, plan: Node) -> Generator[pa.RecordBatch]:
        """The rows of a plan, streamed in order, in the chunks in which they come. Closing it stops all work."""
        return self.stream(optimize(plan))

    def sized(self, plan: Node, size: int | None) -> Generator[pa.RecordBatch]:
        """The rows of a plan in batches of exactly ``size`` rows but the last (None: as they come)."""
        batches = self.batches(plan)
        return batches if size is None else rebatch(batches, size)

    def stream(self, plan: Node) -> Generator[pa.RecordBatch]:
        """The rows of a plan that is optimized already."""
        steps, base = peel(plan)
        batches = (
            self._scan(base) if isinstance(base, Scan) else base.execute([_Running(self, c) for c in base.children])
        )
        return run_chain(steps, batches)

    def pieces(self, plan: Node, *, resident: bool = False) -> Pieces:
        """The rows of an optimized plan, addressable; spilled to disk where they are not by nature.

        ``resident``: they must be cheap to read in any order, so a table in files is spilled too.
        """
        found = pieces_of(plan, self.settings.read)
        if found is None or (resident and not found.resident):
            table = spill(self.stream(plan), plan.schema, self.settings.cache / "spill")
            found = pieces_of(Scan(MemorySource(table)), self.settings.read)
            assert found is not None
        return found

    def feed(self, plan: Node, seed: int | None, window: int | None) -> Feed:
        """The rows of an optimized plan in a shuffled (or, without a seed, their own) order."""
        pieces = self.pieces(plan, resident=seed is not None and window is None)
        return Feed(pieces, order(pieces.lengths, pieces.sizes, seed, window), self.settings.read)

    def _scan(self, scan: Scan) -> Generator[pa.RecordBatch]:
        source, pushdown = scan.source, scan.pushdown
        if not source.ranged:
            yield from scan.execute([])
            return

        def read(fragment: Fragment) -> list[pa.RecordBatch]:
            return list(source.read(fragment, pushdown))

        ahead = read_ahead(source.fragments(pushdown), read, self.settings.read, lambda fragment: fragment.size)
        with closing(ahead):
            for batches in ahead:
                yield from batches


@dataclass(frozen=True)
class _Running:
    """The rows below a node, for the node."""

    runner: Local
    plan: Node

    def batches(self) -> Iterator[pa.RecordBatch]:
        return self.runner.stream(self.plan)

    def at(self, places: Indices) -> Iterator[pa.RecordBatch]:
        yield from rows_at(self.runner.pieces(self.plan), places)

    def shuffled(self, seed: int, window: int | None) -> Iterator[pa.RecordBatch]:
        return (batch for _, batch in self.runner.feed(self.plan, seed, window).batches())
