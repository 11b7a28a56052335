"""The trash: deleted datasets, which keep their versions and files until the trash is emptied.

A deleted dataset is a table of a namespace that breaks the naming rule. Garbage collections walk all namespaces, so its
files and the contents that it names are safe. Its name and the time of the deletion are a property of the table.
"""

from __future__ import annotations

import datetime as dt
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lakefeed.catalog import drop_table, renaming
from lakefeed.catalog.hidden_tables import HiddenTables
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import FIRST_NAME, TRASHED
from lakefeed.catalog.reachable import ReferenceCache
from lakefeed.catalog.table_references import References
from lakefeed.catalog.tombstones import TRASH
from lakefeed.catalog.versions import list_versions
from lakefeed.catalog.warehouse_owner import require_owner
from lakefeed.errors import (
    DamagedDatasetError,
    DatasetExistsError,
    DatasetNotFoundError,
    InvalidArgumentError,
    quoted_list,
)
from lakefeed.storage.blobs.step_hooks import StepHook, ignore_step

if TYPE_CHECKING:
    from pyiceberg.table import Table

NAMESPACE: Final = "_trash"


@dataclass(frozen=True)
class TrashedDataset:
    """A dataset in the trash.

    Attributes:
        name: the name that it had; that of its table in the trash if it is damaged.
        deleted_at: the time of its deletion; None if it is damaged.
        versions: the number of versions.
        rows: the number of rows of the newest version.
        damaged: its metadata is lost or unreadable, so it cannot be restored.
    """

    name: str
    deleted_at: dt.datetime | None
    versions: int = 0
    rows: int = 0
    damaged: bool = False
    lake: Lake = field(repr=False, compare=False, kw_only=True)
    table: str = field(repr=False, kw_only=True)

    def restore(self, name: str | None = None) -> str:
        """Brings the dataset back with all its versions, and returns its name.

        Args:
            name: the name to give it. None is the name that it had.

        Raises:
            DatasetExistsError: there is a dataset of the name. Give another one.
            DatasetNotFoundError: it is no longer in the trash.
            DamagedDatasetError: its metadata is lost or unreadable.
        """
        return restore_table(self.lake, self.table, name)

    def delete(self) -> bool:
        """Deletes the dataset for good. Returns False if it is no longer in the trash."""
        return drop_table.purge(HiddenTables(self.lake, NAMESPACE), self.table)


def delete(lake: Lake, name: str, permanent: bool, force: bool) -> None:
    """Moves a dataset to the trash, or deletes it for good. With ``force``, a damaged one is deleted for good."""
    if permanent or (force and _is_damaged(lake, name)):
        lake.drop(name, force)
    else:
        move_to_trash(lake, name)


def _is_damaged(lake: Lake, name: str) -> bool:
    try:
        return not References(ReferenceCache(lake).read_through).add_readable(lake.table(name))
    except DamagedDatasetError:
        return True


