"""The contents that the registry keeps: those of files, of facts and of code, which no version of a table names."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, ColumnElement, Select, TableClause, column, inspect, select, table

from lakefeed.catalog.registry_database import RegistryDatabase
from lakefeed.config import Settings

RECORD_TABLE: Final = "lakefeed_record"
GONE: Final = 2
"""The presence of a record whose content was deleted."""


def registered_contents(settings: Settings) -> list[str]:
    """Returns the SHA-256 of the contents that records refer to, unless they were deleted for good.

    Empty if the lake has no registry.

    Raises:
        CatalogUnavailableError: the registry cannot be read, so what it keeps is unknown.
    """
    database = RegistryDatabase(settings)
    if database.path is not None and not database.path.exists():
        return []
    try:
        with database.read() as connection:
            present = set(inspect(connection).get_table_names())
            contents = set[str]()
            for name, query in _queries().items():
                if name in present and RECORD_TABLE in present:
                    contents.update(connection.scalars(query))
    finally:
        database.close()
    return sorted(contents)


def _queries() -> dict[str, Select[str]]:
    """Returns a query for the contents of each table of the registry that refers to some."""
    record = _table(RECORD_TABLE, "uid", "sha256", "presence")
    fact = _table("lakefeed_fact", "record", "sha256")
    transform = _table("lakefeed_transform", "code_sha256")
    gone = select(record.c.uid).where(record.c.presence == GONE)
    return {
        record.name: _contents(record.c.sha256).where(record.c.presence != GONE),
        fact.name: _contents(fact.c.sha256).where(fact.c.record.not_in(gone)),
        transform.name: _contents(transform.c.code_sha256),
    }


def _table(name: str, *columns: str) -> TableClause:
    return table(name, *(column(each) for each in columns))


def _contents(of: ColumnElement[str] | Column[str]) -> Select[str]:
    return select(of).where(of.is_not(None)).distinct()
