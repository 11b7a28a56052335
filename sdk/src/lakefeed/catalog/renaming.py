"""Other names for datasets: the table keeps its uuid, versions, properties and files.

The old name is recorded twice. The table has the first of its names as a property, because states of loaders and
positions of routines contain it. The namespace has a record like that of a deleted dataset, so that version numbers of
the old name are not used again and errors can say where the dataset is. The property is set before the name changes;
on a table of that name it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pyiceberg.exceptions import NoSuchTableError, TableAlreadyExistsError
from pyiceberg.table.update import AssertTableUUID, SetPropertiesUpdate, TableRequirement, TableUpdate

from lakefeed.catalog import tombstones
from lakefeed.catalog.commit_retry import commit_metadata
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import FIRST_NAME
from lakefeed.catalog.warehouse_owner import require_owner
from lakefeed.errors import DatasetExistsError, DatasetNotFoundError, InvalidArgumentError
from lakefeed.storage.blobs.step_hooks import StepHook, ignore_step

if TYPE_CHECKING:
    from pyiceberg.table import Table

MAX_RENAMES = 100
"""Renames of one dataset that are followed from an old name."""


def rename(lake: Lake, old: str, new: str, at: StepHook = ignore_step) -> None:
    """Gives a dataset another name, in the same or another namespace, which is created if it is missing.

    Args:
        lake: the lake.
        old: the name of the dataset.
        new: the new name.
        at: is called with the name of each step, for tests of races.

    Raises:
        DatasetNotFoundError: there is no dataset ``old``, or it was replaced by another one meanwhile.
        DatasetExistsError: there is a dataset ``new``. Nothing is changed.
        InvalidArgumentError: both names are the same.
        SharedWarehouseError: the catalog does not own its warehouse. Nothing is changed.
    """
    source, target = lake.identifier(old), lake.identifier(new)
    if source == target:
        raise InvalidArgumentError(f"dataset {old!r} has this name already; give another one")
    require_owner(lake.catalog)
    require_free(lake, new)
    table = lake.table(old)
    uuid = str(table.metadata.table_uuid)
    set_properties(lake, old, uuid, lambda now: {} if FIRST_NAME in now.properties else {FIRST_NAME: old})
    at("marked")
    lake.ensure_namespace(".".join(target[:-1]))
    change_identifier(lake, lambda: same_table(lake, old, uuid), target, moved_to=new)


def first_name(table: Table, name: str) -> str:
    """Returns the first name that a dataset had, which is ``name`` if it was never renamed."""
    return table.properties.get(FIRST_NAME, name)


def current_name(lake: Lake, name: str, table_uuid: str) -> str:
    """Returns the name that a table has now, which was once ``name``; ``name`` itself if that is unknown."""
    following = name
    for _ in range(MAX_RENAMES):
        if _has_table(lake, following, table_uuid):
            return following
        moved = tombstones.deletion_of_table(lake.deletions(following), table_uuid)
        if moved is None or not moved.to or moved.to == tombstones.TRASH:
            break
        following = moved.to
    return name


def following_name(lake: Lake, name: str) -> str:
    """Returns the name of the dataset that was renamed from ``name``; ``name`` if there is one, or none was renamed."""
    following = name
    for _ in range(MAX_RENAMES):
        if lake.exists(following):
            return following
        moved = [each for each in lake.deletions(following) if each.to and each.to != tombstones.TRASH]
        if not moved:
            break
        following = moved[-1].to
    return name


def _has_table(lake: Lake, name: str, table_uuid: str) -> bool:
    try:
        return str(lake.table(name).metadata.table_uuid) == table_uuid
    except DatasetNotFoundError:
        return False


def require_free(lake: Lake, name: str) -> None:
    """Checks that there is no dataset of a name.

    Raises:
        DatasetExistsError: there is one.
    """
    if lake.exists(name):
        raise taken_error(name)


def taken_error(name: str) -> DatasetExistsError:
    """Returns the error for a name that another dataset has."""
    return DatasetExistsError(f"dataset {name!r} exists already; choose another name, or delete that dataset first")


def same_table(lake: Lake, name: str, table_uuid: str) -> Table:
    """Returns a table with its newest metadata.

    Raises:
        DatasetNotFoundError: it was deleted, or replaced by another one of that name.
    """
    table = lake.table(name)
    if str(table.metadata.table_uuid) != table_uuid:
        raise DatasetNotFoundError(f"dataset {name!r} was deleted and created again meanwhile; nothing was changed")
    return table


def set_properties(lake: Lake, name: str, table_uuid: str, updates: Callable[[Table], dict[str, str]]) -> None:
    """Sets table properties, which ``updates`` returns for the current table.

    Raises:
        DatasetNotFoundError: as for `same_table`.
        CommitConflictError: other writers kept committing first.
    """

    def change(table: Table) -> tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]:
        if str(table.metadata.table_uuid) != table_uuid:
            same_table(lake, name, table_uuid)
        new = updates(table)
        setting = (SetPropertiesUpdate(updates=new),) if new else ()
        return (AssertTableUUID(uuid=table.metadata.table_uuid),), setting

    commit_metadata(lake, name, change)


def change_identifier(lake: Lake, load: Callable[[], Table], target: tuple[str, ...], moved_to: str | None) -> Table:
    """Gives a table another identifier, and records its last version number under the old one.

    ``moved_to`` is the new name for that record; None makes none. In an SQL catalog, all this is one transaction.
    """
    from lakefeed.catalog import identifier_change
    from lakefeed.catalog.sql_catalog import LakeSqlCatalog

    catalog, table = lake.catalog, load()
    while True:
        *namespace, last_part = table.name()
        record = None
        if moved_to is not None:
            recorded = tombstones.deletions(catalog, table.name())
            record = tombstones.deletions_key(last_part), tombstones.append_deletion(recorded, table, moved_to)
        try:
            if isinstance(catalog, LakeSqlCatalog):
                if identifier_change.change_identifier(catalog, table.name(), target, table.metadata_location, record):
                    return table
                table = load()
                continue
            if record is not None:
                tombstones.store_deletions(catalog, tuple(namespace), *record)
            catalog.rename_table(table.name(), target)
            return table
        except TableAlreadyExistsError:
            raise taken_error(".".join(target)) from None
        except NoSuchTableError:
            table = load()  # raises the error that names the dataset
