"""The rows of records in the registry: found by their uid, changed, and inserted for files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Result, Select, select

from lakefeed.catalog.lake import Lake
from lakefeed.errors import RecordNotFoundError
from lakefeed.records.inserts import chunks, insert_new
from lakefeed.records.record_changes import describe, set_visibility
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import PARENT, RECORD, Presence
from lakefeed.records.visible_rows import LISTED

RecordRow: TypeAlias = Mapping[str, Any]

ROWS_PER_STATEMENT: Final = 1_000


def plain_rows(result: Result[Any]) -> list[RecordRow]:
    """Returns the rows of a result, by the names of columns."""
    return [{str(name): value for name, value in row.items()} for row in result.mappings()]


def read_rows(lake: Lake, query: Select[Any]) -> list[RecordRow]:
    """Returns the rows of a query, after the registry has caught up with the lake."""
    return Registry.open(lake).read_current(lambda connection: plain_rows(connection.execute(query)))


def find_row(lake: Lake, uid: str) -> RecordRow | None:
    """Returns the row of a uid, also of a record in the trash; None if there is none."""
    rows = read_rows(lake, select(RECORD).where(RECORD.c.uid == uid))
    return rows[0] if rows else None


def require_row(lake: Lake, uid: str) -> RecordRow:
    """Returns the row of a uid.

    Raises:
        RecordNotFoundError: there is none.
    """
    row = find_row(lake, uid)
    if row is None:
        raise RecordNotFoundError(f"the registry has no record {uid!r}")
    return row


def find_rows(lake: Lake, uids: Sequence[str]) -> list[RecordRow]:
    """Returns the rows of uids, in this order. Those that do not exist are left out."""

    def read(connection: Connection) -> dict[str, RecordRow]:
        rows: dict[str, RecordRow] = {}
        for start in range(0, len(uids), ROWS_PER_STATEMENT):
            query = select(RECORD).where(RECORD.c.uid.in_(uids[start : start + ROWS_PER_STATEMENT]))
            rows |= {row["uid"]: row for row in plain_rows(connection.execute(query))}
        return rows

    found = Registry.open(lake).read_current(read)
    return [found[uid] for uid in uids if uid in found]


def find_chain(lake: Lake, stem: str) -> list[RecordRow]:
    """Returns the rows of all versions of a chain that exist, oldest first, also those in the trash."""
    exists = RECORD.c.presence != int(Presence.PENDING)
    query = select(RECORD).where(RECORD.c.stem == stem, exists).order_by(RECORD.c.revision)
    return read_rows(lake, query)


def find_live(lake: Lake, hash: str, kinds: Sequence[str]) -> list[RecordRow]:
    """Returns the records of a content that are not in the trash, the oldest first."""
    query = select(RECORD).where(RECORD.c.hash == hash, RECORD.c.kind.in_(kinds), LISTED).order_by(RECORD.c.created)
    return read_rows(lake, query)


def update_record(lake: Lake, uid: str, values: Mapping[str, Any]) -> None:
    """Changes the texts of a record that may change, and its visibility."""
    registry, texts = Registry.open(lake), {name: value for name, value in values.items() if name != "visibility"}
    if texts:
        describe(registry, uid, **texts)
    if "visibility" in values:
        set_visibility(registry, uid, int(values["visibility"]))


def insert_members(lake: Lake, members: Sequence[tuple[str, str, int]]) -> None:
    """Records what a record consists of: tuples of its uid or token, the uid of a member, and its place."""
    values = [{"child": child, "parent": parent, "ordinal": place} for child, parent, place in members]
    with Registry.open(lake).write() as connection:
        for chunk in chunks(values):
            insert_new(connection, PARENT, chunk)
