"""A plan as pieces: rows that can be addressed by place, piece by piece.

    Scan           its fragments
    Step           the pieces below, seen through the step
    Concatenate    the pieces of one input after those of the other
    Repeat         the pieces below, as often
    Interleave     stretches of what the pieces below give in turn

How many rows each piece has is arithmetic as long as steps keep row counts or are positional; rows that a filter keeps
are counted by running it (over the columns that it reads) once, and remembered. Inputs of a combination that only
running can tell apart (a CSV file, a join) are run into a table on disk, and that is read in their place.
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
from lakefeed.run.step_chain import parted, peel
from lakefeed.sources.memory_source import MemorySource


@dataclass(frozen=True, eq=False)
class Partitions:
    """The rows of a plan, addressable by (piece, row)."""

    schema: pa.Schema
    items: tuple[Partition, ...]
    mapped: int = 0
    """Bytes of the files that rows are mapped from; if they exceed memory, a random order is slow."""
    on_disk: tuple[SpilledRows, ...] = ()
    """These files."""
    plan: Node | None = None
    """What was run for them, where they had to be put on disk."""

    @property
    def lengths(self) -> list[int]:
        return [piece.rows for piece in self.items]

    @cached_property
    def sizes(self) -> list[int]:
        return [piece.size for piece in self.items]

    @property
    def resident(self) -> bool:
        """Whether every piece is in memory (or mapped), so that any order of reading is cheap."""
        return not any(self.sizes)

    @property
    def shared(self) -> bool:
        """Whether some piece may share memory with its source (a caller's table, a read-only map)."""
        return any(piece.shared for piece in self.items)

    @cached_property
    def runs_user_code(self) -> bool:
        """Whether some piece calls functions that may not expect several threads."""
        return any(piece.runs_user_code for piece in self.items)

    def bounded_window(self, window: int | None, window_bytes: int | None) -> int | None:
        """Returns the rows of a window of a shuffle: ``window``, or fewer if they take more than ``window_bytes``.

        Rows that are resident need no such bound. None: a global shuffle.
        """
        if window is None or window_bytes is None:
            return window
        # Pieces without rows do not count: it must not matter whether a filter's source left them out.
        read = [piece.reading for piece in self.items if piece.size and piece.rows]
        return bounded_window(window, window_bytes, sum(each.rows for each in read), sum(each.size for each in read))

    def raw(self, index: int) -> Iterator[Any]:
        """What takes reading for the rows of one piece; from any thread."""
        return self.items[index].reading.raw()

    def stepped(self, index: int, raw: Iterable[Any]) -> Iterator[pa.RecordBatch]:
        """The rows of one piece, in order, made of what was read."""
        return self.items[index].stepped(raw)

    def batches(self, index: int) -> Iterator[pa.RecordBatch]:
        """The rows of one piece, in order."""
        return self.stepped(index, self.raw(index))

    def release(self) -> None:
        """Gives the memory of mapped pages that were read back to the system."""
        for spilled in self.on_disk:
            spilled.release()

    def forget(self) -> None:
        """Lets go of what is kept for pieces to come; who reads on has it read again."""
        forget(self.items)


def partitions_of(
    plan: Node,
    settings: ReadSettings,
    spilled: Callable[[Node], SpilledRows] | None = None,
    counts: FilterCounts | None = None,
    resident: bool = False,
) -> Partitions | None:
    """The optimized plan as pieces, or None where only running it tells which rows it has.

    ``spilled``: runs an input of a combination into a table on disk; without it, such an input makes it None too.
    ``resident``: None also where rows must be read from files, before any are read in order to be counted.
    """
    count = partial(_remembered, settings=settings, counts=counts)
    walk = parted(plan, (Concatenate, Repeat, Interleave))
    done: list[list[_Run]] = [[] for _ in walk]
    on_disk: list[SpilledRows] = []
    for index, (node, children) in reversed(list(enumerate(walk))):
        steps, base = peel(node)
        found = _below(base, [done[child] for child in children], count)
        if found is None or (index and any(step.works_ahead for step in steps)):
            if spilled is None or not index:
                return None
            on_disk.append(spilled(node))
            steps, found = (), _scanned(Scan(MemorySource(on_disk[-1].table)))
            assert found is not None, "a table knows its rows"
        for step in steps:
            _add(found, step, count)
        done[index] = found
    if resident and any(reading.size for run in done[0] for reading in run.readings):
        return None
    _count(done[0], count)
    mapped = sum(spilled.table.nbytes for spilled in on_disk)
    return Partitions(plan.schema, tuple(piece for run in done[0] for piece in run.pieces()), mapped, tuple(on_disk))


@dataclass
class _Run:
    """Pieces over one base that are seen through the same steps, while these are being added."""

    plan: Node
    """The last step, which stands on the others and the base."""
    readings: list[Reading]
    lengths: list[int]
    offsets: list[tuple[int, ...]] = field(default_factory=list)
    counted: bool = True
    """Whether ``lengths`` are what comes out; else some filter has yet to be run."""

    def __post_init__(self) -> None:
        self.offsets = self.offsets or [()] * len(self.readings)

    def pieces(self) -> list[Partition]:
        steps, _ = peel(self.plan)
        known = zip(self.readings, self.offsets, self.lengths, strict=True)
        return [Partition(reading, steps, offsets, length) for reading, offsets, length in known]


def _below(base: Node, inputs: list[list[_Run]], count: _Counter) -> list[_Run] | None:
    """The runs of what a plan's steps stand on; None where its rows cannot be addressed."""
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
            mixed = InterleavedPartitions.of(
                base, [[piece for run in runs for piece in run.pieces()] for runs in inputs]
            )
            stretches = list(mixed.stretches())
            return [_Run(base, list(stretches), [stretch.stop - stretch.start for stretch in stretches])]
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
    """Puts a step on all the runs, which are its input one after the other."""
    if step.positional:
        _count(runs, count)
    start = 0
    for run in runs:
        run.plan = step.over((run.plan,))
        starts = _starts(run.lengths, start)
        start += sum(run.lengths)
        run.offsets = [(*mine, place) for mine, place in zip(run.offsets, starts, strict=True)]
        if step.positional:
            run.lengths = [step.kept(place, length) for place, length in zip(starts, run.lengths, strict=True)]
        elif not step.keeps_row_count:
            run.counted = False


def _starts(lengths: Sequence[int], place: int) -> list[int]:
    starts = []
    for length in lengths:
        starts.append(place)
        place += length
    return starts


_Counter: TypeAlias = Callable[[_Run], list[int]]


def _count(runs: Iterable[_Run], count: _Counter) -> None:
    for run in runs:
        if not run.counted:
            run.lengths, run.counted = count(run), True


def _remembered(run: _Run, settings: ReadSettings, counts: FilterCounts | None) -> list[int]:
    """`_counted`, or what is remembered of it."""
    if counts is None or not all(isinstance(each, Stored) for each in run.readings):
        return _counted(run, settings)
    fragments = [each.fragment for each in run.readings if isinstance(each, Stored)]
    return counts.of(run.plan, list(zip(fragments, run.offsets, strict=True)), lambda: _counted(run, settings))


def _counted(run: _Run, settings: ReadSettings) -> list[int]:
    """Rows that each piece gives after the steps, found by running them over the columns that they read."""
    steps, base = peel(prune_columns(Project(run.plan, ())))
    readings = run.readings
    if isinstance(base, Scan):
        readings = [Stored(base, each.fragment) for each in run.readings if isinstance(each, Stored)]
    counts = []
    with closing(read_ahead(readings, lambda each: list(each.raw()), settings, lambda each: each.size)) as ahead:
        for reading, offsets, raw in zip(readings, run.offsets, ahead, strict=True):
            chain = steps if isinstance(base, Scan) else peel(run.plan)[0]
            places = (*offsets, *(0 for _ in range(len(chain) - len(offsets))))
            counts.append(sum(batch.num_rows for batch in Partition(reading, chain, places, 0).stepped(raw)))
    return counts
