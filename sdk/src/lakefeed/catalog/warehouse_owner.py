"""Whether a catalog may write to its warehouse: a copy of a catalog must not touch the files of the original."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lakefeed.catalog.lake_record import LakeRecord, change_record, read_record
from lakefeed.catalog.relocation import OWNER_MARK, OwnerMark
from lakefeed.errors import SharedWarehouseError

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.io import FileIO


def require_owner(catalog: Catalog) -> None:
    """Passes where the catalog owns its warehouse, or keeps no account of that.

    Raises:
        SharedWarehouseError: the warehouse belongs to another catalog.
    """
    check = getattr(catalog, "require_owner", None)
    if check is not None:
        check()


@dataclass(frozen=True)
class Ownership:
    """The claim of a SQLite catalog to its warehouse.

    A warehouse in the folder of the catalog is copied with it, so it needs no mark. Any other warehouse holds a file
    that names its owner. The owner is a path: the id of a lake is the same in every copy.

    Attributes:
        database: the catalog's file, with symbolic links resolved.
        warehouse: the warehouse as the settings spell it.
        local: the warehouse as a path, with symbolic links resolved; None in another store.
        root: the recorded root of the warehouse.
        open_io: makes what reads and writes the mark.
    """

    database: Path
    warehouse: str
    local: Path | None
    root: str
    open_io: Callable[[], FileIO]

    def check(self) -> None:
        """Passes where this catalog is the owner, or can become it because nobody else is.

        Raises:
            SharedWarehouseError: another catalog is the owner, as far as can be seen from here.
        """
        record = read_record(self.database) or LakeRecord(str(self.database))
        original = Path(record.catalog)
        inside = self.local is not None and self.local.is_relative_to(self.database.parent)
        if self._is_another(original, record) and self.local is not None and self.local.is_relative_to(original.parent):
            raise self._refusal(str(original))
        if not inside:
            self._check_mark(record)
        if record.catalog != str(self.database):
            change_record(self.database, lambda newest: replace(newest, catalog=str(self.database)))

    def _check_mark(self, record: LakeRecord) -> None:
        mark = self._mark()
        ours = OwnerMark(record.id, str(self.database), platform.node(), self.root, str(self.local or self.warehouse))
        if mark is not None and not self._was_copied(mark):
            owner = Path(mark.catalog)
            if mark.id != record.id or self._is_another(owner, record):
                raise self._refusal(mark.catalog)
            gone = not owner.exists()
            if gone and mark.host != ours.host:  # it may be there, out of sight
                raise self._refusal(f"{mark.catalog} on the machine {mark.host}")
            if not gone:
                return
        with self.open_io().new_output(self._location).create(overwrite=True) as stream:
            stream.write(ours.dump().encode())

    def _was_copied(self, mark: OwnerMark) -> bool:
        """Whether the mark came here with a copy of the warehouse, and the warehouse that it is of is still there."""
        theirs = Path(mark.warehouse) / OWNER_MARK
        if self.local is None or not theirs.exists():
            return False
        return not theirs.samefile(self.local / OWNER_MARK)

    def _is_another(self, catalog: Path, record: LakeRecord) -> bool:
        """Whether at a path there is another catalog of the same lake: this one's original, or a copy."""
        if catalog == self.database or not catalog.exists() or catalog.samefile(self.database):
            return False
        other = read_record(catalog)
        return other is not None and other.id == record.id

    def _mark(self) -> OwnerMark | None:
        try:
            with self.open_io().new_input(self._location).open() as stream:
                mark = OwnerMark.parse(stream.read())
        except FileNotFoundError:
            return None
        if mark is None:
            raise self._refusal("of a lake that cannot be told")
        return mark

    @property
    def _location(self) -> str:
        return f"{self.warehouse.rstrip('/')}/{OWNER_MARK}"

    def _refusal(self, owner: str) -> SharedWarehouseError:
        return SharedWarehouseError(
            f"the warehouse {self.warehouse!r} belongs to the catalog {owner}, so the catalog {self.database} only "
            "reads it. To write, copy the warehouse as well and name the copy (catalog.warehouse); or, if that catalog "
            f"is no more, remove {self._location!r}"
        )
