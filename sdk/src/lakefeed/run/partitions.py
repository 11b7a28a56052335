"""The partitions of a plan: rows that can be addressed by position.

    Scan           its fragments
    Step           the partitions below, with the step
    Concatenate    the partitions of the inputs in succession
    Repeat         the partitions below, repeated
    Interleave     interleaved partitions of the inputs

The row counts follow by arithmetic from those below while steps keep row counts or are positional. A filter runs once
over the columns that it reads to count its rows, and the counts are cached. Inputs of a combination that cannot be
addressed (a join, a CSV file where a global shuffle needs it) are written to a table on disk, which is read instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeAlias

import pyarrow as pa

from lakefeed.config import ReadSettings
from lakefeed.ops import Concatenate, Conform, Interleave, Project, Repeat, Scan
from lakefeed.optimize.column_pruning import prune_columns
from lakefeed.plan import Node, Step
from lakefeed.plan.order import bounded_window
from lakefeed.plan.row_bytes import row_width
from lakefeed.run.filter_counts import FilterCounts
from lakefeed.run.interleaved_partitions import InterleavedPartitions, forget
from lakefeed.run.partition import Partition, Reading, Stored
from lakefeed.run.prefetch import read_ahead
from lakefeed.run.spill import SpilledRows
from lakefeed.run.step_chain import SkippedRows, parted, peel
from lakefeed.sources.memory_source import MemorySource


@dataclass(frozen=True, eq=False)
class Partitions:
    """The rows of a plan, addressed by (partition, row)."""

    schema: pa.Schema
    items: tuple[Partition, ...]
    mapped: int = 0
    """Bytes of the files that rows are mapped from; if they exceed memory, a random order is slow."""
    on_disk: tuple[SpilledRows, ...] = ()
    """The mapped files."""
    plan: Node | None = None
    """The plan whose rows were put on disk, if they were."""
    skipped: SkippedRows | None = None
    """Counts the rows that steps leave out."""

    @property
    def lengths(self) -> list[int]:
        return [partition.rows for partition in self.items]

    @cached_property
    def sizes(self) -> list[int]:
        return [partition.size for partition in self.items]

    @property
    def resident(self) -> bool:
        """True if every partition is in memory, or mapped, so that any order of reading is cheap."""
        return not any(self.sizes)

    @property
    def shared(self) -> bool:
        """True if a partition may share memory with its source (a caller's table, a read-only map)."""
        return any(partition.shared for partition in self.items)

    @cached_property
    def runs_user_code(self) -> bool:
        """True if a partition calls functions of the user, which may not be thread-safe."""
        return any(partition.runs_user_code for partition in self.items)

    def bounded_window(self, window: int | None, window_bytes: int | None) -> int | None:
        """Returns the rows of a window of a shuffle: ``window``, or fewer if they take more than ``window_bytes``.

        Rows that are resident need no such bound. None: a global shuffle.
        """
        if window is None or window_bytes is None:
            return window
        # Partitions without rows do not count: it must not matter whether a filter's source left them out.
        read = [partition.reading for partition in self.items if partition.size and partition.rows]
        return bounded_window(window, window_bytes, sum(each.rows for each in read), sum(each.size for each in read))

    def raw(self, index: int) -> Iterator[Any]:
        """Reads one partition, and yields its raw rows. Callable from any thread."""
        return self.items[index].reading.raw()

    def stepped(self, index: int, raw: Iterable[Any]) -> Iterator[pa.RecordBatch]:
        """Yields the rows of one partition in order, made of its raw rows."""
        return self.items[index].stepped(raw, self.skipped)

    def batches(self, index: int) -> Iterator[pa.RecordBatch]:
        """Yields the rows of one partition in order."""
        return self.stepped(index, self.raw(index))

    def release(self) -> None:
        """Gives the memory of mapped pages that were read back to the system."""
        for spilled in self.on_disk:
            spilled.release()

    def forget(self) -> None:
        """Forgets the rows that are held for the next partitions. Later reads load them again."""
        forget(self.items)


def partitions_of(
    plan: Node,
    settings: ReadSettings,
    spilled: Callable[[Node], SpilledRows] | None = None,
    counts: FilterCounts | None = None,
    resident: bool = False,
    skipped: SkippedRows | None = None,
) -> Partitions | None:
    """Returns the partitions of an optimized plan, or None if its rows cannot be addressed.

    Args:
        plan: the optimized plan.
        settings: bounds of reading.
        spilled: writes an input of a combination to a table on disk. Without it, such an input gives None.
        counts: the cached counts of filters.
        resident: return None also if rows must be read from files, and count none of them.
        skipped: counts the rows that steps leave out when the partitions are read.
    """
    count = partial(_remembered, settings=settings, counts=counts)
    walk = parted(plan, (Concatenate, Repeat, Interleave))
    done: list[list[_Run]] = [[] for _ in walk]
    on_disk: list[SpilledRows] = []
    for index, (node, children) in reversed(list(enumerate(walk))):
        steps, base = peel(node)
        partitions = _below(base, [done[child] for child in children], count)
        if partitions is None or (index and any(step.works_ahead for step in steps)):
            if spilled is None or not index:
                return None
            on_disk.append(spilled(node))
            steps, partitions = (), _scanned(Scan(MemorySource(on_disk[-1].table)))
            assert partitions is not None, "a table knows its rows"
        for step in steps:
            _add(partitions, step, count)
        done[index] = partitions
    if resident and any(reading.size for run in done[0] for reading in run.readings):
        return None
    _count(done[0], count)
    mapped = sum(spilled.table.nbytes for spilled in on_disk)
    items = tuple(partition for run in done[0] for partition in run.partitions())
    return Partitions(plan.schema, items, mapped, tuple(on_disk), skipped=skipped)


@dataclass
class _Run:
    """Partitions over one base with the same steps, while steps are added."""

    plan: Node
    """The last step, above the others and the base."""
    readings: list[Reading]
    lengths: list[int]
    offsets: list[tuple[int, ...]] = field(default_factory=list)
    counted: bool = True
    """True if ``lengths`` are the output rows; else a filter must run to count them."""

    def __post_init__(self) -> None:
        self.offsets = self.offsets or [()] * len(self.readings)

    def partitions(self) -> list[Partition]:
        steps, _ = peel(self.plan)
        known = zip(self.readings, self.offsets, self.lengths, strict=True)
        return [Partition(reading, steps, offsets, length) for reading, offsets, length in known]


def _below(base: Node, inputs: list[list[_Run]], count: _Counter) -> list[_Run] | None:
    """Returns the runs of the node below the steps; None if its rows cannot be addressed."""
    match base:
        case Scan():
            return _scanned(base)
        case Concatenate():
            runs = [run for runs in inputs for run in runs]
            for run in runs:
                if not run.plan.schema.equals(base.schema, check_metadata=True):
                    _add([run], Conform(base, base.schema), count)
            return runs
        case Repeat():
            _count(inputs[0], count)
            return [replace(run) for _ in range(base.times) for run in inputs[0]]
        case Interleave():
            for runs in inputs:
                _count(runs, count)
            combined = InterleavedPartitions.of(
                base, [[partition for run in runs for partition in run.partitions()] for runs in inputs]
            )
            interleaved = list(combined.interleaved())
            return [_Run(base, list(interleaved), [each.rows for each in interleaved])]
    return None


def _scanned(scan: Scan) -> list[_Run] | None:
    readings: list[Reading] = []
    lengths = []
    width = row_width(scan.schema)
    for fragment in scan.source.fragments(scan.pushdown):
        if fragment.length is None:
            return None
        readings.append(Stored(scan, fragment, width))
        lengths.append(fragment.length)
    return [_Run(scan, readings, lengths)]


def _add(runs: list[_Run], step: Step, count: _Counter) -> None:
    """Adds a step to all the runs, which are its input in succession."""
    if step.positional:
        _count(runs, count)
    start = 0
    for run in runs:
        run.plan = step.over((run.plan,))
        starts = _starts(run.lengths, start)
        start += sum(run.lengths)
        run.offsets = [(*mine, position) for mine, position in zip(run.offsets, starts, strict=True)]
        if step.positional:
            run.lengths = [
                step.count_kept(position, length) for position, length in zip(starts, run.lengths, strict=True)
            ]
        elif not step.keeps_row_count:
            run.counted = False


def _starts(lengths: Sequence[int], position: int) -> list[int]:
    starts = []
    for length in lengths:
        starts.append(position)
        position += length
    return starts


_Counter: TypeAlias = Callable[[_Run], list[int]]


def _count(runs: Iterable[_Run], count: _Counter) -> None:
    for run in runs:
        if not run.counted:
            run.lengths, run.counted = count(run), True


def _remembered(run: _Run, settings: ReadSettings, counts: FilterCounts | None) -> list[int]:
    """Returns the result of `_counted`, from the cache if it is there."""
    if counts is None or not all(isinstance(each, Stored) for each in run.readings):
        return _counted(run, settings)
    fragments = [each.fragment for each in run.readings if isinstance(each, Stored)]
    return counts.of(run.plan, list(zip(fragments, run.offsets, strict=True)), lambda: _counted(run, settings))


def _counted(run: _Run, settings: ReadSettings) -> list[int]:
    """Counts the output rows of each partition by running the steps over the columns that they read."""
    steps, base = peel(prune_columns(Project(run.plan, ())))
    readings = run.readings
    if isinstance(base, Scan):
        readings = [Stored(base, each.fragment) for each in run.readings if isinstance(each, Stored)]
    counts: list[int] = []
    with closing(read_ahead(readings, lambda each: list(each.raw()), settings, lambda each: each.size)) as ahead:
        for reading, offsets, raw in zip(readings, run.offsets, ahead, strict=True):
            chain = steps if isinstance(base, Scan) else peel(run.plan)[0]
            places = (*offsets, *(0 for _ in range(len(chain) - len(offsets))))
            counts.append(sum(batch.num_rows for batch in Partition(reading, chain, places, 0).stepped(raw)))
    return counts
