"""Where the files of a lake are that may have been moved, mounted elsewhere or copied since it was made."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from lakefeed.catalog.lake_record import LakeRecord, change_record, read_record
from lakefeed.catalog.path_roots import ROOTS_PROPERTY, Roots, plain_path

logger = logging.getLogger(__name__)

OWNER_MARK: Final = "lakefeed.json"
"""The file in a warehouse outside of the catalog's folder that says whose it is."""
METADATA_DEPTH: Final = 4
"""A table's metadata is at namespace/table/metadata/file below the root."""


@dataclass(frozen=True)
class LakeHome:
    """A SQLite catalog and the local warehouse of its lake.

    Attributes:
        database: the catalog's file, with symbolic links resolved.
        warehouse: the plain path of the warehouse, as the settings spell it.
        record: what the catalog says of the lake.
    """

    database: Path
    warehouse: str
    record: LakeRecord

    @classmethod
    def open(cls, database: Path, warehouse: str, locations: Callable[[], Iterable[str]]) -> LakeHome:
        """The home with its record, which is made or brought up to date where the database can be written to.

        ``locations()`` are those of the metadata of the lake's tables. They tell where an unrecorded lake was before.
        """
        home = cls(database, warehouse, read_record(database) or LakeRecord(str(database)))
        roots = home._roots_here(locations)
        if roots.items() <= home.record.roots.items():
            return home
        try:
            return cls(database, warehouse, change_record(database, lambda record: record.with_roots(roots)))
        except sqlite3.OperationalError as error:
            logger.info("%s cannot be written to, so where its files are is found out each time: %s", database, error)
            return cls(database, warehouse, home.record.with_roots(roots))

    @property
    def folder(self) -> Path:
        """The folder of the catalog."""
        return self.database.parent

    @property
    def here(self) -> Path:
        """The folder of the warehouse, with symbolic links resolved."""
        return Path(self.warehouse).resolve()

    @property
    def inside(self) -> bool:
        """Whether the warehouse lies in the folder of the catalog, so that whoever copies the one copies the other."""
        return self.here.is_relative_to(self.folder)

    @property
    def root(self) -> str:
        """The recorded root of the warehouse, under which new tables are named."""
        return next(iter(self._of_here()), self.warehouse)

    @property
    def roots(self) -> Roots:
        """Where that is which metadata names."""
        now = {root: str(self.folder / folder) for root, folder in self.record.roots.items()}
        return Roots.of({**now, **dict.fromkeys(self._of_here(), self.warehouse)})

    def _of_here(self) -> list[str]:
        """The recorded roots that stand for the warehouse."""
        here = self.here
        same = {folder for folder in self.record.roots.values() if (self.folder / folder).resolve() == here}
        return [root for root, folder in self.record.roots.items() if folder in same]

    def _roots_here(self, locations: Callable[[], Iterable[str]]) -> dict[str, str]:
        """The roots that stand for the warehouse or a part of it, each with its folder as it is recorded."""
        folder = str(self.here.relative_to(self.folder)) if self.inside else str(self.here)
        known = self._of_here()
        if self.warehouse in known:
            return dict.fromkeys(known, folder)
        named = self.warehouse if self.warehouse in self.record.roots else self._marked()
        if not known and named is not None:  # the warehouse of these roots is here now
            before = self.record.roots.get(named)
            known = [root for root, other in self.record.roots.items() if other == before] or [named]
        roots = dict.fromkeys(known, folder) if known else self._inferred(folder, locations())
        return {**roots, self.warehouse: folder}

    def _marked(self) -> str | None:
        """The root that the mark in the warehouse names, if it is of this lake."""
        mark = read_owner_mark(self.here)
        return mark.root if mark is not None and mark.id == self.record.id else None

    def _inferred(self, folder: str, locations: Iterable[str]) -> dict[str, str]:
        """The roots under which tables are named whose metadata is here: earlier versions of lakefeed recorded none.

        Of tables that are not all here, each is a root of its own.
        """
        present: dict[str, set[str]] = defaultdict(set)
        absent: set[str] = set()
        for path in filter(None, map(plain_path, locations)):
            root, *tail = path.rsplit("/", METADATA_DEPTH)
            if root == self.warehouse or len(tail) < METADATA_DEPTH:
                continue
            if self.here.joinpath(*tail).is_file():
                present[root].add("/".join(tail[:2]))
            else:
                absent.add(root)
        whole = {root: folder for root in present if root not in absent}
        parts = {f"{root}/{part}": f"{folder}/{part}" for root in present if root in absent for part in present[root]}
        return {**whole, **parts}


def locate_warehouse(
    database: Path, warehouse: str, locations: Callable[[], Iterable[str]]
) -> tuple[str, dict[str, str]]:
    """Returns the recorded root of a warehouse, and what the properties of its catalog say of where files are.

    ``locations`` as for `Home.open`. A warehouse in another store is where its URL says.
    """
    path = plain_path(warehouse)
    if path is None:
        return warehouse, {}
    home = LakeHome.open(database, path.rstrip("/"), locations)
    named = f"file://{home.root}" if warehouse.startswith("file:") else home.root
    return home.root, {ROOTS_PROPERTY: home.roots.dump(), "warehouse": named}


@dataclass(frozen=True)
class OwnerMark:
    """What a warehouse says of its owner.

    Attributes:
        id: that of the lake.
        catalog: where its catalog is.
        host: the machine on which that is.
        root: the recorded root of the warehouse.
        warehouse: where that was when the mark was written.
    """

    id: str
    catalog: str
    host: str
    root: str
    warehouse: str

    @classmethod
    def parse(cls, text: str | bytes) -> OwnerMark | None:
        """The mark that `dump` wrote; None for anything else."""
        try:
            facts = json.loads(text)
            return cls(*(str(facts[name]) for name in ("id", "catalog", "host", "root", "warehouse")))
        except (ValueError, KeyError, TypeError):
            return None

    def dump(self) -> str:
        """Returns the mark as JSON."""
        return json.dumps(asdict(self), indent=1)


def read_owner_mark(folder: Path) -> OwnerMark | None:
    """The mark in a local warehouse; None where there is none."""
    try:
        return OwnerMark.parse((folder / OWNER_MARK).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
