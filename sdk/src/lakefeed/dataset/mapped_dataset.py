"""Rows in a file that is mapped into memory, by their places."""

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
    """Rows by their places, so that it is also a map-style dataset for a plain ``torch.utils.data.DataLoader``.

    Example:
        >>> len(Dataset.from_dict({"x": [1, 2, 3]}).mapped()[1:])
        2
    """

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice | Sequence[int]) -> list[Row]: ...
    def __getitem__(self, place: int | slice | Sequence[int]) -> Row | list[Row]:
        """One row as a dict, or a list of them; file cells are handles. Negative places count from the end.

        Raises:
            RowIndexError: there is no such row.
        """
        found = list(python_rows.rows([self._access.at(row_index.check_positions(place, len(self)))], self._lake))
        return found[0] if row_index.is_position(place) else found

    def __getitems__(self, places: Sequence[int]) -> list[Row]:
        """As torch asks for the rows of a batch."""
        return self[places]

    @cached_property
    def _access(self) -> RowIndex:
        return row_index.RowIndex(self._runner.pieces(self._plan))
