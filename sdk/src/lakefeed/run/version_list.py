"""`VersionList`: the versions of a dataset, which print as a table in a shell and in a notebook."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import SupportsIndex, overload

from lakefeed.catalog.versions import DatasetVersion
from lakefeed.run.text_table import html_table, short_line, text_table

HEADINGS = ("version", "committed (UTC)", "operation", "added", "removed", "total", "user", "message")
LEFT = frozenset({"operation", "committed (UTC)", "user", "message"})
PRINTED_VERSIONS = 50


class VersionList(list[DatasetVersion]):
    """A list of versions, newest first. It prints the newest of them as a table, one line for each."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> DatasetVersion: ...

    @overload
    def __getitem__(self, index: slice) -> VersionList: ...

    def __getitem__(self, index: SupportsIndex | slice) -> DatasetVersion | VersionList:
        return VersionList(super().__getitem__(index)) if isinstance(index, slice) else super().__getitem__(index)

    def __repr__(self) -> str:
        table = text_table(HEADINGS, [_cells(version) for version in self[:PRINTED_VERSIONS]], LEFT)
        return "\n".join([table, *self._rest()])

    def _repr_html_(self) -> str:
        """Returns the table for notebooks."""
        table = html_table(HEADINGS, [_cells(version) for version in self[:PRINTED_VERSIONS]])
        return table + "".join(f"<p>{line}</p>" for line in self._rest())

    def _rest(self) -> list[str]:
        left = len(self) - PRINTED_VERSIONS
        return [f"… {left} older versions"] if left > 0 else []


def _cells(version: DatasetVersion) -> Sequence[str]:
    committed = dt.datetime.fromtimestamp(version.timestamp_ms / 1000, dt.UTC)
    counts = (version.added_records, version.deleted_records, version.total_records)
    return (
        str(version.version),
        committed.strftime("%Y-%m-%d %H:%M:%S"),
        version.operation,
        *(f"{number:,}" for number in counts),
        short_line(version.user),
        short_line(version.message),
    )
