"""One probing process, seen from ours: started, asked, killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

Source: TypeAlias = str | bytes | memoryview
"""A local path, or a content."""

Probe: TypeAlias = Callable[[BinaryIO], Mapping[str, int | float | None]]

START_SECONDS = 60.0
"""For a process to start and import its library, on a machine that has much else to do."""

SLACK_SECONDS = 2.0
"""A process ends itself when its time is up; after so much more we do."""

SPILLED_BYTES = 16 << 20
"""A longer content is handed over as a temporary file: a process has no memory for many of them."""

ANSWER_BYTES = 1 << 16
ENVIRONMENT = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH")
"""What a process sees of ours: no credentials."""

_PROGRAM = Path(__file__).with_name("worker.py")
_TIME_IS_UP = (-signal.SIGALRM, -signal.SIGXCPU)


class ProcessEndedError(Exception):
    """The process is gone, or as good as; ``late`` if it was because its time was up."""

    def __init__(self, reason: str, *, late: bool = False) -> None:
        super().__init__(reason)
        self.late = late


class Process:
    """A process that reads files for us. For one thread at a time, but ``kill`` may come from any.

    Args:
        memory_bytes: its address space.
    """

    def __init__(self, memory_bytes: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # Not multiprocessing: it would run the program of the user again, and import all of lakefeed.
            program = [sys.executable, "-I", "-S", "-X", "utf8", str(_PROGRAM), str(memory_bytes), json.dumps(sys.path)]
            try:
                self._popen = subprocess.Popen(
                    program,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
                    start_new_session=True,  # Ctrl-C is for us; we end it
                )
            except BaseException:
                ours.close()
                raise
        self._socket = ours
        self._received = b""
        self._loaded: set[Probe] = set()
        self.asked = 0
        """Files so far."""

    def ask(self, probe: Probe, sources: Sequence[Source], timeout: float) -> Iterator[dict[str, Any]]:
        """The answer for each source, as it comes; an iteration that is given up leaves the process of no use.

        Raises:
            ProcessEndedError: at the next source it crashed, took more than ``timeout`` seconds or wanted too much
                memory.
        """
        first_wait = timeout + (0 if probe in self._loaded else START_SECONDS)
        with contextlib.ExitStack() as stack:
            given = [_handed_over(source, stack) for source in sources]
            self._send(probe, given, timeout, first_wait)
            for number in range(len(given)):
                answer = self._answer((timeout if number else first_wait) + SLACK_SECONDS)
                self.asked += 1
                self._loaded.add(probe)
                if answer.get("memory"):
                    raise ProcessEndedError("it needs more memory than is allowed")
                yield answer

    def kill(self) -> None:
        """Ends it; when this returns it is gone."""
        self._popen.kill()
        self._popen.wait()
        self._socket.close()

    def _send(self, probe: Probe, given: Sequence[Source], timeout: float, wait: float) -> None:
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

    def _answer(self, wait: float) -> dict[str, Any]:
        until = time.monotonic() + wait
        while b"\n" not in self._received:
            if len(self._received) > ANSWER_BYTES:
                raise ProcessEndedError("the answer makes no sense")
            try:
                self._socket.settimeout(max(until - time.monotonic(), 0.001))
                piece = self._socket.recv(ANSWER_BYTES)
            except TimeoutError:
                raise ProcessEndedError("it takes too long", late=True) from None
            except OSError:
                raise self._ended() from None
            if not piece:
                raise self._ended()
            self._received += piece
        line, _, self._received = self._received.partition(b"\n")
        try:
            answer: Any = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ProcessEndedError("the answer makes no sense")
        return answer

    def _ended(self) -> ProcessEndedError:
        try:
            status = self._popen.wait(SLACK_SECONDS)
        except subprocess.TimeoutExpired:
            return ProcessEndedError("the process hung up")
        if status in _TIME_IS_UP:
            return ProcessEndedError("it takes too long", late=True)
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        return ProcessEndedError(f"reading it ended the process ({how})")


def _handed_over(source: Source, stack: contextlib.ExitStack) -> Source:
    if isinstance(source, str):
        return os.fsencode(source).decode(errors="surrogateescape")  # the process speaks UTF-8, whatever we do
    if len(source) <= SPILLED_BYTES:
        return source
    file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="lakefeed-"))  # noqa: SIM115 - the stack closes it
    file.write(source)
    file.flush()
    return file.name
