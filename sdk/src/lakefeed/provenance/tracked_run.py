"""`track`: a run of code that reads and writes versions."""

from __future__ import annotations

import argparse
import atexit
import json
import logging
import os
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Literal, Self

from lakefeed._validate import check_text
from lakefeed.catalog import current_run
from lakefeed.catalog.current_run import RunState, VersionRead
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.running_code import RunningCode
from lakefeed.errors import InvalidArgumentError
from lakefeed.provenance import code_capture
from lakefeed.provenance.origin_index import RunKey
from lakefeed.provenance.run_record import RunRecord, RunStatus
from lakefeed.provenance.run_recorder import RunRecorder
from lakefeed.provenance.tracked_files import LoggedFile, log_file

logger = logging.getLogger(__name__)

MAX_ID_CHARS: Final = 200
ENDS: Final = ("completed", "failed", "aborted")


class Run:
    """A run of code: the versions that it reads are its inputs, and the versions that it writes are its outputs.

    Made by `track`. A context manager; a run that was begun without ``with`` ends with `finish`, or with the process.
    """

    def __init__(self, lake: Lake, record: RunRecord, code: RunningCode) -> None:
        self._record, self._code = record, code
        self._recorder = RunRecorder(lake, record)
        self._state = RunState(record.id, self._code_text, self._read_first)
        self._recorder.state = self._state
        self._lake, self._pid, self._is_block = lake, os.getpid(), False
        self._lock = threading.Lock()
        outer = current()
        self._replaced = None if outer is None or outer._is_block else outer
        self._before = current_run.begin(self._state)

    @property
    def id(self) -> str:
        """The id, which the versions that the run writes have as `DatasetVersion.run`."""
        return self._record.id

    @property
    def name(self) -> str:
        """The name."""
        return self._record.name

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters."""
        return dict(self._record.params)

    @property
    def status(self) -> str:
        """The state: "running", "completed", "failed" or "aborted"."""
        return self._record.status

    @property
    def code(self) -> str | None:
        """The code as one line, which the versions that the run writes have as `DatasetVersion.code`."""
        return self._code_text()

    @property
    def inputs(self) -> tuple[VersionRead, ...]:
        """The versions that this process has read in the run, oldest first."""
        with self._state.lock:
            return tuple(self._state.inputs.values())

    def log_file(self, path: str | os.PathLike[str], key: str | None = None) -> LoggedFile:
        """Stores a file that the run has made, such as a model, and registers it as an output of the run.

        The content is stored once, and garbage collections keep it.

        Args:
            path: the file.
            key: the name under which it is registered; None for the name of the file.

        Raises:
            MissingFileError: the file does not exist.
            CatalogUnavailableError: the database of the registry cannot be reached. The file is not registered.

        Example:
            >>> import tempfile, pathlib
            >>> with tempfile.TemporaryDirectory() as folder, track("training") as run:
            ...     model = pathlib.Path(folder, "model.bin")
            ...     _ = model.write_bytes(b"weights")
            ...     run.log_file(model).name
            'model.bin'
        """
        return log_file(self._lake, self._recorder, path, key)

    def finish(self, status: Literal["completed", "failed", "aborted"] = "completed") -> None:
        """Ends the run. Later reads and writes do not belong to it. A run that has ended stays as it is.

        Args:
            status: the result: "completed", "failed" or "aborted".

        Raises:
            InvalidArgumentError: another status.
        """
        if status not in ENDS:
            raise InvalidArgumentError(f'status must be "completed", "failed" or "aborted", got {status!r:.80}')
        self._end(RunStatus(status))

    def _read_first(self, state: RunState) -> None:
        self._replace()
        self._recorder.changed(state)

    def _replace(self) -> None:
        """Ends the run that was begun before this one, both without ``with``: a cell of a notebook was run again."""
        replaced, self._replaced = self._replaced, None
        if replaced is not None and not self._is_block:
            self._before, self._record.parent = replaced._before, replaced._record.parent
            replaced.finish()

    def _end(self, status: RunStatus, error: str | None = None) -> None:
        self._replace()
        with self._lock:
            if self._record.status != RunStatus.RUNNING or self._pid != os.getpid():
                return
            self._record.end(status, error)
        current_run.end(self._state, self._before)
        _running.pop(self.id, None)
        self._recorder.finish()

    def _code_text(self) -> str | None:
        """Returns the code as text; that of a notebook has the cells that ran until now."""
        self._replace()
        if self._code.kind == "notebook":
            self._code = code_capture.refresh_notebook(self._code)
            self._record.code = self._code
        return self._code.text

    def __enter__(self) -> Self:
        self._is_block = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for inner in _begun_after(self):
            inner._end(_status_of(error))
        self._end(_status_of(error), _error_text(error))

    def __lakefeed_lineage__(self) -> tuple[RunKey, Lake]:
        return RunKey(self.id), self._lake

    def __repr__(self) -> str:
        return f"Run({self.name!r}, id={self.id!r}, status={str(self.status)!r})"

    def __reduce__(self) -> Any:
        raise TypeError(f"a run belongs to its process; give the other one its id, and track(run_id={self.id!r}) there")


def track(
    name: str | None = None,
    *,
    params: Mapping[str, Any] | argparse.Namespace | None = None,
    run_id: str | None = None,
    transform: str | Callable[..., Any] | None = None,
) -> Run:
    """Begins a run: the versions that are read from now on are its inputs, and those that are written its outputs.

    ``with track() as run:`` ends the run with the block. Without ``with``, `Run.finish` ends it, or the next call of
    that kind, or the end of the process. Runs may be nested: reads and writes belong to the innermost.

    A run that the main thread began applies to threads that have no run of their own; another one applies to its own
    thread. A forked process belongs to the run of its parent.

    Args:
        name: the name; None for that of the code.
        params: the parameters, such as ``{"lr": 0.1}`` or the namespace of argparse. Values that JSON lacks become
            text.
        run_id: the id; None draws one. With the id of another run, such as that of the process that started this one,
            both are one run.
        transform: the code: a name, or the function, whose source is stored. None is the script of this process.

    Raises:
        InvalidArgumentError: an argument is malformed.

    Example:
        >>> _ = Dataset.from_dict({"x": [1, 2, 3]}).save("numbers")
        >>> with track("doubling", params={"factor": 2}) as run:
        ...     doubled = Dataset("numbers").with_column("y", "x * 2").save("doubles")
        >>> doubled.list_versions()[0].run == run.id, [each.dataset for each in run.inputs]
        (True, ['numbers'])
    """
    code = code_capture.capture_code(transform)
    named = code.name if name is None else check_text(name, "name") or code.name
    given = _check_params(params)
    identifier = str(uuid.uuid4()) if run_id is None else _check_id(run_id)
    outer = current_run.current_state()
    parent = outer.id if outer is not None and outer.id != identifier else None
    record = RunRecord(identifier, named, code, given, code_capture.arguments(sys.argv), parent=parent)
    record.parent_name = None if parent is None or parent not in _running else _running[parent].name
    run = Run(Lake.current(), record, code)
    _running[identifier] = run
    run._recorder.begin()
    return run


def current() -> Run | None:
    """Returns the run that reads and writes here; None outside of a run."""
    state = current_run.current_state()
    return None if state is None else _running.get(state.id)


def _check_id(value: Any) -> str:
    text = check_text(value, "run_id")
    if not text or len(text) > MAX_ID_CHARS or not text.isprintable():
        raise InvalidArgumentError(f"run_id must be 1 to {MAX_ID_CHARS} printable characters, got {value!r:.80}")
    return text


def _check_params(value: Any) -> dict[str, Any]:
    """Returns the parameters as values that JSON has."""
    given = vars(value) if isinstance(value, argparse.Namespace) else value
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise InvalidArgumentError(f"params must be a mapping with names as keys, got {value!r:.80}")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(given), default=str, allow_nan=True), parse_constant=str)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"params cannot be stored as JSON: {error}") from error
    return plain


def _status_of(error: BaseException | None) -> RunStatus:
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return RunStatus.COMPLETED
    return RunStatus.FAILED if isinstance(error, Exception | SystemExit) else RunStatus.ABORTED


def _error_text(error: BaseException | None) -> str | None:
    return None if error is None else f"{type(error).__name__}: {error}"[:1000]


_running: dict[str, Run] = {}
"""The runs of this process that have not ended, oldest first."""


def _begun_after(run: Run) -> list[Run]:
    """Returns the runs that were begun in a run without ``with`` and have not ended, the newest first."""
    inner: list[Run] = []
    for each in reversed(list(_running.values())):
        if not each._is_block and each._before is run._state:
            inner.append(each)
    return inner


def flush_all() -> None:
    """Writes what the runs of this process have read, so that a query sees it, unless the database is away."""
    for run in list(_running.values()):
        run._recorder.try_flush()


def _before_fork() -> None:
    for run in list(_running.values()):
        run._recorder.before_fork()


def _after_fork_in_parent() -> None:
    for run in list(_running.values()):
        run._recorder.after_fork_in_parent()


def _after_fork() -> None:
    for run in _running.values():
        run._state.lock = threading.Lock()
        run._lock = threading.Lock()
        run._recorder.after_fork()


def _end_all() -> None:
    # In a notebook, the error of a cell does not end the program.
    error = None if "IPython" in sys.modules else getattr(sys, "last_value", None)
    for run in reversed(list(_running.values())):
        run._end(_status_of(error), _error_text(error))


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork)
atexit.register(_end_all)
