"""Which row of which input comes when, where inputs are interleaved: a pure function of how many rows each has.

Draws are made in chunks of a fixed size, each a pure function of the seed and its place; how often each input was drawn
before a chunk is counted once. So any range of places is found by drawing its own chunks again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np

from lakefeed._rng import Indices, words

Stopping: TypeAlias = Literal["first_exhausted", "all_exhausted", "all_exhausted_without_replacement"]
STOPPING: tuple[Stopping, ...] = get_args(Stopping)
CHUNK = 8_192
_INTERLEAVE = 12
_TWO_TO_64 = float(2**64)


@dataclass(frozen=True)
class Draws:
    """The input that each draw falls on: in turn, or by ``probabilities`` and ``seed``. They never end."""

    inputs: int
    probabilities: tuple[float, ...] | None
    seed: int

    def chunk(self, number: int) -> Indices:
        """The inputs of draws ``[number * CHUNK, (number + 1) * CHUNK)``."""
        place = number * CHUNK
        if self.probabilities is None:
            return np.arange(place, place + CHUNK) % self.inputs
        edges = np.cumsum(self.probabilities)[:-1]
        drawn = np.searchsorted(edges, words(CHUNK, self.seed, _INTERLEAVE, place) / _TWO_TO_64, side="right")
        # The probabilities may add up to a little less than 1: what is missing must not fall on one of 0.
        return np.asarray(np.minimum(drawn, np.flatnonzero(self.probabilities)[-1]), np.int64)

    @property
    def drawn(self) -> tuple[bool, ...]:
        """Which inputs are drawn at all."""
        chances = self.probabilities or (1.0,) * self.inputs
        return tuple(chance > 0 for chance in chances)


@dataclass(frozen=True, eq=False)
class Interleaved:
    """Inputs of these lengths (rows), interleaved as `lakefeed.ops.Interleave` says.

    Example:
        >>> inputs, rows = Interleaved((2, 1), Draws(2, None, 0), "all_exhausted").located(0, 3)
        >>> inputs.tolist(), rows.tolist()
        ([0, 1, 0], [0, 0, 1])
    """

    lengths: tuple[int, ...]
    draws: Draws
    stopping: Stopping

    def __len__(self) -> int:
        """Rows in all."""
        chunks = len(self._counted) - 1
        rest = np.bincount(self.draws.chunk(chunks)[: self._draws - chunks * CHUNK], minlength=len(self.lengths))
        return int(self._given(self._counted[-1:] + rest)[0])

    def located(self, start: int, stop: int) -> tuple[Indices, Indices]:
        """For each of the places ``[start, stop)``, which lie within all rows: the input, and the row in it."""
        first = max(int(np.searchsorted(self._rows, start, side="right")) - 1, 0)
        last = max(int(np.searchsorted(self._rows, stop, side="left")), first + 1)
        drawn = np.concatenate([self.draws.chunk(number) for number in range(first, last)])
        drawn = drawn[: self._draws - first * CHUNK]
        rows = np.empty(len(drawn), np.int64)
        for index, before in enumerate(self._counted[first].tolist()):
            mine = np.flatnonzero(drawn == index)
            rows[mine] = np.arange(before, before + len(mine))
        lengths = np.asarray(self.lengths, np.int64)[drawn]
        if self.stopping == "all_exhausted":
            there = lengths > 0
            rows %= np.maximum(lengths, 1)
        else:
            there = rows < lengths
        begin = start - int(self._rows[first])
        return drawn[there][begin : begin + stop - start], rows[there][begin : begin + stop - start]

    @cached_property
    def _rows(self) -> Indices:
        """The rows that come before each chunk of draws."""
        return self._given(self._counted)

    def _given(self, counts: Indices) -> Indices:
        """How many rows come of so many draws of each input."""
        lengths = np.asarray(self.lengths, np.int64)
        if self.stopping == "all_exhausted":
            return np.asarray(counts[:, lengths > 0].sum(axis=1), np.int64)
        return np.asarray(np.minimum(counts, lengths).sum(axis=1), np.int64)

    @property
    def _counted(self) -> Indices:
        """How often each input was drawn before each chunk."""
        return self._run[0]

    @property
    def _draws(self) -> int:
        """Draws in all."""
        return self._run[1]

    @cached_property
    def _run(self) -> tuple[Indices, int]:
        counts = [np.zeros(len(self.lengths), np.int64)]
        while True:
            drawn = self.draws.chunk(len(counts) - 1)
            end = self._end(counts[-1], drawn)
            if end is not None:
                return np.stack(counts), (len(counts) - 1) * CHUNK + end
            counts.append(counts[-1] + np.bincount(drawn, minlength=len(self.lengths)))

    def _end(self, counts: Indices, drawn: Indices) -> int | None:
        """How many of the chunk's draws are made before all is over; None if it goes on."""
        first = self.stopping == "first_exhausted"
        found = []
        for index, (length, ever) in enumerate(zip(self.lengths, self.draws.drawn, strict=True)):
            # Over with the draw for which there is no row, or else with the last row (an empty one when it is drawn).
            due = length - int(counts[index]) if first else max(length, 1) - int(counts[index]) - 1
            if ever and due >= 0:
                mine = np.flatnonzero(drawn == index)
                found.append(None if due >= len(mine) else int(mine[due]))
        reached = [place for place in found if place is not None]
        if first:
            return min(reached, default=None)
        return max(reached) + 1 if len(reached) == len(found) else None
