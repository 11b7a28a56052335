"""Local copies of files at URLs, which are fetched again only if the server says that they have changed.

`lakefeed.storage.cache.url_records` records the content and the validator that a URL returned. The bytes are a file of
`lakefeed.storage.cache.blob_cache`. A pinned copy (`lakefeed.storage.cache.pins`) also has a file with a second hard
link, ``<cache>/urls/ab/cdef…``, which is used first and without a request to the server.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from pathlib import Path
from time import time

from lakefeed.storage.cache.blob_cache import BlobCache
from lakefeed.storage.cache.url_records import UrlRecords, open_url_records, url_key
from lakefeed.storage.disk.atomic_write import with_directory
from lakefeed.storage.disk.locks import named_lock
from lakefeed.storage.urls import file_suffix

MAX_REMEMBERED = 100_000
LOCAL_FILE_VALIDATORS = {"path": ""}
"""Stands for the validators of a copy of a local file. The file itself is used as long as it exists."""


@dataclass(frozen=True, slots=True)
class UrlCopy:
    """The copy of the file at a URL.

    Attributes:
        sha256: the digest of the content.
        size: the number of bytes.
        validators: the validators of the server, which are sent with the next request.
        checked: the time of the last confirmation, in seconds since 1970.
        pinned: the copy is pinned, so the server is not asked.
        path: the path of the copy if it has the extension of the URL; for readers of thousands of files.
        valid_from: the copy can be used by readers that accept confirmations since this time.
    """

    sha256: str
    size: int
    validators: Mapping[str, str]
    checked: float
    pinned: bool = False
    path: str = ""
    valid_from: float = -inf

    def is_fresh(self, seconds: float) -> bool:
        """Returns whether the server need not be asked."""
        return self.pinned or 0 <= time() - self.checked < seconds


_remembered: dict[str, dict[str, UrlCopy]] = {}
"""The copies that this process has looked up, by cache and URL."""


@dataclass(frozen=True)
class UrlCopies:
    """The copies of one cache. Safe between threads, processes and forks."""

    cache: BlobCache

    def recall(self, url: str) -> UrlCopy | None:
        """Returns the copy of a URL if this process has looked it up before."""
        return self._memory.get(url)

    def recall_all(self, urls: Sequence[str | None]) -> list[UrlCopy | None]:
        """Returns the copies of many URLs as `recall` does. Fast, because it is called for every cell."""
        get = self._memory.get
        return [None if url is None else get(url) for url in urls]

    def find(self, url: str) -> UrlCopy | None:
        """Returns the copy of a URL; None if there is none."""
        return self.recall(url) or self.read_records([url]).get(url)

    def read_records(self, urls: Sequence[str]) -> dict[str, UrlCopy]:
        """Returns the copies of URLs, including those that other processes have recorded."""
        copies = {}
        # Without pins there is no such folder.
        if os.path.isdir(f"{self._directory}/urls"):  # noqa: PTH112
            for url in urls:
                pinned = self._read_pin(url)
                if pinned is not None:
                    copies[url] = pinned
        left = [url for url in urls if url not in copies]
        for url, record in self._records.find(left).items():
            copies[url] = UrlCopy(*record)
        return {url: self._remember(url, known) for url, known in copies.items()}

    def record(self, url: str, sha256: str, size: int, validators: Mapping[str, str]) -> None:
        """Records the content that a URL returned just now."""
        with suppress(OSError):
            self._records.add(url, sha256, size, validators)
        self._remember(url, UrlCopy(sha256, size, validators, time()))

    def confirm(self, url: str, known: UrlCopy) -> None:
        """Records that the server confirmed a copy."""
        with suppress(OSError):
            self._records.confirm(url)
        self._remember(url, UrlCopy(known.sha256, known.size, known.validators, time(), known.pinned))

    def write_pin(self, url: str, known: UrlCopy) -> Path:
        """Returns the path of the file that pins the record of a URL. Writes the file if it is missing."""
        path = self._pin_path(url)
        text = json.dumps({"sha256": known.sha256, "size": known.size, "validators": dict(known.validators)}).encode()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        if self._read_pin(url) is None:
            # Not atomic: a reader ignores a truncated file, which is not valid JSON.
            descriptor = with_directory(path.parent, lambda: os.open(path, flags, 0o666))
            try:
                os.write(descriptor, text)
            finally:
                os.close(descriptor)
        return path

    def _read_pin(self, url: str) -> UrlCopy | None:
        try:
            descriptor = os.open(self._pin_path(url), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            status = os.fstat(descriptor)
            if status.st_nlink < 2:  # its mirror was removed
                return None
            written = json.loads(os.read(descriptor, status.st_size + 1))
            return UrlCopy(written["sha256"], written["size"], written["validators"], status.st_mtime, True)
        except (ValueError, KeyError):  # truncated by a power cut
            return None
        finally:
            os.close(descriptor)

    def _pin_path(self, url: str) -> Path:
        name = url_key(url).hex()
        return self.cache.directory / "urls" / name[:2] / name[2:]

    @contextmanager
    def lock(self, url: str) -> Iterator[None]:
        """Excludes other threads and processes that fetch the same URL."""
        with named_lock(self.cache.directory, url_key(url)):
            yield

    def _remember(self, url: str, known: UrlCopy) -> UrlCopy:
        memory = self._memory
        if len(memory) >= MAX_REMEMBERED:
            memory.clear()
        valid_from = -inf if known.validators == LOCAL_FILE_VALIDATORS else inf if known.pinned else known.checked
        path = self.cache.path_text(known.sha256, file_suffix(url))
        memory[url] = known = replace(known, path=path, valid_from=valid_from)
        return known

    @cached_property
    def _directory(self) -> str:
        return str(self.cache.directory)

    @cached_property
    def _memory(self) -> dict[str, UrlCopy]:
        return _remembered.setdefault(self._directory, {})

    @cached_property
    def _records(self) -> UrlRecords:
        return open_url_records(self.cache.directory)
