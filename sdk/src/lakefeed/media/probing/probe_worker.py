"""The program of a probing process, run as a file: it answers the requests that come through its standard input.

Standard input is a socket. A request is a line of JSON (what to call, and per source its path or the length of its
content) and then the contents. The answers are lines of JSON, one a source and in order, in memory that is shared with
the one that asked: they are there even if the next source ends this process. After the last one a byte is sent. What
comes back is read as JSON because a file that took over this process must not take over the one that asked.

This process may be killed at any file. It limits itself, so that it ends even if nobody is left to end it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import json
import mmap
import os
import resource
import select
import signal
import socket
import stat
import struct
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

IDLE_SECONDS = 5.0
"""How often an idle process looks whether the one that asks is still there."""

END = struct.Struct("<Q")
"""At the beginning of the shared memory: where the answers end that follow it, a line each."""

ANSWER_BYTES = 4096
"""Of one answer at most."""

OPEN_FILES = 64
REASON_CHARACTERS = 300
PACKAGE = "lakefeed"


def main(memory_bytes: int, shared: int, paths: list[str]) -> None:
    """Answers requests until the other side is gone."""
    parent = os.getppid()
    sys.path[:] = paths
    memory = mmap.mmap(shared, 0)
    os.close(shared)
    _limit_resources(memory_bytes)
    _install_light_packages()
    with socket.socket(fileno=os.dup(0)) as connection, connection.makefile("rb") as channel:
        while _wait_for_request(connection, parent) and (line := channel.readline()):
            request = json.loads(line)
            contents = [None if isinstance(given, str) else channel.read(given) for given in request["sources"]]
            end = END.size
            for given, content in zip(request["sources"], contents, strict=True):
                answer = json.dumps(_answer(request, given, content)).encode() + b"\n"
                if len(answer) > ANSWER_BYTES:
                    answer = b'{"problem": "what is known of it takes too much room"}\n'
                memory[end : end + len(answer)] = answer
                end += len(answer)
                END.pack_into(memory, 0, end)
            _limit_time(0)
            connection.sendall(b"\n")


def _answer(request: dict[str, Any], given: Any, content: bytes | None) -> dict[str, Any]:
    try:
        probe = _load_probe(*request["probe"])
        _limit_time(request["timeout"])
        with _open_regular(given) if content is None else io.BytesIO(content) as stream:
            return {"stats": dict(probe(stream))}
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises on bytes that were made to break it
        problem = (str(error) or type(error).__name__)[:REASON_CHARACTERS]
        missing = type(error).__name__ == "MissingDependencyError"
        return {"problem": problem, "missing": missing, "memory": isinstance(error, MemoryError)}


@functools.cache
def _load_probe(module_name: str, name: str) -> Callable[[BinaryIO], dict[str, Any]]:
    """The probe, its library loaded."""
    if not module_name.startswith(f"{PACKAGE}."):
        _remove_light_packages()
    module = importlib.import_module(module_name)
    getattr(module, "load", lambda: None)()
    found: Callable[[BinaryIO], dict[str, Any]] = getattr(module, name)
    return found


def _open_regular(path: str) -> BinaryIO:
    """The file, which is a regular one: a pipe or device could keep us waiting for ever."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError("it is no regular file")
    return os.fdopen(number, "rb", 1 << 16)


def _limit_resources(memory_bytes: int) -> None:
    """No more memory than that, no file written, no core dump, few files open."""
    for what, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(ValueError):  # macOS knows no limit of the address space
            resource.setrlimit(what, (most, hard))


def _limit_time(seconds: float) -> None:
    """The process is killed after so many seconds, by the clock or of computing; 0 for no end."""
    signal.setitimer(signal.ITIMER_REAL, seconds)  # unhandled, SIGALRM ends the process even within a C library
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    most = int(used.ru_utime + used.ru_stime + seconds) + 2 if seconds else hard
    resource.setrlimit(resource.RLIMIT_CPU, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _install_light_packages() -> None:
    """``lakefeed`` and ``lakefeed.media`` without what they import: a start of 50 ms in place of one second."""
    media = Path(__file__).parents[1]
    for name, folder in ((PACKAGE, media.parent), (f"{PACKAGE}.media", media)):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package


def _remove_light_packages() -> None:
    """A probe from elsewhere may import all of lakefeed."""
    if not hasattr(sys.modules.get(PACKAGE), "__all__"):
        for name in [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]:
            del sys.modules[name]


def _wait_for_request(connection: socket.socket, parent: int) -> bool:
    """True once there is a request; False if the one that asks has died and left its socket to a child."""
    while not select.select([connection], [], [], IDLE_SECONDS)[0]:
        if os.getppid() != parent:
            return False
    return True


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
