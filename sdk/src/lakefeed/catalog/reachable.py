"""The reachable files and blobs: those that any version of any dataset, or the registry, refers to."""

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
from pyiceberg.io import FileIO
from pyiceberg.manifest import FileFormat
from pyiceberg.table import Table
from pyiceberg.typedef import Identifier

from lakefeed._arrow import compute as pc
from lakefeed.catalog.damaged_tables import damage_errors, load_table
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import FENCE_PREFIX
from lakefeed.catalog.record_roots import registered_contents
from lakefeed.catalog.staged_files import staged_files
from lakefeed.catalog.table_references import References, all_tables, folders_of, is_gc_enabled, possible_folders
from lakefeed.errors import DamagedDatasetError, FileError, UnsupportedError
from lakefeed.storage.disk.sqlite_file import Database

logger = logging.getLogger(__name__)

Digests = NDArray[np.bytes_]
"""Sorted, distinct SHA-256 digests, 32 bytes each."""

BLOB_PREFIX = "blob:"
LEAF = "sha256"
HEX_PATTERN = "^[0-9a-f]{64}$"
SCRIPT = "CREATE TABLE IF NOT EXISTS reads (path TEXT PRIMARY KEY, found BLOB NOT NULL) WITHOUT ROWID;"
LAYOUT = 1
BATCH_ROWS = 1 << 16


@dataclass(frozen=True)
class Reachable:
    """Everything that versions refer to.

    Attributes:
        digests: the digests of blobs.
        files: the locations of files of tables.
        protected: the folders of damaged tables and of tables with ``gc.enabled=false``. Nothing below them may be
            deleted, even if ``files`` lacks it.
        damaged: the errors of damaged tables, by name. Their references are unknown.
    """

    digests: Digests
    files: frozenset[str]
    protected: frozenset[str] = frozenset()
    damaged: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Marker:
    """Finds everything reachable. References of files are cached, because files of tables never change.

    Attributes:
        lake: the lake.
        files_read: the number of data files that were read.
        detached: tables that are not in the catalog but keep their files.
    """

    lake: Lake
    files_read: int = 0
    detached: tuple[Table, ...] = ()

    def __post_init__(self) -> None:
        self.reference_cache = ReferenceCache(self.lake)

    def mark(self) -> Reachable:
        """Returns everything that tables of the catalog and the registry refer to.

        That includes tables that are not datasets of lakefeed.

        Garbage collection relies on this method alone, so anything else that keeps data alive belongs here.

        Raises:
            FileError: a file of a table exists but cannot be read.
            CatalogUnavailableError: the registry cannot be read.
            UnsupportedError: a data file has a format other than Parquet.
        """
        state = _MarkState(self, References(self.reference_cache.read_through))
        for identifier, table in all_tables(self.lake):
            if isinstance(table, DamagedDatasetError):
                state.add_damaged(identifier, table)
                continue
            try:
                state.add(table)
            except DamagedDatasetError as error:
                if self._is_there(table):
                    state.add_damaged(identifier, error, table)
            except OSError as error:
                if self._is_there(table):
                    raise FileError(
                        f"cannot read the references of {'.'.join(table.name())}, so no garbage can be identified: "
                        f"{error}"
                    ) from error
        for table in self.detached:
            state.add(table)
        for io, path in staged_files(self.lake):
            state.add_staged(io, path)
        state.parts.append(digests_from_hex(registered_contents(self.lake.settings)))
        return state.reachable()

    def _is_there(self, table: Table) -> bool:
        try:
            current = load_table(self.lake.catalog, table.name())
        except NoSuchTableError:
            return False
        except DamagedDatasetError:
            return True
        return current.metadata.table_uuid == table.metadata.table_uuid


class ReferenceCache:
    """References of files of a lake's tables, stored under the cache folder so that each file is read once."""

    def __init__(self, lake: Lake) -> None:
        name = sha256(lake.settings.warehouse.encode()).hexdigest()[:16]
        self._database = Database(lake.settings.cache / "live" / name, LAYOUT, SCRIPT)

    def read_through(self, path: str, read: Callable[[], bytes]) -> bytes:
        """Returns the references of the file at ``path``: the stored ones, else those that ``read`` returns."""
        row = self._database.read(
            lambda connection: connection.execute("SELECT found FROM reads WHERE path = ?", (path,)).fetchone()
        )
        if row is not None:
            return bytes(row[0])
        references = read()

        def store(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO reads VALUES (?, ?)", (path, references))

        self._database.write(store)
        return references


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

    def add_staged(self, io: FileIO, path: str) -> None:
        """Adds a file that was written for a commit to come."""
        self.references.files.add(path)
        try:
            self._add_digests(io, path)
        except FileNotFoundError:  # its commit has ended meanwhile, without it
            return

    def add_damaged(self, identifier: Identifier, error: DamagedDatasetError, table: Table | None = None) -> None:
        """Protects all files that may belong to a damaged table."""
        logger.warning("%s", error)
        self.damaged[".".join(identifier)] = str(error)
        self.protected |= possible_folders(self.marker.lake, identifier)
        self.protected |= set() if table is None else folders_of(table)

    def reachable(self) -> Reachable:
        """Returns everything that was added."""
        digests = np.unique(np.concatenate([np.empty(0, "S32"), *self.parts]))
        return Reachable(digests, frozenset(self.references.files), frozenset(self.protected), self.damaged)

    def _add_file(self, table: Table, path: str, file_format: str) -> None:
        if file_format != FileFormat.PARQUET.name:
            raise UnsupportedError(f"cannot read the references of {path}: unsupported format {file_format}")

        with damage_errors(".".join(table.name()), path):
            self._add_digests(table.io, path)

    def _add_digests(self, io: FileIO, path: str) -> None:
        def read() -> bytes:
            self.marker.files_read += 1
            with io.new_input(path).open() as stream:
                return digests_in(pq.ParquetFile(stream)).tobytes()  # type: ignore[arg-type]  # a pyarrow stream

        self.parts.append(np.frombuffer(self.marker.reference_cache.read_through(path, read), "S32"))


def digests_in(file: pq.ParquetFile) -> Digests:
    """Returns the digests of the blobs that a Parquet file refers to. Reads only the leaf columns ``….sha256``."""
    paths = [file.schema.column(index).path for index in range(len(file.schema))]
    leaves = [path for path in paths if path.endswith(f".{LEAF}")]
    parts = [np.empty(0, "S32")]
    if leaves:
        for batch in file.iter_batches(BATCH_ROWS, columns=leaves):
            for column in batch.columns:
                parts += [digests_from_hex(_hex_digests(texts)) for texts in _texts(column)]
    return np.unique(np.concatenate(parts))


def digests_from_hex(digests: Iterable[str]) -> Digests:
    """Returns hexadecimal digests as sorted, distinct bytes."""
    return np.unique(np.frombuffer(bytes.fromhex("".join(digests)), "S32"))


def _texts(column: pa.Array[Any]) -> Iterator[pa.Array[Any]]:
    """Yields the text arrays inside structs and lists."""
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
