"""`Dask`: an engine on a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakefeed.compute.compute_engine import check_workers, run_task
from lakefeed.errors import InvalidArgumentError, MissingDependencyError, quoted_list

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class Dask:
    """An existing Dask cluster, or a new one on this machine.

    Workers need the packages of this process, the same settings of lakefeed, and the modules of the functions. If a
    worker dies, another one runs its task.

    Args:
        address: the address of an existing cluster, such as ``tcp://scheduler:8786``. None starts processes on this
            machine.
        workers: the number of these processes. None starts one for each CPU.
        client: an open client of an existing cluster, which stays open.

    Raises:
        InvalidArgumentError: an argument is malformed.
    """

    address: str | None = None
    workers: int | None = None
    client: Client | None = None

    def __post_init__(self) -> None:
        if self.client is not None:
            _check_client(self.client)
            if self.address is not None or self.workers is not None:
                raise InvalidArgumentError("give Dask either a client, or an address or a number of workers")
        if self.address is not None and not isinstance(self.address, str):
            raise InvalidArgumentError(
                f"Dask(address=…) must be text such as tcp://scheduler:8786, got {self.address!r:.80}"
            )
        if self.workers is not None:
            check_workers(self.workers)

    @property
    def width(self) -> int:
        """The number of tasks that run at once. An existing cluster is asked for it.

        Raises:
            MissingDependencyError: Dask is not installed.
        """
        if self.address is None and self.client is None:
            return self.workers or os.cpu_count() or 1
        with self._open() as client:
            threads: dict[str, int] = client.nthreads()
        return max(1, sum(threads.values()))

    def run(self, tasks: Sequence[bytes]) -> Iterator[tuple[int, Any]]:
        """Yields the index and the result of each task, as `Engine.run` does.

        Args:
            tasks: the serialized tasks.

        Raises:
            MissingDependencyError: Dask is not installed.
        """
        from distributed import as_completed

        with self._open() as client:
            # Unlike a result that was computed before, a file that was written may be gone: nothing is reused.
            futures = client.map(run_task, tasks, pure=False)
            indices = {future.key: index for index, future in enumerate(futures)}
            try:
                for future, result in as_completed(futures, loop=client.loop, with_results=True):
                    yield indices[future.key], result
            finally:
                client.cancel(futures)

    def _open(self) -> AbstractContextManager[Client]:
        return closing(self._new_client()) if self.client is None else nullcontext(self.client)

    def _new_client(self) -> Client:
        try:
            from distributed import Client
        except ImportError as error:
            raise MissingDependencyError("Dask is not installed: pip install 'lakefeed[dask]'") from error
        if self.address is not None:
            return Client(self.address, set_as_default=False)
        # Any free port: without an address the scheduler asks for 8787, which another cluster of the machine may have.
        return Client(
            n_workers=self.workers, threads_per_worker=1, processes=True, dashboard_address=":0", set_as_default=False
        )


@contextmanager
def dask_engine(client: Any, arguments: Mapping[str, Any]) -> Iterator[Dask]:
    """Yields an engine on a client, or on a new client with these arguments, which is closed afterwards.

    Raises:
        InvalidArgumentError: both are given, or the client is none.
        MissingDependencyError: Dask is not installed.
    """
    if client is not None and arguments:
        raise InvalidArgumentError(f"give either a client, or arguments of a new one ({quoted_list(arguments)})")
    if client is not None:
        yield Dask(client=client)
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingDependencyError("Dask is not installed: pip install 'lakefeed[dask]'") from error
    local = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with Client(**{"set_as_default": False, **(arguments or local)}) as own:
        yield Dask(client=own)


def _check_client(client: Any) -> None:
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingDependencyError("Dask is not installed: pip install 'lakefeed[dask]'") from error
    if not isinstance(client, Client):
        raise InvalidArgumentError(f"Dask(client=…) must be a distributed.Client, got {client!r:.80}")
    if client.asynchronous:
        raise InvalidArgumentError("Dask(client=…) must be a synchronous client: Client(…, asynchronous=False)")
