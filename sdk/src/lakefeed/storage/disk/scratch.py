"""Temporary folders of one process, which later processes remove if it was killed."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lakefeed.storage.disk.disk_errors import storage_errors
from lakefeed.storage.disk.locks import file_lock

LOCK_SUFFIX = ".lock"
PRIVATE = 0o600


def scratch_name(prefix: str) -> str:
    """Returns a name that no other folder has."""
    return f"{prefix}{uuid.uuid4().hex}"


@contextmanager
def scratch_folder(parent: Path, prefix: str, name: str | None = None) -> Iterator[Path]:
    """Yields a new folder under ``parent`` that only this user can read. Removes it on exit if it is still there.

    ``name``: of `scratch_name`, for a folder that is to have the same path again; None: a new one.

    A killed process leaves its folder behind without the lock of the file beside it. The next call with the same
    prefix removes such folders.

    Raises:
        StorageError: the folder cannot be created.
    """
    with storage_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(parent, prefix)
    folder = parent / (name or scratch_name(prefix))
    with file_lock(parent / f"{folder.name}{LOCK_SUFFIX}", mode=PRIVATE, temporary=True):
        try:
            with storage_errors(folder):
                folder.mkdir(0o700)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    for path in parent.glob(f"{prefix}*{LOCK_SUFFIX}"):
        # BlockingIOError: the owner is alive.
        with suppress(OSError), file_lock(path, timeout=0, mode=PRIVATE, temporary=True):
            shutil.rmtree(path.with_name(path.name.removesuffix(LOCK_SUFFIX)), ignore_errors=True)
