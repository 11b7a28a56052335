"""Rows by their positions, again and again: for a sampler that asks for a few of them at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from lakefeed._rng import Indices
from lakefeed.errors import InvalidArgumentError, RowIndexError
from lakefeed.run.gather import Gatherable, gather, gather_parts
from lakefeed.run.partitions import Partitions


class RowIndex:
    """The rows of ``pieces``, which are cheap to read in any order. Pieces that were read stay open."""

    def __init__(self, pieces: Partitions) -> None:
        self._pieces = pieces
        self._starts = np.cumsum([0, *pieces.lengths])
        self._rows = int(self._starts[-1])
        self._open: dict[int, Gatherable] = {}

    def __len__(self) -> int:
        return self._rows

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
            row = int(np.asarray(positions)[outside][0])
            raise RowIndexError(f"there is no row {row}: the dataset has {self._rows}")
        pieces = np.searchsorted(self._starts, wanted, side="right") - 1
        rows = wanted - self._starts[pieces]
        if len(wanted) == 1:
            return [gather(self._source, pieces, rows)]
        return list(gather_parts(self._source, pieces, rows))

    def _source(self, piece: int) -> Gatherable:
        if piece not in self._open:
            self._open[piece] = Gatherable.of(self._pieces.batches(piece))
        return self._open[piece]


def check_positions(given: Any, rows: int) -> Any:
    """Returns the positions that an index, a slice or several indices name."""
    if isinstance(given, slice):
        return range(rows)[given]
    positions = np.atleast_1d(np.asarray(given))
    if not (positions.ndim == 1 and (positions.dtype.kind in "iu" or not positions.size)):
        raise InvalidArgumentError(f"dataset[{given!r:.80}]: give a place, a slice, or a list of places")
    return positions


def is_position(given: Any) -> bool:
    """Whether one position is given, not a slice or several."""
    return not isinstance(given, slice) and np.ndim(given) == 0
