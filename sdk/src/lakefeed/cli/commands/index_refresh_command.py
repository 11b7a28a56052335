"""``lakefeed index refresh``: bring indexes up to date."""

from __future__ import annotations

import click

from lakefeed import connect
from lakefeed.cli.index_names import INDEX
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.shared_options import lake_command


@lake_command("refresh")
@click.argument("names", nargs=-1, type=INDEX, metavar="[NAME...]")
def index_refresh_command(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Bring indexes up to date with their tables. NAME chooses indexes; by default all are refreshed.

    Only rows that were added, changed or removed are read. An index that is lost or damaged is built anew.
    """
    client = connect()
    versions: dict[str, int | None] = {}
    for index in [client.index(name) for name in names] or client.list_indexes():
        table = index.table.identifier
        before = index.version
        after = index.refresh().version
        state = f"has version {after} of {table}"
        versions[index.name] = after
        invocation.message(f"index {index.name} {state}" + (" already" if after == before else ""), versions=versions)
