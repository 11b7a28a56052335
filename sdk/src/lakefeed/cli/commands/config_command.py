"""``lakefeed config``: the settings."""

from __future__ import annotations

import click

from lakefeed import diagnosis
from lakefeed.cli.cell_text import Column
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.shared_options import lake_command


@lake_command("config")
@click.option("--sources", is_flag=True, help="Also list the other places that have a value for the setting.")
@click.option("--changed", is_flag=True, help="Only settings that are not defaults.")
def config_command(invocation: Invocation, sources: bool, changed: bool) -> None:
    """List the settings, and the origin of each.

    Secrets are hidden. Of options that are passed on, only the names are shown.
    """
    settings = [each for each in diagnosis.describe_settings() if not changed or each.origin != "default"]
    columns = ("setting", "value", "origin", Column("ignored", "list"))
    rows = [(each.name, each.value, each.origin, each.others) for each in settings]
    shown = len(columns) if sources else 3
    invocation.write_table(columns[:shown], [row[:shown] for row in rows])
