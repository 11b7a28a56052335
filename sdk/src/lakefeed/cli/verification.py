"""Problems of the rows and files of a version."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from lakefeed import errors
from lakefeed.cli.progress_bar import show_progress
from lakefeed.cli.rows import group

if TYPE_CHECKING:
    from lakefeed import Dataset

THREADS = 8
FILES_AT_ONCE = 256


def count_readable_rows(dataset: Dataset) -> tuple[int, list[tuple[str, str]]]:
    """Returns the number of rows that can be read, and the problems.

    Raises:
        UnreachableError: a store cannot be reached, so nothing is known about the rows.
    """
    number = dataset.version
    expected = next(each.total_records for each in dataset.list_versions() if each.version == number)
    rows = 0
    try:
        for batch in show_progress(dataset.batches(format="arrow", load_files=False), "rows", expected):
            rows += batch.num_rows
    except errors.UnreachableError:
        raise
    except (errors.LakefeedError, OSError) as error:
        return rows, [("rows", str(error))]
    if rows != expected:
        return rows, [("rows", f"{rows:,} can be read, {expected:,} were committed")]
    return rows, []


def file_problems(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Yields the name and the problem of each file that is missing or damaged. A file is read once.

    Raises:
        UnreachableError: a store cannot be reached, so nothing is known about the files.
    """
    columns = list(dataset.column_types)
    if not columns:
        return
    with ThreadPoolExecutor(THREADS) as pool:
        for handles in group(_distinct_files(dataset, columns), FILES_AT_ONCE):
            yield from (problem for problem in pool.map(_problem_of, handles) if problem is not None)


def _distinct_files(dataset: Dataset, columns: list[str]) -> Iterator[Any]:
    known: set[str] = set()
    rows = dataset.select(columns).rows()
    for row in show_progress(rows, "files", dataset.count()):
        for handle in row.values():
            key = None if handle is None else handle.sha256 or handle.url
            if key is not None and key not in known:
                known.add(key)
                yield handle


def _problem_of(handle: Any) -> tuple[str, str] | None:
    try:
        handle.bytes()
    except errors.UnreachableError:
        raise
    except (errors.LakefeedError, OSError) as error:
        return handle.name or handle.sha256, str(error)
    return None
