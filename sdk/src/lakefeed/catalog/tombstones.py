"""Records of deleted datasets with their last version numbers, so that a number of a name never means two versions.

A new dataset of a deleted name continues after the last number. The records are properties of the namespace, which SQL,
REST, Glue and Hive catalogs all have. A record is written before the table is dropped (in an SQL catalog in the same
transaction). After a crash in between, the table still exists, and its record is ignored until it is dropped.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pyiceberg.exceptions import ForbiddenError, NoSuchNamespaceError, NoSuchTableError

from lakefeed.catalog.properties import DELETED_PREFIX
from lakefeed.catalog.version_numbers import next_number, with_version_numbers

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

logger = logging.getLogger(__name__)

# A property of an SQL catalog holds 1,000 characters; each deletion takes less than 90.
DELETIONS_RECORDED = 10
RECORD_CHARACTERS = 1_000
TRASH = "trash:"
"""Takes the place of the new name of a dataset that is in the trash. No name has a colon."""


@dataclass(frozen=True)
class Deletion:
    """The deletion of a dataset.

    Attributes:
        table: the uuid of its table.
        last: its last version number.
        at: the time, in milliseconds since 1970 (UTC).
        to: the new name of a dataset that was renamed; `TRASH` if it is in the trash; empty if it was deleted.
    """

    table: str
    last: int
    at: int
    to: str = ""

    @property
    def deleted_at(self) -> str:
        """The time as text."""
        return dt.datetime.fromtimestamp(self.at / 1000, dt.UTC).isoformat(sep=" ", timespec="seconds")

    @property
    def event(self) -> str:
        """The end of the name as text, such as "deleted at 2026-11-01 08:00:00+00:00"."""
        renamed = self.to not in ("", TRASH)
        return f"renamed to {self.to!r} at {self.deleted_at}" if renamed else f"deleted at {self.deleted_at}"


def deletions_key(table_name: str) -> str:
    """Returns the namespace property with the deletions of a name."""
    return DELETED_PREFIX + table_name


def parse_deletions(value: str | None) -> tuple[Deletion, ...]:
    """Returns the deletions in the value of a property, oldest first."""
    if value is None:
        return ()
    try:
        return tuple(
            Deletion(str(each["table"]), int(each["last"]), int(each["at"]), str(each.get("to", "")))
            for each in json.loads(value)
        )
    except (ValueError, TypeError, KeyError) as error:
        logger.warning("invalid record of deleted datasets (%r); their version numbers may be used again", error)
        return ()


def deletions(catalog: Catalog, identifier: tuple[str, ...], present: str | None = None) -> tuple[Deletion, ...]:
    """Returns the deletions of datasets of a name, oldest first. ``present`` is the uuid of an existing table."""
    *namespace, table_name = identifier
    try:
        properties = catalog.load_namespace_properties(tuple(namespace))
    except (NoSuchNamespaceError, NotImplementedError):
        return ()
    recorded = parse_deletions(properties.get(deletions_key(table_name)))
    return tuple(each for each in recorded if each.table != present)


def last_number(recorded: Iterable[Deletion]) -> int:
    """Returns the last version number of deleted datasets; 0 if there are none."""
    return max((each.last for each in recorded), default=0)


def deletion_of_version(recorded: Iterable[Deletion], number: int) -> Deletion | None:
    """Returns the deletion of the dataset that had a version of that number; None if there is none."""
    return min((each for each in recorded if number <= each.last), key=lambda each: each.last, default=None)


def deletion_of_table(recorded: Iterable[Deletion], table_uuid: str) -> Deletion | None:
    """Returns the deletion of a table; None if there is none."""
    return next((each for each in recorded if each.table == table_uuid), None)


def append_deletion(recorded: Iterable[Deletion], table: Table, to: str = "") -> str:
    """Returns the value of the property with the deletion of ``table``, or its renaming ``to``, appended."""
    uuid = str(table.metadata.table_uuid)
    last = next_number(with_version_numbers(table).metadata) - 1
    return _dump_deletions(recorded, Deletion(uuid, last, _now_ms(), to))


def retire(catalog: Catalog, load: Callable[[], Table], drop: Callable[[Table], None]) -> Table:
    """Drops a table from the catalog, records its last version number, and returns the table.

    Args:
        catalog: the catalog.
        load: returns the table with its newest metadata. Raises if it was deleted or replaced.
        drop: drops the table from a catalog other than lakefeed's, which drops and records in each transaction.
    """
    from lakefeed.catalog.sql_catalog import LakeSqlCatalog

    table = load()
    while True:
        key, value = deletions_key(table.name()[-1]), append_deletion(deletions(catalog, table.name()), table)
        if isinstance(catalog, LakeSqlCatalog):
            if catalog.retire(table.name(), table.metadata_location, key, value):
                return table
            table = load()
            continue
        store_deletions(catalog, table.name()[:-1], key, value)
        # The record lacks versions that another writer has added meanwhile.
        current = load()
        if current.metadata_location == table.metadata_location:
            drop(table)
            return table
        table = current


def retire_new(catalog: Catalog, table: Table) -> bool:
    """Drops a table without rows, so that its version number is used again.

    Returns False, without a change, if the table has changed.
    """
    from lakefeed.catalog.sql_catalog import LakeSqlCatalog

    if isinstance(catalog, LakeSqlCatalog):
        # An entry of its own tells a repeated attempt that the first one has succeeded.
        entry = Deletion(str(table.metadata.table_uuid), 0, _now_ms())
        others = [each for each in deletions(catalog, table.name()) if each.last]
        value = _dump_deletions(others, entry)
        return catalog.retire(table.name(), table.metadata_location, deletions_key(table.name()[-1]), value)
    if catalog.load_table(table.name()).metadata_location != table.metadata_location:
        return False
    catalog.drop_table(table.name())
    return True


def retire_damaged(catalog: Catalog, identifier: tuple[str, ...], metadata_location: str | None) -> None:
    """Drops a damaged table from the catalog and records the highest version number that it may have had.

    Raises:
        NoSuchTableError: the table does not exist.
    """
    from lakefeed.catalog.sql_catalog import LakeSqlCatalog

    recorded, key = deletions(catalog, identifier), deletions_key(identifier[-1])
    if metadata_location is None or not isinstance(catalog, LakeSqlCatalog):
        catalog.drop_table(identifier)
        return
    # Each commit writes a metadata file; these are numbered from 0.
    counter = metadata_location.rpartition("/")[2].partition("-")[0]
    last = last_number(recorded) + (int(counter) + 1 if counter.isdecimal() else 0)
    value = _dump_deletions(
        recorded, Deletion(hashlib.sha256(metadata_location.encode()).hexdigest()[:32], last, _now_ms())
    )
    if not catalog.retire(identifier, metadata_location, key, value):
        raise NoSuchTableError(f"{'.'.join(identifier)} was deleted or restored during the delete")


def _dump_deletions(recorded: Iterable[Deletion], new: Deletion) -> str:
    entries = [*(each for each in recorded if each.table != new.table), new]
    while len(entries) > DELETIONS_RECORDED or len(_to_json(entries)) > RECORD_CHARACTERS:
        highest = last_number(entries)  # must not be forgotten
        entries.remove(next(each for each in entries if each.last < highest or each is not new))
    return _to_json(entries)


def _to_json(entries: Iterable[Deletion]) -> str:
    facts = [{key: value for key, value in asdict(each).items() if value != ""} for each in entries]
    return json.dumps(facts, separators=(",", ":"))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def store_deletions(catalog: Catalog, namespace: tuple[str, ...], key: str, value: str) -> None:
    """Sets the property with the deletions of a name, in a catalog other than lakefeed's own."""
    try:
        catalog.update_namespace_properties(namespace, updates={key: value})
    except (NotImplementedError, ForbiddenError) as error:
        logger.warning(
            "cannot record a deletion in %s (%s); a new dataset of that name starts at version 1", key, error
        )
