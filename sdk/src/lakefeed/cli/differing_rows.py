"""The rows that differ between two versions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lakefeed.cli.rows import row_values

if TYPE_CHECKING:
    from lakefeed import Changes, Dataset


def differing_rows(new: Dataset, changes: Changes, keys: list[str], number: int) -> Iterator[tuple[Any, ...]]:
    """Yields a sign and the values of each row: "-" is removed, "+" is added, "~" is changed, with its new values.

    Args:
        new: the newer version.
        changes: its counted differences from the older version.
        keys: the columns that identify a row; empty for none.
        number: the most rows of each sign.
    """
    gained, lost = _gained_and_lost(new, changes)
    signs = [("-", lost), ("+", gained)]
    if keys and changes.changed:
        signs = [("-", _join("ANTI", lost, gained, keys)), ("+", _join("ANTI", gained, lost, keys))]
        signs.append(("~", _join("SEMI", gained, lost, keys)))
    for sign, rows in signs:
        names = [name for name in new.schema.names if name in rows.schema.names]
        if names:
            yield from ((sign, *values) for values in _in_columns(new.schema.names, rows.select(names).head(number)))


def _gained_and_lost(new: Dataset, changes: Changes) -> tuple[Dataset, Dataset]:
    """Returns the rows that only the newer and only the older version has."""
    start = changes.from_version
    gained: Dataset = new.added_since(start)
    lost: Dataset = new.removed_since(start)
    both = changes.changed or 0
    if start is None or (gained.count() == changes.added + both and lost.count() == changes.removed + both):
        return gained, lost
    # A restore or an enrichment in between adds no rows of its own, so the versions themselves are compared.
    old = type(new)(new.name, version=start)
    present = set(old.schema.names)
    names = ", ".join(map(_quote, new.schema.names))
    before = ", ".join(_quote(name) if name in present else "NULL" for name in new.schema.names)
    gained = new.sql(f"SELECT {names} FROM data EXCEPT ALL SELECT {before} FROM other", tables={"other": old})
    common = ", ".join(_quote(name) for name in new.schema.names if name in present)
    query = f"SELECT {common} FROM (SELECT {before} FROM data EXCEPT ALL SELECT {names} FROM other)"
    return gained, old.sql(query, tables={"other": new})


def _join(kind: str, rows: Dataset, others: Dataset, keys: list[str]) -> Dataset:
    columns = ", ".join(map(_quote, keys))
    return rows.sql(
        f"SELECT data.* FROM data {kind} JOIN other USING ({columns})", tables={"other": others.select(keys)}
    )


def _in_columns(names: list[str], rows: Dataset) -> Iterator[tuple[Any, ...]]:
    """Yields the values of rows under ``names``; null where they lack one."""
    positions = {name: position for position, name in enumerate(rows.schema.names)}
    for values in row_values(rows):
        yield tuple(values[positions[name]] if name in positions else None for name in names)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
