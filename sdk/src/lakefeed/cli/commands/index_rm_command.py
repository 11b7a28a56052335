"""``lakefeed index rm``: remove an index."""

from __future__ import annotations

import click

from lakefeed import connect
from lakefeed.cli.index_names import INDEX
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.shared_options import change_options, lake_command


@lake_command("rm")
@click.argument("name", type=INDEX)
@change_options
def index_rm_command(invocation: Invocation, name: str, dry_run: bool, yes: bool) -> None:
    """Remove an index. Its table stays as it is."""
    client = connect()
    facts = f"index {name} of {client.index(name).definition.table}"
    if dry_run:
        invocation.message(f"would remove {facts}", dry_run=True, index=name)
        return
    invocation.confirm(facts, "Remove this index?", yes)
    client.drop_index(name)
    invocation.message(f"removed {facts}", index=name)
