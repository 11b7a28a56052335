"""The identity of a process, by which another one can tell whether it still runs.

A number of a process is used again, so the time of its start belongs to the identity, and numbers of another boot, or
of another container, mean other processes.
"""

from __future__ import annotations

import functools
import os
import platform
from dataclasses import dataclass
from pathlib import Path

STATE, START = 0, 19
"""The places of the state and of the start time in ``/proc/<pid>/stat``, after the name of the program."""
ENDED = -1


@dataclass(frozen=True)
class ProcessIdentity:
    """A process.

    Attributes:
        machine: the boot of the machine and the namespace of process numbers.
        pid: the number of the process.
        began: the time of its start, in ticks since the boot; 0 if the system does not tell it.
    """

    machine: str
    pid: int
    began: int

    @classmethod
    def own(cls) -> ProcessIdentity:
        """Returns the identity of this process."""
        return cls(machine_identity(), os.getpid(), _start_of(os.getpid()) or 0)

    @property
    def is_gone(self) -> bool | None:
        """True if the process has ended, False if it runs; None if this machine cannot tell."""
        if self.machine != machine_identity():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # of another user
            pass
        began = _start_of(self.pid)
        if began is None or not self.began:
            return began == ENDED
        return began != self.began


def machine_identity() -> str:
    """Returns what all processes with the same process numbers share."""
    try:
        return f"{_boot()} {Path('/proc/self/ns/pid').readlink()}"  # a fork may be in another namespace
    except OSError:  # no Linux
        return platform.node()


@functools.cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start_of(pid: int) -> int | None:
    """Returns the time of the start of a process; `ENDED` for one that has ended, None if the system does not tell."""
    try:
        if str(Path("/proc/self").readlink()) != str(os.getpid()):
            return None  # /proc has the numbers of another namespace, in which this one is another process
        text = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    fields = text.rpartition(")")[2].split()
    if len(fields) <= START:
        return None
    return ENDED if fields[STATE] in "ZX" else int(fields[START])
