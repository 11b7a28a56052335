"""``lakefeed restore``: an old version becomes the newest."""

from __future__ import annotations

import click

import lakefeed
from lakefeed.cli.cell_text import counted
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.shared_options import dry_run_option, lake_command


@lake_command("restore")
@click.argument("ref", type=REFERENCE)
@click.option("-m", "--message", metavar="TEXT", help="The reason, which is stored with the version.")
@dry_run_option
def restore_command(invocation: Invocation, ref: Reference, message: str | None, dry_run: bool) -> None:
    """Make the rows and columns of an old version the next version."""
    if not ref.is_pinned:
        raise click.UsageError(f"restore needs a version, such as {ref.name}@1")
    old = ref.open()
    number, rows = old.version, old.count()
    if dry_run:
        invocation.message(
            f"would restore version {number} of {ref.name}: {counted(rows, 'row')}",
            dry_run=True,
            dataset=ref.name,
            restored=number,
            rows=rows,
        )
        return
    written = lakefeed.Dataset(ref.name).restore(number, provenance=lakefeed.Provenance(message=message))
    invocation.message(
        f"{ref.name} is now version {written.version}: {counted(rows, 'row')} of version {number}",
        dataset=ref.name,
        version=written.version,
        restored=number,
        rows=rows,
    )
