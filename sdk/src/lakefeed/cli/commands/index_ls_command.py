"""``lakefeed index ls``: the indexes of keyed tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import click

from lakefeed import connect, errors
from lakefeed.cli.cell_text import Column
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import lake_exists
from lakefeed.cli.shared_options import lake_command
from lakefeed.keyed import SearchIndex

COLUMNS = (
    Column("index"),
    Column("kind"),
    Column("table"),
    Column("fields", "list"),
    Column("version", "version"),
    Column("newest", "version"),
    Column("where"),
)


@lake_command("ls")
@click.argument("pattern", required=False)
def index_ls_command(invocation: Invocation, pattern: str | None) -> None:
    """List the search indexes. PATTERN selects names.

    'version' is that of the table which the index has, 'newest' the newest one.
    """
    indexes = connect().list_indexes() if lake_exists() else []
    chosen = [each for each in indexes if pattern is None or fnmatchcase(each.name, pattern)]
    if not chosen:
        invocation.message("no indexes" + ("" if pattern is None else f" matching {pattern!r}"))
    invocation.write_table(COLUMNS, _rows(invocation, chosen))


def _rows(invocation: Invocation, indexes: Sequence[SearchIndex]) -> Iterator[tuple[Any, ...]]:
    for index in indexes:
        definition = index.definition
        table, newest, version = definition.table, None, None
        try:
            table, newest, version = index.table.identifier, index.table.snapshot().version, index.version
        except errors.LakefeedError as error:  # the table was dropped, or the index is damaged
            invocation.message(f"lakefeed: index {index.name}: {error}")
        yield index.name, definition.kind, table, index.fields, version, newest, definition.where
