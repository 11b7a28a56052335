"""Local copies of what lies at URLs, by URL and validator: fetched once, asked for again only when they may be old.

`lakefeed.storage.cache.url_records` records which bytes a URL gave and the validator of its server; the bytes are a
file of `lakefeed.storage.cache.blob_cache`. A pinned copy (see `lakefeed.storage.cache.pins`) also has a second hard
link, ``<cache>/urls/ab/cdef…``. It is tried first, and then the server is not asked.
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
"""In place of validators: the copy is of a file of this machine, which goes before it while it is there."""


@dataclass(frozen=True, slots=True)
class UrlCopy:
    """What is known of a URL. ``checked``: seconds since the epoch; ``validators``: what to ask with again.

    ``place``: where the copy is, if its extension is that of the URL. ``valid_from``: the copy stands for the URL where
    that was asked for since then. Both are for who looks at thousands.
    """

    sha256: str
    size: int
    validators: Mapping[str, str]
    checked: float
    pinned: bool = False
    path: str = ""
    valid_from: float = -inf

    def is_fresh(self, seconds: float) -> bool:
        """Whether the server need not be asked."""
        return self.pinned or 0 <= time() - self.checked < seconds


_remembered: dict[str, dict[str, UrlCopy]] = {}
"""By cache and URL: what this process has read."""


@dataclass(frozen=True)
class UrlCopies:
    """The copies of one cache. Safe between threads, processes and forks."""

    cache: BlobCache

    def recall(self, url: str) -> UrlCopy | None:
        """What this process knows of a URL."""
        return self._memory.get(url)

    def recall_all(self, urls: Sequence[str | None]) -> list[UrlCopy | None]:
        """As `remembered`, for many: what is done for every cell costs about as much as reading a small file."""
        get = self._memory.get
        return [None if url is None else get(url) for url in urls]

    def find(self, url: str) -> UrlCopy | None:
        """What was last known of a URL."""
        return self.recall(url) or self.read_records([url]).get(url)

    def read_records(self, urls: Sequence[str]) -> dict[str, UrlCopy]:
        """As `known`, for many, with what other processes wrote."""
        found = {}
        # Mostly nothing is pinned, and then there is no such folder.
        if os.path.isdir(f"{self._directory}/urls"):  # noqa: PTH112
            for url in urls:
                pinned = self._read_pin(url)
                if pinned is not None:
                    found[url] = pinned
        left = [url for url in urls if url not in found]
        for url, note in self._notes.find(left).items():
            found[url] = UrlCopy(*note)
        return {url: self._remember(url, known) for url, known in found.items()}

    def record(self, url: str, sha256: str, size: int, validators: Mapping[str, str]) -> None:
        """Writes down what a URL gave just now."""
        with suppress(OSError):
            self._notes.add(url, sha256, size, validators)
        self._remember(url, UrlCopy(sha256, size, validators, time()))

    def confirm(self, url: str, known: UrlCopy) -> None:
        """The server said that nothing has changed."""
        with suppress(OSError):
            self._notes.confirm(url)
        self._remember(url, UrlCopy(known.sha256, known.size, known.validators, time(), known.pinned))

    def write_pin(self, url: str, known: UrlCopy) -> Path:
        """The file to be linked to that keeps what is known of a URL; written if it is not there yet."""
        place = self._pin_path(url)
        text = json.dumps({"sha256": known.sha256, "size": known.size, "validators": dict(known.validators)}).encode()
        how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        if self._read_pin(url) is None:
            # Not written aside: what is read while it is written, or after a crash, is no JSON and so not known.
            descriptor = with_directory(place.parent, lambda: os.open(place, how, 0o666))
            try:
                os.write(descriptor, text)
            finally:
                os.close(descriptor)
        return place

    def _read_pin(self, url: str) -> UrlCopy | None:
        try:
            descriptor = os.open(self._pin_path(url), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            status = os.fstat(descriptor)
            if status.st_nlink < 2:  # its mirror is gone
                return None
            written = json.loads(os.read(descriptor, status.st_size + 1))
            return UrlCopy(written["sha256"], written["size"], written["validators"], status.st_mtime, True)
        except (ValueError, KeyError):  # cut short by a power cut
            return None
        finally:
            os.close(descriptor)

    def _pin_path(self, url: str) -> Path:
        name = url_key(url).hex()
        return self.cache.directory / "urls" / name[:2] / name[2:]

    @contextmanager
    def lock(self, url: str) -> Iterator[None]:
        """One thread of one process at a time."""
        with named_lock(self.cache.directory, url_key(url)):
            yield

    def _remember(self, url: str, known: UrlCopy) -> UrlCopy:
        memory = self._memory
        if len(memory) >= MAX_REMEMBERED:
            memory.clear()
        valid_from = -inf if known.validators == LOCAL_FILE_VALIDATORS else inf if known.pinned else known.checked
        place = self.cache.path_text(known.sha256, file_suffix(url))
        memory[url] = known = replace(known, path=place, valid_from=valid_from)
        return known

    @cached_property
    def _directory(self) -> str:
        return str(self.cache.directory)

    @cached_property
    def _memory(self) -> dict[str, UrlCopy]:
        return _remembered.setdefault(self._directory, {})

    @cached_property
    def _notes(self) -> UrlRecords:
        return open_url_records(self.cache.directory)
