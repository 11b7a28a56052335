"""Stretches of interleaved inputs: which rows of which pieces they take follows from their place alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Lock
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa

from lakefeed._rng import Indices
from lakefeed._units import MIB
from lakefeed.ops import Interleave
from lakefeed.ops.common_schema import conform_batch
from lakefeed.plan.interleave_order import Interleaved
from lakefeed.run.gather import Gatherable, gather, gather_parts
from lakefeed.run.partition import Partition

Made = TypeVar("Made")

STRETCH_BYTES = 32 * MIB
"""About as much as a stretch holds: several to a pool of a shuffle, which would else leave order in."""
HELD_PIECES = 2
"""Of each input, for the stretches that come next."""


@dataclass(frozen=True)
class _Pick:
    """Rows of one piece, and the places of the stretch where they belong."""

    piece: Partition
    rows: Indices
    places: Indices
    kept: _Kept | None
    """What may have the rows already, and keeps them, if a stretch beside this one needs the piece too."""

    def raw(self) -> list[Any]:
        """What is read for the piece."""
        return self._found(None if self.kept is None else self.kept.raw, lambda: list(self.piece.reading.raw()))

    def taken(self, raw: Callable[[], list[Any]], schema: pa.Schema) -> pa.RecordBatch:
        """The rows, of what was read."""
        held = None if self.kept is None else self.kept.rows
        rows = self._found(held, lambda: Gatherable.of(self.piece.checked(self.piece.stepped(raw()))))
        return conform_batch(gather(lambda _: rows, np.zeros(len(self.rows), np.int64), self.rows), schema)

    def _found(self, held: _Held | None, make: Callable[[], Made]) -> Made:
        found: Made = make() if held is None else held.found(id(self.piece), make)
        return found


_Part: TypeAlias = tuple[_Pick, Any]


class _Held:
    """What was made last, for whoever wants the same next; made once, also by several threads that want it at once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._made: dict[int, Future[Any]] = {}

    def found(self, key: int, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, now or before."""
        with self._lock:
            future = self._made.pop(key, None)
            first = future is None
            self._made[key] = future = future or Future()
            while len(self._made) > HELD_PIECES:
                del self._made[next(iter(self._made))]
        if first:
            try:
                future.set_result(make())
            except BaseException as error:
                self.forget()
                future.set_exception(error)
                raise
        return future.result()

    def forget(self) -> None:
        """Lets go of everything."""
        with self._lock:
            self._made.clear()

    def __reduce__(self) -> tuple[type[_Held], tuple[()]]:
        return _Held, ()


@dataclass(frozen=True, eq=False)
class _Kept:
    """Of the pieces that neighbouring stretches share: what was read, and the rows."""

    raw: _Held = field(default_factory=_Held)
    rows: _Held = field(default_factory=_Held)


@dataclass(frozen=True, eq=False)
class InterleavedPartitions:
    """The pieces of interleaved inputs, and their order."""

    schema: pa.Schema
    inputs: tuple[tuple[Partition, ...], ...]
    order: Interleaved
    ends: tuple[Indices, ...]
    """For each input the places at which its pieces end."""
    row_bytes: int
    runs_user_code: bool
    kept: tuple[_Kept, ...]
    """For each input."""

    @classmethod
    def of(cls, node: Interleave, inputs: Sequence[Sequence[Partition]]) -> InterleavedPartitions:
        """The inputs of an interleave, as pieces."""
        ends = tuple(np.cumsum([0, *(piece.rows for piece in pieces)], dtype=np.int64)[1:] for pieces in inputs)
        return cls(
            node.schema,
            tuple(map(tuple, inputs)),
            node.order([int(each[-1]) if len(each) else 0 for each in ends]),
            ends,
            max((_row_bytes(pieces) for pieces in inputs), default=1),
            any(piece.runs_user_code for pieces in inputs for piece in pieces),
            tuple(_Kept() for _ in inputs),
        )

    def stretches(self) -> Iterator[InterleavedPartition]:
        """All rows, a stretch after the other."""
        total, rows = len(self.order), max(STRETCH_BYTES // self.row_bytes, 1)
        return (InterleavedPartition(self, start, min(start + rows, total)) for start in range(0, total, rows))

    def forget(self) -> None:
        """Lets go of what is kept for stretches to come."""
        for kept in self.kept:
            kept.raw.forget()
            kept.rows.forget()
        forget(piece for pieces in self.inputs for piece in pieces)


@dataclass(frozen=True, eq=False)
class InterleavedPartition:
    """The rows at the places ``[start, stop)`` of interleaved inputs."""

    mixed: InterleavedPartitions
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def size(self) -> int:
        return (self.stop - self.start) * self.mixed.row_bytes

    @property
    def shared(self) -> bool:
        return False  # its rows are gathered

    @property
    def runs_user_code(self) -> bool:
        return self.mixed.runs_user_code

    def raw(self) -> Iterator[_Part]:
        """For each piece its rows, or what they are made of where that takes functions of the user."""
        for pick in self._picks():
            yield pick, pick.raw() if pick.piece.runs_user_code else self._taken(pick, None)

    def made(self, raw: Iterable[_Part]) -> Iterator[pa.RecordBatch]:
        parts, places = [], []
        for pick, read in raw:
            parts.append(self._taken(pick, read) if pick.piece.runs_user_code else read)
            places.append(pick.places)
        sources = [Gatherable([part]) for part in parts]
        source_of = np.repeat(np.arange(len(parts)), [part.num_rows for part in parts])
        row_of = np.concatenate([np.arange(part.num_rows) for part in parts])
        order = np.argsort(np.concatenate(places))
        yield from gather_parts(sources.__getitem__, source_of[order], row_of[order], STRETCH_BYTES)

    def _taken(self, pick: _Pick, read: list[Any] | None) -> pa.RecordBatch:
        return pick.taken((lambda: list(pick.piece.reading.raw())) if read is None else lambda: read, self.mixed.schema)

    def _picks(self) -> Iterator[_Pick]:
        inputs, rows = self.mixed.order.located(self.start, self.stop)
        known = zip(self.mixed.inputs, self.mixed.ends, self.mixed.kept, strict=True)
        for index, (pieces, ends, kept) in enumerate(known):
            places = np.flatnonzero(inputs == index)
            piece_of = np.searchsorted(ends, rows[places], side="right")
            by_piece = np.argsort(piece_of, kind="stable")
            ordered = piece_of[by_piece]
            edges = [0, *(np.flatnonzero(np.diff(ordered)) + 1).tolist(), len(ordered)]
            shared = {int(piece_of[0]), int(piece_of[-1])} if len(piece_of) else set()
            for low, high in pairwise(edges):
                if low < high:
                    number, mine = int(ordered[low]), places[by_piece[low:high]]
                    local = rows[mine] - (ends[number] - pieces[number].rows)
                    yield _Pick(pieces[number], local, mine, kept if number in shared else None)


def forget(pieces: Iterable[Partition]) -> None:
    """Lets go of what the pieces keep for stretches to come; who reads on has it read again."""
    mixed = {
        id(piece.reading.mixed): piece.reading.mixed
        for piece in pieces
        if isinstance(piece.reading, InterleavedPartition)
    }
    for each in mixed.values():
        each.forget()


def _row_bytes(pieces: Sequence[Partition]) -> int:
    """What a row takes, about; of rows in memory as the first ones do."""
    size, rows = sum(piece.size for piece in pieces), sum(piece.rows for piece in pieces)
    if not size:
        some = next((piece for piece in pieces if piece.rows and not piece.size), None)
        held = [] if some is None else list(some.reading.raw())
        size, rows = sum(batch.nbytes for batch in held), sum(batch.num_rows for batch in held)
    return max(size // max(rows, 1), 1)
