"""`VersionList`: the versions of a dataset, which print as a table in a shell and in a notebook."""

from __future__ import annotations

import datetime as dt
import html
from collections.abc import Sequence
from typing import SupportsIndex, overload

from lakefeed.catalog.versions import DatasetVersion

HEADINGS = ("version", "committed (UTC)", "operation", "added", "removed", "total", "user", "message")
LEFT = frozenset({"operation", "committed (UTC)", "user", "message"})
PRINTED_VERSIONS = 50
TEXT_CHARACTERS = 60


class VersionList(list[DatasetVersion]):
    """A list of versions, newest first. It prints the newest of them as a table, one line for each."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> DatasetVersion: ...

    @overload
    def __getitem__(self, index: slice) -> VersionList: ...

    def __getitem__(self, index: SupportsIndex | slice) -> DatasetVersion | VersionList:
        return VersionList(super().__getitem__(index)) if isinstance(index, slice) else super().__getitem__(index)

    def __repr__(self) -> str:
        rows = [HEADINGS, *map(_cells, self[:PRINTED_VERSIONS])]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(_pad, row, widths, HEADINGS)).rstrip() for row in rows]
        return "\n".join([*lines, *self._rest()])

    def _repr_html_(self) -> str:
        """Returns the table for notebooks."""
        head = "".join(f"<th>{html.escape(heading)}</th>" for heading in HEADINGS)
        rows = [
            "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(version)) for version in self[:PRINTED_VERSIONS]
        ]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        rest = "".join(f"<p>{html.escape(line)}</p>" for line in self._rest())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"

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
        _line(version.user),
        _line(version.message),
    )


def _line(text: str | None) -> str:
    """Returns a text in one line of bounded length, without characters that move the cursor."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text or "").split())
    return line if len(line) <= TEXT_CHARACTERS else f"{line[: TEXT_CHARACTERS - 1]}…"


def _pad(cell: str, width: int, heading: str) -> str:
    return cell.ljust(width) if heading in LEFT else cell.rjust(width)
