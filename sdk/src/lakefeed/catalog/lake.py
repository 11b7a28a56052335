"""The lake in force: settings turned into a catalog and a blob store, opened when first needed."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from lakefeed.catalog import damaged_tables, embedded, open_catalog, tombstones, version_numbers
from lakefeed.catalog.durability import local_path
from lakefeed.config import Settings
from lakefeed.errors import DamagedDatasetError, DatasetNotFoundError, InvalidNameError, quoted_list
from lakefeed.storage.urls import redact

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table
    from pyiceberg.typedef import Identifier

    from lakefeed.catalog.embedded import EmbeddedTables
    from lakefeed.catalog.tombstones import Deletion
    from lakefeed.storage.blobs.blob_store import BlobStore

NAME_PART = re.compile(r"[a-z][a-z0-9_-]{0,62}")
MAX_OPEN_LAKES = 16


def check_name(name: Any, namespace: str = "default") -> tuple[str, str]:
    """``(namespace, table)`` of a dataset name; ``namespace`` is taken where the name has none.

    Raises:
        InvalidNameError: the name breaks the naming rule.

    Example:
        >>> check_name("digits"), check_name("team.digits")
        (('default', 'digits'), ('team', 'digits'))
    """
    parts = name.split(".") if isinstance(name, str) else []
    if not 1 <= len(parts) <= 2 or not all(NAME_PART.fullmatch(part) for part in parts):
        raise InvalidNameError(
            f"{name!r} cannot be a dataset name: use 1 to 63 of a-z, 0-9, '_' and '-', starting with a letter, "
            "optionally after one 'namespace.'"
        )
    return (namespace, parts[0]) if len(parts) == 1 else (parts[0], parts[1])


class Lake:
    """A catalog of datasets and the blob store beside it.

    Cheap to build (no I/O), picklable, safe to share between threads and across a fork: whatever is open is opened
    again in the other process.

    Example:
        >>> Lake(Settings(home="/data/lake")).settings.catalog_uri
        'sqlite:////data/lake/catalog.db'
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings if settings is not None else Settings.load()
        self._catalog: Catalog | None
        self._embedded: EmbeddedTables | None
        self._blobs: BlobStore | None
        self._reset()

    @classmethod
    def current(cls) -> Lake:
        """The lake of the settings in force now; equal settings give the same lake."""
        settings = Settings.load()
        key = settings.model_dump_json()
        with _current_lock:
            lake = _current.get(key) or cls(settings)
            _current[key] = lake
            _current.move_to_end(key)
            while len(_current) > MAX_OPEN_LAKES:
                _current.popitem(last=False)
            return lake

    @property
    def catalog(self) -> Catalog:
        """The PyIceberg catalog; the home folder, the catalog tables and the namespace exist afterwards."""
        self._notice_fork()
        with self._lock:
            if self._catalog is None:
                self._catalog = open_catalog.open_catalog(self.settings)
            return self._catalog

    @property
    def warehouse(self) -> str:
        """Where new tables are named to be: of a lake that was moved or copied, where its warehouse was at first."""
        return str(self.catalog.properties.get("warehouse", self.settings.warehouse))

    @property
    def blobs(self) -> BlobStore:
        """The content-addressed store of this lake."""
        self._notice_fork()
        with self._lock:
            if self._blobs is None:
                from lakefeed.storage.blobs.blob_store import BlobStore
                from lakefeed.storage.blobs.blob_writer import Packing

                settings = self.settings
                packing = Packing(settings.blobs.pack_below_bytes, settings.blobs.pack_bytes)
                self._blobs = BlobStore(
                    settings.blob_url, settings.cache, settings.blobs.options, packing, _lake_description(settings)
                )
            return self._blobs

    def identifier(self, name: str) -> tuple[str, str]:
        """``(namespace, table)`` of a dataset name in this lake."""
        return check_name(name, self.settings.catalog.namespace)

    def table(self, name: str) -> Table:
        """The table of that name with its newest metadata.

        Raises:
            DatasetNotFoundError: there is none; the message names the near misses.
            DamagedDatasetError: its metadata is lost or cannot be read.
        """
        identifier = self.identifier(name)
        try:
            return version_numbers.with_version_numbers(damaged_tables.load_table(self._tables(), identifier))
        except damaged_tables.MISSING_TABLE_ERRORS:
            raise self.not_found(name) from None

    def exists(self, name: str) -> bool:
        """Whether a dataset of that name exists, which may be damaged."""
        identifier = self.identifier(name)
        try:
            damaged_tables.load_table(self._tables(), identifier)
        except damaged_tables.MISSING_TABLE_ERRORS:
            return False
        except DamagedDatasetError:
            return True
        return True

    def metadata_location(self, identifier: Identifier) -> str | None:
        """Where the metadata of a table is, which need not be readable; None where the catalog cannot tell."""
        from lakefeed.catalog.sql_catalog import LakeSqlCatalog

        return self.catalog.metadata_location(identifier) if isinstance(self.catalog, LakeSqlCatalog) else None

    def names(self) -> list[str]:
        """The names of all datasets, sorted; those outside the own namespace carry theirs."""
        own = self.settings.catalog.namespace
        found = [
            table if namespace == own else f"{namespace}.{table}"
            for namespace in self._namespaces()
            for *_, table in self.catalog.list_tables((namespace,))
            if NAME_PART.fullmatch(table)
        ]
        return sorted(found)

    def heads(self) -> dict[str, str]:
        """For every dataset a text that changes with every commit to it, so that only what changed need be read.

        One query of an SQL catalog; another catalog is asked table by table.
        """
        from lakefeed.catalog.sql_catalog import LakeSqlCatalog

        catalog, own = self.catalog, self.settings.catalog.namespace
        if not isinstance(catalog, LakeSqlCatalog):
            return {name: self.table(name).metadata_location for name in self.names()}
        return {
            name if namespace == own else f"{namespace}.{name}": location
            for namespace, name, location in catalog.heads()
            if NAME_PART.fullmatch(name) and NAME_PART.fullmatch(namespace)
        }

    def deletions(self, name: str, present: str | None = None) -> tuple[Deletion, ...]:
        """The deletions of datasets of that name, oldest first; ``present`` is the table that is there now."""
        return tombstones.deletions(self.catalog, self.identifier(name), present)

    def drop(self, name: str, force: bool = False) -> None:
        """Removes the dataset with its files, as `lakefeed.catalog.drop_table.drop` says; blobs stay.

        Its last number stays on record, so that a dataset that is made anew under the name goes on after it.

        Raises:
            DatasetNotFoundError: there is none of that name, or by now another one.
            DamagedDatasetError: its metadata cannot be read; ``force=True`` removes it all the same.
        """
        from lakefeed.catalog.drop_table import drop

        drop(self, name, force)

    def ensure_namespace(self, namespace: str) -> None:
        """Creates the namespace where it is missing."""
        open_catalog.ensure_namespace(self.catalog, namespace)

    def close(self) -> None:
        """Gives back connections; the lake opens them again when used."""
        with self._lock:
            if self._catalog is not None:
                self._catalog.close()
            self._catalog = self._embedded = None

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
        self._embedded = None
        self._blobs = None

    def _tables(self) -> damaged_tables.TableLoader:
        """What loads tables: the SQLite file of the catalog, as long as nothing needs the catalog itself."""
        self._notice_fork()
        with self._lock:
            if self._catalog is None and self._embedded is None:
                self._embedded = embedded.EmbeddedTables.of(self.settings, lambda: self.catalog)
            read = self._embedded if self._catalog is None else None
        return self.catalog if read is None else read

    def _notice_fork(self) -> None:
        # A forked child must neither use nor wait for what belongs to its parent: connections, or a lock held there.
        if self._pid != os.getpid():
            self._reset()

    def _namespaces(self) -> list[str]:
        return [
            parts[0] for parts in self.catalog.list_namespaces() if len(parts) == 1 and NAME_PART.fullmatch(parts[0])
        ]

    def not_found(self, name: str) -> DatasetNotFoundError:
        """The error that says so, with the near misses."""
        names = self.names()
        near = difflib.get_close_matches(name, names, n=3)
        hint = f" Did you mean {quoted_list(near)}?" if near else f" The datasets are {quoted_list(names)}."
        gone = self.deletions(name)
        past = f": it was deleted at {gone[-1].moment}, after version {gone[-1].last}" if gone else ""
        return DatasetNotFoundError(f"no dataset {name!r}{past}.{hint}")


_current: OrderedDict[str, Lake] = OrderedDict()
_current_lock = threading.Lock()


def new_location(warehouse: str, namespace: str, table: str, suffix: str) -> str:
    """A location of its own for every table ever created, so that a dropped one never meets its successor."""
    return f"{warehouse.rstrip('/')}/{namespace}/{table}-{suffix}"


def is_own_location(location: str, table: str) -> bool:
    """Whether the location was made by `new_location` and is a local folder: then all in it is the table's."""
    folder = location.rstrip("/").rsplit("/", 1)[-1]
    return local_path(location) is not None and re.fullmatch(rf"{re.escape(table)}-[0-9a-f]{{12}}", folder) is not None


def remove_tree(location: str) -> None:
    """Removes a local folder; other stores have no folders to remove."""
    path = local_path(location)
    if path is not None:
        shutil.rmtree(path, ignore_errors=True)


def _lake_description(settings: Settings) -> str:
    """What tells the catalog from all others, without a password."""
    uri = re.sub(r"//[^/@]*@", "//", settings.catalog_uri)
    return f"the {settings.catalog.type} catalog {redact(uri)}, warehouse {settings.warehouse}"
