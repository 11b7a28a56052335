"""Leases of the writers of a store, and the lists of objects that collectors are about to delete.

A store has no locks. Deletes are safe because each side announces its work before it looks at the other side;
docs/decisions/0011-garbage.md describes the interleavings.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Self

from lakefeed._units import KIB
from lakefeed.errors import FileError, IntegrityError
from lakefeed.storage.blobs.objects import ObjectInfo, Objects

logger = logging.getLogger(__name__)

LEASES: Final = "leases"
PENDING_DELETES: Final = "doomed"
LAKES: Final = "lakes"

EXPIRY_SECONDS: Final = 600.0
"""A heartbeat that is older, by the clock of the store, belongs to a process that died."""
RENEWAL_SECONDS: Final = 60.0
TRUST_SECONDS: Final = EXPIRY_SECONDS / 2
"""The time for which the owner trusts its heartbeat. Much shorter, so that a request that hangs does no harm."""

RESERVE_BYTES: Final = 16 * KIB
"""The size of a lease. Its removal frees space for a list of pending deletes on a disk that a save has filled."""


def boot_time() -> float:
    """Returns the seconds of a clock that, where possible, continues while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass
class Heartbeat:
    """An object that shows that this process works. It is written again every minute until ``end``.

    Safe between threads. A killed process leaves it behind. It is ignored after ``EXPIRY_SECONDS``.
    """

    objects: Objects
    key: str
    content: dict[str, object] = field(default_factory=dict)
    _written: float = field(default=0.0, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _is_written: bool = field(default=False, init=False)
    _ended: threading.Event = field(default_factory=threading.Event, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def start(self, immediately: bool = True) -> Self:
        """Writes the object now, or after a minute if ``immediately`` is False, and then every minute."""
        self._written = boot_time()
        if immediately:
            self.renew()
        self._thread = threading.Thread(target=self._renew_regularly, name="lakefeed-lease", daemon=True)
        self._thread.start()
        return self

    def renew(self) -> None:
        """Writes the object now."""
        with self._lock:
            if self._ended.is_set():
                return
            began = boot_time()
            self._is_written = True
            self.objects.write(self.key, json.dumps(self.content).encode())
            self._written = began

    @property
    def is_valid(self) -> bool:
        """True if no other process can consider the owner dead, now or in the next minutes."""
        return boot_time() - self._written < TRUST_SECONDS

    @property
    def modified(self) -> float:
        """The time of the last write, by the clock of the store."""
        return self.objects.info(self.key).modified

    def end(self) -> None:
        """Removes the object."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(RENEWAL_SECONDS)  # a running thread would disturb the end of the process
        with self._lock:
            if not self._is_written:
                return
            try:
                self.objects.delete(self.key)
            except OSError as error:
                logger.warning("could not remove %s, which expires by itself: %s", self.objects.url(self.key), error)

    def _renew_regularly(self) -> None:
        while not self._ended.wait(RENEWAL_SECONDS):
            try:
                self.renew()
            except OSError as error:
                logger.warning("could not renew %s: %s", self.objects.url(self.key), error)


def begin_lease(objects: Objects, immediately: bool = True) -> Heartbeat:
    """Announces that this process relies on the contents of the store; see `Heartbeat.start`.

    Raises:
        FileError: the store cannot be written to.
    """
    content = {"host": platform.node(), "pid": os.getpid(), "reserve": "." * RESERVE_BYTES}
    return _heartbeat(objects, LEASES, content).start(immediately)


def mark_lake(objects: Objects, lake: str) -> None:
    """Writes a mark of a lake that saves into this store. ``lake`` identifies the lake."""
    if not lake:
        return
    key = _mark_key(lake)
    if objects.url(key) in _marked:
        return
    try:
        objects.info(key)
    except FileNotFoundError:
        objects.write(key, json.dumps({"lake": lake, "host": platform.node()}).encode())
    _marked.add(objects.url(key))


def other_lakes(objects: Objects, is_own: Callable[[str, str | None], bool]) -> list[str]:
    """Returns the other lakes that have saved into this store, and the URLs of their marks.

    ``is_own`` tells whether a name, marked on a host (None: not known), is that of the own lake.
    """
    marks = [(info.key, json.loads(objects.read(info.key))) for info in objects.list(LAKES)]
    return [f"{mark['lake']} ({objects.url(key)})" for key, mark in marks if not is_own(mark["lake"], mark.get("host"))]


def _mark_key(lake: str) -> str:
    return f"{LAKES}/{hashlib.sha256(lake.encode()).hexdigest()[:16]}.json"


_marked: set[str] = set()


def begin_pending_deletes(objects: Objects) -> Heartbeat:
    """Writes an empty list of pending deletes, which announces a collector."""
    return _heartbeat(objects, PENDING_DELETES, {"host": platform.node(), "pid": os.getpid(), "objects": []}).start()


def read_pending_deletes(objects: Objects, since: float) -> frozenset[str]:
    """Returns the keys that collectors are about to delete.

    Skips lists that had expired at ``since`` (clock of the store).

    Raises:
        IntegrityError: a list cannot be read.
    """
    return frozenset(
        key for sign in list_active(objects, PENDING_DELETES, since) for key in _pending_keys(objects, sign)
    )


def list_active(objects: Objects, folder: str, since: float) -> Iterator[ObjectInfo]:
    """Returns the heartbeats in a folder that had not expired at ``since``, by the clock of the store."""
    return (sign for sign in objects.list(folder) if since - sign.modified < EXPIRY_SECONDS)


def remove_expired(objects: Objects, folder: str, since: float) -> None:
    """Removes the heartbeats of processes that died."""
    for sign in list(objects.list(folder)):
        if since - sign.modified >= EXPIRY_SECONDS:
            objects.delete(sign.key)


def _pending_keys(objects: Objects, sign: ObjectInfo) -> Iterable[str]:
    try:
        content = json.loads(objects.read(sign.key))
        return list(content["objects"])
    except FileNotFoundError:
        return ()  # its collector has finished
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{objects.url(sign.key)} is not a list of pending deletes: {error}") from error


def _heartbeat(objects: Objects, folder: str, content: dict[str, object]) -> Heartbeat:
    return Heartbeat(objects, f"{folder}/{uuid.uuid4().hex}.json", content)


def require_active(sign: Heartbeat) -> None:
    """Raises FileError if a collector may consider this process dead, and may have deleted what it relies on."""
    if not sign.is_valid:
        raise FileError(
            f"this process could not renew its lease of the blob store ({sign.objects.url(sign.key)}) for "
            f"{TRUST_SECONDS:.0f} seconds; files that the rows refer to may be gone, so nothing was committed. "
            "Save again"
        )
