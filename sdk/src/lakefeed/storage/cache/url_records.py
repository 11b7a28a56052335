"""Records of the contents and validators that URLs returned, in the cache folder.

Keys are hashes: URLs are never stored, because they may contain credentials.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from time import time
from typing import NamedTuple

from lakefeed.storage.disk.sqlite_file import Database

SCRIPT = """
CREATE TABLE IF NOT EXISTS urls (
    url BLOB PRIMARY KEY, sha256 BLOB NOT NULL, size INTEGER NOT NULL, validators TEXT NOT NULL, checked REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS contents ON urls (sha256);
"""
LAYOUT = 1
MAX_OPEN = 8


class UrlRecord(NamedTuple):
    """The content that a URL returned. ``checked``: the time of the last confirmation, in seconds since 1970."""

    sha256: str
    size: int
    validators: Mapping[str, str]
    checked: float


class UrlRecords:
    """The records of one cache. Safe between threads, processes and forks. The file may be deleted at any time."""

    def __init__(self, directory: Path) -> None:
        self._database = Database(directory / "notes", LAYOUT, SCRIPT)

    @property
    def size(self) -> int:
        """The bytes on disk."""
        try:
            return os.stat(self._database.path).st_size  # noqa: PTH116  # called for every eviction
        except FileNotFoundError:
            return 0

    def find(self, urls: Sequence[str]) -> dict[str, UrlRecord]:
        """Returns the records of those URLs that have one."""
        keys = {url_key(url): url for url in urls}
        query = "SELECT url, sha256, size, validators, checked FROM urls WHERE url IN"
        rows = self._database.look_up(query, list(keys))
        return {
            keys[key]: UrlRecord(digest.hex(), size, json.loads(validators), checked)
            for key, digest, size, validators, checked in rows
        }

    def add(self, url: str, digest: str, size: int, validators: Mapping[str, str]) -> None:
        """Records the content that a URL returned just now."""
        row = (url_key(url), bytes.fromhex(digest), size, json.dumps(dict(validators)), time())
        self._change("INSERT OR REPLACE INTO urls VALUES (?, ?, ?, ?, ?)", [row])

    def confirm(self, url: str) -> None:
        """Records that the content of a URL is still the same."""
        self._change("UPDATE urls SET checked = ? WHERE url = ?", [(time(), url_key(url))])

    def forget(self, digests: Iterable[str]) -> None:
        """Removes the records of contents."""
        self._change("DELETE FROM urls WHERE sha256 = ?", [(bytes.fromhex(digest),) for digest in digests])

    def _change(self, query: str, rows: Collection[tuple[object, ...]]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(query, rows)

        if len(rows) == 1:  # one statement is a transaction
            self._database.read(lambda connection: connection.execute(query, *rows))
        elif rows:
            self._database.write(work)


def url_key(url: str) -> bytes:
    """Returns the key of a URL."""
    return sha256(url.encode("utf-8", "surrogatepass")).digest()


@lru_cache(MAX_OPEN)
def open_url_records(directory: Path) -> UrlRecords:
    """Returns the records of a cache, which stay open."""
    return UrlRecords(directory)
