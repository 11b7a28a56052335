"""References to data files and delete files of a table, and to the rows of a file that are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]
"""Sorted, distinct positions of rows in a file."""
NONE: Final[Positions] = np.empty(0, np.int64)
PARQUET: Final = "PARQUET"
"""Iceberg's name of the file format."""
DIGEST_LENGTH: Final = 16
"""The names of column files begin with so many characters of a digest."""


@dataclass(frozen=True)
class DeleteFileRef:
    """A position-delete file.

    Attributes:
        path: the location, as in metadata.
        rows: the number of positions.
        sequence: the version that deleted the rows.
        first: the first path that it may name, in UTF-8.
        last: the last one; None if there is no bound.
        file_format: Iceberg's name of the file format.
        manifest: the path of the manifest that names it.
    """

    path: str
    rows: int
    sequence: int
    first: bytes = b""
    last: bytes | None = None
    file_format: str = PARQUET
    manifest: str = field(default="", repr=False, compare=False)

    def may_name(self, path: bytes) -> bool:
        """Returns whether the file may name a data file, by its path in UTF-8."""
        return self.first <= path and (self.last is None or path <= self.last)


@dataclass(frozen=True)
class ColumnFileRef:
    """A column file.

    Attributes:
        path: the location, as in metadata.
        rows: the number of rows, which is that of the data file.
        size: the size in bytes.
        sequence: the version that wrote it.
        fields: the ids of the columns whose values it has. A newer column file may have some of its columns, too;
            these are left out.
        manifest: the path of the manifest that names it.
        value_counts: the number of values, by field id.
        null_value_counts: the number of nulls, by field id.
        nan_value_counts: the number of NaNs, by field id.
        lower_bounds: the lower bounds, by field id, in Iceberg's serialization.
        upper_bounds: the upper bounds.
    """

    path: str
    rows: int
    size: int
    sequence: int
    fields: frozenset[int]
    manifest: str = field(default="", repr=False, compare=False)
    value_counts: Mapping[int, int] = field(default_factory=dict, repr=False, compare=False)
    null_value_counts: Mapping[int, int] = field(default_factory=dict, repr=False, compare=False)
    nan_value_counts: Mapping[int, int] = field(default_factory=dict, repr=False, compare=False)
    lower_bounds: Mapping[int, bytes] = field(default_factory=dict, repr=False, compare=False)
    upper_bounds: Mapping[int, bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def digest(self) -> str:
        """The digest of the path of its data file."""
        return self.path.rpartition("/")[2][:DIGEST_LENGTH]


@dataclass(frozen=True)
class DataFileRef:
    """A data file.

    Attributes:
        path: the location, as in metadata.
        rows: the number of rows.
        size: the size in bytes.
        sequence: the version that wrote its rows. A rewritten file keeps the number of the original file.
        deletes: the delete files that may list some of its rows, which are not read.
        among: if not None, only rows that these delete files list are read.
        columns: the column files, newest first. Their values replace those of the file.
        unaligned: another program wrote its rows anew, without the columns that are in column files.
        manifest: the path of the manifest that names it.
        spec_id: the partition spec.
        partition: the partition values.
        value_counts: the number of values, by field id.
        null_value_counts: the number of nulls, by field id.
        nan_value_counts: the number of NaNs, by field id.
        lower_bounds: the lower bounds, by field id, in Iceberg's serialization.
        upper_bounds: the upper bounds.
        sort_order_id: the sort order of the rows; None if it is unknown.
    """

    path: str
    rows: int
    size: int
    sequence: int
    deletes: tuple[DeleteFileRef, ...] = ()
    among: tuple[DeleteFileRef, ...] | None = None
    columns: tuple[ColumnFileRef, ...] = ()
    unaligned: bool = False
    manifest: str = field(default="", repr=False, compare=False)
    spec_id: int = field(default=0, repr=False, compare=False)
    partition: tuple[Any, ...] = field(default=(), repr=False, compare=False)
    value_counts: Mapping[int, int] = field(default_factory=dict, repr=False, compare=False)
    null_value_counts: Mapping[int, int] = field(default_factory=dict, repr=False, compare=False)
    nan_value_counts: Mapping[int, int] = field(default_factory=dict, repr=False, compare=False)
    lower_bounds: Mapping[int, bytes] = field(default_factory=dict, repr=False, compare=False)
    upper_bounds: Mapping[int, bytes] = field(default_factory=dict, repr=False, compare=False)
    sort_order_id: int | None = field(default=None, repr=False, compare=False)

    @property
    def has_deletes(self) -> bool:
        """True if delete files may list some of its rows."""
        return bool(self.deletes) or self.among is not None

    @property
    def record_count(self) -> int:
        """The number of rows, under the name that PyIceberg's evaluators use."""
        return self.rows


@dataclass(frozen=True)
class Delta:
    """A multiset of rows: those of ``files`` minus those of ``less``.

    Attributes:
        files: the files with the rows.
        less: the files whose rows are subtracted.
        moved: the files whose rows do not count in ``less``.
    """

    files: tuple[DataFileRef, ...]
    less: tuple[DataFileRef, ...] = ()
    moved: tuple[DataFileRef, ...] = ()


@dataclass(frozen=True)
class RowSelection:
    """The rows of a file that are read.

    Attributes:
        rows: the number of rows of the file.
        positions: the positions of the rows; if ``inverted``, those of all other rows.
    """

    rows: int
    positions: Positions
    inverted: bool = False

    def __len__(self) -> int:
        return self.rows - len(self.positions) if self.inverted else len(self.positions)

    def count(self, begin: int, end: int) -> int:
        """Returns the number of selected rows in ``[begin, end)``."""
        low, high = np.searchsorted(self.positions, [begin, end])
        return int(end - begin - (high - low) if self.inverted else high - low)

    def within(self, begin: int, end: int) -> Positions:
        """Returns the positions of the selected rows in ``[begin, end)``, relative to ``begin``.

        Example:
            >>> RowSelection(6, np.array([1, 4]), inverted=True).within(1, 6).tolist()
            [1, 2, 4]
        """
        if self.inverted:
            return np.flatnonzero(self.mask(begin, end))
        low, high = np.searchsorted(self.positions, [begin, end])
        return self.positions[low:high] - begin

    def mask(self, begin: int, end: int) -> NDArray[np.bool_]:
        """Returns for each row of ``[begin, end)`` whether it is selected."""
        low, high = np.searchsorted(self.positions, [begin, end])
        selected = np.full(end - begin, self.inverted)
        selected[self.positions[low:high] - begin] = not self.inverted
        return selected
