"""``lakefeed show``: one version of a dataset."""

from __future__ import annotations

from typing import Any

import click

from lakefeed.cli.cell_text import Column
from lakefeed.cli.invocation import Invocation, write
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.rows import describe_columns
from lakefeed.cli.shared_options import lake_command


@lake_command("show")
@click.argument("ref", type=REFERENCE)
def show_command(invocation: Invocation, ref: Reference) -> None:
    """Show a version: description, rows, bytes, who wrote it, tags and columns."""
    dataset = ref.open()
    number = dataset.version
    version = next(each for each in dataset.list_versions() if each.version == number)
    columns = describe_columns(dataset)
    record: dict[str | Column, Any] = {
        "dataset": dataset.name,
        "description": dataset.description,
        Column("version", "version"): number,
        "label": version.label,
        Column("rows", "count"): version.total_records,
        Column("bytes", "bytes"): version.total_bytes,
        Column("changed", "time"): version.timestamp_ms,
        "by": version.user,
        "run": version.run,
        "code": version.code,
        "message": version.message,
        Column("tags", "list"): [tag for tag, tagged in dataset.tags().items() if tagged == number],
    }
    if invocation.json:
        columns_json = [dict(zip(("name", "type", "nullable"), row, strict=True)) for row in columns]
        invocation.write_record({**record, "columns": columns_json})
        return
    invocation.write_record({key: value for key, value in record.items() if value not in (None, [])})
    if invocation.on_terminal:
        write("\n")
        invocation.write_table(("column", "type", "nullable"), columns)
    else:
        invocation.write_record({f"column {name}": kind for name, kind, _ in columns})
