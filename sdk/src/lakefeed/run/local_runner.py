"""Runs plans in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from lakefeed import ops
from lakefeed._rng import Indices
from lakefeed.config import Settings
from lakefeed.ops import Project, Scan, Shuffle
from lakefeed.optimize import is_absorbed, optimize
from lakefeed.plan import Fragment, Node, Step, fingerprint
from lakefeed.plan.exact_fingerprint import functions_fingerprint
from lakefeed.plan.fingerprint import digest
from lakefeed.plan.order import Arrangement, Shuffled, order
from lakefeed.plan.walk import nodes
from lakefeed.run import block_decoding, external_shuffle, read_tracking, shared_spill, stream_reader
from lakefeed.run.epoch_reader import EpochReader
from lakefeed.run.filter_counts import FilterCounts
from lakefeed.run.partitions import Partitions, partitions_of
from lakefeed.run.prefetch import close_at_exit, read_ahead
from lakefeed.run.random_access import LARGE_ROW_BYTES, RandomAccessReader
from lakefeed.run.rebatch import rebatch
from lakefeed.run.spill import SpilledRows, spill
from lakefeed.run.step_chain import SkippedRows, name_file, peel, run_chain
from lakefeed.sources.memory_source import MemorySource

Rows: TypeAlias = Callable[[], Iterable[pa.RecordBatch]]

CURRENT_RUN = "lakefeed.catalog.current_run"
ORDER_BYTES = 18
"""For each row of a global shuffle in memory: its random word and its place while they are sorted, and its block."""


@dataclass(frozen=True)
class LocalRunner:
    """Runs plans with threads of this process.

    ``job``: what the processes of this machine have in common that want the same rows; they put them on disk once.
    ``skipped``: counts the rows that steps leave out because they failed; None: each run logs its own.
    """

    settings: Settings
    job: str | None = None
    skipped: SkippedRows | None = None

    def batches(self, plan: Node) -> Generator[pa.RecordBatch]:
        """The rows of a plan, streamed in order, in the chunks in which they come. Closing it stops all work."""
        self.track(plan)
        return self.stream(optimize(plan))

    def track(self, plan: Node, epoch: int | None = None) -> None:
        """Tells the current run, if there is one, that a plan begins to run; ``epoch``: that of a loader."""
        if CURRENT_RUN in sys.modules:  # else no run has begun in this process
            read_tracking.track_reads(plan, epoch)

    def sized(self, plan: Node, size: int | None) -> Generator[pa.RecordBatch]:
        """The rows of a plan in batches of exactly ``size`` rows but the last (None: as they come)."""
        batches = self.batches(plan)
        return batches if size is None else rebatch(batches, size)

    def stream(self, plan: Node) -> Generator[pa.RecordBatch]:
        """The rows of a plan that is optimized already."""
        steps, base = peel(plan)
        skipped = SkippedRows() if self.skipped is None else self.skipped
        if isinstance(base, Scan):
            early = next((index for index, step in enumerate(steps) if not step.vectorized), len(steps))
            current = _CurrentFile(ahead=any(step.works_ahead for step in steps))
            rows = run_chain(steps[early:], self._scan(base, steps[:early], current), None, skipped)
            rows = name_file(rows, lambda: current.name)
        else:
            rows = run_chain(steps, base.execute([_Running(self, child) for child in base.children]), None, skipped)
        return rows if self.skipped is not None else close_at_exit(_logged(rows, skipped))

    def partitions(self, plan: Node, *, resident: bool = False) -> Partitions:
        """The rows of an optimized plan, addressable; spilled to disk where they are not by nature.

        ``resident``: they must be cheap to read in any order, so a table in files is spilled too.
        """
        counts = FilterCounts(self.settings.cache / "counts")
        spilled = None if resident else self.spilled
        partitions = partitions_of(plan, self.settings.read, spilled, counts, resident, self.skipped)
        if partitions is None:
            return self._spilled(plan, lambda: self.stream(plan))
        return partitions

    def addressable(self, plan: Node) -> Partitions | None:
        """Returns the rows of an optimized plan, addressable; None if they are to be streamed.

        A plan with an operation that uses the disk anyway (a sort, a join) is put there, once for all ranks.
        """
        counts = FilterCounts(self.settings.cache / "counts")
        partitions = partitions_of(plan, self.settings.read, None, counts, skipped=self.skipped)
        if partitions is None and any(node.uses_disk for node in nodes(plan)):
            return self.partitions(plan)
        return partitions

    def feed(
        self,
        plan: Node,
        seed: int | None,
        window: int | None,
        window_bytes: int | None = None,
        arrangement: Arrangement = "mixed",
    ) -> EpochReader | stream_reader.StreamReader:
        """Returns the rows of an optimized plan in a shuffled order, or without a seed in their own order.

        A global shuffle (``window`` None) puts rows that cannot be addressed on disk; else they are streamed.
        """
        if seed is not None and window is None:
            return self.ordered(self.partitions(plan, resident=True), seed, window)
        partitions = self.addressable(plan)
        if partitions is None:
            return stream_reader.StreamReader(plan, self, seed, window or 1, window_bytes)
        return self.ordered(partitions, seed, partitions.bounded_window(window, window_bytes), arrangement)

    def ordered(
        self, partitions: Partitions, seed: int | None, window: int | None, arrangement: Arrangement = "mixed"
    ) -> EpochReader:
        """The partitions in a shuffled (or, without a seed, their own) order.

        A global shuffle of more than fits into memory is written to disk in its order first, instead of being picked
        from there row by row, unless the rows are large.
        """
        chosen = order(partitions.lengths, partitions.sizes, seed, window, arrangement)
        budget = self.settings.sql.memory_bytes
        large = partitions.mapped + ORDER_BYTES * len(chosen) > budget
        numbering = None
        large_rows = partitions.mapped >= LARGE_ROW_BYTES * max(len(chosen), 1)
        if window is None and partitions.mapped and large and not large_rows and isinstance(chosen, Shuffled):
            mixed = partial(external_shuffle.external_shuffle, partitions, chosen, budget, self._disk)
            assert partitions.plan is not None, "mapped, so they were put on disk"
            numbering = chosen, partitions.lengths
            partitions = self._spilled(partitions.plan, mixed, chosen.seed)
            chosen = order(partitions.lengths, partitions.sizes, None, None)
        elif not large:
            partitions = replace(partitions, on_disk=())  # their memory need not be given back
        return EpochReader(partitions, chosen, self.settings.read, numbering)

    def picked(
        self, plan: Node, positions: Indices, *, gaps: bool = False, on_disk: SpilledRows | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yields the rows of an optimized plan at these positions, in that order.

        Args:
            plan: the optimized plan.
            positions: of the rows.
            gaps: whether `lakefeed.run.random_access.NO_ROW` gives a row of nulls.
            on_disk: the spilled rows that the plan scans.
        """
        partitions = self.partitions(plan)
        if on_disk is not None:
            partitions = replace(partitions, mapped=on_disk.table.nbytes, on_disk=(on_disk,))
        return self._picker(partitions, gaps=gaps).rows(positions)

    def spilled(self, plan: Node) -> SpilledRows:
        """Returns the rows of an optimized plan, written to local disk."""
        return self._on_disk(plan, lambda: self.stream(plan))

    def _picker(self, partitions: Partitions, *, gaps: bool = False) -> RandomAccessReader:
        return RandomAccessReader(partitions, self.settings.sql.memory_bytes, self._disk, gaps)

    def _spilled(self, plan: Node, make: Rows, *order: int) -> Partitions:
        rows = self._on_disk(plan, make, *order)
        partitions = partitions_of(Scan(MemorySource(rows.table)), self.settings.read)
        assert partitions is not None
        return replace(partitions, mapped=rows.table.nbytes, on_disk=(rows,), plan=plan)

    def _on_disk(self, plan: Node, make: Rows, *order: int) -> SpilledRows:
        """Returns the rows that ``make`` yields, those of ``plan`` in an ``order``, on local disk."""
        functions = None if self.job is None else functions_fingerprint(plan)
        if functions is None:  # nobody else, or nobody can tell whether others have the same functions
            return spill(make(), plan.schema, self._disk)
        key = digest([self.job, functions, _told_apart(plan), *order])
        return shared_spill.shared_spill(make, plan.schema, self._disk, key)

    @property
    def _disk(self) -> Path:
        return self.settings.cache / "spill"

    def _scan(self, scan: Scan, steps: Sequence[Step], current: _CurrentFile) -> Generator[pa.RecordBatch]:
        """The rows of a source after ``steps``, which are done where the fragments are decoded."""
        if not scan.source.ranged:
            yield from run_chain(steps, self._undivided(scan, current))
            return
        scan, steps = _selecting(scan, steps)
        source, pushdown = scan.source, scan.pushdown

        def read(fragment: Fragment) -> tuple[str | None, list[pa.RecordBatch]]:
            return fragment.file, list(run_chain(steps, source.read(fragment, pushdown)))

        eager = pushdown.predicate is not None
        fragments = source.fragments(pushdown)
        ahead = read_ahead(fragments, read, self.settings.read, lambda fragment: fragment.size, eager=eager)
        with closing(ahead):
            for file, batches in ahead:
                current.file = file
                yield from batches

    def _undivided(self, scan: Scan, current: _CurrentFile) -> Generator[pa.RecordBatch]:
        """Yields the rows of a source whose fragments cannot be cut. Text files are decoded in threads."""
        for fragment in scan.source.fragments(scan.pushdown):
            current.file = fragment.file
            blocks = scan.source.blocks(fragment, scan.pushdown)
            if blocks is None:
                yield from scan.source.read(fragment, scan.pushdown)
            else:
                yield from block_decoding.decode_blocks(blocks, self.settings.read)


