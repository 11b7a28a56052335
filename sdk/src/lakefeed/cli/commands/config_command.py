"""``lakefeed config``: the settings."""

from __future__ import annotations

import click

from lakefeed import diagnosis
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.shared_options import lake_command


@lake_command("config")
@click.option("--changed", is_flag=True, help="Only settings that are not defaults.")
def config_command(invocation: Invocation, changed: bool) -> None:
    """List the settings, and the origin of each.

    Secrets are hidden. Of options that are passed on, only the names are shown.
    """
    rows = [(each.name, each.value, each.origin) for each in diagnosis.describe_settings()]
    invocation.write_table(("setting", "value", "origin"), [row for row in rows if not changed or row[2] != "default"])
