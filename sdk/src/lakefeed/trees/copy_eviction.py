"""The room that local copies of trees take: those that nobody has used for a day go, the oldest first."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from lakefeed.storage.disk.locks import lock_descriptor, unlock_and_close
from lakefeed.storage.disk.scratch import scratch_folder
from lakefeed.trees.copy_manifest import MANIFEST, TREE, manifest_bytes, read_manifest
from lakefeed.trees.copy_state import inspect

logger = logging.getLogger(__name__)

LOCK: Final = "lock"
GRACE_SECONDS: Final = 24 * 3_600.0
"""A copy that was asked for within this time stays."""

_held: dict[str, int] = {}
"""The descriptors of the locks of the copies that this process was given, which end with it."""


def mark_used(folder: Path) -> bool:
    """Records that this process uses a copy, until it ends. Returns whether the copy still exists."""
    with suppress(OSError):  # the copy of another user in a shared cache, or a read-only disk
        os.utime(folder / MANIFEST)
        if str(folder) not in _held:
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            lock_descriptor(descriptor, shared=True)
            _held[str(folder)] = descriptor
    exists = (folder / MANIFEST).exists()
    if not exists and str(folder) in _held:
        unlock_and_close(_held.pop(str(folder)))
    return exists


def last_use(folder: Path) -> float | None:
    """Returns the time of the last use of a copy; None if this is not a copy."""
    try:
        return (folder / MANIFEST).stat().st_mtime
    except OSError:
        return None


def evict(root: Path, limit: int, needed: int) -> None:
    """Removes copies that nobody uses until the others and ``needed`` bytes fit into ``limit``."""
    used = [(at, folder) for folder in root.iterdir() if (at := last_use(folder)) is not None]
    sizes = {folder: manifest_bytes(folder) for _, folder in used}
    total = sum(sizes.values()) + needed
    for at, folder in sorted(used):
        if total <= limit or at > time.time() - GRACE_SECONDS:
            return
        if _remove(folder):
            total -= sizes[folder]


def _remove(folder: Path) -> bool:
    """Removes a copy, unless a process uses it, or somebody has put files into it."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        return False
    try:
        if (
            not lock_descriptor(descriptor, timeout=0)
            or inspect(folder / TREE, read_manifest(folder)).extra is not None
        ):
            return False
        logger.info("removing the copy %s, which nobody has used for a day", folder)
        with scratch_folder(folder.parent, "new-") as scratch:  # which removes it, also after a kill
            folder.rename(scratch / "copy")
    finally:
        unlock_and_close(descriptor)
    return True