def move_to_trash(lake: Lake, name: str, at: StepHook = ignore_step) -> None:
    """Moves a dataset to the trash.

    Raises:
        DatasetNotFoundError: it does not exist, or was replaced by another one meanwhile.
        DamagedDatasetError: its metadata cannot be read. Nothing is changed.
        SharedWarehouseError: the catalog does not own its warehouse. Nothing is changed.
    """
    require_owner(lake.catalog)
    table_uuid = str(lake.table(name).metadata.table_uuid)
    fact = json.dumps({"name": name, "at": time.time_ns() // 1_000_000})
    renaming.set_properties(lake, name, table_uuid, lambda _: {TRASHED: fact})
    at("marked")
    lake.ensure_namespace(NAMESPACE)
    target = NAMESPACE, f"t{uuid.uuid4().hex[:12]}"
    renaming.change_identifier(lake, lambda: renaming.same_table(lake, name, table_uuid), target, TRASH)


def list_trash(lake: Lake) -> list[TrashedDataset]:
    """Returns the datasets in the trash, the last deleted first, damaged ones last."""
    everything = list(_trashed(lake))
    known = [each for each in everything if each.deleted_at is not None]
    known.sort(key=lambda each: each.deleted_at or dt.datetime.min, reverse=True)
    return [*known, *(each for each in everything if each.deleted_at is None)]


def _trashed(lake: Lake) -> Iterator[TrashedDataset]:
    tables = HiddenTables(lake, NAMESPACE)
    for name in tables.names():
        try:
            yield _describe(lake, name, tables.table(name))
        except DamagedDatasetError:
            yield TrashedDataset(name, None, damaged=True, lake=lake, table=name)
        except DatasetNotFoundError:  # restored or removed meanwhile
            continue


def _describe(lake: Lake, name: str, table: Table) -> TrashedDataset:
    fact = json.loads(table.properties[TRASHED])
    versions = list_versions(table)
    return TrashedDataset(
        str(fact["name"]),
        dt.datetime.fromtimestamp(fact["at"] / 1000, dt.UTC),
        len(versions),
        versions[0].total_records if versions else 0,
        lake=lake,
        table=name,
    )


def restore(lake: Lake, name: str, new_name: str | None) -> str:
    """Brings back the dataset of a name that was deleted last, and returns its name.

    Raises:
        DatasetNotFoundError: the trash has none of that name. The message names those that it has.
        DatasetExistsError: there is a dataset of the name.
    """
    lake.identifier(name)
    if new_name is not None and lake.exists(new_name):
        raise _taken_error(name, new_name)
    trashed = list_trash(lake)
    for each in trashed:
        if not each.damaged and lake.identifier(each.name) == lake.identifier(name):
            return each.restore(new_name)
    names = quoted_list(dict.fromkeys(each.name for each in trashed)) if trashed else "nothing"
    raise DatasetNotFoundError(f"the trash has no dataset {name!r}; it has {names}")


def restore_table(lake: Lake, table_name: str, new_name: str | None, at: StepHook = ignore_step) -> str:
    """Brings back a dataset, which is a table of the trash, and returns its name. See `TrashedDataset.restore`."""
    require_owner(lake.catalog)
    tables = HiddenTables(lake, NAMESPACE)

    def load() -> Table:
        try:
            return tables.table(table_name)
        except DatasetNotFoundError:
            raise DatasetNotFoundError("the dataset is no longer in the trash: it was restored or removed") from None

    table = load()
    old = str(json.loads(table.properties[TRASHED])["name"])
    name = old if new_name is None else new_name
    target = lake.identifier(name)
    if lake.exists(name):
        raise _taken_error(old, name)
    if target != lake.identifier(old):
        table_uuid = str(table.metadata.table_uuid)
        renaming.set_properties(
            tables, table_name, table_uuid, lambda now: {} if FIRST_NAME in now.properties else {FIRST_NAME: old}
        )
        at("marked")
    lake.ensure_namespace(".".join(target[:-1]))
    try:
        renaming.change_identifier(lake, load, target, moved_to=None)
    except DatasetExistsError:
        raise _taken_error(old, name) from None
    return name


def _taken_error(old: str, name: str) -> DatasetExistsError:
    return DatasetExistsError(
        f"a dataset {name!r} exists already; restore {old!r} under another name: Dataset.undelete({old!r}, new_name=…)"
    )


def empty_trash(lake: Lake, older_than: dt.timedelta | None, name: str | None) -> list[TrashedDataset]:
    """Deletes datasets of the trash for good, and returns them.

    Args:
        lake: the lake.
        older_than: only datasets that were deleted longer ago. None is all, with damaged ones.
        name: only datasets that had this name. None is all.
    """
    span: object = older_than
    if span is not None and (not isinstance(span, dt.timedelta) or span < dt.timedelta(0)):
        raise InvalidArgumentError(
            f"older_than must be a datetime.timedelta that is not negative, or None, got {older_than!r:.80}"
        )
    identifier = None if name is None else lake.identifier(name)
    before = None if older_than is None else dt.datetime.now(dt.UTC) - older_than
    removed = []
    for each in list_trash(lake):
        if before is not None and (each.deleted_at is None or each.deleted_at > before):
            continue
        if identifier is not None and (each.damaged or lake.identifier(each.name) != identifier):
            continue
        if each.delete():
            removed.append(each)
    return removed
