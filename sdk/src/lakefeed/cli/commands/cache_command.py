"""``lakefeed cache``: a mirror of a version on local disk."""

from __future__ import annotations

import click

from lakefeed.cli.cell_text import counted
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.shared_options import lake_command


@lake_command("cache")
@click.argument("ref", type=REFERENCE)
@click.option("--no-files", is_flag=True, help="Leave out the files of file columns.")
def cache_command(invocation: Invocation, ref: Reference, no_files: bool) -> None:
    """Mirror a version on local disk, where 'Dataset.cache' reads it.

    All processes of the machine share the mirror, and it works without the lake.
    """
    dataset = ref.open()
    rows = dataset.cache(load_files=not no_files).count()
    invocation.message(
        f"{dataset.name} version {dataset.version} is on local disk: {counted(rows, 'row')}",
        dataset=dataset.name,
        version=dataset.version,
        rows=rows,
    )
