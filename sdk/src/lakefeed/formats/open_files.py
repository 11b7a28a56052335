"""What a thread keeps open, since it will read on in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar

File = TypeVar("File")


class _OpenFile(threading.local):
    """The one file that this thread has open; it goes with the thread."""

    enabled = False
    key: Hashable = None
    file: Any = None
    stack: ExitStack | None = None

    def keep(self, key: Hashable, file: Any, stack: ExitStack) -> None:
        # Another may have been kept meanwhile, by a read that began in the middle of this one.
        self.close()
        self.key, self.file, self.stack = key, file, stack

    def take(self, key: Hashable) -> tuple[Any, ExitStack] | None:
        """The open file, no longer kept, if it is this one; another one is closed."""
        if self.stack is None or self.key != key:
            self.close()
            return None
        found = (self.file, self.stack)
        self.key = self.file = self.stack = None
        return found

    def close(self) -> None:
        stack, self.key, self.file, self.stack = self.stack, None, None, None
        if stack is not None:
            stack.close()


_open_file = _OpenFile()


def keep_files_open() -> None:
    """From now on this thread keeps the last file that it read open, until it reads another one or ends."""
    _open_file.enabled = True


@contextmanager
def reuse_open_file(key: Hashable, opened: Callable[[], AbstractContextManager[File]]) -> Iterator[File]:
    """The file that ``key`` stands for: the one that this thread kept open, else ``opened()``.

    It is closed afterwards unless the thread keeps files open; always after an error.
    """
    found = _open_file.take(key)
    with ExitStack() as stack:
        if found is None:
            file = stack.enter_context(opened())
        else:
            file = found[0]
            stack.push(found[1])
        yield file
        if _open_file.enabled:
            _open_file.keep(key, file, stack.pop_all())
