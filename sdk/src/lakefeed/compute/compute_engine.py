"""`Engine`, the interface that runs tasks in other processes, and the serialization of tasks."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from lakefeed.errors import InvalidArgumentError, MissingDependencyError


class Engine(Protocol):
    """Runs tasks in other processes, on this machine or elsewhere.

    A task must tolerate to run again, because its worker may die, even after the task has finished.
    """

    @property
    def width(self) -> int:
        """The approximate number of tasks that run at once."""

    def run(self, tasks: Sequence[bytes]) -> Iterator[tuple[int, Any]]:
        """Yields the index and the result of each task, once, in the order of completion.

        `run_task` computes the result.

        Args:
            tasks: the serialized tasks.

        Raises:
            Exception: an error that a task raised, or the death of too many workers. The other tasks are cancelled.
        """


def check_workers(workers: Any) -> None:
    """Checks a number of workers.

    Raises:
        InvalidArgumentError: it is not a positive whole number.
    """
    if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
        raise InvalidArgumentError(f"workers must be a number of processes of at least 1, got {workers!r:.80}")


def pack_task(task: Any, label: str) -> bytes:
    """Serializes a callable without arguments, with the functions that it refers to. ``label`` names it in errors.

    Raises:
        InvalidArgumentError: something in it cannot be serialized.
        MissingDependencyError: cloudpickle is not installed.
    """
    try:
        import cloudpickle
    except ImportError as error:
        raise MissingDependencyError(
            "tasks for other processes need cloudpickle: pip install 'lakefeed[dask]'"
        ) from error
    try:
        data: bytes = cloudpickle.dumps(task)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise InvalidArgumentError(
            f"{label} cannot be sent to other processes: {error}. Functions must not hold open files, connections or "
            "locks: create them inside the function when it is first called, or work without an engine"
        ) from error
    return data


def run_task(task: bytes) -> Any:
    """Returns the result of a serialized task. It runs in a worker."""
    return pickle.loads(task)()
