"""Sample: some rows by chance, without replacement."""

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
    """``n`` rows (all, if there are fewer), each set equally likely, in the order in which they stand.

    Every place has a random word, and the ``n`` smallest win: one pass, and no more than a few times ``n`` rows held.
    """

    child: Node
    n: int
    seed: int

    keeps_order = True

    keeps_columns: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, n: int, seed: int | None) -> Sample:
        """Returns the node of ``sample``; without a seed one is drawn."""
        return cls(child, check_whole(n, "sample"), choose_seed(seed))

    def output_schema(self) -> pa.Schema:
        return self.child.schema

    def fields_read(self) -> tuple[()]:
        return ()

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        # Without any column there would be no rows to hold.
        return self, wanted or frozenset(self.schema.names[:1])

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        held: list[pa.RecordBatch] = []
        keys = np.empty(0, np.uint64)
        place = 0
        limit = np.uint64(np.iinfo(np.uint64).max)
        for batch in inputs[0].batches():
            fresh = row_words(place, batch.num_rows, self.seed, _SAMPLE)
            place += batch.num_rows
            promising = np.flatnonzero(fresh <= limit)
            held.append(batch.take(promising))
            keys = np.concatenate([keys, fresh[promising]])
            if len(keys) > 2 * self.n + batch.num_rows:
                held, keys = self._best(held, keys)
                limit = keys.max() if self.n else np.uint64(0)
        if held:
            yield from self._best(held, keys)[0]

    def _best(
        self, held: list[pa.RecordBatch], keys: np.ndarray[tuple[int], np.dtype[np.uint64]]
    ) -> tuple[list[pa.RecordBatch], np.ndarray[tuple[int], np.dtype[np.uint64]]]:
        best = np.sort(np.argsort(keys, kind="stable")[: self.n])
        rows = pa.Table.from_batches(held, self.schema).combine_chunks()
        return rows.take(best).to_batches(), keys[best]

    def describe(self) -> str:
        return f"Sample {self.n} seed={self.seed}"
