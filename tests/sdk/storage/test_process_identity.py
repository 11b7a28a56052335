"""Identities of processes: of those that run, have ended, are zombies, or are on other machines."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from lakefeed.storage.disk.process_identity import ProcessIdentity, machine_identity


def test_only_a_process_that_runs_is_not_gone() -> None:
    own = ProcessIdentity.own()
    assert own.is_gone is False
    assert replace(own, began=own.began + 1).is_gone is True, "its number is used again"
    assert replace(own, machine="other").is_gone is None
    assert ProcessIdentity(machine_identity(), 1 << 22, 1).is_gone is True
    child = os.fork()
    if not child:
        signal.pause()
    running = ProcessIdentity(own.machine, child, 1)
    assert running.is_gone is True, "another start"
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert replace(running, began=-1).is_gone is False, "a zombie has no start"
    assert running.is_gone is True
    os.waitpid(child, 0)
    assert running.is_gone is True


def test_a_process_whose_start_cannot_be_read_runs_as_long_as_its_number_exists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a container without a ``/proc`` of its own, the numbers there are those of other processes."""
    own = ProcessIdentity.own()
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", os.getppid)
        inside = ProcessIdentity.own()
        assert inside.began == 0
        assert inside.is_gone is False
        assert own.is_gone is False
        assert replace(own, pid=1 << 22).is_gone is True
    assert inside.is_gone is False, "where the start can be read"
