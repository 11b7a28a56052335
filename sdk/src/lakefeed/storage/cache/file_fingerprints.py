"""Local files whose contents are known already: a file that did not change is not read again."""

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
"""A file that was written to so shortly before it was read may be written to again within one tick of its clock."""

_STATUS = struct.Struct("<qqqQQ")


FileContent: TypeAlias = tuple[bytes, bytes]
"""What a file held: its raw SHA-256, and its first bytes."""

FingerprintRow: TypeAlias = tuple[bytes, bytes, bytes, bytes]
"""A file as it is noted: path, `identity`, raw SHA-256, first bytes.

Plain tuples of plain values: many thousands of others would keep the collector of garbage busy.
"""


class FileFingerprints:
    """Contents by path, size, times, inode and device of the file; facts (JSON) by content and kind.

    Kept under the cache folder, shared by all processes of a machine; may be deleted at any time.
    """

    def __init__(self, cache_dir: Path) -> None:
        self._database = Database(cache_dir / "seen", LAYOUT, SCRIPT)

    def find(self, files: Sequence[tuple[str, bytes]]) -> list[FileContent | None]:
        """What each of the files (path, `identity`) holds, if it has not changed since it was seen."""
        keys = [os.fsencode(path) for path, _ in files]
        rows = self._database.look_up("SELECT path, status, sha256, head FROM files WHERE path IN", keys)
        known = {key: (status, sha256, head) for key, status, sha256, head in rows}
        found: list[FileContent | None] = []
        for key, (_, now) in zip(keys, files, strict=True):
            then, sha256, head = known.get(key, (b"", b"", b""))
            found.append((sha256, head) if then == now else None)
        return found

    def add(self, rows: Sequence[FingerprintRow]) -> None:
        """Notes files, each as `row` has made it."""
        if rows:
            self._insert("INSERT OR REPLACE INTO files", rows)

    def find_facts(self, kind: str, digests: Sequence[bytes]) -> dict[bytes, dict[str, Any]]:
        """What is known of contents."""
        query = "SELECT sha256, facts FROM facts WHERE kind = '{}' AND sha256 IN".format(kind.replace("'", "''"))
        return {digest: json.loads(facts) for digest, facts in self._database.look_up(query, digests)}

    def add_facts(self, kind: str, facts: Mapping[bytes, Mapping[str, Any]]) -> None:
        """Notes what a content of that raw SHA-256 is."""
        rows = [(digest, kind, json.dumps(found)) for digest, found in facts.items()]
        if rows:
            self._insert("INSERT OR REPLACE INTO facts", rows)

    def _insert(self, into: str, rows: Sequence[tuple[Any, ...]]) -> None:
        self._database.write(lambda connection: insert_rows(connection, into, rows))


def status_fingerprint(status: os.stat_result) -> bytes:
    """What tells a file from another one, or from itself after a change."""
    return _STATUS.pack(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


def fingerprint_row(
    path: str, status: os.stat_result, read_ns: int, sha256: bytes, head: bytes
) -> FingerprintRow | None:
    """What is noted of a file with the status and the time (ns) before it was read; None if it was just written to."""
    if read_ns - status.st_mtime_ns <= RACY_NS:
        return None
    return os.fsencode(path), status_fingerprint(status), sha256, head
