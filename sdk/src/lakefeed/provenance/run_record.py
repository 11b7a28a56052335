"""The facts of a run that are stored."""

from __future__ import annotations

import getpass
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from lakefeed.catalog.running_code import RunningCode
from lakefeed.storage.disk.process_identity import ProcessIdentity


class RunStatus(StrEnum):
    """The state of a run. LOST: its process ended without a word, as after SIGKILL."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"
    LOST = "lost"


def now_ms() -> int:
    """Returns the time, in milliseconds since 1970 (UTC)."""
    return time.time_ns() // 1_000_000


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return f"uid-{os.getuid()}"


@dataclass
class RunRecord:
    """A run as it is stored.

    Attributes:
        id: the id.
        name: the name.
        code: the code.
        params: the parameters, as values that JSON has.
        arguments: the arguments of the program.
        parent: the id of the run around it.
        parent_name: the name of that run.
        status: the state.
        error: the error that ended it, as text.
        started: the time of its beginning, in milliseconds since 1970 (UTC).
        finished: the time of its end; None while it runs.
        user: the user of the operating system.
        host: the name of the machine.
        process: the process.
    """

    id: str
    name: str
    code: RunningCode
    params: Mapping[str, Any] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    parent: str | None = None
    parent_name: str | None = None
    status: RunStatus = RunStatus.RUNNING
    error: str | None = None
    started: int = field(default_factory=now_ms)
    finished: int | None = None
    user: str = field(default_factory=_user)
    host: str = field(default_factory=platform.node)
    process: ProcessIdentity = field(default_factory=ProcessIdentity.own)

    def end(self, status: RunStatus, error: str | None) -> None:
        """Records the end of the run."""
        self.status, self.error, self.finished = status, error, now_ms()

    def facts(self) -> dict[str, Any]:
        """Returns the facts that have no column of their own."""
        known = {"arguments": self.arguments, "host": self.host, "pid": self.process.pid, "error": self.error}
        return {name: value for name, value in known.items() if value}
