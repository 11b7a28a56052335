"""Threads that read and decode chunks. The caller takes part, so that work always ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Lock
from typing import Any, Final, TypeVar

THREAD_NAME: Final = "lakefeed-arrays"
MAX_THREADS: Final = 16

T = TypeVar("T")
R = TypeVar("R")


def thread_count() -> int:
    """Returns the number of threads that decode at the same time."""
    return min(len(os.sched_getaffinity(0)), MAX_THREADS)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MAX_THREADS, thread_name_prefix=THREAD_NAME)


def run_in_threads(work: Callable[[T], object], items: Iterable[T], threads: int) -> None:
    """Calls ``work`` with each item, in several threads. After an error, no thread begins another item.

    Args:
        work: the function. It is called in any order.
        items: the items. They are taken one by one.
        threads: the number of threads, with the caller's.

    Raises:
        BaseException: the first error of ``work``.
    """
    turns = _Turns(items)
    helpers = [_pool().submit(turns.work_off, work) for _ in range(threads - 1)]
    turns.work_off(work)
    for helper in helpers:
        if not helper.cancel():
            helper.result()
    turns.raise_error()


def map_in_threads(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Returns what ``work`` returns for each item, in their order. Many threads wait for remote files.

    Raises:
        BaseException: the error of the first item that has one.
    """
    results: dict[int, R] = {}
    errors: dict[int, BaseException] = {}

    def work_at(number: int) -> None:
        try:
            results[number] = work(items[number])
        except BaseException as error:
            errors[number] = error
            raise

    try:
        run_in_threads(work_at, range(len(items)), min(len(items), MAX_THREADS))
    except BaseException:
        if errors:
            raise errors[min(errors)] from None
        raise
    return [results[number] for number in range(len(items))]


class _Turns:
    """Items that several threads take."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = iter(items)
        self._lock = Lock()
        self._errors: list[BaseException] = []

    def work_off(self, work: Callable[[Any], object]) -> None:
        """Takes items until there are no more."""
        while True:
            with self._lock:
                if self._errors:
                    return
                try:
                    item = next(self._items)
                except StopIteration:
                    return
            try:
                work(item)
            except BaseException as error:  # noqa: BLE001  # raised again by the caller
                with self._lock:
                    self._errors.append(error)
                return

    def raise_error(self) -> None:
        """Raises the first error."""
        if self._errors:
            try:
                raise self._errors[0]
            finally:
                self._errors.clear()  # it holds this frame


os.register_at_fork(after_in_child=_pool.cache_clear)
