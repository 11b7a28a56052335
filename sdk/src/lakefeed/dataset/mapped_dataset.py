"""`MappedDataset`: rows in a memory-mapped file, read by index."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, overload

from lakefeed._typing import Row
from lakefeed.dataset.dataset import Dataset
from lakefeed.run import python_rows, row_index

if TYPE_CHECKING:
    from lakefeed.run.row_index import RowIndex


class MappedDataset(Dataset):
    """Rows by index. It is also a map-style dataset for a plain ``torch.utils.data.DataLoader``.

    Example:
        >>> len(Dataset.from_dict({"x": [1, 2, 3]}).mapped()[1:])
        2
    """

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int]) -> list[Row]: ...
    def __getitem__(self, index: int | slice | Sequence[int]) -> Row | list[Row]:
        """Returns one row as a dict, or a list of rows. File cells are handles.

        Args:
            index: the index of a row, a slice, or a list of indices. Negative indices count from the end.

        Raises:
            RowIndexError: a row of this index does not exist.
        """
        rows = self._row_index
        if row_index.is_position(index):
            return next(iter(python_rows.rows([rows.row(int(index))], self._lake)))  # type: ignore[arg-type]  # a number
        return list(python_rows.rows(rows.at(row_index.check_positions(index, len(rows))), self._lake))

    def __getitems__(self, indices: Sequence[int]) -> list[Row]:
        """Returns the rows of a batch. PyTorch calls this method.

        Args:
            indices: the indices of the rows.

        Raises:
            RowIndexError: a row of one of the indices does not exist.
        """
        return self[indices]

    @cached_property
    def _row_index(self) -> RowIndex:
        return row_index.RowIndex(self._runner.partitions(self._plan))
