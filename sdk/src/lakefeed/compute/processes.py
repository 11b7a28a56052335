"""`Processes`: an engine on processes of this machine."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

from lakefeed.compute.compute_engine import check_workers, run_task

logger = logging.getLogger(__name__)

DEATHS = 3
"""Times that processes may die before the work is given up: what kills them may be the work itself."""


@dataclass(frozen=True)
class Processes:
    """Processes of this machine. If one dies, new processes run the unfinished tasks.

    Args:
        workers: the number of processes, by default one for each CPU.

    Raises:
        InvalidArgumentError: the number is not positive.

    Example:
        >>> Processes(4).width
        4
    """

    workers: int = field(default_factory=lambda: os.cpu_count() or 1)

    def __post_init__(self) -> None:
        check_workers(self.workers)

    @property
    def width(self) -> int:
        """The number of tasks that run at once."""
        return self.workers

    def run(self, tasks: Sequence[bytes]) -> Iterator[tuple[int, Any]]:
        """Yields the index and the result of each task, as `Engine.run` does.

        Args:
            tasks: the serialized tasks.

        Raises:
            BrokenProcessPool: processes died too often.
        """
        left = set(range(len(tasks)))
        for deaths in range(DEATHS + 1):
            try:
                for index, result in self._round(tasks, sorted(left)):
                    left.discard(index)
                    yield index, result
                return
            except BrokenProcessPool:
                if deaths == DEATHS:
                    raise
                logger.warning("a worker died; %d of %d tasks are left", len(left), len(tasks))

    def _round(self, tasks: Sequence[bytes], left: Sequence[int]) -> Iterator[tuple[int, Any]]:
        # Not forked: threads of this process may hold locks at this moment.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(self.workers, len(left)) or 1, mp_context=context)
        try:
            yield from _results({pool.submit(run_task, tasks[index]): index for index in left})
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _results(running: dict[Future[Any], int]) -> Iterator[tuple[int, Any]]:
    """The results as they come; after a failure also those of the tasks that cannot be stopped any more."""
    failure: BaseException | None = None
    while running:
        for done in wait(running, return_when=FIRST_COMPLETED).done:
            index = running.pop(done)
            if done.cancelled():
                continue
            error = done.exception()
            if error is None or failure is not None:
                yield index, done.result() if error is None else error
                continue
            if isinstance(error, BrokenProcessPool):
                raise error
            failure = error
            for other in running:
                other.cancel()
    if failure is not None:
        raise failure


@dataclass(frozen=True)
class InProcess:
    """This process, which runs the tasks one after the other."""

    @property
    def width(self) -> int:
        """The number of tasks that run at once."""
        return 1

    def run(self, tasks: Sequence[bytes]) -> Iterator[tuple[int, Any]]:
        """Yields the index and the result of each task, as `Engine.run` does.

        Args:
            tasks: the serialized tasks.
        """
        for index, task in enumerate(tasks):
            yield index, run_task(task)
