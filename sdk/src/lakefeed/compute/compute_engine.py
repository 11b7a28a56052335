"""What runs pieces of work elsewhere, and how a piece travels."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from lakefeed.errors import InvalidArgumentError, MissingDependencyError


class Engine(Protocol):
    """Runs pieces of work in other processes, on this machine or elsewhere.

    A piece may be run again where its worker died, and even where it had finished; it must bear that.
    """

    @property
    def width(self) -> int:
        """How many pieces are worked on at once, about."""

    def run(self, pieces: Sequence[bytes]) -> Iterator[tuple[int, Any]]:
        """The place and the result of each piece, once, as they come; `perform` makes the result.

        Once a piece has failed, pieces that were running may still bring their result, or the error that they raised in
        its place, so that what they have written can be removed. Then the first error is raised.

        Raises:
            Exception: what a piece raised, or that its workers died too often; the others are given up.
        """


def check_workers(workers: Any) -> None:
    """Passes for a number of workers.

    Raises:
        InvalidArgumentError: it is none.
    """
    if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
        raise InvalidArgumentError(f"workers={workers!r:.80}: give a number of processes, 1 at least")


def pack_task(piece: Any, what: str) -> bytes:
    """A callable without arguments as it travels to a worker, with the functions that it holds.

    Raises:
        InvalidArgumentError: something in it cannot travel.
        MissingDependencyError: cloudpickle is not installed.
    """
    try:
        import cloudpickle
    except ImportError as error:
        raise MissingDependencyError(
            "work for other processes is packed with cloudpickle: pip install 'lakefeed[dask]'"
        ) from error
    try:
        data: bytes = cloudpickle.dumps(piece)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise InvalidArgumentError(
            f"{what} cannot be sent to other processes: {error}. Functions must not hold open files, connections or "
            "locks: make those inside the function when it is first called, or work without an engine"
        ) from error
    return data


def run_task(piece: bytes) -> Any:
    """The result of a piece, in the process of a worker."""
    return pickle.loads(piece)()
