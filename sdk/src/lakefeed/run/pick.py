"""Rows by their places."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from lakefeed._rng import Indices
from lakefeed.errors import RowIndexError
from lakefeed.run.pieces import Pieces
from lakefeed.run.rebatch import joined


def rows_at(pieces: Pieces, places: Indices) -> Iterator[pa.RecordBatch]:
    """The rows at ``places``, in that order, as often as named; reads the pieces that hold one of them, once.

    Raises:
        RowIndexError: a place before the first or after the last row.
    """
    ends = np.cumsum(pieces.lengths, dtype=np.int64)
    rows = int(ends[-1]) if len(ends) else 0
    outside = places[(places < 0) | (places >= rows)]
    if len(outside):
        raise RowIndexError(f"there is no row {int(outside[0])}: places run from 0 to {rows - 1}")
    if not len(places):
        return
    piece_of = np.searchsorted(ends, places, side="right")
    by_piece = np.argsort(piece_of, kind="stable")
    taken = []
    for piece in np.unique(piece_of).tolist():
        mine = by_piece[piece_of[by_piece] == piece]
        whole = joined(list(pieces.batches(piece)))
        taken.append(whole.take(places[mine] - (ends[piece] - pieces.lengths[piece])))
    arrange = np.empty(len(places), np.int64)
    arrange[by_piece] = np.arange(len(places))
    yield joined(taken).take(arrange)
