"""The rows that a range of versions added or removed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pyarrow as pa

from lakefeed import ops, plan
from lakefeed.dataset.core import build
from lakefeed.dataset.dataset import Dataset
from lakefeed.errors import UnsavedDatasetError


class AddedRows(Dataset):
    """The rows that a range of versions added: a Dataset whose iteration gives Arrow batches.

    ``from_version`` (exclusive, None: the beginning) and ``version`` (inclusive) are the range.
    """

    _complete = False

    @property
    def from_version(self) -> int | None:
        """The version that the rows came after."""
        (origin,) = plan.lineage(self._plan).origins
        return origin.from_version or None

    @property
    def _changed(self) -> str:
        raise UnsavedDatasetError(
            f"these are some rows of {self._name!r}, read between two versions; to change or delete the dataset, "
            f"use Dataset({self._name!r})"
        )

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """``pyarrow.RecordBatch``, streamed."""
        return self.batches(format="arrow")

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({self._name!r}, from_version={self.from_version}, version={self._version})"


class RemovedRows(AddedRows):
    """The rows that a range of versions removed: a Dataset whose iteration gives Arrow batches."""


def rows_changed_after(version: Dataset, what: Literal["added", "removed"], known: int) -> AddedRows:
    """The rows that the versions after the number ``known`` up to a version added or removed, oldest commit first.

    The version ``known`` may have expired, which `added_since` does not take.
    """
    kind = AddedRows if what == "added" else RemovedRows
    return build(kind, version._lake, ops.Scan(version._reference.after(what, known)), version.name, version.version)
