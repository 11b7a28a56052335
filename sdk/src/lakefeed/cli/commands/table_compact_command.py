"""``lakefeed table compact``: full files in the order of the key."""

from __future__ import annotations

import click

from lakefeed import Provenance, Table
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import NAME
from lakefeed.cli.shared_options import dry_run_option, lake_command


@lake_command("compact")
@click.argument("name", type=NAME)
@click.option("-m", "--message", metavar="TEXT", help="The reason, which is stored with the version.")
@dry_run_option
def table_compact_command(invocation: Invocation, name: str, message: str | None, dry_run: bool) -> None:
    """Write all rows of a keyed table again as full files in the order of the key, as one version.

    Writers need not stop meanwhile. Older versions keep their files.
    """
    table = Table(name)
    before = table.snapshot().version
    _ = table.key_schema
    if dry_run:
        invocation.message(f"would compact version {before} of {name}", dry_run=True, table=name, version=before)
        return
    after = table.compact(provenance=Provenance(message=message)).version
    state = "compact" if after == before else f"now version {after}, and compact"
    invocation.message(f"{name} is {state}", table=name, version=after)
