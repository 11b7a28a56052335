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
from lakefeed.plan.take_rows import take_rows


@dataclass(frozen=True, eq=False, repr=False)
class Interleave(Node):
    """One row at a time from one of the inputs, each of which keeps its order.

    ``probabilities`` None: in turn; else by chance, seeded. ``stopping``: stop at the first input that has no more rows
    ("first_exhausted"), when each input has been exhausted once, restarting exhausted ones ("all_exhausted"), or when
    every row has been drawn once ("all_exhausted_without_replacement").
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
                f"unknown stopping_strategy {self.stopping!r}; choose from {quoted_list(STOPPING)}"
            )
        weights = self.probabilities
        if weights is None:
            return
        if len(weights) != len(self.inputs):
            raise InvalidArgumentError(
                f"interleave got {len(weights)} probabilities for {len(self.inputs)} datasets; give one for each"
            )
        if any(not weight >= 0 for weight in weights) or not np.isclose(sum(weights), 1.0):
            raise InvalidArgumentError(f"probabilities must not be negative and must sum to 1, got {list(weights)}")

    def narrow_each(self, wanted: frozenset[str]) -> tuple[Node, tuple[frozenset[str] | None, ...]]:
        columns = tuple(name for name in self.schema.names if name in wanted) or tuple(self.schema.names[:1])
        below = tuple(frozenset(columns) & frozenset(node.schema.names) for node in self.inputs)
        return replace(self, columns=columns), below

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        buffers = [_InputBuffer(rows, self.schema) for rows in inputs]
        unused = [not used for used in self._draws.drawn]
        try:
            for number in count():
                rows, last = self._draw(buffers, unused, self._draws.chunk(number))
                if rows is not None:
                    yield rows
                if last:
                    return
        finally:
            for buffer in buffers:
                buffer.close()

    def order(self, lengths: Sequence[int]) -> Interleaved:
        """Returns which row of which input comes at which position, for inputs with these numbers of rows."""
        return Interleaved(tuple(lengths), self._draws, self.stopping)

    @property
    def _draws(self) -> Draws:
        return Draws(len(self.inputs), self.probabilities, self.seed)

    def _draw(
        self, buffers: list[_InputBuffer], unused: list[bool], choices: Indices
    ) -> tuple[pa.RecordBatch | None, bool]:
        """Returns the chosen rows, and whether they are the last ones."""
        order: list[int] = []
        counts = [0] * len(buffers)
        ended = False
        for choice in choices.tolist():
            ended = all(buffer.finished or off for buffer, off in zip(buffers, unused, strict=True))
            if ended:
                break
            if self._has_next(buffers[choice], counts[choice]):
                order.append(choice)
                counts[choice] += 1
            elif self.stopping == "first_exhausted":
                ended = True
                break
        return _interleave_rows(
            [buffer.pop(count) for buffer, count in zip(buffers, counts, strict=True)], order
        ), ended

    def _has_next(self, buffer: _InputBuffer, drawn: int) -> bool:
        if self.stopping == "first_exhausted":
            return buffer.reaches(drawn)
        has_next = buffer.reaches(drawn) or (self.stopping == "all_exhausted" and buffer.restart(drawn))
        # The end of the input is detected with its last row, not only at the next draw.
        buffer.reaches(drawn + 1)
        return has_next

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
    """The rows of one input that were read and not drawn yet."""

    def __init__(self, rows: Input, schema: pa.Schema) -> None:
        self._input = rows
        self._schema = schema
        self._batches = rows.batches()
        self._pending: list[pa.RecordBatch] = []
        self._rows = 0
        self.finished = False
        """The end was reached at least once."""

    def reaches(self, count: int) -> bool:
        """Returns whether there are more than ``count`` rows in the buffer; reads more if necessary."""
        while self._rows <= count:
            batch = next(self._batches, None)
            if batch is None:
                self.finished = True
                return False
            self._add(batch)
        return self._rows > count

    def restart(self, count: int) -> bool:
        """Restarts the input; returns False if it has no rows."""
        self._batches = self._input.batches()
        return self.reaches(count)

    def pop(self, count: int) -> pa.RecordBatch:
        """Returns and removes the next ``count`` rows."""
        rows = pa.Table.from_batches(self._pending, self._schema).combine_chunks()
        self._pending = rows.slice(count).to_batches()
        self._rows -= count
        batches = rows.slice(0, count).to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=self._schema)

    def close(self) -> None:
        if isinstance(self._batches, Generator):
            self._batches.close()

    def _add(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self._pending.append(conform_batch(batch, self._schema))
            self._rows += batch.num_rows


def _interleave_rows(parts: list[pa.RecordBatch], order: list[int]) -> pa.RecordBatch | None:
    """Returns the rows of the parts so that the n-th row is from part ``order[n]``."""
    if not order:
        return None
    sources = np.asarray(order)
    starts = np.cumsum([0, *(part.num_rows for part in parts)])[:-1]
    positions = np.empty(len(sources), np.int64)
    for source, start in enumerate(starts):
        mine = np.flatnonzero(sources == source)
        positions[mine] = start + np.arange(len(mine))
    joined = pa.concat_batches([part for part in parts if part.num_rows])  # type: ignore[attr-defined]  # the stubs are older
    return take_rows(joined, positions)


def check_probabilities(probabilities: Any) -> tuple[float, ...]:
    """Returns probabilities as numbers.

    Raises:
        InvalidArgumentError: a value is not a number.
    """
    items: list[Any] = list(probabilities) if is_list(probabilities) else [None]
    if not all(isinstance(item, int | float) and not isinstance(item, bool) for item in items):
        raise InvalidArgumentError(
            f"probabilities must be a list of numbers, one for each dataset, got {probabilities!r:.80}"
        )
    return tuple(map(float, items))
