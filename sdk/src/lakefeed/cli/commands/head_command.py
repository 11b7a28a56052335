"""``lakefeed head``: the first rows of a version."""

from __future__ import annotations

import click

from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.rows import select_columns, write_rows
from lakefeed.cli.shared_options import lake_command


@lake_command("head")
@click.argument("ref", type=REFERENCE)
@click.option("-n", "number", type=click.IntRange(min=0), default=10, show_default=True, help="The number of rows.")
@click.option("-w", "--where", metavar="FILTER", help="Only rows for which this is true, such as 'label == 7'.")
@click.option("-c", "--columns", metavar="A,B", help="Only these columns.")
def head_command(invocation: Invocation, ref: Reference, number: int, where: str | None, columns: str | None) -> None:
    """Show the first rows of a version."""
    rows = ref.open()
    if where is not None:
        rows = rows.filter(where)
    write_rows(invocation, select_columns(rows, columns).head(number))
