"""``lakefeed mv``: another name for a dataset."""

from __future__ import annotations

import click

import lakefeed
from lakefeed.cli.cell_text import counted
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import NAME, check_new_name
from lakefeed.cli.shared_options import dry_run_option, lake_command


@lake_command("mv")
@click.argument("old", type=NAME)
@click.argument("new")
@dry_run_option
def mv_command(invocation: Invocation, old: str, new: str, dry_run: bool) -> None:
    """Rename a dataset, also into another namespace. Versions, tags and states of loaders stay valid."""
    dataset = lakefeed.Dataset(old)
    if dry_run:
        check_new_name(new)
        versions = len(dataset.list_versions())
        invocation.message(
            f"would rename {old} with {counted(versions, 'version')} to {new}", dry_run=True, dataset=new
        )
        return
    dataset.move(new)
    invocation.message(f"{old} is now {new}", dataset=new)
