"""What is in use: the files and blobs that any version of any dataset names."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.manifest import FileFormat, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import FENCE_PREFIX
from lakefeed.errors import FileError, UnsupportedError
from lakefeed.storage.sqlite import Database

Digests = NDArray[np.bytes_]
"""Sorted, distinct raw SHA-256."""

BLOB = "blob:"
LEAF = "sha256"
HEX = "^[0-9a-f]{64}$"
SCRIPT = "CREATE TABLE IF NOT EXISTS reads (path TEXT PRIMARY KEY, found BLOB NOT NULL) WITHOUT ROWID;"
LAYOUT = 1
ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Live:
    """What is in use: ``digests`` of blobs; ``files`` of tables, by location; ``folders``, the locations of tables."""

    digests: Digests
    files: frozenset[str]
    folders: frozenset[str]


def live_roots(lake: Lake) -> Iterator[Table]:
    """Every table whose versions are in use: all of the catalog's, also those that are no datasets of lakefeed.

    Whatever keeps data alive besides belongs here: a collector of garbage asks nobody else.
    """
    for namespace in _namespaces(lake, ()):
        for identifier in lake.catalog.list_tables(namespace):
            try:
                yield lake.catalog.load_table(identifier)
            except NoSuchTableError:
                continue  # deleted since it was listed


def _namespaces(lake: Lake, parent: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for namespace in lake.catalog.list_namespaces(parent):
        if namespace != parent:
            yield tuple(namespace)
            if len(namespace) > len(parent):
                yield from (inner for inner in _namespaces(lake, tuple(namespace)) if len(inner) > len(namespace))


@dataclass
class Marker:
    """Finds what is in use. What a file says is kept under the cache folder: files of tables never change.

    ``files_read`` counts the data files that were read, ever.
    """

    lake: Lake
    files_read: int = 0
    _known: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = sha256(self.lake.settings.warehouse.encode()).hexdigest()[:16]
        self._reads = Database(self.lake.settings.cache / "live" / name, LAYOUT, SCRIPT)

    def mark(self) -> Live:
        """What is in use now.

        Raises:
            FileError: a file of a table is gone or cannot be read, so what it names is not known.
            UnsupportedError: a data file of another format.
        """
        marking = _Marking(self)
        for table in live_roots(self.lake):
            try:
                marking.add(table)
            except OSError as error:
                if self._is_there(table):
                    raise FileError(
                        f"{'.'.join(table.name())}: what its versions name cannot be read, so nothing can be "
                        f"told to be garbage: {error}"
                    ) from error
        return marking.live()

    def told(self, path: str, read: Callable[[], bytes]) -> bytes:
        """What a file says, read at most once."""
        found = self._reads.read(
            lambda held: held.execute("SELECT found FROM reads WHERE path = ?", (path,)).fetchone()
        )
        if found is not None:
            return bytes(found[0])
        told = read()

        def note(held: sqlite3.Connection) -> None:
            held.execute("INSERT OR REPLACE INTO reads VALUES (?, ?)", (path, told))

        self._reads.write(note)
        return told

    def _is_there(self, table: Table) -> bool:
        try:
            now = self.lake.catalog.load_table(table.name())
        except NoSuchTableError:
            return False
        return now.metadata.table_uuid == table.metadata.table_uuid


@dataclass
class _Marking:
    marker: Marker
    parts: list[Digests] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)

    def add(self, table: Table) -> None:
        self.folders.add(table.metadata.location)
        self.files.add(table.metadata_location)
        self.files |= {entry.metadata_file for entry in table.metadata.metadata_log}
        fences = [value for key, value in table.properties.items() if key.startswith(FENCE_PREFIX)]
        self.parts.append(packed(value.removeprefix(BLOB) for value in fences if value.startswith(BLOB)))
        for snapshot in table.metadata.snapshots:
            for manifest in self._manifests(table, snapshot):
                for path, file_format in self._entries(table, manifest):
                    self._add_file(table, path, file_format)

    def live(self) -> Live:
        """All that was added."""
        digests = np.unique(np.concatenate([np.empty(0, "S32"), *self.parts]))
        return Live(digests, frozenset(self.files), frozenset(self.folders))

    def _manifests(self, table: Table, snapshot: Snapshot) -> list[tuple[str, int, int]]:
        """The manifests of a snapshot, each with what a later step needs to read it."""
        path = snapshot.manifest_list
        if path in self.files:
            return []
        self.files.add(path)

        def read() -> bytes:
            return json.dumps([_plain(manifest) for manifest in snapshot.manifests(table.io)]).encode()

        return [tuple(item) for item in json.loads(self.marker.told(path, read))]

    def _entries(self, table: Table, manifest: tuple[str, int, int]) -> list[tuple[str, str]]:
        path = manifest[0]
        if path in self.files:
            return []
        self.files.add(path)

        def read() -> bytes:
            entries = _manifest(manifest).fetch_manifest_entry(table.io, discard_deleted=True)
            return json.dumps(
                [(entry.data_file.file_path, entry.data_file.file_format.name) for entry in entries]
            ).encode()

        return [tuple(item) for item in json.loads(self.marker.told(path, read))]

    def _add_file(self, table: Table, path: str, file_format: str) -> None:
        if path in self.files:
            return
        self.files.add(path)
        if file_format != FileFormat.PARQUET.name:
            raise UnsupportedError(f"{path} is {file_format}: what it names cannot be read, nor told from garbage")

        def read() -> bytes:
            self.marker.files_read += 1
            with table.io.new_input(path).open() as stream:
                return digests_in(pq.ParquetFile(stream)).tobytes()  # type: ignore[arg-type]  # a pyarrow stream

        self.parts.append(np.frombuffer(self.marker.told(path, read), "S32"))


def digests_in(file: pq.ParquetFile) -> Digests:
    """The blobs that a Parquet file names: only the leaves ``….sha256`` are read."""
    paths = [file.schema.column(place).path for place in range(len(file.schema))]
    leaves = [path for path in paths if path.endswith(f".{LEAF}")]
    found = [np.empty(0, "S32")]
    if leaves:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=leaves):
            for column in batch.columns:
                found += [packed(_hex(texts)) for texts in _texts(column)]
    return np.unique(np.concatenate(found))


def packed(digests: Iterable[str]) -> Digests:
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


def _hex(texts: pa.Array[Any]) -> list[str]:
    distinct: Any = texts.drop_null().unique()
    return list(distinct.filter(pc.match_substring_regex(distinct, HEX)).to_pylist())


def _plain(manifest: ManifestFile) -> tuple[str, int, int]:
    return manifest.manifest_path, manifest.manifest_length, manifest.partition_spec_id


def _manifest(told: tuple[str, int, int]) -> ManifestFile:
    path, length, spec_id = told
    return ManifestFile.from_args(
        manifest_path=path, manifest_length=length, partition_spec_id=spec_id, content=0, sequence_number=0,
        min_sequence_number=0, added_snapshot_id=0,
    )  # fmt: skip
