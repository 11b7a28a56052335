"""Real processes that run a program, forked from a server that has everything imported.

An interpreter takes seconds to import what a program needs, a fork of one that has done so a hundredth of one. Tests of
what an interpreter does at its beginning, or at its end, start one.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import tempfile
import textwrap
import threading
import time
import types
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import TextIO

PRELOADED = [
    "tests.sdk.victims",
    "duckdb",
    "lakefeed.catalog.sql_catalog",
    "lakefeed.catalog.open_catalog",
    "lakefeed.registry.dataset_records",
    "lakefeed.registry.file_records",
    "lakefeed.run.row_edits",
    "lakefeed.run.to_memory",
    "lakefeed.trees.file_tree",
    "multiprocessing.synchronize",
    "numpy.random",
    "pandas",
    "pyarrow.dataset",
    "pyarrow.pandas_compat",
    "pyarrow.parquet",
    "pyiceberg.catalog.sql",
    "sqlalchemy.dialects.sqlite",
]
LARGE = ["torch", "lakefeed.loaders.torch_loader"]
"""Imported where a test that is collected has imported them."""
PATIENCE_SECONDS = 100.0


def context() -> ForkServerContext:
    """The server that forks; one for all tests that a worker of pytest runs."""
    server = multiprocessing.get_context("forkserver")
    assert all(find_spec(name) for name in PRELOADED), "the server passes over what it does not find"
    server.set_forkserver_preload([*PRELOADED, *(name for name in LARGE if name in sys.modules)])
    if threading.current_thread() is not threading.main_thread():
        return server  # only the main thread may change how signals are handled
    # The server keeps what is ignored where it is started: its processes would not end when a pool tells them to.
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        ensure_running()
    finally:
        signal.signal(signal.SIGTERM, before)
    return server


class Program:
    """A process that runs Python text, with the environment and the folder of this one.

    Attributes:
        stdout: What it prints.
    """

    def __init__(self, code: str, *arguments: object) -> None:
        reader, writer = multiprocessing.Pipe(duplex=False)
        given = (writer, dict(os.environ), str(Path.cwd()), textwrap.dedent(code), [str(value) for value in arguments])
        self._process = context().Process(target=_run, args=given)
        self._process.start()
        writer.close()
        self.stdout: TextIO = os.fdopen(os.dup(reader.fileno()), "r")
        reader.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def finish(self, timeout: float = PATIENCE_SECONDS) -> str:
        """Returns what it printed since the last reading, when it has ended."""
        printed = self.stdout.read()
        self.stdout.close()
        self._process.join(timeout)
        assert self._process.exitcode is not None, "it does not end"
        return printed


def finish_all(programs: Sequence[Program]) -> list[str]:
    """Returns what each printed; all must succeed."""
    printed = [program.finish() for program in programs]
    assert [program.returncode for program in programs] == [0] * len(programs)
    return printed


def run(code: str, *arguments: object) -> str:
    """Returns what a program printed, which must succeed."""
    return finish_all([Program(code, *arguments)])[0]


def _run(output: Connection, environment: dict[str, str], folder: str, code: str, arguments: list[str]) -> None:
    """The server was forked when another test ran: what belongs to this test comes as arguments."""
    os.dup2(output.fileno(), sys.__stdout__.fileno() if sys.__stdout__ else 1)
    output.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    time.tzset()
    tempfile.tempdir = None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.simplefilter("error")
    sys.argv = ["-c", *arguments]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        exec(compile(code, "<program>", "exec"), main.__dict__)
    finally:
        atexit._run_exitfuncs()
