"""Datasets of the rows that a range of versions added or removed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pyarrow as pa

from lakefeed import ops, plan
from lakefeed.dataset.core import build
from lakefeed.dataset.dataset import Dataset
from lakefeed.errors import UnsavedDatasetError


class AddedRows(Dataset):
    """The rows that a range of versions added. Iterating it yields Arrow batches.

    ``from_version`` is exclusive, and None for the beginning. ``version`` is inclusive.
    """

    _complete = False

    @property
    def from_version(self) -> int | None:
        """The version after which the range begins."""
        (origin,) = plan.lineage(self._plan).origins
        return origin.from_version or None

    @property
    def _changed(self) -> str:
        raise UnsavedDatasetError(
            f"these are some rows of {self._name!r}, read between two versions; to change or delete the dataset, "
            f"use Dataset({self._name!r})"
        )

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yields the rows as ``pyarrow.RecordBatch``, streamed."""
        return self.batches(format="arrow")

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({self._name!r}, from_version={self.from_version}, version={self._version})"


class RemovedRows(AddedRows):
    """The rows that a range of versions removed. Iterating it yields Arrow batches."""


def rows_changed_after(version: Dataset, kind: Literal["added", "removed"], after: int) -> AddedRows:
    """Returns the rows that the versions after ``after`` up to ``version`` added or removed, oldest commit first.

    Unlike with `added_since`, the version ``after`` may have expired.
    """
    rows = AddedRows if kind == "added" else RemovedRows
    return build(rows, version._lake, ops.Scan(version._reference.after(kind, after)), version.name, version.version)
