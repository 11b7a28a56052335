"""Digests of local files, so that unchanged files are not read again."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from lakefeed.storage.disk.sqlite_file import Database, insert_rows

SCRIPT = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, status BLOB NOT NULL, sha256 BLOB NOT NULL, head BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (
    sha256 BLOB NOT NULL, kind TEXT NOT NULL, facts TEXT NOT NULL, PRIMARY KEY (sha256, kind)
) WITHOUT ROWID;
"""
LAYOUT = 1
RACY_NS = 2_000_000_000
"""A file that was written this shortly before it was read may be written again without a change of its time."""

_STATUS = struct.Struct("<qqqQQ")


FileContent: TypeAlias = tuple[bytes, bytes]
"""The raw SHA-256 of a file, and its first bytes."""

FingerprintRow: TypeAlias = tuple[bytes, bytes, bytes, bytes]
"""A record of a file: path, `status_fingerprint`, raw SHA-256, first bytes.

Plain tuples, because many thousands of other objects would slow down the garbage collector.
"""


class FileFingerprints:
    """Contents of files by path, size, times, inode and device, and facts (JSON) by content and kind.

    Stored in the cache folder and shared by all processes of a machine. The file may be deleted at any time.
    """

    def __init__(self, cache_dir: Path) -> None:
        self._database = Database(cache_dir / "seen", LAYOUT, SCRIPT)

    def find(self, files: Sequence[tuple[str, bytes]]) -> list[FileContent | None]:
        """Returns the contents of files (path, `status_fingerprint`); None for a file that is new or has changed."""
        keys = [os.fsencode(path) for path, _ in files]
        rows = self._database.look_up("SELECT path, status, sha256, head FROM files WHERE path IN", keys)
        known = {key: (status, sha256, head) for key, status, sha256, head in rows}
        contents: list[FileContent | None] = []
        for key, (_, now) in zip(keys, files, strict=True):
            then, sha256, head = known.get(key, (b"", b"", b""))
            contents.append((sha256, head) if then == now else None)
        return contents

    def add(self, rows: Sequence[FingerprintRow]) -> None:
        """Records files, each as `fingerprint_row` returns it."""
        if rows:
            self._insert("INSERT OR REPLACE INTO files", rows)

    def find_facts(self, kind: str, digests: Sequence[bytes]) -> dict[bytes, dict[str, Any]]:
        """Returns the facts of a kind for those contents that have some."""
        query = "SELECT sha256, facts FROM facts WHERE kind = '{}' AND sha256 IN".format(kind.replace("'", "''"))
        return {digest: json.loads(facts) for digest, facts in self._database.look_up(query, digests)}

    def add_facts(self, kind: str, facts: Mapping[bytes, Mapping[str, Any]]) -> None:
        """Records facts of contents by raw SHA-256."""
        rows = [(digest, kind, json.dumps(value)) for digest, value in facts.items()]
        if rows:
            self._insert("INSERT OR REPLACE INTO facts", rows)

    def _insert(self, into: str, rows: Sequence[tuple[Any, ...]]) -> None:
        self._database.write(lambda connection: insert_rows(connection, into, rows))


def status_fingerprint(status: os.stat_result) -> bytes:
    """Returns bytes that identify a file in its current state."""
    return _STATUS.pack(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def fingerprint_row(
    path: str, status: os.stat_result, read_ns: int, sha256: bytes, head: bytes
) -> FingerprintRow | None:
    """Returns the record of a file; None if it was written so recently that its time does not show a later change.

    Args:
        path: the path of the file.
        status: its status before it was read.
        read_ns: the time (ns) before it was read.
        sha256: the raw SHA-256.
        head: the first bytes.
    """
    if read_ns - status.st_mtime_ns <= RACY_NS:
        return None
    return os.fsencode(path), status_fingerprint(status), sha256, head
