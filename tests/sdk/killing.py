"""Processes that are killed by SIGKILL at random points of their work, while somebody goes on writing.

They are forked from a server that has everything imported, so that a kill costs a fraction of a second and falls into
the work, not into imports.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from lakefeed import Dataset
from tests.sdk.processes import context

# Of the work of one process: where a kill falls, and how long one may take that is left to finish.
LONGEST_SECONDS, PATIENCE_SECONDS = 0.25, 600.0

# What a test of kills is done for: a share in every run, the whole number in the soak.
AS_OFTEN = pytest.mark.parametrize(
    "kills",
    [pytest.param(3, id="share"), pytest.param(200, id="all", marks=[pytest.mark.soak, pytest.mark.timeout(0)])],
)


def killed_at_random(
    kills: int,
    work: Callable[..., None],
    *arguments: Any,
    longest: float = LONGEST_SECONDS,
    refill: Callable[[], None] = lambda: None,
) -> None:
    """Runs ``work`` until ``kills`` processes of it were killed while they were at it, ``longest`` seconds at most.

    ``refill`` is called before each process, to give it something to do.
    """
    draw = random.Random(len(arguments) + kills)
    while kills:
        refill()
        process = _started(work, *arguments)
        process.join(draw.uniform(0, longest))
        process.kill()
        process.join(PATIENCE_SECONDS)
        kills -= process.exitcode == -signal.SIGKILL
        assert process.exitcode in (0, -signal.SIGKILL), "it failed by itself"


def finish(work: Callable[..., None], *arguments: Any, processes: int = 1) -> None:
    """Runs ``work`` to its end, in several processes at once; nobody may write meanwhile, for that may be faster."""
    running = [_started(work, *arguments) for _ in range(processes)]
    for process in running:
        process.join(PATIENCE_SECONDS)
    assert [process.exitcode for process in running] == [0] * processes


def killed_by_itself(work: Callable[..., None], *arguments: Any) -> None:
    """Runs ``work``, which kills its own process."""
    process = _started(work, *arguments)
    process.join(PATIENCE_SECONDS)
    assert process.exitcode == -signal.SIGKILL


def is_killed(work: Callable[..., None], *arguments: Any) -> bool:
    """Runs ``work``, and returns whether it killed its own process; False if it ended without."""
    process = _started(work, *arguments)
    process.join(PATIENCE_SECONDS)
    assert process.exitcode in (0, -signal.SIGKILL), "it failed by itself"
    return process.exitcode != 0


@contextmanager
def meanwhile(write: Callable[[], object], pause: float = 0.15) -> Iterator[None]:
    """While the block runs, somebody writes again and again."""
    done = threading.Event()

    def writing() -> None:
        while not done.wait(pause):
            write()

    with ThreadPoolExecutor(1) as writers:
        writer = writers.submit(writing)
        try:
            yield
        finally:
            done.set()
    writer.result()


def append(name: str, ids: list[int]) -> None:
    """One version more."""
    rows = Dataset.from_dict({"id": ids})
    if Dataset.exists(name):
        rows.append_to(name)
    else:
        rows.save(name)


def ids(name: str) -> list[int]:
    """What a dataset holds, in its order."""
    return [int(value) for value in Dataset(name).select(["id"]).to_arrow()["id"].to_pylist()]


def _started(work: Callable[..., None], *arguments: Any) -> Any:
    process = context().Process(target=_at_home, args=(os.environ["LAKEFEED_HOME"], work, arguments))
    process.start()
    return process


def _at_home(home: str, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """The server was forked when another test ran, so the home of this one comes as an argument."""
    os.environ["LAKEFEED_HOME"] = home
    work(*arguments)
