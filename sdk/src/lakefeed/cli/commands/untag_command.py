"""``lakefeed untag``: remove a tag."""

from __future__ import annotations

import click

import lakefeed
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import NAME
from lakefeed.cli.shared_options import lake_command


@lake_command("untag")
@click.argument("name", type=NAME)
@click.argument("tag")
def untag_command(invocation: Invocation, name: str, tag: str) -> None:
    """Remove TAG from a dataset. The version stays."""
    lakefeed.get_dataset(name).untag(tag)
    invocation.message(f"{name}: removed the tag {tag}")
