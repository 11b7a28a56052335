"""Scan plans of versions that this machine has read, in the cache folder.

A metadata file and the manifests that it names never change, and every commit writes a new metadata file. So a plan
belongs to the location of the metadata file, which the catalog is asked for at each use. A plan is used only as long as
these files exist and are in the state in which they were read. Only for local files; a plan that is missing, damaged or
out of date is made anew from the metadata.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cachetools import LRUCache

from lakefeed.catalog.durability import local_path
from lakefeed.catalog.path_roots import Roots
from lakefeed.catalog.scan_plan import ScanPlan
from lakefeed.storage.disk.atomic_write import write_atomically

logger = logging.getLogger(__name__)

FORMAT = 3
MAX_PLANS = 256
"""The plans in the folder; the oldest are removed first."""
MAX_PLAN_BYTES = 8 * 1024 * 1024
PLANS_IN_MEMORY = 16


class PlanKey(NamedTuple):
    """The metadata file in which a version was looked up, and the version: a number, a tag, or None for the newest."""

    metadata_location: str
    pin: int | str | None


class PlanCache:
    """The scan plans in the cache folder ``cache`` of a lake with these path roots. Thread-safe."""

    def __init__(self, cache: Path, roots: Roots) -> None:
        self.roots = roots
        self._folder, self._staging = cache / "plans", cache / "tmp"
        self._lock = threading.Lock()
        self._parsed: LRUCache[str, tuple[ScanPlan, list[tuple[str, list[int]]]]] = LRUCache(PLANS_IN_MEMORY)
        self._added: LRUCache[str, bool] = LRUCache(MAX_PLANS)

    def find(self, key: PlanKey) -> ScanPlan | None:
        """Returns a plan; None if there is none, or its metadata has changed or is missing."""
        name = _name(key)
        with self._lock:
            parsed = self._parsed.get(name)
        try:
            if parsed is None:
                plan, files = ScanPlan.parse((self._folder / name).read_bytes())
                parsed = plan, [(path, state) for path, state in files]
            if any(self._state(path) != state for path, state in parsed[1]):
                parsed = None
        except (OSError, ValueError):
            parsed = None
        with self._lock:
            if parsed is None:
                self._added.pop(name, None)
                return None
            self._parsed[name] = parsed
        return parsed[0]

    def add(self, key: PlanKey, plan: ScanPlan, manifest_lists: Sequence[str]) -> None:
        """Stores a plan once, unless it is too large, a file of it is not local, or the cache cannot be written."""
        name, now = _name(key), time.time_ns()
        with self._lock:
            stored = self._added.get(name)
        if stored is False or (stored and (self._folder / name).exists()):
            return
        paths = {key.metadata_location, *manifest_lists, *plan.manifests}
        if not plan.storable or not self._are_local(plan.paths) or not self._are_local(paths):
            return
        try:
            states = [(path, self._state(path)) for path in sorted(paths)]
            data = plan.dump(states)
            if len(data) <= MAX_PLAN_BYTES:
                self._folder.mkdir(parents=True, exist_ok=True)
                write_atomically(str(self._folder / name), data, str(self._staging), (now, now))
                self._evict()
            with self._lock:
                self._added[name] = len(data) <= MAX_PLAN_BYTES
        except OSError as error:
            logger.info("cannot store the scan plan of %s: %s", key.metadata_location, error)

    def _are_local(self, locations: Iterable[str]) -> bool:
        return all(local_path(self.roots.actual(location)) is not None for location in locations)

    def _state(self, location: str) -> list[int]:
        """Returns numbers that identify a file in its current state."""
        now = os.stat(local_path(self.roots.actual(location)) or location)  # noqa: PTH116
        return [now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino, now.st_dev]

    def _evict(self) -> None:
        """Removes the oldest plans."""
        with os.scandir(self._folder) as entries:
            paths = [entry.path for entry in entries]
        if len(paths) <= MAX_PLANS:
            return
        for path in sorted(paths, key=_changed_at)[:-MAX_PLANS]:
            with suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108


def _name(key: PlanKey) -> str:
    return hashlib.sha256(repr((FORMAT, *key)).encode()).hexdigest()


def _changed_at(path: str) -> float:
    try:
        return os.stat(path).st_mtime  # noqa: PTH116
    except FileNotFoundError:  # another process has removed it
        return 0.0
