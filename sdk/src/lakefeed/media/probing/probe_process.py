"""One probing process, seen from ours: started, asked, killed."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from lakefeed._units import MIB
from lakefeed.media.probing.probe_worker import ANSWER_BYTES, END
from lakefeed.storage.disk.disk_errors import storage_errors

ProbeSource: TypeAlias = str | bytes | memoryview
"""A local path, or a content."""

Probe: TypeAlias = Callable[[BinaryIO], Mapping[str, int | float | None]]

START_SECONDS = 60.0
"""For a process to start and import its library, on a machine that has much else to do."""

SLACK_SECONDS = 2.0
"""A process ends itself when its time is up; after so much more we do."""

SPILL_BYTES = 16 * MIB
"""A longer content is handed over as a temporary file: a process has no memory for many of them."""

MAX_SOURCES = 64
"""In one request."""

ENVIRONMENT_VARIABLES = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH")
"""What a process sees of ours: no credentials."""

_PROGRAM = Path(__file__).with_name("probe_worker.py")
_TIMEOUT_STATUSES = (-signal.SIGALRM, -signal.SIGXCPU)


class ProcessEndedError(Exception):
    """The process is gone, or as good as; ``late`` if it was because its time was up."""

    def __init__(self, reason: str, *, late: bool = False) -> None:
        super().__init__(reason)
        self.late = late


class ProbeProcess:
    """A process that reads files for us. For one thread at a time, but ``kill`` may come from any.

    Args:
        memory_bytes: its address space.
    """

    def __init__(self, memory_bytes: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs, _shared_file() as file:
            self._memory = mmap.mmap(file.fileno(), END.size + MAX_SOURCES * ANSWER_BYTES)
            # Not multiprocessing: it would run the program of the user again, and import all of lakefeed.
            given = [str(memory_bytes), str(file.fileno()), json.dumps(sys.path)]
            program = [sys.executable, "-I", "-S", "-X", "utf8", str(_PROGRAM), *given]
            try:
                self._popen = subprocess.Popen(
                    program,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={name: os.environ[name] for name in ENVIRONMENT_VARIABLES if name in os.environ},
                    start_new_session=True,  # Ctrl-C is for us; we end it
                    pass_fds=(file.fileno(),),
                )
            except BaseException:
                ours.close()
                raise
        self._socket = ours
        self._loaded: set[Probe] = set()
        self.asked = 0
        """Files so far."""
        self.ended = False
        """Whether it ended after the last answer."""

    def ask(self, probe: Probe, sources: Sequence[ProbeSource], timeout: float) -> Iterator[dict[str, Any]]:
        """The answer for each source (`MOST_SOURCES` at most); given up on the way, the process is of no use.

        Raises:
            ProcessEndedError: at the next source it crashed, took more than ``timeout`` seconds or wanted too much
                memory.
        """
        wait = timeout + (0 if probe in self._loaded else START_SECONDS)
        end: ProcessEndedError | None = None
        END.pack_into(self._memory, 0, END.size)
        with contextlib.ExitStack() as stack:
            given = [_hand_over(source, stack) for source in sources]
            self._send(probe, given, timeout, wait)
            try:
                self._await(wait + SLACK_SECONDS, timeout + SLACK_SECONDS)
            except ProcessEndedError as ended:
                end = ended
        answers = self._answers()
        self.asked += len(answers)
        self._loaded.add(probe)
        for line in answers[: len(sources)]:
            answer = _parse_answer(line)
            if answer.get("memory"):
                raise ProcessEndedError("it needs more memory than is allowed")
            yield answer
        if len(answers) < len(sources):
            raise end or ProcessEndedError("the answers make no sense")
        self.ended = end is not None

    def kill(self) -> None:
        """Ends it; when this returns it is gone."""
        self._popen.kill()
        self._popen.wait()
        self._socket.close()

    def _send(self, probe: Probe, given: Sequence[ProbeSource], timeout: float, wait: float) -> None:
        paths = [source if isinstance(source, str) else len(source) for source in given]
        request = {"probe": [probe.__module__, probe.__qualname__], "sources": paths, "timeout": timeout}
        self._socket.settimeout(wait)
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            for source in given:
                if not isinstance(source, str):
                    self._socket.sendall(source)
        except TimeoutError:
            raise ProcessEndedError("the process does not listen", late=True) from None
        except OSError:
            raise self._ended() from None

    def _await(self, first: float, wait: float) -> None:
        """Waits until all is answered, for so many seconds without an answer; they are written down before."""
        known = END.size
        self._socket.settimeout(first)
        while True:
            try:
                if not self._socket.recv(1):
                    raise self._ended()
                return
            except TimeoutError:
                [now] = END.unpack_from(self._memory)
                if now == known:
                    raise ProcessEndedError("it takes too long", late=True) from None
                known = now
                self._socket.settimeout(wait)
            except OSError:
                raise self._ended() from None

    def _answers(self) -> list[bytes]:
        """What is answered so far."""
        [end] = END.unpack_from(self._memory)
        if not END.size <= end <= len(self._memory):
            raise ProcessEndedError("the answers make no sense")
        return self._memory[END.size : end].splitlines()

    def _ended(self) -> ProcessEndedError:
        try:
            status = self._popen.wait(SLACK_SECONDS)
        except subprocess.TimeoutExpired:
            return ProcessEndedError("the process hung up")
        if status in _TIMEOUT_STATUSES:
            return ProcessEndedError("it takes too long", late=True)
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        return ProcessEndedError(f"reading it ended the process ({how})")


def _parse_answer(line: bytes) -> dict[str, Any]:
    try:
        answer: Any = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ProcessEndedError("the answers make no sense")
    return answer


def _shared_file() -> BinaryIO:
    """A file for memory that two processes share; in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        file = cast(BinaryIO, os.fdopen(os.memfd_create("lakefeed"), "r+b"))
    else:
        file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - whoever asked for it closes it
    file.truncate(END.size + MAX_SOURCES * ANSWER_BYTES)
    return file


def _hand_over(source: ProbeSource, stack: contextlib.ExitStack) -> ProbeSource:
    if isinstance(source, str):
        return os.fsencode(source).decode(errors="surrogateescape")  # the process speaks UTF-8, whatever we do
    if len(source) <= SPILL_BYTES:
        return source
    with storage_errors(tempfile.gettempdir(), len(source)):
        file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="lakefeed-", buffering=0))  # noqa: SIM115 - the stack closes it
        _write_all(file, source)
    return file.name


def _write_all(file: Any, data: bytes | memoryview) -> None:
    left = memoryview(data)
    while len(left):
        left = left[file.write(left) :]
