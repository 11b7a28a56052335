"""Local copies of what lies at URLs, by URL and validator: fetched once, asked for again only when they may be old.

``<cache>/urls/ab/cdef…`` tells which bytes a URL gave and what its server calls them; its time of modification is when
that was last known to be so. The bytes are a file of `lakefeed.storage.cache`. The name is a hash: a URL may hold
credentials, so it is written nowhere. An entry that is pinned (see `lakefeed.storage.pins`) is never asked about.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import monotonic, sleep, time

from lakefeed.storage.atomic import with_directory
from lakefeed.storage.cache import BlobCache
from lakefeed.storage.hashing import sha256_bytes

KNOWN_AT_MOST = 100_000
PATIENCE_SECONDS = 600.0
"""Another process that fetches the same file is waited for; after this it is taken for stuck."""
LONGEST_NAP_SECONDS = 0.1
OF_A_PATH = {"path": ""}
"""In place of validators: the copy is of a file of this machine, which goes before it while it is there."""


@dataclass(frozen=True)
class Known:
    """What is known of a URL. ``checked``: seconds since the epoch; ``validators``: what to ask with again."""

    sha256: str
    size: int
    validators: Mapping[str, str]
    checked: float
    pinned: bool = False

    @property
    def of_a_path(self) -> bool:
        return "path" in self.validators

    def is_fresh(self, seconds: float) -> bool:
        """Whether the server need not be asked."""
        return self.pinned or 0 <= time() - self.checked < seconds


_known: dict[tuple[str, str], Known] = {}
"""What this process has read: a file of a few bytes costs as much as one of thousands."""


@dataclass(frozen=True)
class Copies:
    """The copies of one cache. Safe between threads, processes and forks."""

    cache: BlobCache

    def remembered(self, url: str) -> Known | None:
        """What this process knows of a URL."""
        return _known.get((self._directory, url))

    def remembered_all(self, urls: Sequence[str | None]) -> list[Known | None]:
        """As `remembered`, for many: what is done for every cell costs about as much as reading a small file."""
        directory, get = self._directory, _known.get
        return [None if url is None else get((directory, url)) for url in urls]

    def known(self, url: str) -> Known | None:
        """What was last known of a URL."""
        found = self.remembered(url)
        return found if found is not None else self._read(url)

    def reread(self, url: str) -> Known | None:
        """As `known`, with what other processes wrote."""
        _known.pop((self._directory, url), None)
        return self._read(url)

    def learn(self, url: str, sha256: str, size: int, validators: Mapping[str, str]) -> None:
        """Writes down what a URL gave just now."""
        text = json.dumps({"sha256": sha256, "size": size, "validators": dict(validators)}).encode()
        place = self._place(url)
        # Not written aside: what is read while it is written, or after a crash, is no JSON and so not known.
        with suppress(OSError):
            how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            descriptor = with_directory(Path(place).parent, lambda: os.open(place, how, 0o666))
            try:
                os.write(descriptor, text)
            finally:
                os.close(descriptor)
        self._remember(url, Known(sha256, size, validators, time()))

    def confirm(self, url: str, known: Known) -> None:
        """The server said that nothing has changed."""
        with suppress(OSError):
            os.utime(self._place(url))
        self._remember(url, Known(known.sha256, known.size, known.validators, time(), known.pinned))

    def place(self, url: str) -> Path:
        return Path(self._place(url))

    def _place(self, url: str) -> str:
        # Text: to make a path costs as much as to open it.
        return f"{self._directory}/urls/{_key(url)}"

    @contextmanager
    def alone(self, url: str) -> Iterator[None]:
        """One thread of one process at a time. Different URLs share a lock now and then, which only costs time."""
        path = self._locks / _key(url)[:2]
        try:
            descriptor = with_directory(self._locks, lambda: os.open(path, os.O_WRONLY | os.O_CREAT, 0o666))
        except OSError:  # a disk that is full or read-only: several may fetch the same file
            yield
            return
        try:
            _lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    @cached_property
    def _directory(self) -> str:
        return str(self.cache.directory)

    @cached_property
    def _locks(self) -> Path:
        return self.cache.directory / "locks"

    def _read(self, url: str) -> Known | None:
        try:
            descriptor = os.open(self._place(url), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            status = os.fstat(descriptor)
            written = json.loads(os.read(descriptor, status.st_size + 1))
            found = Known(
                written["sha256"], written["size"], written["validators"], status.st_mtime, status.st_nlink > 1
            )
            self.cache.room.used(descriptor, status)
        except (ValueError, KeyError):  # cut short by a power cut
            return None
        finally:
            os.close(descriptor)
        self._remember(url, found)
        return found

    def _remember(self, url: str, known: Known) -> None:
        if len(_known) >= KNOWN_AT_MOST:
            _known.clear()
        _known[self._directory, url] = known


def _key(url: str) -> str:
    digest = sha256_bytes(url.encode("utf-8", "surrogatepass"))
    return f"{digest[:2]}/{digest[2:]}"


def _lock(descriptor: int) -> None:
    """Waits by asking: a thread that blocks for ever could not be told from one whose server hangs."""
    begun, nap = monotonic(), 0.001
    while monotonic() - begun < PATIENCE_SECONDS:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sleep(nap)
            nap = min(nap * 2, LONGEST_NAP_SECONDS)
        else:
            return
