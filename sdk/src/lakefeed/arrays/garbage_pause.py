"""Pauses of Python's garbage collector while h5py reads a stream that waits for other threads.

h5py has one lock. It holds the lock while it reads a stream, and needs it to free any of its objects. If the thread
that the stream waits for (such as the event loop of fsspec) collects garbage, and an object of h5py is in it, these two
threads wait for each other for ever.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from time import monotonic, sleep
from typing import Any, Final

MAX_WAIT_SECONDS: Final = 5.0
"""A collection that takes longer is one that called this thread, or waits for another user of h5py."""
POLL_SECONDS: Final = 0.001


@contextmanager
def pause_garbage_collection() -> Iterator[None]:
    """Keeps all threads from collecting garbage in the block, unless they call ``gc.collect``. One thread at a time.

    The block begins when no thread collects garbage any more.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        _wait_for_collection()
        yield
    finally:
        gc.enable()


def _wait_for_collection() -> None:
    """Waits for the end of a collection that another thread has begun.

    ``gc.collect`` does nothing, and calls no callback, while another collection is running.
    """
    phases: list[str] = []
    thread = get_ident()

    def note(phase: str, info: dict[str, Any]) -> None:
        if get_ident() == thread:
            phases.append(phase)

    gc.callbacks.append(note)
    try:
        end = monotonic() + MAX_WAIT_SECONDS
        gc.collect(0)
        while not phases and monotonic() < end:
            sleep(POLL_SECONDS)
            gc.collect(0)
    finally:
        gc.callbacks.remove(note)
