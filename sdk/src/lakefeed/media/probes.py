"""The statistics of many files, read in processes of their own: a hostile file may hang or kill one, never us."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from lakefeed._units import GIB, MIB
from lakefeed.errors import InvalidArgumentError, MissingDependencyError, StorageError, quoted_list
from lakefeed.media.media_registry import media_type
from lakefeed.media.media_type import MediaType, Stats
from lakefeed.media.probing.probe_process import MAX_SOURCES, ProbeProcess, ProbeSource, ProcessEndedError

logger = logging.getLogger(__name__)

MAX_WORKERS = 4
TIMEOUT = 30.0
"""Seconds for one file. A header takes milliseconds."""

MIN_TIMEOUT = 1.0
MEMORY_BYTES = GIB
CHUNK_FILES = MAX_SOURCES
CHUNK_BYTES = 4 * MIB
MAX_FILES_PER_PROCESS = 5_000
"""Libraries leak; a process that has read so many files gives way to a new one."""

MAX_REASONS = 10


class Probes:
    """Reads the statistics of files in a bounded pool of processes, started when first needed and reused.

    A context manager; leaving it waits for what was submitted, ends every process and writes one line to the log if
    files have no statistics. Left by an exception, it drops what is not done. Safe between threads; not picklable, of
    no use in a forked child.

    A file that cannot be read as its type, takes too long, needs too much memory or kills the process gives an empty
    dict; the process is replaced and the other files go on. Each file that takes too long halves what the next ones
    may take (down to a second), so that a folder of such files cannot hold up a save for hours.

    Args:
        workers: processes at most; by default one a core, at most 4.
        timeout: seconds for one file.
        memory_bytes: address space of a process, the libraries that it loads included.

    Attributes:
        failures: files without statistics so far.
        reasons: why, of the first ten: ``"<name>: <reason>"``.

    Raises:
        InvalidArgumentError: an argument that is not above 0.
        MissingDependencyError: the library that reads the files is not installed (when the result is asked for).

    Example:
        >>> import PIL.Image
        >>> PIL.Image.new("RGB", (4, 3)).save("cat.png")
        >>> with Probes() as probes:
        ...     probes.submit("image", ["cat.png"]).result()
        [{'width': 4, 'height': 3}]
    """

    def __init__(self, workers: int | None = None, timeout: float = TIMEOUT, memory_bytes: int = MEMORY_BYTES) -> None:
        if workers is None:
            workers = min(os.cpu_count() or 1, MAX_WORKERS)
        if workers < 1 or timeout <= 0 or memory_bytes < 1:
            raise InvalidArgumentError(
                f"workers is {workers}, timeout {timeout} and memory_bytes {memory_bytes}; all are above 0"
            )
        self.failures = 0
        self.reasons: list[str] = []
        self._timeout = timeout
        self._memory_bytes = memory_bytes
        self._idle: list[ProbeProcess] = []
        self._all: set[ProbeProcess] = set()
        self._stopped = False
        self._lock = threading.Lock()
        # A thread waits for each process, so there are as many processes as threads at most.
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="lakefeed-probes")

    def submit(self, media: str, sources: Sequence[ProbeSource]) -> Future[list[Stats]]:
        """The statistics of each source, in order; an empty dict where there are none.

        Cheapest with some dozens of sources a call. Contents are held until they were read.

        Args:
            media: the name of the media type.
            sources: local paths or contents.

        Raises:
            InvalidArgumentError: there is no such media type.
        """
        kind = media_type(media)
        if not kind.stat_fields:
            return _join_futures([], [{} for _ in sources])
        return _join_futures([self._threads.submit(self._probe, kind, chunk) for chunk in _split_sources(sources)])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._threads.shutdown(wait=True)
        finally:
            self._stop()
        if error is None and self.failures:
            logger.warning("%d files have no statistics; the first is %s", self.failures, self.reasons[0])

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            processes = list(self._all)
        for process in processes:  # which also wakes the threads that wait for them
            process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _probe(self, media: MediaType, sources: Sequence[ProbeSource]) -> list[Stats]:
        found: list[Stats] = []
        while len(found) < len(sources) and not self._stopped:
            self._probe_some(media, sources, found)
        return found

    def _probe_some(self, media: MediaType, sources: Sequence[ProbeSource], found: list[Stats]) -> None:
        """Extends ``found`` by those of one process: all that are left, or down to the one at which it ended."""
        timeout, process = self._timeout, None
        try:
            process = self._process()
            for answer in process.ask(media.probe, sources[len(found) :], timeout):
                found.append(self._stats(media, sources[len(found)], answer))
        except ProcessEndedError as ended:
            if ended.late:
                self._timeout = max(min(self._timeout, timeout / 2), MIN_TIMEOUT)
            found.append(self._failed(sources[len(found)], str(ended)))
            self._give_back(process, usable=False)
        except StorageError:  # a full disk for temporary files says nothing of the file
            self._give_back(process, usable=False)
            raise
        except OSError as error:
            found.append(self._failed(sources[len(found)], f"no process can be started: {error}"))
        except BaseException:
            self._give_back(process, usable=False)
            raise
        else:
            self._give_back(process, usable=process.asked < MAX_FILES_PER_PROCESS and not process.ended)

    def _stats(self, media: MediaType, source: ProbeSource, answer: Mapping[str, Any]) -> Stats:
        stats = answer.get("stats")
        if isinstance(stats, dict):
            return {field.name: _cast_statistic(stats.get(field.name), field.type) for field in media.stat_fields}
        problem = str(answer.get("problem"))
        if answer.get("missing"):
            raise MissingDependencyError(
                f"{problem}. Without it {quoted_list(field.name for field in media.stat_fields)} of {media.name} "
                "columns would be null for good; to save without them on purpose, pass stats=False"
            )
        return self._failed(source, problem)

    def _failed(self, source: ProbeSource, reason: str) -> Stats:
        with self._lock:
            self.failures += 1
            if len(self.reasons) < MAX_REASONS:
                name = source if isinstance(source, str) else f"a content of {len(source)} bytes"
                self.reasons.append(f"{name}: {reason}")
        return {}

    def _process(self) -> ProbeProcess:
        with self._lock:
            if self._stopped:
                raise ProcessEndedError("it was given up")
            if self._idle:
                return self._idle.pop()
        process = ProbeProcess(self._memory_bytes)
        with self._lock:
            self._all.add(process)
            stopped = self._stopped
        if stopped:
            self._give_back(process, usable=False)
            raise ProcessEndedError("it was given up")
        return process

    def _give_back(self, process: ProbeProcess | None, *, usable: bool) -> None:
        if process is None:
            return
        with self._lock:
            if usable:
                self._idle.append(process)
                return
            self._all.discard(process)
        process.kill()


def _split_sources(sources: Sequence[ProbeSource]) -> Iterator[list[ProbeSource]]:
    """What a process is asked at a time: some dozens of files, fewer if they are contents of size."""
    chunk: list[ProbeSource] = []
    size = 0
    for source in sources:
        size += 0 if isinstance(source, str) else len(source)
        if chunk and (len(chunk) == CHUNK_FILES or size > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0 if isinstance(source, str) else len(source)
        chunk.append(source)
    if chunk:
        yield chunk


def _cast_statistic(value: Any, kind: pa.DataType) -> int | float | None:
    """The value as the column holds it; None for what no file has: less than nothing, or more than fits."""
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    if pa.types.is_floating(kind):
        return float(value)
    return int(value) if int(value) < 1 << (kind.bit_width - 1) else None


def _join_futures(parts: Sequence[Future[list[Stats]]], found: list[Stats] | None = None) -> Future[list[Stats]]:
    """The results of all, once the last is there."""
    whole: Future[list[Stats]] = Future()
    if not parts:
        whole.set_result(found or [])
    left = [len(parts)]
    lock = threading.Lock()

    def done(_: Future[list[Stats]]) -> None:
        with lock:
            left[0] -= 1
            if left[0]:
                return
        try:
            whole.set_result([stats for part in parts for stats in part.result()])
        except BaseException as error:  # noqa: BLE001 - for whoever asks for the result
            whole.set_exception(error)

    for part in parts:
        part.add_done_callback(done)
    return whole
