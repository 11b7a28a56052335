"""Sample: random rows without replacement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from lakefeed._rng import choose_seed, row_words
from lakefeed._validate import check_whole
from lakefeed.plan import Input, Node

_SAMPLE = 13


@dataclass(frozen=True, eq=False, repr=False)
class Sample(Node):
    """``n`` rows (all, if there are fewer), with equal probability for each set, in their order.

    Every position has a random key, and the ``n`` smallest keys win: one pass, with at most a few times ``n`` rows in
    memory.
    """

    child: Node
    n: int
    seed: int

    keeps_order = True

    keeps_columns: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, n: int, seed: int | None) -> Sample:
        """Returns the node of ``sample``; without a seed a random one is chosen.

        Raises:
            InvalidArgumentError: an argument is invalid.
        """
        return cls(child, check_whole(n, "sample"), choose_seed(seed))

    def output_schema(self) -> pa.Schema:
        return self.child.schema

    def fields_read(self) -> tuple[()]:
        return ()

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        # A batch without columns would lose its number of rows.
        return self, wanted or frozenset(self.schema.names[:1])

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        rows_so_far: list[pa.RecordBatch] = []
        keys = np.empty(0, np.uint64)
        position = 0
        limit = np.uint64(np.iinfo(np.uint64).max)
        for batch in inputs[0].batches():
            new_keys = row_words(position, batch.num_rows, self.seed, _SAMPLE)
            position += batch.num_rows
            candidates = np.flatnonzero(new_keys <= limit)
            rows_so_far.append(batch.take(candidates))
            keys = np.concatenate([keys, new_keys[candidates]])
            if len(keys) > 2 * self.n + batch.num_rows:
                rows_so_far, keys = self._best(rows_so_far, keys)
                limit = keys.max() if self.n else np.uint64(0)
        if rows_so_far:
            yield from self._best(rows_so_far, keys)[0]

    def _best(
        self, rows_so_far: list[pa.RecordBatch], keys: np.ndarray[tuple[int], np.dtype[np.uint64]]
    ) -> tuple[list[pa.RecordBatch], np.ndarray[tuple[int], np.dtype[np.uint64]]]:
        best = np.sort(np.argsort(keys, kind="stable")[: self.n])
        rows = pa.Table.from_batches(rows_so_far, self.schema).combine_chunks()
        return rows.take(best).to_batches(), keys[best]

    def describe(self) -> str:
        return f"Sample {self.n} seed={self.seed}"
