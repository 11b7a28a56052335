"""Writes a run to the registry, in the background, so that neither a read nor a commit waits for the database.

A database that is away loses nothing: the inputs stay in memory, and each commit of the run carries them. They are
written when the run ends at the latest; if that fails, one warning says so.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import AbstractContextManager, suppress
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from lakefeed.catalog.current_run import ReadKey, RunState, VersionRead
from lakefeed.catalog.lake import Lake
from lakefeed.errors import LakefeedError
from lakefeed.provenance import code_capture, event_transport, run_store
from lakefeed.provenance.run_record import RunRecord

logger = logging.getLogger(__name__)

DELAY_SECONDS: Final = 0.2
"""Inputs that come within this time are written together."""
END_SECONDS: Final = 10.0
"""The time for which the end of a run waits for the database."""
THREAD_NAME: Final = "lakefeed-run"


class RunRecorder:
    """The recorder of one run. Thread-safe.

    A forked process writes its own inputs at once, because it has no thread, and may end without a sign.
    """

    def __init__(self, lake: Lake, record: RunRecord) -> None:
        self.state: RunState | None = None
        self._lake, self.record, self._pid = lake, record, os.getpid()
        self._environment: dict[str, object] | None = None
        self._written: dict[ReadKey, VersionRead] = {}
        self._thread: threading.Thread | None = None
        self._dirty = self._closed = self._forking = False
        self.failure: str | None = None
        self.after_fork()

    def begin(self) -> None:
        """Records the beginning of the run."""
        self._dirty = True
        self._start()
        event_transport.send_start(self._lake, self.record)

    def changed(self, state: RunState) -> None:
        """Records that the run has read another version."""
        self._dirty = True
        if os.getpid() != self._pid:
            self.try_flush()
        elif not self._closed:
            self._start()

    def flush(self) -> None:
        """Writes the run as it is now.

        Raises:
            LakefeedError, SQLAlchemyError, OSError: the database cannot be used.
        """
        with self._lock:
            self._dirty = False
            try:
                self._write()
            except BaseException:
                self._dirty = True
                raise

    def finish(self) -> None:
        """Writes the end of the run.

        Waits for the database as long as `END_SECONDS`, and warns if it did not answer.
        """
        self._closed = self._dirty = True
        self._wake.set()
        ending = threading.Thread(target=self.try_flush, name=THREAD_NAME, daemon=True)
        try:
            ending.start()
        except RuntimeError:  # the interpreter ends, and starts no more threads
            self.try_flush()
        else:
            ending.join(END_SECONDS)
        if self._dirty or ending.is_alive():
            logger.warning(
                "run %r is not recorded in the registry: %s. The versions that it has written name their inputs",
                self.record.name,
                self.failure or f"the database did not answer within {END_SECONDS:g} s",
            )
        event_transport.send_end(self._lake, self.record, self.state)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
                with suppress(RuntimeError):  # the interpreter ends: the end of the run writes
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        """Writes until nothing is left, and ends. The next input starts another thread."""
        while True:
            self._wake.wait(DELAY_SECONDS)
            with self._starting:
                if self._closed or not self._dirty or self.failure is not None:
                    self._thread = None
                    return
            self.try_flush()

    def try_flush(self) -> None:
        """Writes the run as it is now, unless nothing has changed. A database that is away is remembered."""
        if not self._dirty:
            return
        try:
            self.flush()
        except (LakefeedError, SQLAlchemyError, OSError) as error:
            self.failure = f"{type(error).__name__}: {error}"
            logger.debug("run %r could not be recorded", self.record.name, exc_info=True)
        else:
            self.failure = None

    def _write(self) -> None:
        assert self.state is not None, "it is set with the run"
        with self.state.lock:
            reads = list(self.state.inputs.values())
        new = [read for read in reads if self._written.get(read.key) != read]
        if os.getpid() != self._pid:  # the process that began the run tells its state
            run_store.write_inputs(self._lake, self.record, new)
        else:
            if self._environment is None:
                self._environment = code_capture.environment()
            run_store.write_run(self._lake, self.record, self._environment, new)
        self._written.update((read.key, read) for read in new)

    def before_fork(self) -> None:
        """Waits until no thread writes to the database.

        SQLite believes in a child process that the transactions of its parent go on, and so finds the file locked.
        """
        self._forking = self._lock.acquire(timeout=END_SECONDS)

    def after_fork_in_parent(self) -> None:
        """Lets threads write again."""
        if self._forking:
            self._lock.release()

    def exclusive(self) -> AbstractContextManager[object]:
        """Returns a context manager in which this process is not forked, and no other thread writes the run."""
        return self._lock

    def after_fork(self) -> None:
        """Makes new locks: those of the parent are held by a thread that this process does not have."""
        self._lock, self._starting, self._wake = threading.RLock(), threading.Lock(), threading.Event()
        self._thread = None
