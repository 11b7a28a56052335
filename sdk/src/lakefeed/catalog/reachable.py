"""What is in use: the files and blobs that any version of any dataset names."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.manifest import FileFormat
from pyiceberg.table import Table
from pyiceberg.typedef import Identifier

from lakefeed._arrow import compute as pc
from lakefeed.catalog.damaged_tables import damage_errors, load_table
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import FENCE_PREFIX
from lakefeed.catalog.table_references import References, all_tables, folders_of, is_gc_enabled, possible_folders
from lakefeed.errors import DamagedDatasetError, FileError, UnsupportedError
from lakefeed.storage.disk.sqlite_file import Database

logger = logging.getLogger(__name__)

Digests = NDArray[np.bytes_]
"""Sorted, distinct raw SHA-256."""

BLOB_PREFIX = "blob:"
LEAF = "sha256"
HEX_PATTERN = "^[0-9a-f]{64}$"
SCRIPT = "CREATE TABLE IF NOT EXISTS reads (path TEXT PRIMARY KEY, found BLOB NOT NULL) WITHOUT ROWID;"
LAYOUT = 1
BATCH_ROWS = 1 << 16


@dataclass(frozen=True)
class Reachable:
    """What is in use.

    Attributes:
        digests: of blobs.
        files: of tables, by location.
        protected: locations below which nothing may be deleted, whether it is in ``files`` or not: of damaged tables,
            and of those whose property ``gc.enabled`` is false.
        damaged: for each damaged table, by name, what is wrong with it. What it names is not known.
    """

    digests: Digests
    files: frozenset[str]
    protected: frozenset[str] = frozenset()
    damaged: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Marker:
    """Finds what is in use. What a file says is kept under the cache folder: files of tables never change.

    Attributes:
        files_read: counts the data files that were read, ever.
        detached: tables that are not in the catalog but keep their files.
    """

    lake: Lake
    files_read: int = 0
    detached: tuple[Table, ...] = ()

    def __post_init__(self) -> None:
        self._reads = ReferenceCache(self.lake)

    def mark(self) -> Reachable:
        """What is in use now: what all tables of the catalog name, also those that are not datasets of lakefeed.

        Whatever keeps data alive besides belongs here: a collector of garbage asks nobody else.

        Raises:
            FileError: a file of a table cannot be read, and not for being lost.
            UnsupportedError: a data file of another format.
        """
        marking = _MarkState(self, References(self._reads.told))
        for identifier, table in all_tables(self.lake):
            if isinstance(table, DamagedDatasetError):
                marking.add_damaged(identifier, table)
                continue
            try:
                marking.add(table)
            except DamagedDatasetError as error:
                if self._is_there(table):
                    marking.add_damaged(identifier, error, table)
            except OSError as error:
                if self._is_there(table):
                    raise FileError(
                        f"{'.'.join(table.name())}: what its versions name cannot be read, so nothing can be "
                        f"told to be garbage: {error}"
                    ) from error
        for table in self.detached:
            marking.add(table)
        return marking.live()

    def _is_there(self, table: Table) -> bool:
        try:
            now = load_table(self.lake.catalog, table.name())
        except NoSuchTableError:
            return False
        except DamagedDatasetError:
            return True
        return now.metadata.table_uuid == table.metadata.table_uuid


class ReferenceCache:
    """What files of a lake's tables say, read at most once and kept under the cache folder."""

    def __init__(self, lake: Lake) -> None:
        name = sha256(lake.settings.warehouse.encode()).hexdigest()[:16]
        self._reads = Database(lake.settings.cache / "live" / name, LAYOUT, SCRIPT)

    def told(self, path: str, read: Callable[[], bytes]) -> bytes:
        """What the file at ``path`` says: ``read()``, or what that returned at another time."""
        known = self._reads.read(
            lambda held: held.execute("SELECT found FROM reads WHERE path = ?", (path,)).fetchone()
        )
        if known is not None:
            return bytes(known[0])
        told = read()

        def note(held: sqlite3.Connection) -> None:
            held.execute("INSERT OR REPLACE INTO reads VALUES (?, ?)", (path, told))

        self._reads.write(note)
        return told


@dataclass
class _MarkState:
    marker: Marker
    references: References
    parts: list[Digests] = field(default_factory=list)
    protected: set[str] = field(default_factory=set)
    damaged: dict[str, str] = field(default_factory=dict)

    def add(self, table: Table) -> None:
        if not is_gc_enabled(table):
            self.protected |= folders_of(table)
        fences = [value for key, value in table.properties.items() if key.startswith(FENCE_PREFIX)]
        self.parts.append(
            digests_from_hex(value.removeprefix(BLOB_PREFIX) for value in fences if value.startswith(BLOB_PREFIX))
        )
        damage: list[DamagedDatasetError] = []
        for path, file_format in self.references.add(table):
            try:
                self._add_file(table, path, file_format)
            except DamagedDatasetError as error:
                damage.append(error)
        if damage:
            raise damage[0]

    def add_damaged(self, identifier: Identifier, error: DamagedDatasetError, table: Table | None = None) -> None:
        """Protects all that may be the table's."""
        logger.warning("%s", error)
        self.damaged[".".join(identifier)] = str(error)
        self.protected |= possible_folders(self.marker.lake, identifier)
        self.protected |= set() if table is None else folders_of(table)

    def live(self) -> Reachable:
        """All that was added."""
        digests = np.unique(np.concatenate([np.empty(0, "S32"), *self.parts]))
        return Reachable(digests, frozenset(self.references.files), frozenset(self.protected), self.damaged)

    def _add_file(self, table: Table, path: str, file_format: str) -> None:
        if file_format != FileFormat.PARQUET.name:
            raise UnsupportedError(f"{path} is {file_format}: what it names cannot be read, nor told from garbage")

        def read() -> bytes:
            self.marker.files_read += 1
            with table.io.new_input(path).open() as stream:
                return digests_in(pq.ParquetFile(stream)).tobytes()  # type: ignore[arg-type]  # a pyarrow stream

        with damage_errors(".".join(table.name()), path):
            self.parts.append(np.frombuffer(self.marker._reads.told(path, read), "S32"))


def digests_in(file: pq.ParquetFile) -> Digests:
    """The blobs that a Parquet file names: only the leaves ``….sha256`` are read."""
    paths = [file.schema.column(place).path for place in range(len(file.schema))]
    leaves = [path for path in paths if path.endswith(f".{LEAF}")]
    found = [np.empty(0, "S32")]
    if leaves:
        for batch in file.iter_batches(BATCH_ROWS, columns=leaves):
            for column in batch.columns:
                found += [digests_from_hex(_hex_digests(texts)) for texts in _texts(column)]
    return np.unique(np.concatenate(found))


def digests_from_hex(digests: Iterable[str]) -> Digests:
    """Digests in hex as sorted, distinct raw ones."""
    return np.unique(np.frombuffer(bytes.fromhex("".join(digests)), "S32"))


def _texts(column: pa.Array[Any]) -> Iterator[pa.Array[Any]]:
    """The text at the bottom of structs and lists."""
    kind = column.type
    if isinstance(column, pa.DictionaryArray):
        yield from _texts(column.dictionary)
    elif isinstance(column, pa.StructArray):
        for part in column.flatten():
            yield from _texts(part)
    elif isinstance(column, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray | pa.MapArray):
        yield from _texts(column.flatten())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield column


def _hex_digests(texts: pa.Array[Any]) -> list[str]:
    distinct: Any = texts.drop_null().unique()
    return list(distinct.filter(pc.match_substring_regex(distinct, HEX_PATTERN)).to_pylist())
