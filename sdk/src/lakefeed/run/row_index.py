"""Random access to rows by position, for samplers that take a few rows at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from lakefeed._rng import Indices
from lakefeed.errors import InvalidArgumentError, RowIndexError
from lakefeed.run.gather import Gatherable, HeldRows, gather_parts
from lakefeed.run.partitions import Partitions


class RowIndex:
    """The rows of ``partitions``, which are cheap to read in any order. Partitions that were read stay open."""

    def __init__(self, partitions: Partitions) -> None:
        self._partitions = partitions
        self._starts = np.cumsum([0, *partitions.lengths])
        self._ends: list[int] = self._starts[1:].tolist()
        self._rows = int(self._starts[-1])
        self._open: dict[int, Gatherable] = {}

    def __len__(self) -> int:
        return self._rows

    def row(self, position: int) -> tuple[HeldRows, int]:
        """Returns the rows that hold a row, and its number in them; a negative position counts from the end.

        Raises:
            RowIndexError: the row does not exist.
        """
        row = position + self._rows if position < 0 else position
        if not 0 <= row < self._rows:
            raise self._missing(position)
        partition = bisect_right(self._ends, row)
        return self._source(partition).find(row - (self._ends[partition - 1] if partition else 0))

    def at(self, positions: Sequence[int] | Indices) -> list[pa.RecordBatch]:
        """Returns the rows at ``positions``, in that order, in batches of bounded size.

        Negative positions count from the end.

        Raises:
            RowIndexError: a row does not exist.
        """
        wanted = np.asarray(positions, dtype=np.int64)
        if not len(wanted):
            return []
        if wanted.min() < 0:
            wanted = np.where(wanted < 0, wanted + self._rows, wanted)
        outside = (wanted < 0) | (wanted >= self._rows)
        if outside.any():
            raise self._missing(int(np.asarray(positions)[outside][0]))
        partitions = np.searchsorted(self._starts, wanted, side="right") - 1
        rows = wanted - self._starts[partitions]
        return list(gather_parts(self._source, partitions, rows))

    def _missing(self, position: int) -> RowIndexError:
        return RowIndexError(f"there is no row {position}: the dataset has {self._rows}")

    def _source(self, partition: int) -> Gatherable:
        if partition not in self._open:
            self._open[partition] = Gatherable.of(self._partitions.batches(partition))
        return self._open[partition]


def check_positions(index: Any, rows: int) -> Any:
    """Returns the positions that a slice or several indices name.

    Raises:
        InvalidArgumentError: it is neither.
    """
    if isinstance(index, slice):
        return range(rows)[index]
    positions = np.asarray(index)
    if not (positions.ndim == 1 and (positions.dtype.kind in "iu" or not positions.size)):
        raise InvalidArgumentError(
            f"dataset[{index!r:.80}]: the index must be a whole number, a slice or a list of them"
        )
    return positions


def is_position(index: Any) -> bool:
    """Returns whether the index is one position, not a slice or several."""
    if isinstance(index, int | np.integer):
        return not isinstance(index, bool)
    return not isinstance(index, slice) and np.ndim(index) == 0 and np.asarray(index).dtype.kind in "iu"
