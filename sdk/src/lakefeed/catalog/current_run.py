"""The run that reads and writes here, if there is one: the versions that it has read, and its entries of a commit.

`lakefeed.track` begins a run (:mod:`lakefeed.provenance`). This module is below it, because plans and commits ask here
for the current run. A run belongs to the context in which it began (`contextvars`), and a run that the main thread
began also to threads that have none of their own.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

from lakefeed.catalog import running_code
from lakefeed.catalog.properties import CODE, INPUTS, RUN
from lakefeed.catalog.version_uids import version_uid

ReadKey: TypeAlias = tuple[str, int]
"""The uuid of a table and the number of a version."""

MAX_INPUTS = 100
"""Inputs that a commit names. It gives the number of the others."""


@dataclass(frozen=True, slots=True)
class VersionRead:
    """A version that a run has read.

    Attributes:
        dataset: the name that the dataset had.
        table: the uuid of its table.
        version: the number of the version.
        snapshot: the id of its snapshot.
        since: only the changes after this version were read (0: since the beginning; None: all rows).
        plan: the fingerprint of the plan, as in the state of a loader.
        seed: the seed of the order; None if the rows were not shuffled.
        epoch: the last epoch that a loader has begun; None without a loader.
        at: the time of the first read, in milliseconds since 1970 (UTC).
    """

    dataset: str
    table: str
    version: int
    snapshot: int
    since: int | None = None
    plan: str | None = None
    seed: int | None = None
    epoch: int | None = None
    at: int = field(default_factory=lambda: time.time_ns() // 1_000_000, compare=False)

    @property
    def key(self) -> ReadKey:
        """Tells apart the inputs of a run."""
        return self.table, self.version

    def joined(self, later: VersionRead) -> VersionRead:
        """Returns what both reads of one version say: the rows of both, and the later order if that has one."""
        since = None if self.since is None or later.since is None else min(self.since, later.since)
        ordered = self if later.seed is None and later.epoch is None else later
        return replace(ordered, since=since, at=self.at)

    @property
    def uid(self) -> str:
        """The uid of the version."""
        return version_uid(self.table, self.version)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, without those that are not known."""
        values = ((name, getattr(self, name)) for name in self.__dataclass_fields__ if name != "at")
        return {name: value for name, value in values if value is not None}

    @classmethod
    def from_json(cls, value: Any, at: int) -> VersionRead | None:
        """Returns the read that an entry of a commit names; None if another program wrote something else there."""
        if not isinstance(value, dict):
            return None
        known = {name: value[name] for name in cls.__dataclass_fields__ if name in value and name != "at"}
        try:
            numbers = {name: known.get(name) for name in ("version", "snapshot", "since", "seed", "epoch")}
            texts = {name: known.get(name) for name in ("dataset", "table", "plan")}
            if any(number is not None and type(number) is not int for number in numbers.values()):
                return None
            if any(text is not None and not isinstance(text, str) for text in texts.values()):
                return None
            return cls(**known, at=at)
        except TypeError:
            return None


class Output(NamedTuple):
    """An output of a run: a version of a dataset, or a file.

    ``version``: its number, or the SHA-256 of the file. ``rows`` and ``size`` (bytes): None if unknown.
    """

    name: str
    version: str
    rows: int | None = None
    size: int | None = None


def _ignore(state: RunState) -> None:
    """Does nothing."""


@dataclass(eq=False)
class RunState:
    """The state of a run in this process. Thread-safe.

    Attributes:
        id: the id of the run.
        code: returns the code of the run as text; None if it is not known.
        changed: is called when the run has read a version for the first time.
        inputs: the versions that were read, oldest first.
        outputs: what this process has written in the run.
    """

    id: str
    code: Callable[[], str | None]
    changed: Callable[[RunState], None] = _ignore
    inputs: dict[ReadKey, VersionRead] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, read: VersionRead) -> None:
        """Adds a version that was read. Of a version that is known, the wider range of rows and a later order count."""
        with self.lock:
            before = self.inputs.get(read.key)
            joined = read if before is None else before.joined(read)
            if joined == before:
                return
            self.inputs[read.key] = joined
        self.changed(self)

    def needs(self, key: ReadKey, since: int | None, seed: int | None, epoch: int | None) -> bool:
        """Returns whether a read tells more than is known."""
        known = self.inputs.get(key)
        if known is None or (known.since is not None and (since is None or since < known.since)):
            return True
        return (seed, epoch) != (None, None) and (known.seed, known.epoch) != (seed, epoch)

    def inputs_text(self) -> str:
        """Returns the inputs for the summary of a commit."""
        with self.lock:
            reads = list(self.inputs.values())
        values: list[Any] = [read.to_json() for read in reads[:MAX_INPUTS]]
        if len(reads) > MAX_INPUTS:
            values.append({"more": len(reads) - MAX_INPUTS})
        return json.dumps(values, separators=(",", ":"))


_of_context: ContextVar[RunState | None] = ContextVar("lakefeed_run", default=None)
_of_main_thread: list[RunState] = []


def current_state() -> RunState | None:
    """Returns the run that reads and writes here; None outside of a run."""
    state = _of_context.get()
    if state is None and _of_main_thread:
        return _of_main_thread[-1]
    return state


def begin(state: RunState) -> RunState | None:
    """Makes a run the current one, and returns the one before."""
    before = current_state()
    _of_context.set(state)
    if threading.current_thread() is threading.main_thread():
        _of_main_thread.append(state)
    return before


def end(state: RunState, before: RunState | None) -> None:
    """Makes ``before`` the current run again, if ``state`` is current here."""
    if state in _of_main_thread:
        _of_main_thread.remove(state)
    if _of_context.get() is state:
        _of_context.set(before)


def add_output(output: Output) -> None:
    """Tells the current run what was written. Outside of a run it does nothing."""
    state = current_state()
    if state is not None:
        with state.lock:
            state.outputs.append(output)


def summary_entries() -> dict[str, str]:
    """Returns the entries of the current run for the summary of a commit; outside of a run only the code."""
    state = current_state()
    if state is None:
        code = running_code.code_outside_runs()
        return {} if code is None else {CODE: code}
    code = state.code()
    entries = {RUN: state.id} | ({} if code is None else {CODE: code})
    return entries | ({INPUTS: state.inputs_text()} if state.inputs else {})


def parse_inputs(text: str | None, at: int) -> tuple[tuple[VersionRead, ...], int]:
    """Returns the inputs that the summary of a commit names, and the number of those that it does not name."""
    try:
        values = json.loads(text or "[]")
    except ValueError:  # of another program
        return (), 0
    if not isinstance(values, list):
        return (), 0
    reads = (VersionRead.from_json(each, at) for each in values)
    more = values[-1].get("more") if values and isinstance(values[-1], dict) else None
    return tuple(read for read in reads if read is not None), more if type(more) is int else 0
