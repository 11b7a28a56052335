"""``lakefeed log``: the versions of a dataset."""

from __future__ import annotations

import sys
from itertools import islice

import click

from lakefeed.cli.cell_text import Column
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.shared_options import lake_command

COLUMNS = (
    Column("version", "version"),
    Column("changed", "time"),
    Column("operation"),
    Column("added", "count"),
    Column("removed", "count"),
    Column("rows", "count"),
    Column("bytes", "bytes"),
    Column("by"),
    Column("run"),
    Column("code"),
    Column("message"),
    Column("tags", "list"),
    Column("label"),
)
BRIEF = frozenset({"version", "changed", "added", "removed", "rows", "by", "message", "tags", "label"})


@lake_command("log")
@click.argument("ref", type=REFERENCE)
@click.option("-n", "number", type=click.IntRange(min=1), help="Show at most this many versions.")
@click.option("-l", "--long", is_flag=True, help="Show operation, bytes, run and code too.")
def log_command(invocation: Invocation, ref: Reference, number: int | None, long: bool) -> None:
    """List the versions of a dataset, newest first.

    With a version, the list begins there.
    """
    dataset = ref.open()
    newest = dataset.version
    tags: dict[int, list[str]] = {}
    for tag, version in dataset.tags().items():
        tags.setdefault(version, []).append(tag)
    rows = (
        (
            each.version,
            each.timestamp_ms,
            each.operation,
            each.added_records,
            each.deleted_records,
            each.total_records,
            each.total_bytes,
            each.user,
            each.run,
            each.code,
            each.message,
            tags.get(each.version, []),
            each.label,
        )
        for each in dataset.list_versions()
        if each.version <= newest
    )
    shown = [position for position, column in enumerate(COLUMNS) if long or invocation.json or column.name in BRIEF]
    invocation.write_table(
        [COLUMNS[position] for position in shown],
        (
            [row[position] for position in shown]
            for row in islice(rows, None if number is None else min(number, sys.maxsize))
        ),
    )
