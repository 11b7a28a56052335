"""The rows of records in the registry: found by their uid, changed, and inserted for files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Result, Select, bindparam, select

from lakefeed.catalog.lake import Lake
from lakefeed.errors import RecordNotFoundError
from lakefeed.records.inserts import chunks, insert_new
from lakefeed.records.record_changes import change_record
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import PARENT, RECORD, Presence
from lakefeed.records.visible_rows import LISTED

RecordRow: TypeAlias = Mapping[str, Any]

_OF_UID: Final = select(RECORD).where(RECORD.c.uid == bindparam("uid"))
_CHAIN: Final = (
    select(RECORD)
    .where(RECORD.c.stem == bindparam("stem"), RECORD.c.presence != bindparam("pending"))
    .order_by(RECORD.c.revision)
)
_LIVE: Final = (
    select(RECORD)
    .where(RECORD.c.hash == bindparam("hash"), RECORD.c.kind == bindparam("kind"), LISTED)
    .order_by(RECORD.c.created)
)


def plain_rows(result: Result[Any]) -> list[RecordRow]:
    """Returns the rows of a result, by the names of columns."""
    return [{str(name): value for name, value in row.items()} for row in result.mappings()]


def read_rows(lake: Lake, query: Select[Any]) -> list[RecordRow]:
    """Returns the rows of a query, after the registry has caught up with the lake."""
    return Registry.open(lake).read_current(lambda connection: plain_rows(connection.execute(query)))


def find_row(lake: Lake, uid: str) -> RecordRow | None:
    """Returns the row of a uid, also of a record in the trash; None if there is none."""
    return Registry.open(lake).read_current(lambda connection: _row_of(connection, uid))


def reload_row(lake: Lake, uid: str) -> RecordRow:
    """Returns the row of a uid.

    Raises:
        RecordNotFoundError: there is none.
    """
    return Registry.open(lake).read_current(lambda connection: require_row(connection, uid))


def require_row(connection: Connection, uid: str) -> RecordRow:
    """Returns the row of a uid, as a transaction sees it.

    Raises:
        RecordNotFoundError: there is none.
    """
    row = _row_of(connection, uid)
    if row is None:
        raise RecordNotFoundError(f"the registry has no record {uid!r}")
    return row


def _row_of(connection: Connection, uid: str) -> RecordRow | None:
    rows = plain_rows(connection.execute(_OF_UID, {"uid": uid}))
    return rows[0] if rows else None


def find_rows(lake: Lake, uids: Sequence[str]) -> list[RecordRow]:
    """Returns the rows of uids, in this order. Those that do not exist are left out."""
    return Registry.open(lake).read_current(lambda connection: rows_of_uids(connection, uids))


def rows_of_uids(connection: Connection, uids: Sequence[str]) -> list[RecordRow]:
    """Returns the rows of uids as `find_rows`, as a transaction sees them."""
    rows: dict[str, RecordRow] = {}
    for chunk in chunks(dict.fromkeys(uids)):
        query = select(RECORD).where(RECORD.c.uid.in_(chunk))
        rows |= {row["uid"]: row for row in plain_rows(connection.execute(query))}
    return [rows[uid] for uid in uids if uid in rows]


def find_chain(lake: Lake, stem: str) -> list[RecordRow]:
    """Returns the rows of all versions of a chain that exist, oldest first, also those in the trash."""
    return Registry.open(lake).read_current(
        lambda connection: plain_rows(connection.execute(_CHAIN, {"stem": stem, "pending": int(Presence.PENDING)}))
    )


def find_live(connection: Connection, hash: str, kind: str) -> list[RecordRow]:
    """Returns the records of a content that are not in the trash, the oldest first."""
    return plain_rows(connection.execute(_LIVE, {"hash": hash, "kind": kind}))


def update_record(lake: Lake, uid: str, values: Mapping[str, Any]) -> None:
    """Changes the texts of a record that may change, and its visibility."""
    texts = {name: value for name, value in values.items() if name != "visibility"}
    visibility = int(values["visibility"]) if "visibility" in values else None
    change_record(Registry.open(lake), uid, texts, visibility)


def insert_members(connection: Connection, members: Sequence[tuple[str, str, int]]) -> None:
    """Records what a record consists of: tuples of its uid or token, the uid of a member, and its place."""
    values = [{"child": child, "parent": parent, "ordinal": place} for child, parent, place in members]
    for chunk in chunks(values):
        insert_new(connection, PARENT, chunk)
