"""An index of the contents of all packs of a store, in the cache folder. It is built from the packs themselves.

It also records which copies of contents readers of this machine have seen damaged, so that a save stores them anew.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from lakefeed.storage.blobs.objects import Copy, ObjectInfo, ObjectRange, Objects
from lakefeed.storage.blobs.packs import FOLDER, PackEntries, is_pack_key, raw_digests, read_index
from lakefeed.storage.disk.sqlite_file import Database, insert_rows

logger = logging.getLogger(__name__)

SCRIPT = """
CREATE TABLE IF NOT EXISTS packs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE NOT NULL, size INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS contents (
    sha256 BLOB NOT NULL, pack INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL,
    is_recipe INTEGER NOT NULL,
    PRIMARY KEY (sha256, pack)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS damaged (
    key TEXT NOT NULL, start INTEGER NOT NULL, PRIMARY KEY (key, start)
) WITHOUT ROWID;
"""
LAYOUT = 2
MAX_PREFETCHED = 65_536
LOST = "lost/"
"""Begins the key of a blob that the store lacked when it was read. No object has such a key."""


class PackIndex:
    """The packs of one store as this machine saw them last. Safe between threads and processes."""

    def __init__(self, objects: Objects, cache_dir: Path) -> None:
        name = hashlib.sha256(objects.url(FOLDER).encode()).hexdigest()[:16]
        self._objects = objects
        self._database = Database(cache_dir / "packs" / name, LAYOUT, SCRIPT)
        self._refreshing = threading.Lock()
        self._refresh_count = 0
        self._prefetched: dict[bytes, ObjectRange | None] = {}
        self._damaged: set[Copy] | None = None
        self._marking = threading.Lock()

    @property
    def refresh_count(self) -> int:
        """The number of refreshes, which is an argument of ``refresh``."""
        return self._refresh_count

    def prefetch(self, digests: Sequence[bytes]) -> None:
        """Looks up contents together that ``find`` will be called for, once each."""
        if len(self._prefetched) > MAX_PREFETCHED:
            self._prefetched.clear()  # left by readers that stopped early
        ranges = self.find_all(digests)
        self._prefetched.update((digest, ranges.get(digest)) for digest in digests)

    def find(self, digest: bytes) -> ObjectRange | None:
        """Returns the range of the content with a raw SHA-256; None if it is not known here."""
        with suppress(KeyError):
            return self._prefetched.pop(digest)
        return next(iter(self.find_all([digest]).values()), None)

    def find_all(self, digests: Sequence[bytes], only: Collection[str] | None = None) -> dict[bytes, ObjectRange]:
        """Returns the ranges of those contents that are known here.

        Considers only the packs ``only`` if that is given. The range is that of a recipe if no pack has the content
        itself, and that of a damaged copy if there is no other.
        """
        ranges: dict[bytes, ObjectRange] = {}
        for digest, location in self._find_rows(digests, only):
            other = ranges.get(digest)
            if other is None or self._is_better(location, other):
                ranges[digest] = location
        return ranges

    def find_sound(self, digests: Sequence[bytes], only: Collection[str] | None = None) -> dict[bytes, ObjectRange]:
        """Returns the ranges of `find_all` that are not known to be damaged."""
        ranges, damaged = self.find_all(digests, only), self.damaged
        return {digest: each for digest, each in ranges.items() if each.copy not in damaged} if damaged else ranges

    def find_copies(self, digest: bytes) -> list[ObjectRange]:
        """Returns the ranges of the content with a raw SHA-256 in all packs that have it itself."""
        return [location for _, location in self._find_rows([digest], None) if not location.is_recipe]

    def _is_better(self, location: ObjectRange, other: ObjectRange) -> bool:
        is_damaged, other_is_damaged = location.copy in self.damaged, other.copy in self.damaged
        return other_is_damaged if is_damaged != other_is_damaged else not location.is_recipe

    @property
    def damaged(self) -> set[Copy]:
        """The copies that are known to be damaged, and the blobs that are known to be lost.

        As of the last `reload_damaged`, with those that this process has seen since.
        """
        return self.reload_damaged() if self._damaged is None else self._damaged

    @property
    def damaged_copies(self) -> list[Copy]:
        """The copies of `damaged`, without blobs that are lost."""
        return [copy for copy in list(self.damaged) if not copy[0].startswith(LOST)]

    def reload_damaged(self) -> set[Copy]:
        """Returns `damaged`, with what other processes of this machine have seen."""
        sql = "SELECT key, start FROM damaged"
        with self._marking:
            rows = self._database.read(lambda connection: connection.execute(sql).fetchall())
            self._damaged = {(key, start) for key, start in rows}
            return self._damaged

    def mark_damaged(self, copy: Copy) -> None:
        """Records that a copy is damaged."""
        if copy not in self.damaged:
            self._change_damaged("INSERT OR IGNORE INTO damaged VALUES (?, ?)", copy)
            self.damaged.add(copy)

    def mark_lost(self, sha256: str) -> None:
        """Records that the store lacks a blob, or chunks of it, that was read."""
        self.mark_damaged((LOST + sha256, 0))

    def unmark_lost(self, sha256: str) -> None:
        """Records that the store has a blob again."""
        self.unmark_damaged((LOST + sha256, 0))

    def unmark_damaged(self, copy: Copy) -> None:
        """Records that a copy was written again."""
        if copy in self.damaged:
            self._change_damaged("DELETE FROM damaged WHERE key = ? AND start = ?", copy)
            self.damaged.discard(copy)

    def _change_damaged(self, sql: str, copy: Copy) -> None:
        with self._marking:
            self._database.write(lambda connection: connection.execute(sql, copy))
        self._prefetched.clear()

    def find_recipes(self, digest: bytes, only: Collection[str] | None = None) -> list[ObjectRange]:
        """Returns the ranges of the recipes of the content with a raw SHA-256. Several packs may have one."""
        return [location for _, location in self._find_rows([digest], only) if location.is_recipe]

    def _find_rows(self, digests: Sequence[bytes], only: Collection[str] | None) -> Iterator[tuple[bytes, ObjectRange]]:
        rows = self._database.look_up(
            "SELECT sha256, key, start, length, is_recipe FROM contents JOIN packs ON packs.id = pack WHERE sha256 IN",
            digests,
        )
        for digest, key, start, length, is_recipe in rows:
            if only is None or key in only:
                yield digest, ObjectRange(key, start, length, bool(is_recipe))

    def refresh(self, seen_count: int | None = None) -> frozenset[str]:
        """Reads the indexes of new packs and removes deleted packs. Returns the keys of the packs that exist.

        Args:
            seen_count: do nothing if another thread has refreshed since ``refresh_count`` had this value.
        """
        with self._refreshing:
            if seen_count is not None and seen_count != self._refresh_count:
                return frozenset()
            listed = {info.key: info for info in self._objects.list(FOLDER) if is_pack_key(info.key)}
            known = set(self.packs())
            for info in sorted((listed[key] for key in listed.keys() - known), key=lambda info: info.modified):
                self._read(info)  # the newest last, because of several copies of a content the last one counts
            if deleted := known - listed.keys():
                self._forget(deleted)
            self._prefetched.clear()  # unknown contents may be known now
            self._refresh_count += 1
            return frozenset(listed)

    def packs(self) -> dict[str, int]:
        """Returns the sizes of the known packs by key."""
        return self._database.read(lambda connection: dict(connection.execute("SELECT key, size FROM packs")))

    def contents(self, key: str) -> PackEntries:
        """Returns the index of a pack.

        Raises:
            FileNotFoundError: the pack was deleted.
        """
        return read_index(self._objects, self._objects.info(key))

    def add(self, pack: ObjectInfo, contents: Iterable[tuple[bytes, int, int, bool]]) -> None:
        """Adds a pack with the raw digest, the offset and the length of each content, and whether it is a recipe."""
        entries = list(contents)  # the work may be repeated

        def work(connection: sqlite3.Connection) -> None:
            sql = "INSERT OR IGNORE INTO packs (key, size) VALUES (?, ?)"
            inserted = connection.execute(sql, (pack.key, pack.size))
            if inserted.rowcount:
                rows = [
                    (digest, inserted.lastrowid, start, length, is_recipe)
                    for digest, start, length, is_recipe in entries
                ]
                insert_rows(connection, "INSERT OR REPLACE INTO contents", rows)

        self._database.write(work)

    def _read(self, pack: ObjectInfo) -> None:
        try:
            index = read_index(self._objects, pack)
        except FileNotFoundError:
            return  # deleted since it was listed
        self.add(pack, _entry_rows(index))

    def _forget(self, keys: Collection[str]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM packs WHERE key = ?", [(key,) for key in keys])
            connection.execute("DELETE FROM contents WHERE pack NOT IN (SELECT id FROM packs)")
            connection.executemany("DELETE FROM damaged WHERE key = ?", [(key,) for key in keys])

        self._database.write(work)


def _entry_rows(index: PackEntries) -> Iterator[tuple[bytes, int, int, bool]]:
    columns = (index[name].tolist() for name in ("offset", "length", "is_recipe"))
    return zip(raw_digests(index), *columns, strict=True)
