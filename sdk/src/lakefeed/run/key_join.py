"""The rows of equal keys where there are more keys than fit into memory: joined by DuckDB, out of core."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed.config import Settings
from lakefeed.sql import QueryTable, run_query

Positions = NDArray[np.int64]
Numbered: TypeAlias = "Iterable[tuple[int, list[pa.Array[Any]]]]"
"""Batches of key columns, each with the position of its first row."""

PAIR = pa.schema([("place", pa.int64()), ("given", pa.int64())])
TWICE = pa.schema([("first", pa.int64())])


@dataclass(frozen=True)
class KeyJoin:
    """The keys of the input: the types of the key columns, and a function that returns their values."""

    settings: Settings
    types: tuple[pa.DataType, ...]
    given: Callable[[], Numbered]

    def repeated(self) -> Positions:
        """Returns the positions of the first row of each key that several rows have."""
        columns = ", ".join(f"k{index}" for index in range(len(self.types)))
        query = f"SELECT min(place) AS first FROM given GROUP BY {columns} HAVING count(*) > 1 ORDER BY 1"
        batches = run_query(self.settings, query, {"given": self._table(self.given)}, TWICE)
        return pa.Table.from_batches(batches, TWICE)["first"].to_numpy()

    def find(self, there: Callable[[], Numbered]) -> tuple[Positions, Positions]:
        """Returns the positions of the rows of ``there`` whose keys are given, sorted, and those of the keys."""
        on = " AND ".join(f"there.k{index} = given.k{index}" for index in range(len(self.types)))
        query = f"SELECT there.place AS place, given.place AS given FROM there JOIN given ON {on} ORDER BY there.place"
        tables = {"there": self._table(there), "given": self._table(self.given)}
        pairs = pa.Table.from_batches(run_query(self.settings, query, tables, PAIR), PAIR)
        return pairs["place"].to_numpy(), pairs["given"].to_numpy()

    def _table(self, rows: Callable[[], Numbered]) -> QueryTable:
        fields = [pa.field(f"k{index}", kind) for index, kind in enumerate(self.types)]
        schema = pa.schema([*fields, pa.field("place", pa.int64())])

        def batches() -> Iterator[pa.RecordBatch]:
            for place, columns in rows():
                places = pa.array(np.arange(place, place + len(columns[0])))
                yield pa.RecordBatch.from_arrays([*columns, places], schema=schema)

        return QueryTable(schema, batches)
