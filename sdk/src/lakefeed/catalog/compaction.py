"""The choice of the files of a keyed table that a commit merges, and the merges of a commit.

A write adds a file that is sorted by key, a run. Readers open every run whose keys overlap, so runs of similar size are
merged when there are many of them. A row is written again once each time that the table grows by a factor.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.types import NestedField, PrimitiveType

from lakefeed._units import KIB, MIB
from lakefeed.catalog.file_refs import NONE, DataFileRef, Positions
from lakefeed.catalog.position_lists import subtract_positions
from lakefeed.catalog.table_key import key_columns
from lakefeed.catalog.table_rows import REWRITTEN_SUFFIX
from lakefeed.catalog.version_files import NUMBERED_NAME

MERGED_RUNS: Final = 8
"""So many runs of a tier are merged."""
OVERLAPPING_RUNS: Final = 16
"""So many runs of at most `LARGEST_RUN` whose keys overlap are merged until `MERGED_RUNS` remain."""
TIER_FACTOR: Final = 4
SMALLEST_TIER: Final = 64 * KIB
LARGEST_RUN: Final = 64 * MIB
"""Larger files are merged only by `Table.compact`."""
MERGED_BYTES: Final = 256 * MIB
"""A write merges at most so many bytes."""


class Merger(Protocol):
    """Reads the rows of files of a keyed table in the order of the key."""

    def rows(
        self, files: Sequence[DataFileRef], removed: Mapping[str, Positions], distinct: bool
    ) -> Iterable[pa.RecordBatch]:
        """Yields the rows of files without those at removed positions; of equal keys, with ``distinct``, the last."""

    def has_equal_keys(self) -> bool:
        """Returns whether the rows that were read last had equal keys."""

    def locate(
        self, rows: Sequence[tuple[DataFileRef, Positions]], outputs: Sequence[DataFileRef]
    ) -> dict[str, Positions] | None:
        """Returns the positions in the outputs of the rows at positions of the inputs; None if some are not there."""


@dataclass(frozen=True)
class Merge:
    """A merge that was written.

    Attributes:
        removed: the positions of the rows that it leaves out, by the path of each input.
        files: the merged files.
        sequence: the version that wrote the newest of the rows.
        unique: no two rows have the same key.
        columns: the columns of the files.
        distinct: of rows of equal keys only the last was written.
    """

    removed: Mapping[str, Positions]
    files: tuple[DataFile, ...]
    sequence: int
    unique: bool
    columns: Hashable
    distinct: bool

    def applies_to(self, files: Mapping[str, DataFileRef], removed: Mapping[str, Positions], columns: Hashable) -> bool:
        """Returns whether the inputs are live, and have lost at least the rows that the merge leaves out."""
        return self.columns == columns and all(
            path in files and not len(subtract_positions(positions, removed.get(path, NONE)))
            for path, positions in self.removed.items()
        )

    def later_removed(self, removed: Mapping[str, Positions]) -> dict[str, Positions]:
        """Returns the removed positions that the merge has not left out."""
        later = {path: subtract_positions(removed[path], before) for path, before in self.removed.items()}
        return {path: positions for path, positions in later.items() if len(positions)}

    def outputs(self) -> list[DataFileRef]:
        """Returns the merged files."""
        return [
            DataFileRef(file.file_path, file.record_count, file.file_size_in_bytes, self.sequence)
            for file in self.files
        ]


def merge_key(columns: Hashable, removed: Mapping[str, Positions], distinct: bool) -> Hashable:
    """Returns what identifies a merge."""
    digest = hashlib.sha256()
    for path in sorted(removed):
        digest.update(f"{path}\n{len(removed[path])}\n".encode() + removed[path].tobytes())
    return "merge", columns, digest.digest(), distinct


def runs_to_merge(table: Table, files: Sequence[DataFileRef]) -> list[DataFileRef]:
    """Returns the files to merge when a write adds a file; none if they are few."""
    paths = {file.path for file in files}
    if len(files) < MERGED_RUNS or len(paths) < len(files):  # a table may name a file twice
        return []
    small = sorted((file for file in files if file.size <= LARGEST_RUN), key=lambda file: (file.size, file.path))
    chosen = _full_tiers(small)
    # Larger files do not count: however many of them overlap, to merge the others again and again helps no reader.
    if len(small) - len(chosen) >= OVERLAPPING_RUNS and _depth(table, small) >= OVERLAPPING_RUNS:
        surplus = len(small) - MERGED_RUNS + 1
        chosen = max(chosen, small[:surplus], key=len)
    return _within_bytes(chosen)


def _full_tiers(small: Sequence[DataFileRef]) -> list[DataFileRef]:
    """Returns the files of the tiers that are full, and all smaller ones."""
    chosen = smaller = 0
    for tier, members in groupby(small, lambda file: _tier(file.size)):
        count = len(list(members))
        merged = sum(file.size for file in small[:chosen])
        if count + bool(chosen and _tier(merged) == tier) >= MERGED_RUNS:
            chosen = smaller + count
        smaller += count
    return list(small[:chosen])


def _within_bytes(chosen: Sequence[DataFileRef]) -> list[DataFileRef]:
    sizes = np.cumsum([file.size for file in chosen])
    within = list(chosen[: int(np.searchsorted(sizes, MERGED_BYTES, side="right"))])
    return within if len(within) > 1 else []


def _tier(size: int) -> int:
    tier = 0
    while size >= SMALLEST_TIER:
        size //= TIER_FACTOR
        tier += 1
    return tier


def _depth(table: Table, files: Sequence[DataFileRef]) -> int:
    """Returns the largest number of files that may hold the same value of the first key column."""
    field = table.schema().find_field(key_columns(table)[0])
    edges = []
    for file in files:
        bounds = _bounds(field, file)
        if bounds is None:  # it may hold any value
            return len(files)
        edges += [(bounds[0], 0), (bounds[1], 1)]
    depth = deepest = 0
    for _, ends in sorted(edges):
        depth += -1 if ends else 1
        deepest = max(deepest, depth)
    return deepest


def _bounds(field: NestedField, file: DataFileRef) -> tuple[object, object] | None:
    low, high = file.lower_bounds.get(field.field_id), file.upper_bounds.get(field.field_id)
    if low is None or high is None or not isinstance(field.field_type, PrimitiveType):
        return None
    try:
        return from_bytes(field.field_type, low), from_bytes(field.field_type, high)
    except struct.error:  # the bounds have the type that the column had before it became wider
        return None


def is_compact(table: Table, files: Sequence[DataFileRef]) -> bool:
    """Returns whether files are those of one sorted write, without deleted rows and column files."""
    whole = not any(file.has_deletes or file.columns or REWRITTEN_SUFFIX.search(_stem(file)) for file in files)
    return whole and is_in_key_order(table, files)


def is_in_key_order(table: Table, files: Sequence[DataFileRef]) -> bool:
    """Returns whether the rows of files, in row order, are in the order of the key: those of one sorted write."""
    order = table.metadata.default_sort_order_id
    prefixes = {_stem(file).partition("-")[0] for file in files}
    numbered = all(NUMBERED_NAME.fullmatch(f"{_stem(file)}.parquet") for file in files)
    return numbered and len(prefixes) < 2 and all(file.sort_order_id == order for file in files)


def _stem(file: DataFileRef) -> str:
    return file.path.rpartition("/")[2].removesuffix(".parquet")
