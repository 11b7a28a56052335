"""Syncing of files to disk before the catalog refers to them, so that a power failure loses no version."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from lakefeed.catalog.path_roots import plain_path
from lakefeed.storage.disk.disk_errors import storage_errors


def local_path(location: str) -> Path | None:
    """Returns the local path of a location; None for other stores."""
    path = plain_path(location)
    return None if path is None else Path(path)


def sync_files(locations: Iterable[str]) -> None:
    """Syncs local files to disk. Object stores need no sync."""
    for path in map(local_path, locations):
        if path is not None:
            _sync(path)


def sync_folder(location: str) -> None:
    """Syncs the folder of a local file to disk, so that the name of the file is durable."""
    path = local_path(location)
    if path is not None and os.name == "posix":  # elsewhere a folder cannot be opened
        _sync(path.parent)


def _sync(path: Path) -> None:
    with storage_errors(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
