"""The last numbers of deleted datasets, so that a number of a name never means two versions.

They stand in the properties of the namespace, the one thing beside tables that SQL, REST, Glue and Hive catalogs have
in common. A dataset under a name that was deleted goes on after the last number. The record is written before the table
is dropped (in an SQL catalog with it): a crash in between leaves a table that is still there, and a record that names
it, which says nothing until the table is gone.
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

# A value has room for 1,000 characters in an SQL catalog, and one deletion takes less than 90.
DELETIONS_RECORDED = 10


@dataclass(frozen=True)
class Deletion:
    """One dataset of the name: its table, its last version, and when it was deleted (milliseconds since 1970, UTC)."""

    table: str
    last: int
    at: int

    @property
    def moment(self) -> str:
        """The time as text."""
        return dt.datetime.fromtimestamp(self.at / 1000, dt.UTC).isoformat(sep=" ", timespec="seconds")


def deletions_key(table_name: str) -> str:
    """The property of the namespace in which the deletions of a name stand."""
    return DELETED_PREFIX + table_name


def parse_deletions(value: str | None) -> tuple[Deletion, ...]:
    """The deletions that a property records, oldest first."""
    if value is None:
        return ()
    try:
        return tuple(Deletion(str(one["table"]), int(one["last"]), int(one["at"])) for one in json.loads(value))
    except (ValueError, TypeError, KeyError) as error:
        logger.warning("a record of deleted datasets cannot be read (%r), so their numbers may be used again", error)
        return ()


def deletions(catalog: Catalog, identifier: tuple[str, ...], present: str | None = None) -> tuple[Deletion, ...]:
    """The deletions of datasets of that name, oldest first; ``present`` is the table that is there, never deleted."""
    *namespace, table_name = identifier
    try:
        properties = catalog.load_namespace_properties(tuple(namespace))
    except (NoSuchNamespaceError, NotImplementedError):
        return ()
    found = parse_deletions(properties.get(deletions_key(table_name)))
    return tuple(one for one in found if one.table != present)


def last_number(found: Iterable[Deletion]) -> int:
    """The last number that deleted datasets have used; 0 for none."""
    return max((one.last for one in found), default=0)


def deletion_of_version(found: Iterable[Deletion], number: int) -> Deletion | None:
    """The deleted dataset whose version had that number."""
    return min((one for one in found if number <= one.last), key=lambda one: one.last, default=None)


def deletion_of_table(found: Iterable[Deletion], table_uuid: str) -> Deletion | None:
    """The deletion of the table of that uuid."""
    return next((one for one in found if one.table == table_uuid), None)


def append_deletion(found: Iterable[Deletion], table: Table) -> str:
    """The property once ``table`` is deleted too."""
    uuid = str(table.metadata.table_uuid)
    last = next_number(with_version_numbers(table).metadata) - 1
    return _dump_deletions(found, Deletion(uuid, last, _now_ms()))


def retire(catalog: Catalog, load: Callable[[], Table], drop: Callable[[Table], None]) -> Table:
    """Takes a table out of the catalog, its last number on record; returns it as it was.

    ``load`` gives it as it is now; it raises where the table is gone, or is another one by now. ``drop`` takes it out
    of a catalog other than ours, which can do so together with the record.
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
        _store_deletions(catalog, table.name()[:-1], key, value)
        # A version that another writer has added since would not be on record.
        now = load()
        if now.metadata_location == table.metadata_location:
            drop(table)
            return table
        table = now


def retire_damaged(catalog: Catalog, identifier: tuple[str, ...], metadata_location: str | None) -> None:
    """Takes a table out of the catalog whose metadata cannot be read, with a number on record that it had at most.

    Raises:
        NoSuchTableError: it is gone.
    """
    from lakefeed.catalog.sql_catalog import LakeSqlCatalog

    found, key = deletions(catalog, identifier), deletions_key(identifier[-1])
    if metadata_location is None or not isinstance(catalog, LakeSqlCatalog):
        catalog.drop_table(identifier)
        return
    # A commit writes a metadata file, and these are numbered from 0.
    counter = metadata_location.rpartition("/")[2].partition("-")[0]
    last = last_number(found) + (int(counter) + 1 if counter.isdecimal() else 0)
    value = _dump_deletions(
        found, Deletion(hashlib.sha256(metadata_location.encode()).hexdigest()[:32], last, _now_ms())
    )
    if not catalog.retire(identifier, metadata_location, key, value):
        raise NoSuchTableError(f"{'.'.join(identifier)} was deleted or restored meanwhile")


def _dump_deletions(found: Iterable[Deletion], new: Deletion) -> str:
    others = [one for one in found if one.table != new.table]
    return json.dumps([asdict(one) for one in (*others, new)][-DELETIONS_RECORDED:], separators=(",", ":"))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _store_deletions(catalog: Catalog, namespace: tuple[str, ...], key: str, value: str) -> None:
    try:
        catalog.update_namespace_properties(namespace, updates={key: value})
    except (NotImplementedError, ForbiddenError) as error:
        logger.warning(
            "this catalog keeps no properties of namespaces (%s): numbers of %s start again at 1", error, key
        )
