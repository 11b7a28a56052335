"""A buffer over ranges of a remote file. While the file is read from front to back, threads fetch the next ranges.

One request after the other leaves the connection idle while the reader works, and the reader idle for a round trip a
range. A range that follows the one before doubles the number of ranges that are fetched ahead; another position drops
them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock

from lakefeed._units import MIB
from lakefeed.storage.remote.fetch_threads import shared_threads

RANGES_AHEAD = 3
LEAST_AHEAD_BYTES = MIB
"""A file that is opened for small reads (a footer, a member of an archive) has no ranges ahead."""


class RangeBuffer:
    """The bytes of a file around the position at which it was read last. Not safe between threads.

    Args:
        fetch: returns the bytes from ``start`` to before ``stop``. It is called in several threads at a time.
        ahead: the number of bytes to fetch beyond those asked for.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], ahead: int) -> None:
        self._fetch = fetch
        self._ahead = ahead
        self._parallel = 0
        self._ranges: deque[_Range] = deque()
        self._bytes, self._start = b"", 0

    def holds(self, position: int) -> bool:
        """Returns whether the byte at ``position`` needs no request."""
        return self._start <= position < self._start + len(self._bytes)

    def put(self, start: int, content: bytes) -> None:
        """Replaces the content by the bytes from ``start``."""
        self._bytes, self._start = content, start

    def read(self, position: int, size: int, end: int | None) -> bytes:
        """Returns at least one and at most ``size`` bytes from ``position``, which lies before ``end``.

        Args:
            position: the first byte.
            size: the number of bytes.
            end: the size of the file; None if it is unknown.
        """
        if not self.holds(position):
            self._advance(position, size, end)
        begin = position - self._start
        return self._bytes[begin : begin + size]

    def close(self) -> None:
        """Fetches nothing more."""
        while self._ranges:
            self._ranges.popleft().cancel()

    def _advance(self, position: int, size: int, end: int | None) -> None:
        follows = bool(self._bytes) and position == self._start + len(self._bytes)
        while self._ranges and self._ranges[0].start != position:
            self._ranges.popleft().cancel()
        wanted = self._ranges.popleft() if self._ranges else self._range(position, size, end)
        self.put(position, b"")  # before the next bytes come
        self._parallel = min(2 * self._parallel or 1, RANGES_AHEAD) if follows else 0
        if end is not None and self._ahead >= LEAST_AHEAD_BYTES:
            self._fill(self._ranges[-1].stop if self._ranges else wanted.stop, end)
        self.put(position, wanted.content())

    def _fill(self, begin: int, end: int) -> None:
        while begin < end and len(self._ranges) < self._parallel:
            following = self._range(begin, 0, end)
            self._ranges.append(following)
            with suppress(RuntimeError):  # the system starts no more threads: the reader fetches it
                shared_threads().submit(following.run)
            begin = following.stop

    def _range(self, start: int, size: int, end: int | None) -> _Range:
        stop = start + max(size, self._ahead)
        return _Range(self._fetch, start, stop if end is None else min(stop, end))


class _Range:
    """A range to fetch, once: in a thread, or by the reader if no thread has begun."""

    def __init__(self, fetch: Callable[[int, int], bytes], start: int, stop: int) -> None:
        self.start, self.stop = start, stop
        self._fetch: Callable[[int, int], bytes] | None = fetch
        self._claimed = Lock()
        self._done = Event()
        self._content = b""
        self._error: BaseException | None = None

    def run(self) -> None:
        """Fetches the range unless somebody else has begun."""
        if not self._claimed.acquire(blocking=False):
            return
        fetch, self._fetch = self._fetch, None
        assert fetch is not None, "it is fetched once"
        try:
            self._content = fetch(self.start, self.stop)
        except BaseException as error:  # noqa: BLE001  # raised again where the bytes are read
            self._error = error
        finally:
            self._done.set()

    def content(self) -> bytes:
        """Returns the bytes. Raises the error of the request."""
        self.run()
        self._done.wait()
        error, self._error = self._error, None
        if error is None:
            return self._content
        try:
            raise error
        finally:
            del error  # it holds this frame

    def cancel(self) -> None:
        """Keeps a thread from beginning."""
        self._claimed.acquire(blocking=False)
