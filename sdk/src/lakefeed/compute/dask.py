"""A Dask cluster: of this machine, or one that is there already."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakefeed.compute.compute_engine import check_workers, run_task
from lakefeed.errors import InvalidArgumentError, MissingDependencyError

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class Dask:
    """The cluster at ``address`` (``tcp://scheduler:8786``), or, with None, one of ``workers`` processes made for it.

    Workers need the packages that this process has, the same settings of lakefeed, and the functions' modules. A piece
    of work whose worker died goes to another one.
    """

    address: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.address is not None and not isinstance(self.address, str):
            raise InvalidArgumentError(f"Dask(address={self.address!r:.80}): give text, such as tcp://scheduler:8786")
        if self.workers is not None:
            check_workers(self.workers)

    @property
    def width(self) -> int:
        """How many pieces are worked on at once; asked of a cluster that is there."""
        if self.address is None:
            return self.workers or os.cpu_count() or 1
        with closing(self._client()) as client:
            threads: dict[str, int] = client.nthreads()
        return max(1, sum(threads.values()))

    def run(self, pieces: Sequence[bytes]) -> Iterator[tuple[int, Any]]:
        """See `Engine.run`."""
        from distributed import as_completed

        with closing(self._client()) as client:
            # Unlike a result that was computed before, a file that was written may be gone: nothing is reused.
            futures = client.map(run_task, pieces, pure=False)
            places = {future.key: place for place, future in enumerate(futures)}
            try:
                for future, result in as_completed(futures, loop=client.loop, with_results=True):
                    yield places[future.key], result
            finally:
                client.cancel(futures)

    def _client(self) -> Client:
        try:
            from distributed import Client
        except ImportError as error:
            raise MissingDependencyError("Dask is not installed: pip install 'lakefeed[dask]'") from error
        if self.address is not None:
            return Client(self.address, set_as_default=False)
        return Client(
            n_workers=self.workers, threads_per_worker=1, processes=True, dashboard_address=None, set_as_default=False
        )
