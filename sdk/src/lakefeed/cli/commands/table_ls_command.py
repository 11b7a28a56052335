"""``lakefeed table ls``: the keyed tables of the lake."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import click

from lakefeed import Dataset, Table, connect, errors
from lakefeed.cli.cell_text import Column
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import lake_exists
from lakefeed.cli.shared_options import lake_command

COLUMNS = (
    Column("table"),
    Column("key", "list"),
    Column("version", "version"),
    Column("rows", "count"),
    Column("bytes", "bytes"),
    Column("changed", "time"),
)


@lake_command("ls")
@click.argument("pattern", required=False)
def table_ls_command(invocation: Invocation, pattern: str | None) -> None:
    """List the keyed tables, whose rows are unique by key. PATTERN selects names."""
    tables = connect().list_tables() if lake_exists() else []
    chosen = [each for each in tables if pattern is None or fnmatchcase(each.identifier, pattern)]
    if not chosen:
        invocation.message("no keyed tables" + ("" if pattern is None else f" matching {pattern!r}"))
    invocation.write_table(COLUMNS, _rows(invocation, chosen))


def _rows(invocation: Invocation, tables: list[Table]) -> Iterator[tuple[Any, ...]]:
    for table in tables:
        try:
            versions = Dataset(table.identifier).list_versions()
            key = table.key_schema.names
        except errors.DatasetNotFoundError:
            continue  # deleted since the list was made
        except errors.DamagedDatasetError as error:
            invocation.message(f"lakefeed: {error}")
            continue
        newest = versions[0] if versions else None
        facts = (None, 0, 0, None) if newest is None else (
            newest.version, newest.total_records, newest.total_bytes, newest.timestamp_ms,
        )  # fmt: skip
        yield table.identifier, key, *facts
