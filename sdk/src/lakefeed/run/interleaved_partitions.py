"""Partitions of interleaved inputs: their positions alone determine the rows of the inputs that they take."""

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

Value = TypeVar("Value")

INTERLEAVED_BYTES = 32 * MIB
"""The size of an interleaved partition. Several make a pool of a shuffle, which would otherwise keep some order."""
HELD_PARTITIONS = 2
"""Partitions of each input that are held for the next interleaved partitions."""


@dataclass(frozen=True)
class _Pick:
    """Rows of an input partition, and their positions in the interleaved partition."""

    partition: Partition
    rows: Indices
    places: Indices
    recent: _RecentRows | None
    """Holds the rows if a neighbouring interleaved partition needs the input partition too."""

    def raw(self) -> list[Any]:
        """Returns the raw rows of the partition."""
        recent = None if self.recent is None else self.recent.raw
        return self._get_or_make(recent, lambda: list(self.partition.reading.raw()))

    def gather_rows(self, raw: Callable[[], list[Any]], schema: pa.Schema) -> pa.RecordBatch:
        """Returns the rows, made of the raw rows."""
        held = None if self.recent is None else self.recent.rows
        rows = self._get_or_make(held, lambda: Gatherable.of(self.partition.checked(self.partition.stepped(raw()))))
        return conform_batch(gather(lambda _: rows, np.zeros(len(self.rows), np.int64), self.rows), schema)

    def _get_or_make(self, held: _RecentValues | None, make: Callable[[], Value]) -> Value:
        value: Value = make() if held is None else held.get_or_make(id(self.partition), make)
        return value


_Part: TypeAlias = tuple[_Pick, Any]


