"""Interleave: rows drawn from several inputs in turn, or by chance."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from lakefeed._rng import Indices
from lakefeed._validate import is_list
from lakefeed.errors import InvalidArgumentError, quoted_list
from lakefeed.ops.common_schema import common_schema, conform_batch, select_fields
from lakefeed.plan import Input, Node
from lakefeed.plan.interleave_order import STOPPING, Draws, Interleaved, Stopping


@dataclass(frozen=True, eq=False, repr=False)
class Interleave(Node):
    """One row at a time from one of the inputs, whose own order is kept.

    ``probabilities`` None: in turn; else by chance, seeded. ``stopping``: at the first input that has no more rows
    ("first_exhausted"), when each has been exhausted once, beginning anew those that are ("all_exhausted"), or when
    every row has come once ("all_exhausted_without_replacement").
    """

    inputs: tuple[Node, ...]
    probabilities: tuple[float, ...] | None
    seed: int
    stopping: Stopping
    fill: bool = False
    columns: tuple[str, ...] | None = None

    keeps_columns: ClassVar[bool] = True

    def output_schema(self) -> pa.Schema:
        self._check()
        return common_schema(
            "interleave", [select_fields(node.schema, self.columns) for node in self.inputs], self.fill
        )

    def _check(self) -> None:
        if self.stopping not in STOPPING:
            raise InvalidArgumentError(
                f"stopping_strategy={self.stopping!r}: the strategies are {quoted_list(STOPPING)}"
            )
        chances = self.probabilities
        if chances is None:
            return
        if len(chances) != len(self.inputs):
            raise InvalidArgumentError(
                f"{len(chances)} probabilities for {len(self.inputs)} datasets; give one for each"
            )
        if any(not chance >= 0 for chance in chances) or not np.isclose(sum(chances), 1.0):
            raise InvalidArgumentError(f"probabilities={list(chances)}: they must be 0 or more, and 1 together")

    def narrow_each(self, wanted: frozenset[str]) -> tuple[Node, tuple[frozenset[str] | None, ...]]:
        columns = tuple(name for name in self.schema.names if name in wanted) or tuple(self.schema.names[:1])
        below = tuple(frozenset(columns) & frozenset(node.schema.names) for node in self.inputs)
        return replace(self, columns=columns), below

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        drawn = [_InputBuffer(given, self.schema) for given in inputs]
        never = [not ever for ever in self._draws.drawn]
        try:
            for number in count():
                rows, last = self._take(drawn, never, self._draws.chunk(number))
                if rows is not None:
                    yield rows
                if last:
                    return
        finally:
            for each in drawn:
                each.close()

    def order(self, lengths: Sequence[int]) -> Interleaved:
        """Which row of which input comes when, if the inputs have so many rows."""
        return Interleaved(tuple(lengths), self._draws, self.stopping)

    @property
    def _draws(self) -> Draws:
        return Draws(len(self.inputs), self.probabilities, self.seed)

    def _take(
        self, drawn: list[_InputBuffer], never: list[bool], choices: Indices
    ) -> tuple[pa.RecordBatch | None, bool]:
        """The chosen rows, and whether they are the last ones."""
        order: list[int] = []
        counts = [0] * len(drawn)
        ended = False
        for choice in choices.tolist():
            ended = all(each.finished or off for each, off in zip(drawn, never, strict=True))
            if ended:
                break
            if self._has_next(drawn[choice], counts[choice]):
                order.append(choice)
                counts[choice] += 1
            elif self.stopping == "first_exhausted":
                ended = True
                break
        return _interleave_rows([each.pop(count) for each, count in zip(drawn, counts, strict=True)], order), ended

    def _has_next(self, source: _InputBuffer, taken: int) -> bool:
        if self.stopping == "first_exhausted":
            return source.reaches(taken)
        there = source.reaches(taken) or (self.stopping == "all_exhausted" and source.again(taken))
        # Whether this one is its last counts at once, not only when one more is asked for.
        source.reaches(taken + 1)
        return there

    def identity(self) -> dict[str, object]:
        return {
            "inputs": len(self.inputs),
            "probabilities": self.probabilities,
            "seed": self.seed,
            "stopping": self.stopping,
            "fill": self.fill,
        }

    def describe(self) -> str:
        how = "in turn" if self.probabilities is None else f"by {list(self.probabilities)} seed={self.seed}"
        return f"Interleave {len(self.inputs)} inputs {how} {self.stopping}"


class _InputBuffer:
    """Rows of one input, as far as they have been looked at."""

    def __init__(self, given: Input, schema: pa.Schema) -> None:
        self._given = given
        self._schema = schema
        self._batches = given.batches()
        self._held: list[pa.RecordBatch] = []
        self._rows = 0
        self.finished = False
        """Whether the end has been seen once."""

    def reaches(self, count: int) -> bool:
        """Whether there is a row after ``count`` that are taken already; reads on as needed."""
        while self._rows <= count:
            batch = next(self._batches, None)
            if batch is None:
                self.finished = True
                return False
            self._add(batch)
        return self._rows > count

    def again(self, count: int) -> bool:
        """Begins anew; False for an input without any row."""
        self._batches = self._given.batches()
        return self.reaches(count)

    def pop(self, count: int) -> pa.RecordBatch:
        """The next ``count`` rows, which are there."""
        rows = pa.Table.from_batches(self._held, self._schema).combine_chunks()
        self._held = rows.slice(count).to_batches()
        self._rows -= count
        taken = rows.slice(0, count).to_batches()
        return taken[0] if taken else pa.RecordBatch.from_pylist([], schema=self._schema)

    def close(self) -> None:
        if isinstance(self._batches, Generator):
            self._batches.close()

    def _add(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self._held.append(conform_batch(batch, self._schema))
            self._rows += batch.num_rows


def _interleave_rows(parts: list[pa.RecordBatch], order: list[int]) -> pa.RecordBatch | None:
    """The rows of the parts mixed so that the n-th row comes from part ``order[n]``."""
    if not order:
        return None
    sources = np.asarray(order)
    starts = np.cumsum([0, *(part.num_rows for part in parts)])[:-1]
    places = np.empty(len(sources), np.int64)
    for source, start in enumerate(starts):
        mine = np.flatnonzero(sources == source)
        places[mine] = start + np.arange(len(mine))
    joined = pa.Table.from_batches([part for part in parts if part.num_rows]).combine_chunks()
    return joined.take(places).to_batches()[0]


def check_probabilities(given: Any) -> tuple[float, ...]:
    """Returns probabilities as numbers."""
    items: list[Any] = list(given) if is_list(given) else [None]
    if not all(isinstance(item, int | float) and not isinstance(item, bool) for item in items):
        raise InvalidArgumentError(f"probabilities={given!r:.80}: give one number for each dataset")
    return tuple(map(float, items))
