"""Reads statistics of files in separate processes, which a hostile file may hang or kill."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
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
"""Seconds per file. Reading a header takes milliseconds."""

MIN_TIMEOUT = 1.0
MEMORY_BYTES = GIB
CHUNK_FILES = MAX_SOURCES
CHUNK_BYTES = 4 * MIB
MAX_FILES_PER_PROCESS = 5_000
"""A process is replaced after this many files, because libraries leak memory."""

MAX_REASONS = 10


class Probes:
    """Reads the statistics of files in a bounded pool of processes, which start on first use and are reused.

    A context manager. Its exit waits for submitted work, ends all processes and logs one line if files have no
    statistics. After an exception it drops unfinished work. Thread-safe. Not picklable and not usable in a forked
    child.

    A file has no statistics (an empty dict) if it cannot be read as its type, takes too long, needs too much memory or
    kills the process. The process is then replaced, and the other files are read. Each timeout halves the time for
    later files (down to one second), so that a folder of such files does not delay a save for hours.

    Args:
        workers: the maximum number of processes; None for one per core, at most 4.
        timeout: seconds per file.
        memory_bytes: the address space of a process, including the libraries that it loads.

    Attributes:
        failures: the number of files without statistics.
        reasons: the reasons for the first ten of them, as ``"<name>: <reason>"``.

    Raises:
        InvalidArgumentError: an argument is not above 0.
        MissingDependencyError: (from the result) the library that reads the files is not installed.

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
                f"workers, timeout and memory_bytes must be above 0, got {workers}, {timeout} and {memory_bytes}"
            )
        self.failures = 0
        self.reasons: list[str] = []
        self._timeout = timeout
        self._memory_bytes = memory_bytes
        self._idle: list[ProbeProcess] = []
        self._all: set[ProbeProcess] = set()
        self._stopped = False
        self._lock = threading.Lock()
        # A thread waits for each process, so there are at most as many processes as threads.
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="lakefeed-probes")

    def submit(
        self, media: str, sources: Sequence[ProbeSource], origins: Sequence[object] | None = None
    ) -> Future[list[Stats]]:
        """Starts to read statistics, most efficiently of dozens of sources per call.

        Args:
            media: the name of the media type.
            sources: local paths or contents. Contents are held in memory until they are read.
            origins: the origin of each source, whose text names it in ``reasons``; None for the paths and sizes.

        Returns:
            The future of the statistics of each source, in order; an empty dict for a source without statistics.

        Raises:
            InvalidArgumentError: the media type is unknown.
        """
        kind = media_type(media)
        if not kind.stat_fields:
            return _join_futures([], [{} for _ in sources])
        chunks = list(_split_sources(sources))
        ends = list(accumulate(map(len, chunks)))
        return _join_futures(
            [
                self._threads.submit(self._probe, kind, chunk, origins and origins[end - len(chunk) : end])
                for chunk, end in zip(chunks, ends, strict=True)
            ]
        )

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
        for process in processes:  # this also wakes the threads that wait for them
            process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _probe(self, media: MediaType, sources: Sequence[ProbeSource], origins: Sequence[object] | None) -> list[Stats]:
        stats: list[Stats] = []
        names = [_name(source) for source in sources] if origins is None else origins
        while len(stats) < len(sources) and not self._stopped:
            self._probe_remaining(media, sources, names, stats)
        return stats

    def _probe_remaining(
        self, media: MediaType, sources: Sequence[ProbeSource], names: Sequence[object], stats: list[Stats]
    ) -> None:
        """Appends the statistics of the remaining sources, or of those up to the source at which the process ended."""
        timeout, process = self._timeout, None
        try:
            process = self._process()
            for answer in process.ask(media.probe, sources[len(stats) :], timeout):
                stats.append(self._parse_stats(media, names[len(stats)], answer))
        except ProcessEndedError as ended:
            if ended.timed_out:
                self._timeout = max(min(self._timeout, timeout / 2), MIN_TIMEOUT)
            stats.append(self._record_failure(names[len(stats)], str(ended)))
            self._give_back(process, usable=False)
        except StorageError:  # a full disk for temporary files is not an error of the file
            self._give_back(process, usable=False)
            raise
        except OSError as error:
            stats.append(self._record_failure(names[len(stats)], f"the process cannot be started: {error}"))
        except BaseException:
            self._give_back(process, usable=False)
            raise
        else:
            self._give_back(process, usable=process.files < MAX_FILES_PER_PROCESS and not process.ended)

    def _parse_stats(self, media: MediaType, name: object, answer: Mapping[str, Any]) -> Stats:
        stats = answer.get("stats")
        if isinstance(stats, dict):
            return {field.name: _cast_statistic(stats.get(field.name), field.type) for field in media.stat_fields}
        problem = str(answer.get("problem"))
        if answer.get("missing"):
            raise MissingDependencyError(
                f"{problem}. Without it {quoted_list(field.name for field in media.stat_fields)} of {media.name} "
                "columns would be null permanently; to save without them, pass stats=False"
            )
        return self._record_failure(name, problem)

    def _record_failure(self, name: object, reason: str) -> Stats:
        with self._lock:
            self.failures += 1
            if len(self.reasons) < MAX_REASONS:
                self.reasons.append(f"{name}: {reason}")
        return {}

    def _process(self) -> ProbeProcess:
        with self._lock:
            if self._stopped:
                raise ProcessEndedError("probing was stopped")
            if self._idle:
                return self._idle.pop()
        process = ProbeProcess(self._memory_bytes)
        with self._lock:
            self._all.add(process)
            stopped = self._stopped
        if stopped:
            self._give_back(process, usable=False)
            raise ProcessEndedError("probing was stopped")
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


def _name(source: ProbeSource) -> str:
    return source if isinstance(source, str) else f"a content of {len(source)} bytes"


def _split_sources(sources: Sequence[ProbeSource]) -> Iterator[list[ProbeSource]]:
    """Splits sources into requests of up to ``CHUNK_FILES`` files and ``CHUNK_BYTES`` of contents."""
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
    """Returns the value in the type of its field; None if it is negative, infinite or too large for the type."""
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    if pa.types.is_floating(kind):
        return float(value)
    return int(value) if int(value) < 1 << (kind.bit_width - 1) else None


def _join_futures(parts: Sequence[Future[list[Stats]]], default: list[Stats] | None = None) -> Future[list[Stats]]:
    """Returns a future of the concatenated results; of ``default`` if there are no parts."""
    joined: Future[list[Stats]] = Future()
    if not parts:
        joined.set_result(default or [])
    remaining = len(parts)
    lock = threading.Lock()

    def finish(_: Future[list[Stats]]) -> None:
        nonlocal remaining
        with lock:
            remaining -= 1
            if remaining:
                return
        try:
            joined.set_result([stats for part in parts for stats in part.result()])
        except BaseException as error:  # noqa: BLE001 - raised by `result`
            joined.set_exception(error)

    for part in parts:
        part.add_done_callback(finish)
    return joined
