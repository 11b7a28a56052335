"""A plan as pieces: rows that can be addressed by place, fragment by fragment.

A plan of steps over a scan is addressable as it stands, once it is known how many rows each fragment gives after the
steps. That is arithmetic as long as the steps keep row counts or are positional; rows that a filter keeps are counted
by running it (over the columns that it reads) once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa

from lakefeed.config import ReadSettings
from lakefeed.ops import Project, Scan
from lakefeed.optimize.columns import prune_columns
from lakefeed.plan import Fragment, Node, Step
from lakefeed.run.chain import peel, run_chain
from lakefeed.run.prefetch import read_ahead


@dataclass(frozen=True)
class Piece:
    """A fragment seen through the steps: where its rows stand in each step's input, and how many come out."""

    fragment: Fragment
    offsets: tuple[int, ...]
    rows: int


@dataclass(frozen=True, eq=False)
class Pieces:
    """The rows of a plan of steps over a scan, addressable by (piece, row)."""

    scan: Scan
    steps: tuple[Step, ...]
    items: tuple[Piece, ...]
    mapped: int = 0
    """Bytes of the file that they are mapped from; where that does not fit into memory, a random order is slow."""

    @property
    def schema(self) -> pa.Schema:
        return self.steps[-1].schema if self.steps else self.scan.schema

    @property
    def lengths(self) -> list[int]:
        return [piece.rows for piece in self.items]

    @property
    def sizes(self) -> list[int]:
        return [piece.fragment.size for piece in self.items]

    @property
    def resident(self) -> bool:
        """Whether every piece is in memory (or mapped), so that any order of reading is cheap."""
        return not any(self.sizes)

    def raw(self, index: int) -> Iterator[pa.RecordBatch]:
        """The rows of one piece as the source has them, before the steps."""
        return self.scan.source.read(self.items[index].fragment, self.scan.pushdown)

    def stepped(self, index: int, raw: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows of one piece, in order, made of its raw rows."""
        return run_chain(self.steps, raw, self.items[index].offsets)

    def batches(self, index: int) -> Iterator[pa.RecordBatch]:
        """The rows of one piece, in order."""
        return self.stepped(index, self.raw(index))


def pieces_of(plan: Node, settings: ReadSettings) -> Pieces | None:
    """The optimized plan as pieces, or None where only running it tells which rows it has."""
    steps, base = peel(plan)
    if not isinstance(base, Scan):
        return None
    fragments = []
    for fragment in base.source.fragments(base.pushdown):
        if fragment.length is None:
            return None
        fragments.append(fragment)
    lengths = [fragment.length or 0 for fragment in fragments]
    offsets: list[list[int]] = [[] for _ in fragments]
    for place, step in enumerate(steps):
        starts = _starts(lengths)
        for mine, start in zip(offsets, starts, strict=True):
            mine.append(start)
        if step.positional:
            lengths = [step.kept(start, length) for start, length in zip(starts, lengths, strict=True)]
        elif not step.keeps_row_count and _is_last_uncounted(steps, place):
            lengths = _counted(base, steps[: place + 1], fragments, offsets, settings)
        # Other counts stay stale here: no positional step looks at them before they are counted.
    items = tuple(
        Piece(fragment, tuple(mine), length) for fragment, mine, length in zip(fragments, offsets, lengths, strict=True)
    )
    return Pieces(base, steps, items)


def _is_last_uncounted(steps: Sequence[Step], place: int) -> bool:
    """Whether the counts must be known now: a positional step comes next among those that change counts, or none."""
    for step in steps[place + 1 :]:
        if step.positional:
            return True
        if not step.keeps_row_count:
            return False
    return True


def _starts(lengths: Sequence[int]) -> list[int]:
    starts, place = [], 0
    for length in lengths:
        starts.append(place)
        place += length
    return starts


def _counted(
    scan: Scan,
    steps: Sequence[Step],
    fragments: Sequence[Fragment],
    offsets: Sequence[Sequence[int]],
    settings: ReadSettings,
) -> list[int]:
    """Rows that each fragment gives after the steps, found by running them over the columns that they read."""
    chain, base = peel(prune_columns(Project(steps[-1], ())))
    assert isinstance(base, Scan)
    source, pushdown = base.source, base.pushdown

    def read(index: int) -> list[pa.RecordBatch]:
        return list(source.read(fragments[index], pushdown))

    counts = []
    with closing(read_ahead(range(len(fragments)), read, settings, lambda index: fragments[index].size)) as ahead:
        for index, batches in enumerate(ahead):
            places = (*offsets[index][: len(steps)], 0)
            counts.append(sum(batch.num_rows for batch in run_chain(chain, batches, places)))
    return counts
