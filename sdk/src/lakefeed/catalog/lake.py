"""The lake: the catalog and the blob store of the settings, opened on first use."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import sqlite3
import threading
import uuid
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from lakefeed.catalog import (
    column_schema,
    damaged_tables,
    embedded_pointers,
    embedded_tables,
    open_catalog,
    plan_cache,
    table_listing,
    tombstones,
    version_numbers,
)
from lakefeed.catalog.durability import local_path
from lakefeed.catalog.metadata_cache import MetadataCache
from lakefeed.catalog.properties import COLUMN_BRANCH
from lakefeed.config import Settings
from lakefeed.errors import DamagedDatasetError, DatasetNotFoundError, FileError, InvalidNameError, quoted_list
from lakefeed.storage.urls import redact

if TYPE_CHECKING:
    from pathlib import Path

    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table
    from pyiceberg.typedef import Identifier

    from lakefeed.catalog.embedded_pointers import EmbeddedPointers
    from lakefeed.catalog.embedded_tables import EmbeddedTables
    from lakefeed.catalog.file_access import LocalAccess
    from lakefeed.catalog.plan_cache import PlanCache, PlanKey
    from lakefeed.catalog.scan_plan import ScanPlan
    from lakefeed.catalog.tombstones import Deletion
    from lakefeed.storage.blobs.blob_store import BlobStore

NAME_PART = re.compile(r"[a-z][a-z0-9_-]{0,62}")
MAX_NAME_PARTS = 3
MAX_OPEN_LAKES = 16


def check_name(name: Any, namespace: str = "default") -> tuple[str, ...]:
    """Returns the parts of the namespace, then the table, of a dataset name.

    Args:
        name: the name of a dataset, such as ``"digits"``, ``"team.digits"`` or ``"team.vision.digits"``.
        namespace: the namespace of a name without one.

    Raises:
        InvalidNameError: the name is not valid.

    Example:
        >>> check_name("digits"), check_name("team.digits")
        (('default', 'digits'), ('team', 'digits'))
    """
    parts = name.split(".") if isinstance(name, str) else []
    if not 1 <= len(parts) <= MAX_NAME_PARTS or not all(NAME_PART.fullmatch(part) for part in parts):
        raise InvalidNameError(
            f"invalid dataset name {name!r}: use 1 to 63 of a-z, 0-9, '_' and '-', starting with a letter, optionally "
            "after one 'namespace.' or two"
        )
    return (namespace, parts[0]) if len(parts) == 1 else tuple(parts)


class Lake:
    """A catalog of datasets and its blob store.

    Construction does no I/O. Picklable, thread-safe and fork-safe: another process opens its own connections.

    Example:
        >>> Lake(Settings(home="/data/lake")).settings.catalog_uri
        'sqlite:////data/lake/catalog.db'
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings if settings is not None else Settings.load()
        self._catalog: Catalog | None
        self._pointers: EmbeddedPointers | None
        self._embedded: EmbeddedTables | None
        self._plan_cache: PlanCache | None
        self._metadata: MetadataCache
        self._blobs: BlobStore | None
        self._reset()

    @classmethod
    def current(cls) -> Lake:
        """Returns the lake of the current settings. Equal settings return the same lake."""
        return cls.of(Settings.load())

    @classmethod
    def of(cls, settings: Settings) -> Lake:
        """Returns the lake of these settings. Equal settings return the same lake, which shares its connections."""
        key = settings.model_dump_json()
        with _current_lock:
            lake = _current.get(key) or cls(settings)
            _current[key] = lake
            return lake

    @cached_property
    def key(self) -> str:
        """The settings as text, which identifies the lake."""
        return self.settings.model_dump_json()

    @property
    def catalog(self) -> Catalog:
        """The PyIceberg catalog. Creates the home folder, the catalog tables and the namespace if they are missing."""
        self._reset_after_fork()
        with self._lock:
            if self._catalog is None:
                self._catalog = open_catalog.open_catalog(self.settings, self._metadata)
            return self._catalog

    @property
    def warehouse(self) -> str:
        """The location under which new tables are named. In a lake that was moved, it is the original location."""
        return str(self.catalog.properties.get("warehouse", self.settings.warehouse))

    @property
    def blobs(self) -> BlobStore:
        """The content-addressed blob store."""
        self._reset_after_fork()
        with self._lock:
            if self._blobs is None:
                from lakefeed.storage.blobs.blob_store import BlobStore
                from lakefeed.storage.blobs.blob_writer import Packing

                settings = self.settings
                sizes = settings.blobs
                packing = Packing(sizes.pack_below_bytes, sizes.pack_bytes, sizes.chunk_from_bytes)
                self._blobs = BlobStore(
                    settings.blob_url, settings.cache, settings.blobs.options, packing, _lake_description(settings)
                )
            return self._blobs

    def identifier(self, name: str) -> tuple[str, ...]:
        """Returns the parts of the namespace, then the table, of a dataset name."""
        return check_name(name, self.settings.catalog.namespace)

    def dataset_name(self, identifier: Sequence[str]) -> str | None:
        """Returns the name of the dataset that a table of the catalog is; None for a table that no list shows."""
        *namespace, name = identifier
        if not NAME_PART.fullmatch(name) or not _is_namespace(namespace):
            return None
        return name if ".".join(namespace) == self.settings.catalog.namespace else ".".join(identifier)

    def table(self, name: str) -> Table:
        """Returns the table of a dataset with its newest metadata.

        Raises:
            DatasetNotFoundError: the dataset does not exist; the message names similar ones.
            DamagedDatasetError: its metadata is missing or invalid.
        """
        identifier = self.identifier(name)
        try:
            table = damaged_tables.load_table(self._tables(), identifier)
        except damaged_tables.MISSING_TABLE_ERRORS:
            raise self.not_found(name) from None
        with damaged_tables.damage_errors(name):  # a property with numbers may be no JSON
            table = version_numbers.with_version_numbers(table)
        return column_schema.with_column_schemas(table) if COLUMN_BRANCH in table.metadata.refs else table

    def cached_plan(self, name: str, pin: int | str | None) -> tuple[ScanPlan, LocalAccess] | None:
        """Returns the plan of a version of a dataset, and the access to its files, without loading PyIceberg.

        ``pin``: the number or tag of the version; None for the newest, which the catalog is asked for.

        Returns None if the plan is not cached, or if this process has loaded a table: then its metadata is in memory.
        """
        from lakefeed.catalog.file_access import LocalAccess  # it imports pyarrow, which lists of datasets need not

        identifier = self.identifier(name)
        cache = self._plans(before_tables=True)
        if cache is None or self._pointers is None:
            return None
        try:
            location = self._pointers.metadata_location(identifier)
        except sqlite3.Error:
            return None
        plan = None if location is None else cache.find(plan_cache.PlanKey(location, pin))
        return None if plan is None else (plan, LocalAccess(cache.roots))

    def cache_plan(self, key: PlanKey, plan: ScanPlan, manifest_lists: Sequence[str]) -> None:
        """Caches the plan of a version for other processes, if all its files are local."""
        cache = self._plans()
        if cache is not None:
            cache.add(key, plan, manifest_lists)

    def read_file(self, location: str) -> bytes:
        """Returns the content of a file that metadata names. Local ones of an embedded lake need no PyIceberg."""
        path = self.local_file(location)
        if path is not None:
            return path.read_bytes()
        from lakefeed.catalog.file_io import open_io

        with open_io(self.catalog.properties, {}, location).new_input(location).open() as stream:
            return stream.read()

    def pointers_before_tables(self) -> EmbeddedPointers | None:
        """Returns the pointers of the embedded catalog; None without one, or if this process has loaded a table."""
        self._reset_after_fork()
        with self._lock:
            loaded = self._catalog is not None or self._embedded is not None
            return None if loaded else self._locate()

    def local_file(self, location: str) -> Path | None:
        """Returns the path of a file that metadata names; None if it is not a local file of an embedded lake."""
        self._reset_after_fork()
        with self._lock:
            pointers = self._locate()
        roots = None if pointers is None else pointers.roots
        return None if roots is None else local_path(roots.actual(location))

    def exists(self, name: str) -> bool:
        """Returns whether a dataset of that name exists. It may be damaged."""
        identifier = self.identifier(name)
        self._reset_after_fork()
        with self._lock:
            pointers = self._locate()
        try:
            if pointers is not None:
                return pointers.metadata_location(identifier) is not None
        except sqlite3.Error:
            pass  # the catalog waits longer, or raises its error
        try:
            damaged_tables.load_table(self._tables(), identifier)
        except damaged_tables.MISSING_TABLE_ERRORS:
            return False
        except DamagedDatasetError:
            return True
        return True

    def metadata_location(self, identifier: Identifier) -> str | None:
        """Returns the location of the metadata of a table, which may be unreadable; None if the catalog cannot tell."""
        from lakefeed.catalog.sql_catalog import LakeSqlCatalog

        return self.catalog.metadata_location(identifier) if isinstance(self.catalog, LakeSqlCatalog) else None

    def names(self) -> list[str]:
        """Returns the names of all datasets, sorted, with the namespace for those of other namespaces."""
        locations = table_listing.locations(self)
        if locations is not None:
            return sorted(locations)
        own = self.settings.catalog.namespace
        names = [
            table if namespace == own else f"{namespace}.{table}"
            for namespace in self._namespaces()
            for *_, table in self.catalog.list_tables(tuple(namespace.split(".")))
            if NAME_PART.fullmatch(table)
        ]
        return sorted(names)

    def heads(self) -> dict[str, str]:
        """Returns for each dataset a text that changes with every commit, so that callers read only changed datasets.

        Takes one query in an SQL catalog; other catalogs are asked table by table.
        """
        from lakefeed.catalog.sql_catalog import LakeSqlCatalog

        catalog, own = self.catalog, self.settings.catalog.namespace
        if not isinstance(catalog, LakeSqlCatalog):
            heads = {name: self._head(name) for name in self.names()}
            return {name: head for name, head in heads.items() if head is not None}
        return {
            name if namespace == own else f"{namespace}.{name}": location
            for namespace, name, location in catalog.heads()
            if NAME_PART.fullmatch(name) and _is_namespace(namespace.split("."))
        }

    def _head(self, name: str) -> str | None:
        try:
            return self.table(name).metadata_location
        except DatasetNotFoundError:  # deleted since it was listed
            return None
        except FileError as error:  # the damage of one dataset does not hide the others
            return f"damaged: {error}"

    def deletions(self, name: str, present: str | None = None) -> tuple[Deletion, ...]:
        """Returns the deletions of datasets of a name, oldest first; ``present`` is the uuid of the current table."""
        return tombstones.deletions(self.catalog, self.identifier(name), present)

    def drop(self, name: str, force: bool = False) -> None:
        """Removes a dataset with its files (see `lakefeed.catalog.drop_table.drop`). Blobs stay.

        Raises:
            DatasetNotFoundError: the dataset does not exist, or was replaced by another one during the delete.
            DamagedDatasetError: its metadata cannot be read; ``force=True`` removes it anyway.
        """
        from lakefeed.catalog.drop_table import drop

        drop(self, name, force)

    def ensure_namespace(self, namespace: str) -> None:
        """Creates the namespace if it is missing."""
        open_catalog.ensure_namespace(self.catalog, namespace)

    def close(self) -> None:
        """Closes connections. The lake opens them again on use."""
        with self._lock:
            if self._catalog is not None:
                self._catalog.close()
            self._catalog = self._pointers = self._embedded = self._plan_cache = None
            self._metadata = MetadataCache()

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.settings = state["settings"]
        self._reset()

    def __repr__(self) -> str:
        return f"Lake({self.settings.catalog.type}, {redact(self.settings.catalog_uri)!r})"

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._catalog = None
        self._pointers = None
        self._embedded = None
        self._plan_cache = None
        self._metadata = MetadataCache()
        self._blobs = None

    def _tables(self) -> damaged_tables.TableLoader:
        """Returns the loader of tables: the SQLite file, which takes a quarter of the time, or else the catalog."""
        self._reset_after_fork()
        with self._lock:
            if self._embedded is None and self._locate() is not None:
                self._embedded = embedded_tables.EmbeddedTables.of(
                    self.settings, lambda: self.catalog, self._pointers, self._metadata
                )
            reader = self._embedded
        return self.catalog if reader is None else reader

    def _plans(self, before_tables: bool = False) -> PlanCache | None:
        """Returns the cache of scan plans; None if the catalog is not embedded or its warehouse is not local.

        With ``before_tables``, also None if a table was loaded.
        """
        self._reset_after_fork()
        with self._lock:
            if before_tables and (self._catalog is not None or self._embedded is not None):
                return None
            pointers = self._locate()
            if self._plan_cache is None and pointers is not None and pointers.roots is not None:
                self._plan_cache = plan_cache.PlanCache(self.settings.cache, pointers.roots)
            return self._plan_cache

    def _locate(self) -> EmbeddedPointers | None:
        """Returns the pointers of the embedded catalog, looked up once; None as long as it must be opened."""
        if self._pointers is None:
            self._pointers = embedded_pointers.EmbeddedPointers.of(self.settings)
        return self._pointers

    def _reset_after_fork(self) -> None:
        # A child process must neither use connections of its parent nor wait for a lock that the parent holds.
        if self._pid != os.getpid():
            self._reset()

    def _namespaces(self) -> list[str]:
        """Returns the namespaces of one or two parts that names of datasets can have."""
        first = [parts for parts in self.catalog.list_namespaces() if len(parts) == 1 and _is_namespace(parts)]
        inner = [parts for outer in first for parts in self._inner_namespaces(outer)]
        return [".".join(parts) for parts in (*first, *inner)]

    def _inner_namespaces(self, outer: Identifier) -> list[Identifier]:
        from pyiceberg.exceptions import NoSuchNamespaceError

        try:
            return [parts for parts in self.catalog.list_namespaces(outer) if len(parts) == 2 and _is_namespace(parts)]
        except (NoSuchNamespaceError, NotImplementedError):  # it is gone, or the catalog has one level
            return []

    def not_found(self, name: str) -> DatasetNotFoundError:
        """Returns the error for a dataset that does not exist. The message names similar ones."""
        names = self.names()
        similar = difflib.get_close_matches(name, names, n=3) or _of_other_namespaces(name, names)
        hint = f" Did you mean {quoted_list(similar)}?" if similar else f" The datasets are {quoted_list(names)}."
        deletions = [each for each in self.deletions(name) if each.last]  # of others, nothing was ever there
        past = f": {deletions[-1].event}, after version {deletions[-1].last}" if deletions else ""
        if deletions and deletions[-1].to == tombstones.TRASH:
            hint += " Dataset.list_trash() shows what can be brought back."
        return DatasetNotFoundError(f"no dataset {name!r}{past}.{hint}")


