"""`MappedDataset`: rows in a memory-mapped file, read by index."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, overload

from lakefeed._typing import Row
from lakefeed.dataset.dataset import Dataset
from lakefeed.loaders import mapped_rows
from lakefeed.run import python_rows

if TYPE_CHECKING:
    from lakefeed.loaders.mapped_rows import MappedRows


class MappedDataset(Dataset):
    """Rows by index. It is also a map-style dataset for a plain ``torch.utils.data.DataLoader``.

    PyTorch's ``default_collate`` makes the batches of `to_torch` of its rows.

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
        return self._rows_by_index.get(index)

    def __getitems__(self, indices: Sequence[int]) -> list[Row]:
        """Returns the rows of a batch. PyTorch calls this method, and collates the rows to a batch as of `to_torch`.

        Args:
            indices: the indices of the rows.

        Raises:
            RowIndexError: a row of one of the indices does not exist.
        """
        return self[indices]

    @cached_property
    def _rows_by_index(self) -> MappedRows:
        self._runner.track(self._plan)
        store = python_rows.file_store(self._lake, self.schema)
        return mapped_rows.MappedRows(self._runner.partitions(self._plan), store)
