"""Merges files of a keyed table: reads their rows in the order of the key, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed._arrow import compute as pc
from lakefeed.catalog.edit_commit import Draft
from lakefeed.catalog.file_refs import DataFileRef, Delta, Positions, RowSelection
from lakefeed.catalog.table_key import key_columns
from lakefeed.config import Settings
from lakefeed.errors import DuplicateKeyError
from lakefeed.ops import Scan, Sort
from lakefeed.plan import Fragment, Pushdown
from lakefeed.plan.take_rows import filter_by_mask, take_rows
from lakefeed.run.input_keys import comparable
from lakefeed.run.local_runner import LocalRunner
from lakefeed.run.rebatch import joined
from lakefeed.run.upsert import Upsert, rows_at
from lakefeed.sources.iceberg_source import IcebergSource
from lakefeed.sources.memory_source import MemorySource

CHUNK_ROWS: Final = 16_384
KEY_MEMORY_SHARE: Final = 2
"""Keys of up to this part of the memory budget are sorted in memory."""
BYTES_A_ROW: Final = 32
"""Memory for the order of the rows, beside their keys."""


def merge_files(draft: Draft, source: IcebergSource | None, compact: bool = False) -> None:
    """Lets the commit of a draft merge files of a keyed table.

    Args:
        draft: the draft.
        source: the newest version; None if there is none.
        compact: merges all files; else those that are due, unless the settings say that writes merge nothing.
    """
    keys = key_columns(draft.table)
    if keys and source is not None and (compact or draft.lake.settings.write.compaction == "auto"):
        draft.merger, draft.compact = KeyMerger(draft.lake.settings, source, keys), compact


@dataclass
class KeyMerger:
    """Reads rows of files in the order of the key.

    Attributes:
        settings: the settings of the lake.
        source: the newest version.
        keys: the key columns.
    """

    settings: Settings
    source: IcebergSource
    keys: tuple[str, ...]
    _equal_keys: bool = field(default=False, init=False)

    def rows(
        self, files: Sequence[DataFileRef], removed: Mapping[str, Positions], distinct: bool
    ) -> Iterator[pa.RecordBatch]:
        """Yields the rows of files without those at removed positions; of equal keys, with ``distinct``, the last."""
        self._equal_keys = False
        live = self._live_rows(files, removed)
        order = self._order(live)
        if order is None:
            plan = Sort.of(Scan(live), self.keys, False, self.settings)
            with closing(LocalRunner(self.settings).batches(plan)) as batches:
                yield from self._checked(batches, distinct)
        else:
            yield from self._checked(_in_order(live, *order), distinct)

    def has_equal_keys(self) -> bool:
        """Returns whether the rows that were read last had equal keys."""
        return self._equal_keys

    def locate(
        self, rows: Sequence[tuple[DataFileRef, Positions]], outputs: Sequence[DataFileRef]
    ) -> dict[str, Positions] | None:
        """Returns the positions in the outputs of the rows at positions of the inputs; None if some are not there."""
        given = joined([rows_at(self.source, file, positions, self.keys) for file, positions in rows])
        plan = Scan(MemorySource(pa.Table.from_batches([given])))
        index = Upsert.of(self.settings, plan, self.keys, self.source.schema)
        try:
            places = {file.path: np.sort(index.look_into(self.source, file).places) for file in outputs}
        except DuplicateKeyError:
            return None
        present = {path: each for path, each in places.items() if len(each)}
        return present if sum(map(len, present.values())) == given.num_rows else None

    def _live_rows(self, files: Sequence[DataFileRef], removed: Mapping[str, Positions]) -> IcebergSource:
        """Returns the source of the rows of files without those at removed positions."""
        source = self.source
        live = IcebergSource.of(source.lake, source.name, source.table, source.version, None, source.schema_id)
        live.__dict__["deltas"] = (Delta(tuple(files)),)
        live.__dict__["_has_removed_rows"] = any(map(len, removed.values()))
        live.__dict__["row_selections"] = {
            index: RowSelection(file.rows, removed[file.path], inverted=True)
            for index, file in enumerate(files)
            if len(removed[file.path])
        }
        return live

    def _order(self, live: IcebergSource) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """Returns the order of the rows and where the rows of each file begin.

        Returns None if the keys do not fit into memory, or a file is not sorted.
        """
        limit = self.settings.sql.memory_bytes // KEY_MEMORY_SHARE
        parts: list[list[Any]] = []
        counts = np.zeros(len(live.files), np.int64)
        size = 0
        for fragment in live.fragments(Pushdown()):
            for batch in live.read(fragment, Pushdown(self.keys)):
                parts.append([comparable(batch.column(name)) for name in self.keys])
                counts[fragment.key[2]] += batch.num_rows
                size += batch.nbytes + batch.num_rows * BYTES_A_ROW
                if size > limit:
                    return None
        if not parts:
            return np.empty(0, np.int64), counts
        columns = [pa.chunked_array(list(column)) for column in zip(*parts, strict=True)]
        names = [f"k{place}" for place in range(len(columns))]
        keys = pa.Table.from_arrays(columns, names=names)
        order: Any = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in names])
        positions = order.to_numpy().astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(counts)])
        return (positions, starts) if _are_sorted(positions, starts) else None

    def _checked(self, batches: Iterable[pa.RecordBatch], distinct: bool) -> Iterator[pa.RecordBatch]:
        """Yields rows that are in the order of the key; of equal keys, with ``distinct``, the last."""
        last: pa.RecordBatch | None = None
        for batch in batches:
            if not batch.num_rows:
                continue
            rows = batch if last is None else joined([last, batch])
            equal = self._equals_next(rows)
            if equal.any():
                self._equal_keys = True
            if equal.any() and distinct:
                yield filter_by_mask(rows.slice(0, rows.num_rows - 1), pa.array(~equal))
            else:
                yield rows.slice(0, rows.num_rows - 1)
            last = rows.slice(rows.num_rows - 1)
        if last is not None:
            yield last

    def _equals_next(self, rows: pa.RecordBatch) -> NDArray[np.bool_]:
        """Returns for each row but the last whether the next one has the same key."""
        equal = np.ones(rows.num_rows - 1, np.bool_)
        for name in self.keys:
            column = comparable(rows.column(name))
            same: Any = pc.equal(column.slice(1), column.slice(0, len(column) - 1))
            equal &= same.to_numpy(zero_copy_only=False)
        return equal


def _are_sorted(order: NDArray[np.int64], starts: NDArray[np.int64]) -> bool:
    """Returns whether the rows of each file are in the order."""
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    ascending = ranks[1:] > ranks[:-1]
    first_rows = starts[(starts > 0) & (starts < len(order))]
    ascending[first_rows - 1] = True
    return bool(ascending.all())


# ------------------------------------------------------------------------------------------ merging


def _in_order(live: IcebergSource, order: NDArray[np.int64], starts: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    """Yields the rows of sorted files in an order that keeps the order of each file."""
    groups = groupby(live.fragments(Pushdown()), lambda fragment: fragment.key[2])
    streams = {index: _RowStream(live, list(fragments)) for index, fragments in groups}
    for start in range(0, len(order), CHUNK_ROWS):
        chunk = order[start : start + CHUNK_ROWS]
        files = np.searchsorted(starts, chunk, side="right") - 1
        by_file = np.argsort(files, kind="stable")
        parts: list[pa.RecordBatch] = []
        for index in np.unique(files).tolist():
            parts += streams[index].take(chunk[files == index] - starts[index])
        back = np.empty_like(by_file)
        back[by_file] = np.arange(len(chunk))
        rows = joined(parts)
        yield rows if (np.diff(files) >= 0).all() else take_rows(rows, back)


class _RowStream:
    """The rows of one file, of which some are taken at ascending positions. Holds one batch."""

    def __init__(self, live: IcebergSource, fragments: Sequence[Fragment]) -> None:
        self._batches = (batch for fragment in fragments for batch in live.read(fragment, Pushdown()))
        self._batch: pa.RecordBatch | None = None
        self._start = 0

    def take(self, positions: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        """Yields the rows at these positions, which follow those of the calls before."""
        first = 0
        while first < len(positions):
            batch = self._batch_at(int(positions[first]))
            after = int(np.searchsorted(positions, self._start + batch.num_rows))
            inside = positions[first:after] - self._start
            whole = int(inside[-1] - inside[0]) + 1 == len(inside)
            yield batch.slice(int(inside[0]), len(inside)) if whole else take_rows(batch, inside)
            first = after

    def _batch_at(self, position: int) -> pa.RecordBatch:
        while self._batch is None or position >= self._start + self._batch.num_rows:
            self._start += 0 if self._batch is None else self._batch.num_rows
            self._batch = next(self._batches)
        return self._batch
