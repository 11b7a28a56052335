"""``lakefeed added``: the rows that versions added."""

from __future__ import annotations

import click

from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.rows import select_columns, write_rows
from lakefeed.cli.shared_options import lake_command


@lake_command("added")
@click.argument("ref", type=REFERENCE)
@click.option("--since", metavar="VERSION", help="The version after which the rows came; default: the one before.")
@click.option("--removed", is_flag=True, help="Show the rows that the versions removed instead.")
@click.option("-n", "number", type=click.IntRange(min=0), help="At most this many rows.")
@click.option("-c", "--columns", metavar="A,B", help="Only these columns.")
def added_command(
    invocation: Invocation, ref: Reference, since: str | None, removed: bool, number: int | None, columns: str | None
) -> None:
    """Show the rows that a version added, or all versions since another one."""
    dataset = ref.open()
    start = ref.version_before() if since is None else Reference.of_version(ref.name, since).open().version
    rows = dataset.removed_since(start) if removed else dataset.added_since(start)
    selected = select_columns(rows, columns)
    write_rows(invocation, selected if number is None else selected.head(number))
