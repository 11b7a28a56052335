"""How many rows are gone where files take the place of others: told by the files as far as that is possible."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from pyiceberg.table import Table

from lakefeed.catalog.table_rows import REWRITTEN_SUFFIX
from lakefeed.catalog.version_files import DataFileRef

# How many rows the first files have that the others do not have, each as often as it is there.
CompareFiles: TypeAlias = Callable[[Table, Sequence[DataFileRef], Sequence[DataFileRef]], int]


def count_removed_rows(
    table: Table, gone: Iterable[DataFileRef], came: Iterable[DataFileRef], compare: CompareFiles | None = None
) -> int:
    """How many rows of ``gone`` are not in ``came``. Only files of which that cannot be told are given to ``compare``.

    Without ``compare`` those files are counted as if one side were a part of the other.
    """
    rows, left, right = _match_rewritten_files(gone, came)
    if not left or not right or compare is None:
        return rows + max(0, _total_rows(left) - _total_rows(right))
    return rows + compare(table, left, right)


def _match_rewritten_files(
    gone: Iterable[DataFileRef], came: Iterable[DataFileRef]
) -> tuple[int, list[DataFileRef], list[DataFileRef]]:
    """The rows gone in files of which one was made of the other by leaving rows out, and the files that are left."""
    partners: dict[tuple[int, str], list[DataFileRef]] = defaultdict(list)
    for file in came:
        partners[file.sequence, _original_path(file)].append(file)
    rows, left = 0, []
    for file in gone:
        others = partners[file.sequence, _original_path(file)]
        if len(others) == 1 and _is_rewritten(file) != _is_rewritten(others[0]):
            rows += max(0, file.rows - others.pop().rows)
        else:
            left.append(file)
    return rows, left, [file for others in partners.values() for file in others]


def _original_path(file: DataFileRef) -> str:
    """The path of the file that was written first, before rows of it were left out."""
    return REWRITTEN_SUFFIX.sub("", file.path.removesuffix(".parquet"))


def _is_rewritten(file: DataFileRef) -> bool:
    return REWRITTEN_SUFFIX.search(file.path.removesuffix(".parquet")) is not None


def _total_rows(files: Iterable[DataFileRef]) -> int:
    return sum(file.rows for file in files)
