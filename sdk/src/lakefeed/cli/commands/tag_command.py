"""``lakefeed tag``: names for versions."""

from __future__ import annotations

import click

from lakefeed import errors
from lakefeed.cli.cell_text import Column
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.shared_options import dry_run_option, lake_command


@lake_command("tag")
@click.argument("ref", type=REFERENCE)
@click.argument("tag", required=False)
@click.option("--move", is_flag=True, help="Move a tag that names another version.")
@dry_run_option
def tag_command(invocation: Invocation, ref: Reference, tag: str | None, move: bool, dry_run: bool) -> None:
    """Name a version with TAG, or list the tags of a dataset."""
    dataset = ref.open()
    if tag is None:
        invocation.write_table(("tag", Column("version", "version")), dataset.tags().items())
        return
    if dry_run:
        before = dataset.tags().get(tag)
        if before not in (None, dataset.version) and not move:
            raise errors.TagExistsError(f"tag {tag!r} of {dataset.name!r} names version {before}; move it with --move")
        facts = {"dataset": dataset.name, "tag": tag, "version": dataset.version}
        invocation.message(f"would make {dataset.name}@{tag} version {dataset.version}", dry_run=True, **facts)
        return
    number = dataset.tag(tag, dataset.version, move=move)
    invocation.message(f"{dataset.name}@{tag} is version {number}", dataset=dataset.name, tag=tag, version=number)
