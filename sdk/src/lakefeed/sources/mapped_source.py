"""A source of rows that ``mapped()`` keeps in a local Arrow file, read by memory mapping."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import pyarrow as pa

from lakefeed.errors import MissingFileError
from lakefeed.plan import RESIDENT, Fragment, Lineage, PartsSource, Pushdown, cut_fragments

ALIGNMENT = mmap.ALLOCATIONGRANULARITY
"""The offsets at which a mapping may begin; every part of the file begins at a multiple."""


def align(size: int) -> int:
    """Returns the size rounded up to the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, eq=False)
class MappedSource(PartsSource):
    """The rows of a file of Arrow streams, one for each fragment.

    Each read maps its part of the file privately. Changes to those rows are visible only to their reader.
    """

    path: Path
    schema: pa.Schema
    identity: str
    origin: Lineage
    parts: tuple[tuple[int, int], ...]
    """The rows and bytes of each fragment."""
    immutable: bool = True
    """True if the plan of the rows identifies them."""

    @property
    def lineage(self) -> Lineage:
        return self.origin

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        fragments = (Fragment(index, rows, RESIDENT, private=True) for index, (rows, _) in enumerate(self.parts))
        return cut_fragments(fragments, pushdown.rows)

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        rows = self._map(fragment.key)
        if pushdown.columns is not None:
            wanted = frozenset(pushdown.columns)
            rows = rows.select([name for name in self.schema.names if name in wanted])
        yield rows.slice(fragment.start, fragment.length)

    def describe(self, pushdown: Pushdown) -> str:
        return f"{self.identity} ({self.count()} rows)"

    def _map(self, index: int) -> pa.RecordBatch:
        _, size = self.parts[index]
        try:
            with self.path.open("rb") as file:
                part = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY, offset=self._offsets[index])
        except FileNotFoundError as error:
            raise MissingFileError(
                f"the mapped rows at {str(self.path)!r} were deleted; call mapped() again"
            ) from error
        return pa.ipc.open_stream(pa.py_buffer(part)).read_next_batch()

    @cached_property
    def _offsets(self) -> list[int]:
        return list(accumulate((align(size) for _, size in self.parts), initial=0))
