"""``lakefeed cp``: a copy of a dataset."""

from __future__ import annotations

import click

from lakefeed.cli.cell_text import counted
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference, check_new_name
from lakefeed.cli.shared_options import dry_run_option, lake_command


@lake_command("cp")
@click.argument("ref", type=REFERENCE)
@click.argument("new")
@dry_run_option
def cp_command(invocation: Invocation, ref: Reference, new: str, dry_run: bool) -> None:
    """Copy a dataset with the versions up to REF. Both share files, so no data is copied."""
    dataset = ref.open()
    if dry_run:
        check_new_name(new)
        invocation.message(
            f"would copy {ref.name} up to version {dataset.version} to {new}",
            dry_run=True,
            dataset=new,
            version=dataset.version,
        )
        return
    copied = dataset.copy(new)
    versions, rows = len(copied.list_versions()), copied.count()
    invocation.message(
        f"{new} is a copy of {ref.name}: {counted(versions, 'version')}, {counted(rows, 'row')}",
        dataset=new,
        version=copied.version,
        rows=rows,
    )
