"""The order of interleaved rows: a pure function of the row counts of the inputs and the seed.

Draws come in chunks of a fixed size, each a pure function of the seed and its number. The draws of each input before
each chunk are counted once. So the rows of any range of positions are found by drawing its own chunks again.
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
    """An endless sequence of draws of inputs: in turn, or by ``probabilities`` and ``seed``."""

    inputs: int
    probabilities: tuple[float, ...] | None
    seed: int

    def chunk(self, number: int) -> Indices:
        """Returns the inputs of the draws ``[number * CHUNK, (number + 1) * CHUNK)``."""
        start = number * CHUNK
        if self.probabilities is None:
            return np.arange(start, start + CHUNK) % self.inputs
        edges = np.cumsum(self.probabilities)[:-1]
        drawn = np.searchsorted(edges, words(CHUNK, self.seed, _INTERLEAVE, start) / _TWO_TO_64, side="right")
        # The sum of the probabilities may be a little less than 1; the rest must not fall on an input of probability 0.
        return np.asarray(np.minimum(drawn, np.flatnonzero(self.probabilities)[-1]), np.int64)

    @property
    def drawn(self) -> tuple[bool, ...]:
        """Returns for each input whether its probability is above 0."""
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
        """Returns the number of interleaved rows."""
        chunks = len(self._counted) - 1
        rest = np.bincount(self.draws.chunk(chunks)[: self._draws - chunks * CHUNK], minlength=len(self.lengths))
        return int(self._given(self._counted[-1:] + rest)[0])

    def located(self, start: int, stop: int) -> tuple[Indices, Indices]:
        """Returns for each of the positions ``[start, stop)`` the input, and the row of the input."""
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
        """Returns the number of rows before each chunk of draws."""
        return self._given(self._counted)

    def _given(self, counts: Indices) -> Indices:
        """Returns the number of rows that so many draws of each input give."""
        lengths = np.asarray(self.lengths, np.int64)
        if self.stopping == "all_exhausted":
            return np.asarray(counts[:, lengths > 0].sum(axis=1), np.int64)
        return np.asarray(np.minimum(counts, lengths).sum(axis=1), np.int64)

    @property
    def _counted(self) -> Indices:
        """Returns the number of draws of each input before each chunk."""
        return self._run[0]

    @property
    def _draws(self) -> int:
        """Returns the number of draws."""
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
        """Returns the number of draws of the chunk until the end; None if the chunk does not reach the end."""
        first = self.stopping == "first_exhausted"
        ends = []
        for index, (length, ever) in enumerate(zip(self.lengths, self.draws.drawn, strict=True)):
            # An input ends with the draw that finds no row, or with its last row (an empty input when it is drawn).
            due = length - int(counts[index]) if first else max(length, 1) - int(counts[index]) - 1
            if ever and due >= 0:
                mine = np.flatnonzero(drawn == index)
                ends.append(None if due >= len(mine) else int(mine[due]))
        reached = [end for end in ends if end is not None]
        if first:
            return min(reached, default=None)
        return max(reached) + 1 if len(reached) == len(ends) else None
