"""Reads that do not wait for the disk: of files that the system has in memory."""

from __future__ import annotations

import errno
import os

NOWAIT = getattr(os, "RWF_NOWAIT", 0)
"""Where the system does not know this, they do wait."""


def read_in_memory(descriptor: int, target: memoryview, start: int = 0) -> int:
    """Fills ``target`` from the place ``start`` of a file; how many bytes there were in memory."""
    try:
        return os.preadv(descriptor, [target], start, NOWAIT)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return 0
        if error.errno != errno.EOPNOTSUPP:
            raise
        return os.preadv(descriptor, [target], start)
