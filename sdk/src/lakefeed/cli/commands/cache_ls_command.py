"""``lakefeed cache ls``: the versions on local disk."""

from __future__ import annotations

from fnmatch import fnmatchcase

import click

from lakefeed.cli.cell_text import Column
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.shared_options import lake_command
from lakefeed.mirrors import list_mirrors

COLUMNS = (
    Column("dataset"),
    Column("version", "version"),
    Column("rows", "count"),
    Column("bytes", "bytes"),
    Column("written", "time"),
    Column("columns", "list"),
    Column("path"),
)


@lake_command("ls")
@click.argument("pattern", required=False)
def cache_ls_command(invocation: Invocation, pattern: str | None) -> None:
    """List the versions of datasets that 'lakefeed cache' and 'Dataset.cache' keep on local disk.

    PATTERN selects names of datasets.
    """
    mirrors = [each for each in list_mirrors() if pattern is None or fnmatchcase(each.dataset, pattern)]
    if not mirrors:
        invocation.message("no version is on local disk")
    invocation.write_table(
        COLUMNS,
        (
            (
                each.dataset,
                each.version,
                each.rows,
                each.bytes,
                int(each.written_at * 1000),
                each.columns,
                str(each.path),
            )
            for each in mirrors
        ),
    )
