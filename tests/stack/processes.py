"""Processes that use the lake of a test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

HEAD = """
import sys
from lakefeed import Dataset
me = int(sys.argv[1])

def say(*words):
    print(*words, flush=True)
"""


def start(code: str, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", HEAD + code, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ.copy())


def finish(processes: Sequence[subprocess.Popen[str]], patience: float = 100.0) -> list[str]:
    """What each of them said; all must succeed, within so many seconds each. None outlives this."""
    try:
        said = [process.communicate(timeout=patience)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0] * len(processes)
    return said
