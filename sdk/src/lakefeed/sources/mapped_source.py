"""Rows kept in a local Arrow file by ``mapped()``: read by mapping it, without decoding or copying."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import pyarrow as pa

from lakefeed.errors import MissingFileError
from lakefeed.plan import RESIDENT, Fragment, InParts, Lineage, Pushdown, cut

ALIGNMENT = mmap.ALLOCATIONGRANULARITY
"""Where a mapping may begin, so every part of the file begins at such a place."""


def align(size: int) -> int:
    """The size with what is left free up to the next part."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, eq=False)
class MappedSource(InParts):
    """The rows of a file of Arrow streams, one a fragment.

    Each read maps its part of the file privately: what is written to those rows stays with whoever read them, and
    neither the file nor another reader sees it.
    """

    path: Path
    schema: pa.Schema
    identity: str
    origin: Lineage
    parts: tuple[tuple[int, int], ...]
    """Rows and bytes of each fragment."""
    immutable: bool = True
    """Whether their plan tells them apart from other rows."""

    @property
    def lineage(self) -> Lineage:
        return self.origin

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        found = (Fragment(index, rows, RESIDENT, private=True) for index, (rows, _) in enumerate(self.parts))
        return cut(found, pushdown.rows)

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        rows = self._mapped(fragment.key)
        if pushdown.columns is not None:
            wanted = frozenset(pushdown.columns)
            rows = rows.select([name for name in self.schema.names if name in wanted])
        yield rows.slice(fragment.start, fragment.length)

    def describe(self, pushdown: Pushdown) -> str:
        return f"{self.identity} ({self.count()} rows)"

    def _mapped(self, index: int) -> pa.RecordBatch:
        _, size = self.parts[index]
        try:
            with self.path.open("rb") as file:
                part = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY, offset=self._offsets[index])
        except FileNotFoundError as error:
            raise MissingFileError(f"the rows at {str(self.path)!r} are gone; call mapped() again") from error
        return pa.ipc.open_stream(pa.py_buffer(part)).read_next_batch()

    @cached_property
    def _offsets(self) -> list[int]:
        return list(accumulate((align(size) for _, size in self.parts), initial=0))
