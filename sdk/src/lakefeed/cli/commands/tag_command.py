"""``lakefeed tag``: names for versions."""

from __future__ import annotations

import click

from lakefeed.cli.cell_text import Column
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.shared_options import lake_command


@lake_command("tag")
@click.argument("ref", type=REFERENCE)
@click.argument("tag", required=False)
@click.option("--move", is_flag=True, help="Move a tag that names another version.")
def tag_command(invocation: Invocation, ref: Reference, tag: str | None, move: bool) -> None:
    """Name a version with TAG, or list the tags of a dataset."""
    dataset = ref.open()
    if tag is None:
        invocation.write_table(("tag", Column("version", "version")), dataset.tags().items())
        return
    number = dataset.tag(tag, dataset.version, move=move)
    invocation.message(f"{dataset.name}@{tag} is version {number}")
