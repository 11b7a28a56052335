"""A probing process from the side of its parent."""

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
"""A local path or a content."""

Probe: TypeAlias = Callable[[BinaryIO], Mapping[str, int | float | None]]

START_SECONDS = 60.0
"""The time for a process to start and import its library on a busy machine."""

SLACK_SECONDS = 2.0
"""A process ends itself at its timeout. After this additional time the parent kills it."""

SPILL_BYTES = 16 * MIB
"""Larger contents are passed as temporary files, because the memory of a process is limited."""

MAX_SOURCES = 64
"""The maximum number of sources in one request."""

ENVIRONMENT_VARIABLES = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH")
"""The environment variables that a process inherits. They hold no credentials."""

_PROGRAM = Path(__file__).with_name("probe_worker.py")
_TIMEOUT_STATUSES = (-signal.SIGALRM, -signal.SIGXCPU)


class ProcessEndedError(Exception):
    """The process ended or does not answer. ``timed_out``: its time was up."""

    def __init__(self, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out


class ProbeProcess:
    """A process that reads files. For one thread at a time; ``kill`` is thread-safe.

    Args:
        memory_bytes: the address space of the process.
    """

    def __init__(self, memory_bytes: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs, _shared_file() as file:
            self._memory = mmap.mmap(file.fileno(), END.size + MAX_SOURCES * ANSWER_BYTES)
            # Not multiprocessing, which would run the main program again and import all of lakefeed.
            arguments = [str(memory_bytes), str(file.fileno()), json.dumps(sys.path)]
            program = [sys.executable, "-I", "-S", "-X", "utf8", str(_PROGRAM), *arguments]
            try:
                self._popen = subprocess.Popen(
                    program,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={name: os.environ[name] for name in ENVIRONMENT_VARIABLES if name in os.environ},
                    start_new_session=True,  # Ctrl-C goes to the parent only
                    pass_fds=(file.fileno(),),
                )
            except BaseException:
                ours.close()
                raise
        self._socket = ours
        self._loaded: set[Probe] = set()
        self.files = 0
        """The number of files that were read."""
        self.ended = False
        """True if the process ended after the last answer."""

    def ask(self, probe: Probe, sources: Sequence[ProbeSource], timeout: float) -> Iterator[dict[str, Any]]:
        """Yields the answer for each source. The process cannot be used again if the iteration does not finish.

        Args:
            probe: the function to call in the process.
            sources: at most `MAX_SOURCES`.
            timeout: seconds per source.

        Raises:
            ProcessEndedError: at the next source the process crashed, timed out or exceeded its memory.
        """
        wait = timeout + (0 if probe in self._loaded else START_SECONDS)
        end: ProcessEndedError | None = None
        END.pack_into(self._memory, 0, END.size)
        with contextlib.ExitStack() as stack:
            inputs = [_hand_over(source, stack) for source in sources]
            self._send(probe, inputs, timeout, wait)
            try:
                self._wait(wait + SLACK_SECONDS, timeout + SLACK_SECONDS)
            except ProcessEndedError as ended:
                end = ended
        answers = self._answers()
        self.files += len(answers)
        self._loaded.add(probe)
        for line in answers[: len(sources)]:
            answer = _parse_answer(line)
            if answer.get("memory"):
                raise ProcessEndedError("it needs more memory than allowed")
            yield answer
        if len(answers) < len(sources):
            raise end or ProcessEndedError("the process sent invalid answers")
        self.ended = end is not None

    def kill(self) -> None:
        """Kills the process and waits for its end."""
        self._popen.kill()
        self._popen.wait()
        self._socket.close()

    def _send(self, probe: Probe, inputs: Sequence[ProbeSource], timeout: float, wait: float) -> None:
        paths = [source if isinstance(source, str) else len(source) for source in inputs]
        request = {"probe": [probe.__module__, probe.__qualname__], "sources": paths, "timeout": timeout}
        self._socket.settimeout(wait)
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            for source in inputs:
                if not isinstance(source, str):
                    self._socket.sendall(source)
        except TimeoutError:
            raise ProcessEndedError("the process does not listen", timed_out=True) from None
        except OSError:
            raise self._end_error() from None

    def _wait(self, first: float, wait: float) -> None:
        """Waits for the end of a request, ``first`` seconds for the first answer and ``wait`` for each later one."""
        end = END.size
        self._socket.settimeout(first)
        while True:
            try:
                if not self._socket.recv(1):
                    raise self._end_error()
                return
            except TimeoutError:
                [new_end] = END.unpack_from(self._memory)
                if new_end == end:
                    raise ProcessEndedError("it takes too long", timed_out=True) from None
                end = new_end
                self._socket.settimeout(wait)
            except OSError:
                raise self._end_error() from None

    def _answers(self) -> list[bytes]:
        """Returns the answers in shared memory."""
        [end] = END.unpack_from(self._memory)
        if not END.size <= end <= len(self._memory):
            raise ProcessEndedError("the process sent invalid answers")
        return self._memory[END.size : end].splitlines()

    def _end_error(self) -> ProcessEndedError:
        try:
            status = self._popen.wait(SLACK_SECONDS)
        except subprocess.TimeoutExpired:
            return ProcessEndedError("the process hung up")
        if status in _TIMEOUT_STATUSES:
            return ProcessEndedError("it takes too long", timed_out=True)
        cause = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        return ProcessEndedError(f"reading it ended the process ({cause})")


def _parse_answer(line: bytes) -> dict[str, Any]:
    try:
        answer: Any = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ProcessEndedError("the process sent invalid answers")
    return answer


def _shared_file() -> BinaryIO:
    """Returns a file for memory that two processes share, without a disk file if the system supports that."""
    if hasattr(os, "memfd_create"):
        file = cast(BinaryIO, os.fdopen(os.memfd_create("lakefeed"), "r+b"))
    else:
        file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - the caller closes it
    file.truncate(END.size + MAX_SOURCES * ANSWER_BYTES)
    return file


def _hand_over(source: ProbeSource, stack: contextlib.ExitStack) -> ProbeSource:
    if isinstance(source, str):
        return os.fsencode(source).decode(errors="surrogateescape")  # the process uses UTF-8
    if len(source) <= SPILL_BYTES:
        return source
    with storage_errors(tempfile.gettempdir(), len(source)):
        file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="lakefeed-", buffering=0))  # noqa: SIM115 - the stack closes it
        _write_all(file, source)
    return file.name


def _write_all(file: Any, data: bytes | memoryview) -> None:
    remaining = memoryview(data)
    while len(remaining):
        remaining = remaining[file.write(remaining) :]
