"""``lakefeed table show``: the key, the columns and the indexes of a keyed table."""

from __future__ import annotations

from typing import Any

import click

from lakefeed import Table, connect
from lakefeed.cli.cell_text import Column
from lakefeed.cli.invocation import Invocation, write
from lakefeed.cli.references import NAME
from lakefeed.cli.shared_options import lake_command


@lake_command("show")
@click.argument("name", type=NAME)
def table_show_command(invocation: Invocation, name: str) -> None:
    """Show the key of a table, its version, columns and indexes."""
    table = Table(name)
    keys = table.key_schema.names
    snapshot = table.snapshot()
    dataset = table.as_dataset()
    record: dict[str | Column, Any] = {
        "table": table.identifier,
        Column("key", "list"): keys,
        Column("version", "version"): snapshot.version,
        Column("rows", "count"): dataset.count(),
        Column("indexes", "list"): [each.name for each in connect().list_indexes() if _table_of(each) == name],
    }
    columns = [(field.name, str(field.type), field.name in keys) for field in table.schema()]
    if invocation.json:
        shown = [dict(zip(("name", "type", "key"), row, strict=True)) for row in columns]
        invocation.write_record({**record, "columns": shown})
        return
    invocation.write_record({key: value for key, value in record.items() if value not in (None, [])})
    if invocation.on_terminal:
        write("\n")
        invocation.write_table(("column", "type", "key"), columns)
    else:
        invocation.write_record({f"column {column}": kind for column, kind, _ in columns})


def _table_of(index: Any) -> str | None:
    from lakefeed import errors

    try:
        return str(index.table.identifier)
    except errors.LakefeedError:
        return None
