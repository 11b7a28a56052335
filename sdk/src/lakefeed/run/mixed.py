"""Stretches of interleaved inputs: which rows of which pieces they take follows from their place alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from lakefeed._rng import Indices
from lakefeed.ops import Interleave
from lakefeed.ops.alike import conformed
from lakefeed.plan.interleaved import Interleaved
from lakefeed.run.piece import Piece
from lakefeed.run.rebatch import joined

MIB = 1 << 20
STRETCH_BYTES = 64 * MIB
"""About as much as a stretch holds; a piece on the edge of two stretches is decoded for both."""


@dataclass(frozen=True)
class _Pick:
    """Rows of one piece, and the places of the stretch where they belong."""

    piece: Piece
    rows: Indices
    places: Indices


_Part: TypeAlias = tuple[_Pick, list[pa.RecordBatch]]


@dataclass(frozen=True, eq=False)
class Mixed:
    """The pieces of interleaved inputs, and their order."""

    schema: pa.Schema
    inputs: tuple[tuple[Piece, ...], ...]
    order: Interleaved
    ends: tuple[Indices, ...]
    """For each input the places at which its pieces end."""
    row_bytes: int
    runs_user_code: bool

    @classmethod
    def of(cls, node: Interleave, inputs: Sequence[Sequence[Piece]]) -> Mixed:
        """The inputs of an interleave, as pieces."""
        ends = tuple(np.cumsum([0, *(piece.rows for piece in pieces)], dtype=np.int64)[1:] for pieces in inputs)
        return cls(
            node.schema,
            tuple(map(tuple, inputs)),
            node.order([int(each[-1]) if len(each) else 0 for each in ends]),
            ends,
            max((_row_bytes(pieces) for pieces in inputs), default=1),
            any(piece.runs_user_code for pieces in inputs for piece in pieces),
        )

    def stretches(self) -> Iterator[Stretch]:
        """All rows, a stretch after the other."""
        total, rows = len(self.order), max(STRETCH_BYTES // self.row_bytes, 1)
        return (Stretch(self, start, min(start + rows, total)) for start in range(0, total, rows))


@dataclass(frozen=True, eq=False)
class Stretch:
    """The rows at the places ``[start, stop)`` of interleaved inputs."""

    mixed: Mixed
    start: int
    stop: int

    @property
    def size(self) -> int:
        return (self.stop - self.start) * self.mixed.row_bytes

    @property
    def runs_user_code(self) -> bool:
        return self.mixed.runs_user_code

    def raw(self) -> Iterator[_Part]:
        """For each piece its rows, or what they are made of where that takes functions of the user."""
        for pick in self._picks():
            raw = list(pick.piece.reading.raw())
            yield pick, raw if pick.piece.runs_user_code else [self._taken(pick, raw)]

    def made(self, raw: Iterable[_Part]) -> Iterator[pa.RecordBatch]:
        parts, places = [], []
        for pick, batches in raw:
            parts.append(self._taken(pick, batches) if pick.piece.runs_user_code else batches[0])
            places.append(pick.places)
        yield joined(parts).take(np.argsort(np.concatenate(places)))

    def _taken(self, pick: _Pick, raw: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
        rows = pick.piece.whole(list(pick.piece.stepped(raw)))
        return conformed(rows.take(pick.rows), self.mixed.schema)

    def _picks(self) -> Iterator[_Pick]:
        inputs, rows = self.mixed.order.located(self.start, self.stop)
        for index, (pieces, ends) in enumerate(zip(self.mixed.inputs, self.mixed.ends, strict=True)):
            places = np.flatnonzero(inputs == index)
            piece_of = np.searchsorted(ends, rows[places], side="right")
            by_piece = np.argsort(piece_of, kind="stable")
            ordered = piece_of[by_piece]
            edges = [0, *(np.flatnonzero(np.diff(ordered)) + 1).tolist(), len(ordered)]
            for low, high in pairwise(edges):
                if low < high:
                    piece, mine = pieces[ordered[low]], places[by_piece[low:high]]
                    yield _Pick(piece, rows[mine] - (ends[ordered[low]] - piece.rows), mine)


def _row_bytes(pieces: Sequence[Piece]) -> int:
    """What a row takes, about; of rows in memory as the first ones do."""
    size, rows = sum(piece.size for piece in pieces), sum(piece.rows for piece in pieces)
    if not size:
        some = next((piece for piece in pieces if piece.rows and not piece.size), None)
        held = [] if some is None else list(some.reading.raw())
        size, rows = sum(batch.nbytes for batch in held), sum(batch.num_rows for batch in held)
    return max(size // max(rows, 1), 1)
