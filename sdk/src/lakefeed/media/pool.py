"""The same work on many items by a few threads, results in the order of the items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def ordered(work: Callable[[_Item], _Result], items: Sequence[_Item], workers: int, piece: int = 1) -> list[_Result]:
    """``[work(item) for item in items]`` by ``workers`` threads, which take ``piece`` items at a time.

    The error of the first item that fails is raised, after work in progress has ended; what had not begun is dropped.
    A pool is made for each call: one kept between calls would be dead in a forked process.

    Example:
        >>> ordered(abs, [-1, 2, -3], workers=2)
        [1, 2, 3]
    """
    if workers <= 1 or len(items) <= piece:
        return [work(item) for item in items]
    pool = ThreadPoolExecutor(workers, thread_name_prefix="lakefeed-files")
    try:
        starts = range(0, len(items), piece)
        tasks = [pool.submit(_each, work, items[start : start + piece]) for start in starts]
        return [result for task in tasks for result in task.result()]
    finally:
        pool.shutdown(cancel_futures=True)


def _each(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    return [work(item) for item in items]
