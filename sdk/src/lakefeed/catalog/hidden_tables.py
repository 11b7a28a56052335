"""Tables of a namespace that breaks the naming rule, so that no list of datasets shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.table.update import RemoveSnapshotsUpdate

from lakefeed.catalog.ancestry import ancestry
from lakefeed.catalog.commit_retry import commit_metadata, unchanged_requirements
from lakefeed.catalog.file_io import actual_location
from lakefeed.catalog.lake import NAME_PART, Lake, is_own_location, remove_tree
from lakefeed.catalog.warehouse_owner import require_owner
from lakefeed.errors import InvalidNameError

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

    from lakefeed.catalog.damaged_tables import TableLoader
    from lakefeed.storage.blobs.blob_store import BlobStore


OLD_VERSIONS = 8
"""So many old versions of a table are removed together."""


class HiddenTables(Lake):
    """The tables of the namespace ``namespace`` of a lake, by their last names.

    Garbage collections walk all namespaces, so the contents that these tables name are safe.
    """

    def __init__(self, lake: Lake, namespace: str) -> None:
        super().__init__(lake.settings)
        self._outer, self._namespace = lake, namespace

    @property
    def catalog(self) -> Catalog:
        """The catalog of the lake."""
        return self._outer.catalog

    @property
    def blobs(self) -> BlobStore:
        """The blob store of the lake."""
        return self._outer.blobs

    def identifier(self, name: str) -> tuple[str, ...]:
        """Returns the namespace and the name."""
        if not NAME_PART.fullmatch(name):
            raise InvalidNameError(f"invalid table name {name!r}")
        return self._namespace, name

    def names(self) -> list[str]:
        """Returns the names of the tables, sorted."""
        try:
            return sorted(table for *_, table in self.catalog.list_tables((self._namespace,)))
        except NoSuchNamespaceError:
            return []

    def discard(self, name: str) -> None:
        """Removes a table with its files. Its name is never used again, so no record of it is needed.

        Files of another store than local disk are left to the garbage collection.

        Raises:
            DatasetNotFoundError: the table does not exist.
        """
        table = self.table(name)
        require_owner(self.catalog)
        try:
            self.catalog.drop_table(table.name())
        except NoSuchTableError:
            raise self.not_found(name) from None
        if is_own_location(table.metadata.location, name):
            remove_tree(actual_location(table.io, table.metadata.location))

    def forget_old_versions(self, name: str) -> None:
        """Removes all versions of a table but the last two, once there are `OLD_VERSIONS` of them.

        Garbage collections then remove their files.
        """

        def change(table: Table) -> Any:
            old = [snapshot.snapshot_id for snapshot in ancestry(table)][2:]
            if len(old) < OLD_VERSIONS:
                return (), ()
            return unchanged_requirements(table), (RemoveSnapshotsUpdate(snapshot_ids=old),)

        commit_metadata(self, name, change)

    def _tables(self) -> TableLoader:
        return self._outer._tables()

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings, "_outer": self._outer, "_namespace": self._namespace}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()
