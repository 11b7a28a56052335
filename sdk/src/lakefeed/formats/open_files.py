"""Files that a thread keeps open between reads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
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


@contextmanager
def reuse_open_file(key: Hashable, open_file: Callable[[], AbstractContextManager[File]]) -> Iterator[File]:
    """Returns the file with this key: one that this thread keeps open, or else the result of ``open_file()``.

    The file is closed afterwards unless the thread keeps files open, and always after an error.
    """
    entry = _open_files.pop(key)
    with ExitStack() as stack:
        if entry is None:
            file = stack.enter_context(open_file())
        else:
            file = entry[0]
            stack.push(entry[1])
        yield file
        if _open_files.enabled:
            _open_files.store(key, file, stack.pop_all())
