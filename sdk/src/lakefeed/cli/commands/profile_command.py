"""``lakefeed profile``: statistics of the columns of a version."""

from __future__ import annotations

import click

from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.shared_options import lake_command

COLUMNS = ("column", "type", "nulls", "distinct", "exact", "least", "mean", "median", "greatest")


@lake_command("profile")
@click.argument("ref", type=REFERENCE)
@click.option("-w", "--where", metavar="FILTER", help="Only rows for which this is true, such as 'label == 7'.")
def profile_command(invocation: Invocation, ref: Reference, where: str | None) -> None:
    """Show statistics of the columns of a version: nulls, distinct values, extremes, mean and median."""
    rows = ref.open()
    report = (rows if where is None else rows.filter(where)).profile()
    invocation.write_table(COLUMNS, report.lines())
