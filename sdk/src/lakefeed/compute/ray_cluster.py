"""`Ray`: an engine on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lakefeed.compute.compute_engine import check_workers, run_task
from lakefeed.compute.processes import DEATHS
from lakefeed.errors import InvalidArgumentError, MissingDependencyError


@dataclass(frozen=True)
class Ray:
    """The Ray cluster that this process is connected to, another one, or a new one on this machine.

    Workers need the packages of this process, the same settings of lakefeed, and the modules of the functions. If a
    worker dies, another one runs its task, up to three times.

    Args:
        address: the address of a cluster, such as ``ray://head:10001``, or "auto" for that of this machine. None uses
            the cluster that this process is connected to, or starts one on this machine.
        workers: the number of CPUs of a cluster that is started. None takes all.

    Raises:
        InvalidArgumentError: an argument is malformed.
    """

    address: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        given: object = self.address
        if given is not None and not (isinstance(given, str) and given):
            raise InvalidArgumentError(
                f'Ray(address=…) must be text such as ray://head:10001 or "auto", got {self.address!r:.80}'
            )
        if self.workers is not None:
            check_workers(self.workers)
            if self.address is not None:
                raise InvalidArgumentError("give Ray either an address or a number of workers")

    @property
    def width(self) -> int:
        """The number of tasks that run at once. An existing cluster is asked for it.

        Raises:
            MissingDependencyError: Ray is not installed.
        """
        ray = _import_ray()
        if self.address is None and not ray.is_initialized():
            return self.workers or os.cpu_count() or 1
        with self._connected(ray):
            return max(1, int(ray.cluster_resources().get("CPU", 1)))

    def run(self, tasks: Sequence[bytes]) -> Iterator[tuple[int, Any]]:
        """Yields the index and the result of each task, as `Engine.run` does.

        Args:
            tasks: the serialized tasks.

        Raises:
            MissingDependencyError: Ray is not installed.
        """
        ray = _import_ray()
        with self._connected(ray):
            remote = ray.remote(max_retries=DEATHS, retry_exceptions=False)(run_task)
            running = {remote.remote(task): index for index, task in enumerate(tasks)}
            try:
                while running:
                    done, _ = ray.wait(list(running), num_returns=1)
                    for reference in done:
                        yield running.pop(reference), _result(ray, reference)
            finally:
                for reference in running:
                    ray.cancel(reference, force=False)

    @contextmanager
    def _connected(self, ray: Any) -> Iterator[None]:
        """Connects to the cluster for the block. A connection that is there before stays."""
        if ray.is_initialized():
            yield
            return
        local = {"num_cpus": self.workers, "include_dashboard": False} if self.address is None else {}
        ray.init(address=self.address or "local", log_to_driver=False, configure_logging=False, **local)
        try:
            yield
        finally:
            ray.shutdown()


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError("Ray is not installed: pip install 'lakefeed[ray]'") from error
    return ray


def _result(ray: Any, reference: Any) -> Any:
    """Returns the result of a task, or raises the error that it raised."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from None
        raise
