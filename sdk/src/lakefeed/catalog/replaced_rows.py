"""The number of rows that are removed when files replace others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from pyiceberg.table import Table

from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.table_rows import REWRITTEN_SUFFIX
from lakefeed.catalog.version_files import live_rows

CompareFiles: TypeAlias = Callable[[Table, Sequence[DataFileRef], Sequence[DataFileRef]], int]
"""Counts the rows of the first files that the other files do not have (as multisets)."""


def count_removed_rows(
    table: Table, removed: Iterable[DataFileRef], added: Iterable[DataFileRef], compare: CompareFiles | None = None
) -> int:
    """Returns the number of rows of ``removed`` that are not in ``added``.

    ``compare`` gets the files that do not tell. Without it, the smaller side counts as a part of the other.
    """
    rows, only_removed, only_added = _match_rewritten_files(removed, added)
    if not only_removed or not only_added or compare is None:
        return rows + max(0, _total_rows(table, only_removed) - _total_rows(table, only_added))
    return rows + compare(table, only_removed, only_added)


def _match_rewritten_files(
    removed: Iterable[DataFileRef], added: Iterable[DataFileRef]
) -> tuple[int, list[DataFileRef], list[DataFileRef]]:
    """Pairs files with their rewritten versions. Returns the number of rows that these lack, and the other files."""
    partners: dict[tuple[int, str], list[DataFileRef]] = defaultdict(list)
    for file in added:
        partners[file.sequence, _original_path(file)].append(file)
    rows, unmatched = 0, []
    for file in removed:
        others = partners[file.sequence, _original_path(file)]
        if len(others) == 1 and _is_rewritten(file) != _is_rewritten(others[0]):
            rows += max(0, file.rows - others.pop().rows)
        else:
            unmatched.append(file)
    return rows, unmatched, [file for others in partners.values() for file in others]


def _original_path(file: DataFileRef) -> str:
    """Returns the path of the original file, without the suffix of a rewritten one."""
    return REWRITTEN_SUFFIX.sub("", file.path.removesuffix(".parquet"))


def _is_rewritten(file: DataFileRef) -> bool:
    # Of a file with delete files, too, only a part of the original rows is there.
    return file.has_deletes or REWRITTEN_SUFFIX.search(file.path.removesuffix(".parquet")) is not None


def _total_rows(table: Table, files: Iterable[DataFileRef]) -> int:
    return sum(live_rows(table, file) for file in files)
