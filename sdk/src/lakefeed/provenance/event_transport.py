"""Sends events of OpenLineage to a file or an HTTP endpoint, as the settings ``openlineage`` say.

Neither ever fails a run: events wait in memory and are sent by one thread, and a failure is one warning.
"""

from __future__ import annotations

import atexit
import errno
import json
import logging
import os
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from lakefeed.catalog.current_run import Output, RunState, VersionRead
from lakefeed.catalog.durability import local_path
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.snapshot_facts import columns_of
from lakefeed.config import OpenLineageSettings
from lakefeed.errors import LakefeedError
from lakefeed.provenance import open_lineage
from lakefeed.provenance.open_lineage import EventDataset, EventRun
from lakefeed.provenance.run_record import RunRecord
from lakefeed.storage.urls import redact

logger = logging.getLogger(__name__)

MakeEvent: TypeAlias = Callable[[], Any]

DEFAULT_PATH: Final = "/api/v1/lineage"
THREAD_NAME: Final = "lakefeed-openlineage"
MAX_WAITING: Final = 10_000


def lake_namespace(lake: Lake) -> str:
    """Returns the namespace of the datasets of a lake, a URI: the setting, or the location of its warehouse."""
    given = lake.settings.openlineage.namespace
    if given is not None:
        return given
    warehouse = redact(lake.settings.warehouse)
    path = local_path(warehouse)
    return warehouse if path is None else path.absolute().as_uri()


def send_start(lake: Lake, record: RunRecord) -> None:
    """Sends the event of the beginning of a run, if events are to be sent."""
    if lake.settings.openlineage.is_on:
        event = open_lineage.start_event(_event_run(lake, record))
        _sender.send(lake.settings.openlineage, lambda: event)


def send_end(lake: Lake, record: RunRecord, state: RunState | None) -> None:
    """Sends the event of the end of a run, and waits for it as long as the setting ``timeout`` says.

    Once that time was over, later runs do not wait until all events are sent.
    """
    settings = lake.settings.openlineage
    if not settings.is_on:
        return
    inputs = [] if state is None else list(state.inputs.values())
    outputs = [] if state is None else list(state.outputs)
    run = _event_run(lake, record)
    # The columns are read from the catalog, so the thread makes the event.
    _sender.send(settings, lambda: open_lineage.end_event(run, _reads(lake, inputs), _writes(lake, outputs)))
    _sender.wait(settings.timeout)


def _reads(lake: Lake, inputs: Iterable[VersionRead]) -> list[EventDataset]:
    return [
        EventDataset(
            each.dataset,
            str(each.version),
            _columns(lake, each.dataset),
            facts={name: value for name, value in each.to_json().items() if name in ("plan", "seed", "epoch", "since")},
        )
        for each in inputs
    ]


def _writes(lake: Lake, outputs: Iterable[Output]) -> list[EventDataset]:
    return [
        EventDataset(name, version, _columns(lake, name) if size is None else (), rows, size)
        for name, version, rows, size in outputs
    ]


def _event_run(lake: Lake, record: RunRecord) -> EventRun:
    facts = {"params": dict(record.params), "code": record.code.text, "user": record.user}
    parent = None if record.parent is None else (record.parent, record.parent_name or record.parent)
    return EventRun(
        record.id,
        record.name,
        lake_namespace(lake),
        str(record.status),
        record.started,
        record.finished,
        facts,
        record.error,
        parent,
    )


def _columns(lake: Lake, name: str) -> tuple[tuple[str, str], ...]:
    try:
        return columns_of(lake.table(name))
    except (LakefeedError, OSError):  # it was deleted
        return ()


class _Sender:
    """One thread that sends events in order. A forked process has its own."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._waiting: queue.Queue[tuple[OpenLineageSettings, MakeEvent]] = queue.Queue(MAX_WAITING)
        self._lock = threading.Lock()
        self._sent = threading.Condition(self._lock)
        self._unsent = 0
        self._is_behind = False
        self._seconds = 0.0
        self._thread: threading.Thread | None = None
        self._warned: set[str] = set()

    def send(self, settings: OpenLineageSettings, make: MakeEvent) -> None:
        """Puts an event in the queue. Without a thread, when the interpreter ends, it sends at once.

        If the queue is full, because the endpoint has not answered for long, the event is lost.
        """
        with self._lock:
            try:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
                    self._thread.start()
            except RuntimeError:
                self._thread = None
            else:
                self._put(settings, make)
        if self._thread is None:
            self._deliver(settings, make)

    def _put(self, settings: OpenLineageSettings, make: MakeEvent) -> None:
        try:
            self._waiting.put_nowait((settings, make))
        except queue.Full:
            self._warn("the queue", f"{MAX_WAITING:,} of them wait already; later ones are lost")
        else:
            self._unsent += 1

    def wait(self, seconds: float) -> None:
        """Waits until all events are sent, or the time is over. Does not wait while earlier events are late."""
        with self._sent:
            if not self._is_behind:
                self._is_behind = not self._sent.wait_for(lambda: self._unsent == 0, seconds)

    def _run(self) -> None:
        for settings, make in self._items():
            self._seconds = settings.timeout
            try:
                self._deliver(settings, make)
            finally:
                with self._sent:
                    self._unsent -= 1
                    self._is_behind &= self._unsent > 0
                    self._sent.notify_all()

    def drain(self) -> None:
        """Waits once more for events that are late, because the process ends."""
        with self._sent:
            self._is_behind = False
            seconds = self._seconds if self._unsent else 0.0
        self.wait(seconds)

    def _items(self) -> Iterator[tuple[OpenLineageSettings, MakeEvent]]:
        """Yields events until none has come for a second; then the thread ends."""
        while True:
            try:
                yield self._waiting.get(timeout=1.0)
            except queue.Empty:
                with self._lock:
                    if self._unsent == 0:
                        self._thread = None
                        return

    def _deliver(self, settings: OpenLineageSettings, make: MakeEvent) -> None:
        event = json.dumps(make(), default=str, separators=(",", ":")).encode()
        if settings.file is not None:
            file = Path(settings.file).expanduser()
            self._try(settings.file, lambda: append_line(file, event))
        if settings.url is not None:
            self._try(redact(settings.url), lambda: post(settings, event))

    def _try(self, target: str, send: Any) -> None:
        try:
            send()
        except (OSError, HTTPException, ValueError) as error:
            self._warn(target, error)

    def _warn(self, target: str, reason: object) -> None:
        if target not in self._warned:
            self._warned.add(target)
            logger.warning("events of OpenLineage could not be sent to %s: %s", target, reason)


def append_line(path: Path, event: bytes) -> None:
    """Appends an event to a file of JSON lines, with one write, so that lines of several processes do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        line = event + b"\n"
        written = os.write(file, line)
        if written < len(line):
            raise OSError(errno.ENOSPC, f"{written:,} of {len(line):,} bytes of an event were written")
    finally:
        os.close(file)


def post(settings: OpenLineageSettings, event: bytes) -> None:
    """Posts an event. A URL without a path gets that of the standard API."""
    url = str(settings.url)
    if urlsplit(url).path in ("", "/"):
        url = url.rstrip("/") + DEFAULT_PATH
    headers = {"Content-Type": "application/json"}
    if settings.api_key is not None:
        headers["Authorization"] = f"Bearer {settings.api_key}"
    request = urllib.request.Request(url, event, headers, method="POST")
    with urllib.request.urlopen(request, timeout=settings.timeout):
        pass


_sender = _Sender()
os.register_at_fork(after_in_child=_sender.reset)
atexit.register(_sender.drain)
