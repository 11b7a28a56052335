"""Files that a thread keeps open between reads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Final, TypeVar

File = TypeVar("File")


FILES_KEPT: Final = 3
"""A data file and column files that are read in turns."""


class _OpenFiles(threading.local):
    """The files that this thread keeps open, the one that was read last at the end. They are closed when it ends."""

    enabled = False

    def __init__(self) -> None:
        self._files: dict[Hashable, tuple[Any, ExitStack]] = {}

    def store(self, key: Hashable, file: Any, stack: ExitStack) -> None:
        # A read that began inside this one may have stored the same file.
        self._close(key)
        self._files[key] = file, stack
        if len(self._files) > FILES_KEPT:
            self._close(next(iter(self._files)))

    def pop(self, key: Hashable) -> tuple[Any, ExitStack] | None:
        """Removes and returns the open file with this key."""
        return self._files.pop(key, None)

    def _close(self, key: Hashable) -> None:
        entry = self._files.pop(key, None)
        if entry is not None:
            entry[1].close()


_open_files = _OpenFiles()


def keep_files_open() -> None:
    """Makes this thread keep the last files that it read open, until it reads others or ends."""
    _open_files.enabled = True


def reuse_open_file(key: Hashable, open_file: Callable[[], AbstractContextManager[File]]) -> ReusedFile[File]:
    """Returns the file with this key: one that this thread keeps open, or else the result of ``open_file()``.

    The file is closed afterwards unless the thread keeps files open, and always after an error.
    """
    return ReusedFile(key, open_file)


class ReusedFile(AbstractContextManager[File]):
    """The context in which a file is read (see `reuse_open_file`). Each row group enters one for each file."""

    def __init__(self, key: Hashable, open_file: Callable[[], AbstractContextManager[File]]) -> None:
        self._key, self._open_file = key, open_file

    def __enter__(self) -> File:
        entry = _open_files.pop(self._key)
        self._stack = ExitStack() if entry is None else entry[1]
        self._file: File = self._stack.enter_context(self._open_file()) if entry is None else entry[0]
        return self._file

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool | None:
        if kind is None and _open_files.enabled:
            _open_files.store(self._key, self._file, self._stack)
            return None
        return self._stack.__exit__(kind, error, trace)
