"""The newest visible record of each chain of versions."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, func, select, update

from lakefeed.records.inserts import chunks
from lakefeed.records.record_tables import RECORD
from lakefeed.records.visible_rows import LISTED

_NEWEST = (
    select(RECORD.c.stem, func.max(RECORD.c.revision))
    .where(RECORD.c.stem.in_(bindparam("stems", expanding=True)), LISTED)
    .group_by(RECORD.c.stem)
)
_MARK = (
    update(RECORD)
    .where(RECORD.c.stem == bindparam("s"), RECORD.c.latest != (RECORD.c.revision == bindparam("r")))
    .values(latest=RECORD.c.revision == bindparam("r"))
)


def refresh_latest(connection: Connection, stems: Iterable[str]) -> None:
    """Marks the newest visible record of each stem, and no other."""
    for chunk in chunks(sorted(stems)):
        newest = {row[0]: row[1] for row in connection.execute(_NEWEST, {"stems": chunk})}
        connection.execute(_MARK, [{"s": stem, "r": newest.get(stem, -1)} for stem in chunk])
