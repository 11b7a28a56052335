"""Rows by their places, again and again: for a sampler that asks for a few of them at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from lakefeed._rng import Indices
from lakefeed.errors import InvalidArgumentError, RowIndexError
from lakefeed.run.gather import Gatherable, gathered
from lakefeed.run.partitions import Partitions
from lakefeed.run.rebatch import joined


class RowIndex:
    """The rows of ``pieces``, which are cheap to read in any order; what has been touched stays open."""

    def __init__(self, pieces: Partitions) -> None:
        self._pieces = pieces
        self._starts = np.cumsum([0, *pieces.lengths])
        self._open: dict[int, Gatherable] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def at(self, places: Sequence[int] | Indices) -> pa.RecordBatch:
        """The rows at ``places``, in that order, as often as named; negative ones count from the end.

        Raises:
            RowIndexError: there is no such row.
        """
        wanted = np.asarray(places, dtype=np.int64)
        outside = wanted[(wanted < -len(self)) | (wanted >= len(self))]
        if len(outside):
            raise RowIndexError(f"there is no row {int(outside[0])}: the dataset has {len(self)}")
        wanted = np.where(wanted < 0, wanted + len(self), wanted)
        if not len(wanted):
            return pa.RecordBatch.from_pylist([], schema=self._pieces.schema)
        pieces = np.searchsorted(self._starts, wanted, side="right") - 1
        by_piece = np.argsort(pieces, kind="stable")
        ordered = pieces[by_piece]
        edges = [0, *(np.flatnonzero(np.diff(ordered)) + 1).tolist(), len(ordered)]
        sources = []
        for low, high in pairwise(edges):
            piece = int(ordered[low])
            sources.append((self._opened(piece), wanted[by_piece[low:high]] - self._starts[piece]))
        arrange = np.empty(len(by_piece), np.int64)
        arrange[by_piece] = np.arange(len(by_piece))
        return gathered(sources, arrange)

    def _opened(self, piece: int) -> Gatherable:
        if piece not in self._open:
            self._open[piece] = Gatherable(joined(list(self._pieces.batches(piece))))
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
