"""Ownership of a warehouse: a copy of a catalog must not change the files of the original."""

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
    """Checks that the catalog owns its warehouse. Catalogs other than lakefeed's do not record that.

    Raises:
        SharedWarehouseError: the warehouse belongs to another catalog.
    """
    check = getattr(catalog, "require_owner", None)
    if check is not None:
        check()


@dataclass(frozen=True)
class Ownership:
    """The claim of a SQLite catalog to its warehouse.

    A warehouse in the folder of the catalog is copied with it, so it needs no mark. Any other warehouse has a file that
    names its owner by the path of the catalog, because all copies of a lake have the same id.

    Attributes:
        database: the file of the catalog, with symbolic links resolved.
        warehouse: the warehouse, as in the settings.
        local: the path of the warehouse, with symbolic links resolved; None in another store.
        root: the recorded root of the warehouse.
        open_io: returns the FileIO that reads and writes the mark.
    """

    database: Path
    warehouse: str
    local: Path | None
    root: str
    open_io: Callable[[], FileIO]

    def check(self) -> None:
        """Checks that this catalog is the owner, or makes it the owner if there is none.

        Raises:
            SharedWarehouseError: another catalog is, or may be, the owner.
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
        mark = self._read_mark()
        own = OwnerMark(record.id, str(self.database), platform.node(), self.root, str(self.local or self.warehouse))
        if mark is not None and not self._was_copied(mark):
            owner = Path(mark.catalog)
            if mark.id != record.id or self._is_another(owner, record):
                raise self._refusal(mark.catalog)
            exists = owner.exists()
            if not exists and mark.host != own.host:  # it may exist on the other machine
                raise self._refusal(f"{mark.catalog} on the machine {mark.host}")
            if exists:
                return
        with self.open_io().new_output(self._location).create(overwrite=True) as stream:
            stream.write(own.dump().encode())

    def _was_copied(self, mark: OwnerMark) -> bool:
        """Returns whether the mark was copied with the warehouse, and the original warehouse still exists."""
        original = Path(mark.warehouse) / OWNER_MARK
        if self.local is None or not original.exists():
            return False
        return not original.samefile(self.local / OWNER_MARK)

    def _is_another(self, catalog: Path, record: LakeRecord) -> bool:
        """Returns whether the path has another catalog of the same lake: the original, or a copy."""
        if catalog == self.database or not catalog.exists() or catalog.samefile(self.database):
            return False
        other = read_record(catalog)
        return other is not None and other.id == record.id

    def _read_mark(self) -> OwnerMark | None:
        try:
            with self.open_io().new_input(self._location).open() as stream:
                mark = OwnerMark.parse(stream.read())
        except FileNotFoundError:
            return None
        if mark is None:
            raise self._refusal("of an unknown lake")
        return mark

    @property
    def _location(self) -> str:
        return f"{self.warehouse.rstrip('/')}/{OWNER_MARK}"

    def _refusal(self, owner: str) -> SharedWarehouseError:
        return SharedWarehouseError(
            f"the warehouse {self.warehouse!r} belongs to the catalog {owner}; the catalog {self.database} can only "
            "read it. To write, copy the warehouse too and set catalog.warehouse to the copy. If that catalog no "
            f"longer exists, remove {self._location!r}"
        )
