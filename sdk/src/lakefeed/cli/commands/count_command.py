"""``lakefeed count``: the number of rows of a version."""

from __future__ import annotations

import click

from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.shared_options import lake_command


@lake_command("count")
@click.argument("ref", type=REFERENCE)
@click.option("-w", "--where", metavar="FILTER", help="Only rows for which this is true, such as 'label == 7'.")
def count_command(invocation: Invocation, ref: Reference, where: str | None) -> None:
    """Count the rows of a version."""
    rows = ref.open()
    number = (rows if where is None else rows.filter(where)).count()
    if invocation.json:
        invocation.write_json({"rows": number})
    else:
        invocation.write_line(str(number))
