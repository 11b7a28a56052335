"""The path roots of a lake that was moved, mounted elsewhere or copied, and the owner mark of a warehouse."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from lakefeed import _paths
from lakefeed.catalog.lake_record import LakeRecord, change_record, read_record
from lakefeed.catalog.path_roots import ROOTS_PROPERTY, Roots, plain_path

logger = logging.getLogger(__name__)

OWNER_MARK: Final = "lakefeed.json"
"""The file that names the owner of a warehouse outside the folder of its catalog."""
METADATA_DEPTH: Final = 4
"""The metadata of a table is at namespace/table/metadata/file below the root."""


@dataclass(frozen=True)
class LakeHome:
    """A SQLite catalog and the local warehouse of its lake.

    Attributes:
        database: the file of the catalog, with symbolic links resolved.
        warehouse: the plain path of the warehouse, as in the settings.
        record: the record of the lake in the catalog.
    """

    database: Path
    warehouse: str
    record: LakeRecord

    @classmethod
    def open(cls, database: Path, warehouse: str, locations: Callable[[], Iterable[str]]) -> LakeHome:
        """Reads the record of a lake. Creates or updates it if the database is writable.

        ``locations`` returns the locations of the metadata of all tables, which tell where an unrecorded lake was.
        """
        home = cls(database, warehouse, read_record(database) or LakeRecord(str(database)))
        roots = home._current_roots(locations)
        if roots.items() <= home.record.roots.items():
            return home
        try:
            return cls(database, warehouse, change_record(database, lambda record: record.with_roots(roots)))
        except sqlite3.OperationalError as error:
            logger.info("cannot store the path roots in %s, so each process determines them: %s", database, error)
            return cls(database, warehouse, home.record.with_roots(roots))

    @property
    def folder(self) -> Path:
        """The folder of the catalog."""
        return self.database.parent

    @property
    def warehouse_folder(self) -> Path:
        """The folder of the warehouse, with symbolic links resolved."""
        return _paths.resolve(self.warehouse)

    @property
    def contains_warehouse(self) -> bool:
        """True if the warehouse is in the folder of the catalog, so that both are copied together."""
        return self.warehouse_folder.is_relative_to(self.folder)

    @property
    def root(self) -> str:
        """The recorded root of the warehouse, under which new tables are named."""
        return next(iter(self._warehouse_roots()), self.warehouse)

    @property
    def roots(self) -> Roots:
        """The path roots of the lake."""
        folders = {root: str(self.folder / folder) for root, folder in self.record.roots.items()}
        return Roots.of({**folders, **dict.fromkeys(self._warehouse_roots(), self.warehouse)})

    def _warehouse_roots(self) -> list[str]:
        """Returns the recorded roots of the warehouse."""
        warehouse = self.warehouse_folder
        same = {folder for folder in self.record.roots.values() if (self.folder / folder).resolve() == warehouse}
        return [root for root, folder in self.record.roots.items() if folder in same]

    def _current_roots(self, locations: Callable[[], Iterable[str]]) -> dict[str, str]:
        """Returns the roots of the warehouse or a part of it, each with its folder in recorded form."""
        warehouse = self.warehouse_folder
        folder = str(warehouse.relative_to(self.folder)) if self.contains_warehouse else str(warehouse)
        known = self._warehouse_roots()
        if self.warehouse in known:
            return dict.fromkeys(known, folder)
        named = self.warehouse if self.warehouse in self.record.roots else self._root_in_mark()
        if not known and named is not None:  # the warehouse of these roots was moved here
            before = self.record.roots.get(named)
            known = [root for root, other in self.record.roots.items() if other == before] or [named]
        roots = dict.fromkeys(known, folder) if known else self._infer_roots(folder, locations())
        return {**roots, self.warehouse: folder}

    def _root_in_mark(self) -> str | None:
        """Returns the root in the owner mark of the warehouse; None if the mark belongs to another lake."""
        mark = read_owner_mark(self.warehouse_folder)
        return mark.root if mark is not None and mark.id == self.record.id else None

    def _infer_roots(self, folder: str, locations: Iterable[str]) -> dict[str, str]:
        """Returns roots for tables whose metadata is in the warehouse. Earlier versions of lakefeed recorded none.

        If only some tables of a root are in the warehouse, each of them gets a root of its own.
        """
        present: dict[str, set[str]] = defaultdict(set)
        absent: set[str] = set()
        for path in filter(None, map(plain_path, locations)):
            root, *tail = path.rsplit("/", METADATA_DEPTH)
            if root == self.warehouse or len(tail) < METADATA_DEPTH:
                continue
            if self.warehouse_folder.joinpath(*tail).is_file():
                present[root].add("/".join(tail[:2]))
            else:
                absent.add(root)
        whole = {root: folder for root in present if root not in absent}
        parts = {f"{root}/{part}": f"{folder}/{part}" for root in present if root in absent for part in present[root]}
        return {**whole, **parts}


def locate_warehouse(
    database: Path, warehouse: str, locations: Callable[[], Iterable[str]]
) -> tuple[str, dict[str, str]]:
    """Returns the recorded root of a warehouse, and catalog properties with the path roots.

    ``locations``: see `LakeHome.open`. A warehouse in another store has no roots.
    """
    path = plain_path(warehouse)
    if path is None:
        return warehouse, {}
    home = LakeHome.open(database, path.rstrip("/"), locations)
    named = f"file://{home.root}" if warehouse.startswith("file:") else home.root
    return home.root, {ROOTS_PROPERTY: home.roots.dump(), "warehouse": named}


@dataclass(frozen=True)
class OwnerMark:
    """The owner of a warehouse.

    Attributes:
        id: the id of the lake.
        catalog: the path of its catalog.
        host: the machine of the catalog.
        root: the recorded root of the warehouse.
        warehouse: the path of the warehouse at the time of writing.
    """

    id: str
    catalog: str
    host: str
    root: str
    warehouse: str

    @classmethod
    def parse(cls, text: str | bytes) -> OwnerMark | None:
        """Returns the mark that `dump` wrote; None for any other text."""
        try:
            facts = json.loads(text)
            return cls(*(str(facts[name]) for name in ("id", "catalog", "host", "root", "warehouse")))
        except (ValueError, KeyError, TypeError):
            return None

    def dump(self) -> str:
        """Returns the mark as JSON."""
        return json.dumps(asdict(self), indent=1)


def read_owner_mark(folder: Path) -> OwnerMark | None:
    """Returns the owner mark of a local warehouse; None if there is none."""
    try:
        return OwnerMark.parse((folder / OWNER_MARK).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
