"""The files that tables refer to, in any of their versions."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, TypeAlias

from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.typedef import Identifier
from pyiceberg.utils.properties import property_as_bool

from lakefeed.catalog.damaged_tables import UNREADABLE_ERRORS, damage_errors, load_table
from lakefeed.catalog.file_io import actual_location
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.path_roots import plain_path
from lakefeed.errors import DamagedDatasetError

ReadThrough: TypeAlias = Callable[[str, Callable[[], bytes]], bytes]
"""Returns the references of a metadata file by its location; calls the function if they are not cached."""

GC_ENABLED: Final = "gc.enabled"
OWN_FOLDERS: Final = ("write.data.path", "write.metadata.path")
METADATA_SUFFIXES: Final = (".metadata.json", ".metadata.json.gz", ".gz.metadata.json")
S3_SCHEMES: Final = re.compile("^s3[an]://")


def table_identifiers(lake: Lake) -> Iterator[Identifier]:
    """Yields every table of the catalog, including tables that are not datasets of lakefeed."""
    for namespace in list_namespaces(lake):
        yield from lake.catalog.list_tables(namespace)


def all_tables(lake: Lake) -> Iterator[tuple[Identifier, Table | DamagedDatasetError]]:
    """Yields every table of the catalog; for a damaged table its error."""
    for identifier in table_identifiers(lake):
        try:
            yield identifier, load_table(lake.catalog, identifier)
        except DamagedDatasetError as error:
            yield identifier, error
        except (NoSuchTableError, NoSuchNamespaceError):
            continue  # deleted meanwhile


def is_gc_enabled(table: Table) -> bool:
    """Returns whether files of the table may be deleted (property ``gc.enabled``)."""
    return property_as_bool(table.properties, GC_ENABLED, True)


def folders_of(table: Table) -> set[str]:
    """Returns the locations below which the table has files, or will have."""
    paths = {table.properties[name] for name in OWN_FOLDERS if table.properties.get(name)}
    return {table.metadata.location, folder_of(table.metadata_location), *paths}


def folder_of(metadata_location: str) -> str:
    """Returns the folder of the table whose metadata is at this location."""
    return metadata_location.rsplit("/", 2)[0]


def possible_folders(lake: Lake, identifier: Identifier) -> set[str]:
    """Returns the locations below which a damaged table may have files."""
    location = lake.metadata_location(identifier)
    return {folder_of(location) if location else lake.warehouse.rstrip("/")}  # it may have been renamed


@dataclass
class References:
    """The files that tables refer to, collected table by table.

    Attributes:
        read_through: returns the cached references of a manifest list or manifest.
        files: the locations, as in metadata.
    """

    read_through: ReadThrough
    files: set[str] = field(default_factory=set)
    _read: set[str] = field(default_factory=set)

    def add(self, table: Table) -> Iterator[tuple[str, str]]:
        """Adds all files of a table. Yields data files and delete files that are new here, with their formats.

        Raises:
            DamagedDatasetError: metadata is missing or invalid. Readable references are added first.
        """
        metadata, damage = table.metadata, list[DamagedDatasetError]()
        self.files |= {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
        self.files |= {each.statistics_path for each in (*metadata.statistics, *metadata.partition_statistics)}
        for snapshot in metadata.snapshots:
            if snapshot.manifest_list not in self._read:
                yield from self._in_snapshot(table, snapshot, damage)
        if damage:
            raise damage[0]

    def add_readable(self, table: Table) -> bool:
        """Adds all readable references of a table. Returns whether all could be read."""
        try:
            for _ in self.add(table):
                pass
        except DamagedDatasetError:
            return False
        return True

    def _in_snapshot(
        self, table: Table, snapshot: Snapshot, damage: list[DamagedDatasetError]
    ) -> Iterator[tuple[str, str]]:
        name, before = ".".join(table.name()), len(damage)
        self.files.add(snapshot.manifest_list)
        try:
            with damage_errors(name, snapshot.manifest_list):
                manifests = self._manifests(table, snapshot)
        except DamagedDatasetError as error:
            damage.append(error)
            return
        for manifest in manifests:
            if manifest[0] in self._read:
                continue
            self.files.add(manifest[0])
            try:
                with damage_errors(name, manifest[0]):
                    entries = self._entries(table, manifest)
            except DamagedDatasetError as error:
                damage.append(error)
                continue
            self._read.add(manifest[0])
            new = [entry for entry in entries if entry[0] not in self.files]
            self.files |= {path for path, _ in new}
            yield from new
        if len(damage) == before:
            self._read.add(snapshot.manifest_list)

    def _manifests(self, table: Table, snapshot: Snapshot) -> list[tuple[str, int, int]]:
        """Returns path, length and partition spec of the manifests of a snapshot."""

        def read() -> bytes:
            return json.dumps([_manifest_key(manifest) for manifest in snapshot.manifests(table.io)]).encode()

        return [tuple(item) for item in json.loads(self.read_through(snapshot.manifest_list, read))]

    def _entries(self, table: Table, manifest: tuple[str, int, int]) -> list[tuple[str, str]]:
        def read() -> bytes:
            entries = _manifest(manifest).fetch_manifest_entry(table.io, discard_deleted=True)
            return json.dumps(
                [(entry.data_file.file_path, entry.data_file.file_format.name) for entry in entries]
            ).encode()

        return [tuple(item) for item in json.loads(self.read_through(manifest[0], read))]


def newest_metadata(io: FileIO, files: Iterable[str]) -> Iterator[tuple[str, TableMetadata]]:
    """Yields the readable metadata files among ``files``, newest first."""
    for location in sorted(
        (path for path in files if path.endswith(METADATA_SUFFIXES)), key=_metadata_age, reverse=True
    ):
        with suppress(*UNREADABLE_ERRORS):
            yield location, FromInputFile.table_metadata(io.new_input(location))


def is_gc_disabled(io: FileIO, files: Iterable[str]) -> bool:
    """Returns whether the newest readable metadata among ``files`` forbids deletes of files."""
    newest = next(newest_metadata(io, files), None)
    return newest is not None and not property_as_bool(newest[1].properties, GC_ENABLED, True)


def lexical_path(io: FileIO, location: str) -> str:
    """Returns a path of a file or folder for comparisons with `is_below`."""
    path = plain_path(actual_location(io, location))
    return S3_SCHEMES.sub("s3://", location).rstrip("/") if path is None else os.path.normpath(path)


def canonical_path(io: FileIO, location: str) -> str:
    """Returns one path for a file that may have several: with other schemes, or through symbolic links."""
    path = plain_path(actual_location(io, location))
    if path is None:
        return S3_SCHEMES.sub("s3://", location)
    folder, _, name = path.rpartition("/")
    return f"{_real_folder(folder)}/{name}"


def is_below(path: str, folders: Iterable[str]) -> bool:
    """Returns whether a path lies below one of the folders. All are results of `lexical_path`."""
    return any(path.startswith(f"{folder.rstrip('/')}/") for folder in folders)


@lru_cache(1 << 12)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def _metadata_age(location: str) -> tuple[int, str]:
    name = location.rpartition("/")[2]
    number = name.partition("-")[0].removeprefix("v").partition(".")[0]
    return (int(number) if number.isdecimal() else -1), name


def list_namespaces(lake: Lake, parent: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yields the namespaces of the catalog, and those inside them."""
    for namespace in lake.catalog.list_namespaces(parent):
        if namespace != parent:
            yield tuple(namespace)
            if len(namespace) > len(parent):
                yield from (inner for inner in list_namespaces(lake, tuple(namespace)) if len(inner) > len(namespace))


def _manifest_key(manifest: ManifestFile) -> tuple[str, int, int]:
    return manifest.manifest_path, manifest.manifest_length, manifest.partition_spec_id


def _manifest(key: tuple[str, int, int]) -> ManifestFile:
    path, length, spec_id = key
    return ManifestFile.from_args(
        manifest_path=path, manifest_length=length, partition_spec_id=spec_id, content=0, sequence_number=0,
        min_sequence_number=0, added_snapshot_id=0,
    )  # fmt: skip