@dataclass
class _CurrentFile:
    """The file of the rows that a source gave last; ``ahead``: it gives rows before the ones that are at work."""

    file: str | None = None
    ahead: bool = False

    @property
    def name(self) -> str | None:
        return None if self.ahead else self.file


def _logged(batches: Generator[pa.RecordBatch], skipped: SkippedRows) -> Generator[pa.RecordBatch]:
    """Yields the batches, and logs at the end how many rows were left out."""
    try:
        with closing(batches):
            yield from batches
    finally:
        skipped.log()


@dataclass(frozen=True)
class _Running:
    """The rows below a node, for the node."""

    runner: LocalRunner
    plan: Node
    on_disk: SpilledRows | None = None
    """The rows of the plan, if they were spilled."""

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        plan = self.plan if columns is None else optimize(Project(self.plan, tuple(columns)))
        return self.runner.stream(plan)

    def at(self, places: Indices, *, gaps: bool = False) -> Iterator[pa.RecordBatch]:
        return self.runner.picked(self.plan, places, gaps=gaps, on_disk=self.on_disk)

    def reusable(self) -> _Running:
        steps, base = peel(self.plan)
        if isinstance(base, Scan) and base.source.ranged and not any(map(_laborious, steps)):
            return self
        rows = self.runner.spilled(self.plan)
        return _Running(self.runner, Scan(MemorySource(rows.table)), rows)

    def shuffled(
        self, seed: int, window: int | None, window_bytes: int | None, arrangement: Arrangement = "mixed"
    ) -> Iterator[pa.RecordBatch]:
        return (batch for _, batch in self.runner.feed(self.plan, seed, window, window_bytes, arrangement).batches())


def _selecting(scan: Scan, steps: Sequence[Step]) -> tuple[Scan, Sequence[Step]]:
    """The scan and what is above it, without the filter that the source can be trusted with."""
    if steps and is_absorbed(steps[0]):
        return scan.pushed(columns=tuple(steps[0].schema.names), exact=True), steps[1:]
    return scan, steps


def _told_apart(plan: Node) -> list[object]:
    """All that the rows of an optimized plan follow from."""
    parts: list[object] = [fingerprint(plan), plan.schema]
    for node in nodes(plan):
        if isinstance(node, Scan):
            parts.append(node.pushdown)
        if isinstance(node, Shuffle):
            parts.append(node.epoch)
    return parts


def _laborious(step: Step) -> bool:
    """Returns whether to run the step twice costs more than to keep its rows, or may give other rows."""
    return step.runs_user_code or isinstance(step, ops.LoadFiles | ops.FileColumns)