_current: LRUCache[str, Lake] = LRUCache(MAX_OPEN_LAKES)
_current_lock = threading.Lock()


def _of_other_namespaces(name: str, names: Sequence[str]) -> list[str]:
    """Returns the names of which the last part resembles that of a name."""
    last = {each.rpartition(".")[2]: each for each in names}
    return [last[each] for each in difflib.get_close_matches(name.rpartition(".")[2], last, n=3)]


def _is_namespace(parts: Sequence[str]) -> bool:
    return len(parts) < MAX_NAME_PARTS and all(NAME_PART.fullmatch(part) for part in parts)


def new_location(warehouse: str, identifier: Sequence[str], suffix: str) -> str:
    """Returns a new location for a table, so that files of a dropped table and of its successor do not mix."""
    return f"{warehouse.rstrip('/')}/{'/'.join(identifier)}-{suffix}"


def is_own_location(location: str, table: str) -> bool:
    """Returns whether the location is a local folder that `new_location` made. Then all its files are the table's."""
    folder = location.rstrip("/").rsplit("/", 1)[-1]
    return local_path(location) is not None and re.fullmatch(rf"{re.escape(table)}-[0-9a-f]{{12}}", folder) is not None


def is_created_location(location: str, table_uuid: uuid.UUID) -> bool:
    """Returns whether the location is a local folder that `new_location` made for the table, which may be renamed."""
    folder = location.rstrip("/").rsplit("/", 1)[-1]
    return local_path(location) is not None and folder.endswith(f"-{table_uuid.hex[:12]}")


def remove_tree(location: str) -> None:
    """Removes a local folder. Other stores have no folders."""
    path = local_path(location)
    if path is not None:
        shutil.rmtree(path, ignore_errors=True)


def _lake_description(settings: Settings) -> str:
    """Returns a text that identifies the catalog, without a password."""
    uri = re.sub(r"//[^/@]*@", "//", settings.catalog_uri)
    return f"the {settings.catalog.type} catalog {redact(uri)}, warehouse {settings.warehouse}"
