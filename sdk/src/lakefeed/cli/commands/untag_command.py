"""``lakefeed untag``: remove a tag."""

from __future__ import annotations

import click

import lakefeed
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import NAME, TAG
from lakefeed.cli.shared_options import dry_run_option, lake_command


@lake_command("untag")
@click.argument("name", type=NAME)
@click.argument("tag", type=TAG)
@dry_run_option
def untag_command(invocation: Invocation, name: str, tag: str, dry_run: bool) -> None:
    """Remove TAG from a dataset. The version stays."""
    if dry_run:
        number = lakefeed.get_dataset(name, version=tag).version
        invocation.message(
            f"would remove the tag {tag} of version {number} of {name}", dry_run=True, dataset=name, tag=tag
        )
        return
    lakefeed.get_dataset(name).untag(tag)
    invocation.message(f"{name}: removed the tag {tag}", dataset=name, tag=tag)