class _RecentValues:
    """The last values, each made once, also where several threads ask at the same time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._values: dict[int, Future[Any]] = {}

    def get_or_make(self, key: int, make: Callable[[], Any]) -> Any:
        """Returns the value of ``make``, from memory if it was made before."""
        with self._lock:
            future = self._values.pop(key, None)
            first = future is None
            self._values[key] = future = future or Future()
            while len(self._values) > HELD_PARTITIONS:
                del self._values[next(iter(self._values))]
        if first:
            try:
                future.set_result(make())
            except BaseException as error:
                self.forget()
                future.set_exception(error)
                raise
        return future.result()

    def forget(self) -> None:
        """Forgets all values."""
        with self._lock:
            self._values.clear()

    def __reduce__(self) -> tuple[type[_RecentValues], tuple[()]]:
        return _RecentValues, ()


@dataclass(frozen=True, eq=False)
class _RecentRows:
    """The raw rows, and the rows, of input partitions that neighbouring interleaved partitions share."""

    raw: _RecentValues = field(default_factory=_RecentValues)
    rows: _RecentValues = field(default_factory=_RecentValues)


@dataclass(frozen=True, eq=False)
class InterleavedPartitions:
    """The partitions of the inputs, and the order of the interleaved rows."""

    schema: pa.Schema
    inputs: tuple[tuple[Partition, ...], ...]
    order: Interleaved
    ends: tuple[Indices, ...]
    """For each input, the positions at which its partitions end."""
    row_bytes: int
    runs_user_code: bool
    recent: tuple[_RecentRows, ...]
    """For each input."""

    @classmethod
    def of(cls, node: Interleave, inputs: Sequence[Sequence[Partition]]) -> InterleavedPartitions:
        """Returns the inputs of an interleave as partitions."""
        ends = tuple(
            np.cumsum([0, *(partition.rows for partition in partitions)], dtype=np.int64)[1:] for partitions in inputs
        )
        return cls(
            node.schema,
            tuple(map(tuple, inputs)),
            node.order([int(each[-1]) if len(each) else 0 for each in ends]),
            ends,
            max((_row_bytes(partitions) for partitions in inputs), default=1),
            any(partition.runs_user_code for partitions in inputs for partition in partitions),
            tuple(_RecentRows() for _ in inputs),
        )

    def interleaved(self) -> Iterator[InterleavedPartition]:
        """Yields the interleaved partitions of all rows, in order."""
        total, rows = len(self.order), max(INTERLEAVED_BYTES // self.row_bytes, 1)
        return (InterleavedPartition(self, start, min(start + rows, total)) for start in range(0, total, rows))

    def forget(self) -> None:
        """Forgets the rows that are held for the next interleaved partitions."""
        for recent in self.recent:
            recent.raw.forget()
            recent.rows.forget()
        forget(partition for partitions in self.inputs for partition in partitions)


@dataclass(frozen=True, eq=False)
class InterleavedPartition:
    """The rows at the positions ``[start, stop)`` of interleaved inputs."""

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

    @property
    def file(self) -> None:
        return None

    def raw(self) -> Iterator[_Part]:
        """Yields the rows of each input partition, or its raw rows if functions of the user make the rows."""
        for pick in self._picks():
            yield pick, pick.raw() if pick.partition.runs_user_code else self._gather_rows(pick, None)

    def decode(self, raw: Iterable[_Part]) -> Iterator[pa.RecordBatch]:
        parts, places = [], []
        for pick, read in raw:
            parts.append(self._gather_rows(pick, read) if pick.partition.runs_user_code else read)
            places.append(pick.places)
        sources = [Gatherable([part]) for part in parts]
        source_of = np.repeat(np.arange(len(parts)), [part.num_rows for part in parts])
        row_of = np.concatenate([np.arange(part.num_rows) for part in parts])
        order = np.argsort(np.concatenate(places))
        yield from gather_parts(sources.__getitem__, source_of[order], row_of[order], INTERLEAVED_BYTES)

    def _gather_rows(self, pick: _Pick, read: list[Any] | None) -> pa.RecordBatch:
        return pick.gather_rows(
            (lambda: list(pick.partition.reading.raw())) if read is None else lambda: read, self.mixed.schema
        )

    def _picks(self) -> Iterator[_Pick]:
        inputs, rows = self.mixed.order.located(self.start, self.stop)
        known = zip(self.mixed.inputs, self.mixed.ends, self.mixed.recent, strict=True)
        for index, (partitions, ends, recent) in enumerate(known):
            places = np.flatnonzero(inputs == index)
            partition_of = np.searchsorted(ends, rows[places], side="right")
            by_partition = np.argsort(partition_of, kind="stable")
            ordered = partition_of[by_partition]
            edges = [0, *(np.flatnonzero(np.diff(ordered)) + 1).tolist(), len(ordered)]
            shared = {int(partition_of[0]), int(partition_of[-1])} if len(partition_of) else set()
            for low, high in pairwise(edges):
                if low < high:
                    number, mine = int(ordered[low]), places[by_partition[low:high]]
                    local = rows[mine] - (ends[number] - partitions[number].rows)
                    yield _Pick(partitions[number], local, mine, recent if number in shared else None)


def forget(partitions: Iterable[Partition]) -> None:
    """Forgets the rows that the partitions hold for the next ones. Later reads load them again."""
    mixed = {
        id(partition.reading.mixed): partition.reading.mixed
        for partition in partitions
        if isinstance(partition.reading, InterleavedPartition)
    }
    for each in mixed.values():
        each.forget()


def _row_bytes(partitions: Sequence[Partition]) -> int:
    """Returns about the bytes of a row, for rows in memory those of the first partition."""
    size, rows = sum(partition.size for partition in partitions), sum(partition.rows for partition in partitions)
    if not size:
        some = next((partition for partition in partitions if partition.rows and not partition.size), None)
        held = [] if some is None else list(some.reading.raw())
        size, rows = sum(batch.nbytes for batch in held), sum(batch.num_rows for batch in held)
    return max(size // max(rows, 1), 1)
