"""The idle connections to a host."""

from __future__ import annotations

from queue import Empty, Full
from typing import Any


class IdleConnections:
    """The idle connections to a host, the newest first. Has the methods of ``queue.LifoQueue`` that urllib3 calls.

    It has no lock. The garbage collector may close a response in any thread, also in the middle of a call of these
    methods, and would then wait for the lock of that call for ever.

    Args:
        maxsize: the number of connections.
    """

    def __init__(self, maxsize: int) -> None:
        self._most = maxsize
        self._connections: list[Any] = []

    def put(self, connection: Any, block: bool = False, timeout: float | None = None) -> None:
        """Adds a connection. Raises ``queue.Full`` if there are too many."""
        if len(self._connections) >= self._most:
            raise Full
        self._connections.append(connection)

    def get(self, block: bool = False, timeout: float | None = None) -> Any:
        """Returns the newest connection and removes it. Raises ``queue.Empty`` if there is none."""
        try:
            return self._connections.pop()
        except IndexError:
            raise Empty from None

    def qsize(self) -> int:
        """Returns the number of connections."""
        return len(self._connections)
