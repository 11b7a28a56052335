"""``lakefeed schema``: the columns of a version."""

from __future__ import annotations

import click

from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.rows import describe_columns
from lakefeed.cli.shared_options import lake_command


@lake_command("schema")
@click.argument("ref", type=REFERENCE)
def schema_command(invocation: Invocation, ref: Reference) -> None:
    """List the columns of a version and their types."""
    invocation.write_table(("name", "type", "nullable"), describe_columns(ref.open()))
