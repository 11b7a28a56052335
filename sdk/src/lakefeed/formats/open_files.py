"""Files that a thread keeps open between reads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar

File = TypeVar("File")


class _OpenFile(threading.local):
    """The file that this thread keeps open, at most one. It is closed when the thread ends."""

    enabled = False
    key: Hashable = None
    file: Any = None
    stack: ExitStack | None = None

    def store(self, key: Hashable, file: Any, stack: ExitStack) -> None:
        # A read that began inside this one may have stored another file.
        self.close()
        self.key, self.file, self.stack = key, file, stack

    def pop(self, key: Hashable) -> tuple[Any, ExitStack] | None:
        """Removes and returns the open file if it has this key. Closes another one."""
        if self.stack is None or self.key != key:
            self.close()
            return None
        entry = (self.file, self.stack)
        self.key = self.file = self.stack = None
        return entry

    def close(self) -> None:
        stack, self.key, self.file, self.stack = self.stack, None, None, None
        if stack is not None:
            stack.close()


_open_file = _OpenFile()


def keep_files_open() -> None:
    """Makes this thread keep the last file that it read open, until it reads another one or ends."""
    _open_file.enabled = True


@contextmanager
def reuse_open_file(key: Hashable, open_file: Callable[[], AbstractContextManager[File]]) -> Iterator[File]:
    """Returns the file with this key: the one that this thread keeps open, or else the result of ``open_file()``.

    The file is closed afterwards unless the thread keeps files open, and always after an error.
    """
    entry = _open_file.pop(key)
    with ExitStack() as stack:
        if entry is None:
            file = stack.enter_context(open_file())
        else:
            file = entry[0]
            stack.push(entry[1])
        yield file
        if _open_file.enabled:
            _open_file.store(key, file, stack.pop_all())
