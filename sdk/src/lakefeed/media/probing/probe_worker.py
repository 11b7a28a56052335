"""The program of a probing process, which answers requests from its standard input.

Standard input is a socket. A request is a line of JSON (the function to call, and for each source its path or the
length of its content), followed by the contents. The answers are lines of JSON, one per source in order, in memory that
is shared with the parent. So they survive if the next source ends this process. A byte is sent after the last answer.
Answers are JSON because a file that takes over this process must not take over the parent.

Any file may kill this process. It limits its own time, so that it also ends if the parent is gone.
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
"""The interval at which an idle process checks that its parent exists."""

END = struct.Struct("<Q")
"""The start of the shared memory: the end offset of the answers that follow it, one per line."""

ANSWER_BYTES = 4096
"""The maximum length of an answer."""

OPEN_FILES = 64
REASON_CHARACTERS = 300
PACKAGE = "lakefeed"


def main(memory_bytes: int, shared: int, paths: list[str]) -> None:
    """Answers requests until the parent is gone."""
    parent = os.getppid()
    sys.path[:] = paths
    memory = mmap.mmap(shared, 0)
    os.close(shared)
    _limit_resources(memory_bytes)
    _install_light_packages()
    with socket.socket(fileno=os.dup(0)) as connection, connection.makefile("rb") as channel:
        while _wait_for_request(connection, parent) and (line := channel.readline()):
            request = json.loads(line)
            contents = [None if isinstance(source, str) else channel.read(source) for source in request["sources"]]
            end = END.size
            for source, content in zip(request["sources"], contents, strict=True):
                answer = json.dumps(_answer(request, source, content)).encode() + b"\n"
                if len(answer) > ANSWER_BYTES:
                    answer = b'{"problem": "the answer is too long"}\n'
                memory[end : end + len(answer)] = answer
                end += len(answer)
                END.pack_into(memory, 0, end)
            _limit_time(0)
            connection.sendall(b"\n")


def _answer(request: dict[str, Any], source: Any, content: bytes | None) -> dict[str, Any]:
    try:
        probe = _load_probe(*request["probe"])
        _limit_time(request["timeout"])
        with _open_regular(source) if content is None else io.BytesIO(content) as stream:
            return {"stats": dict(probe(stream))}
    except Exception as error:  # noqa: BLE001 - decoders raise any exception for malicious bytes
        problem = (str(error) or type(error).__name__)[:REASON_CHARACTERS]
        missing = type(error).__name__ == "MissingDependencyError"
        return {"problem": problem, "missing": missing, "memory": isinstance(error, MemoryError)}


@functools.cache
def _load_probe(module_name: str, name: str) -> Callable[[BinaryIO], dict[str, Any]]:
    """Returns the probe after loading its library."""
    if not module_name.startswith(f"{PACKAGE}."):
        _remove_light_packages()
    module = importlib.import_module(module_name)
    getattr(module, "load", lambda: None)()
    probe: Callable[[BinaryIO], dict[str, Any]] = getattr(module, name)
    return probe


def _open_regular(path: str) -> BinaryIO:
    """Opens a regular file. A pipe or device could block forever."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError("it is not a regular file")
    return os.fdopen(number, "rb", 1 << 16)


def _limit_resources(memory_bytes: int) -> None:
    """Limits memory and the number of open files, and forbids written files and core dumps."""
    for limit, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
    ):
        hard = resource.getrlimit(limit)[1]
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError):  # macOS has no limit of the address space
            resource.setrlimit(limit, (soft, hard))


def _limit_time(seconds: float) -> None:
    """Lets the system kill the process after ``seconds`` of wall or CPU time; 0 for no limit."""
    signal.setitimer(signal.ITIMER_REAL, seconds)  # unhandled, SIGALRM ends the process even within a C library
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(used.ru_utime + used.ru_stime + seconds) + 2 if seconds else hard
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _install_light_packages() -> None:
    """Installs ``lakefeed`` and ``lakefeed.media`` without their imports, to start in 50 ms instead of one second."""
    media = Path(__file__).parents[1]
    for name, folder in ((PACKAGE, media.parent), (f"{PACKAGE}.media", media)):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package


def _remove_light_packages() -> None:
    """Removes the light packages, because a probe of another package may import all of lakefeed."""
    if not hasattr(sys.modules.get(PACKAGE), "__all__"):
        for name in [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]:
            del sys.modules[name]


def _wait_for_request(connection: socket.socket, parent: int) -> bool:
    """Returns True when a request arrives, False if the parent has died and left its socket to a child."""
    while not select.select([connection], [], [], IDLE_SECONDS)[0]:
        if os.getppid() != parent:
            return False
    return True


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]))
