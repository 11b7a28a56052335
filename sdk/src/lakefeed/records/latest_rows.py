"""The newest visible record of each chain of versions."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, and_, bindparam, func, select, update

from lakefeed.records.inserts import chunks, pairs
from lakefeed.records.record_tables import RECORD
from lakefeed.records.visible_rows import LISTED


def refresh_latest(connection: Connection, stems: Iterable[str]) -> None:
    """Marks the newest visible record of each stem, and no other."""
    for chunk in chunks(sorted(stems)):
        newest = (
            select(RECORD.c.stem, func.max(RECORD.c.revision))
            .where(RECORD.c.stem.in_(chunk), LISTED)
            .group_by(RECORD.c.stem)
        )
        found = pairs(connection, newest)
        rows = [{"s": stem, "r": found.get(stem, -1)} for stem in chunk]
        of_stem = RECORD.c.stem == bindparam("s")
        older = and_(of_stem, RECORD.c.latest, RECORD.c.revision != bindparam("r"))
        connection.execute(update(RECORD).where(older).values(latest=False), rows)
        first = and_(of_stem, RECORD.c.revision == bindparam("r"))
        connection.execute(update(RECORD).where(first).values(latest=True), rows)
