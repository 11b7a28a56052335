"""``lakefeed export``: the rows of a version as a file."""

from __future__ import annotations

from pathlib import Path

import click

from lakefeed.cli.cell_text import counted
from lakefeed.cli.exporting import export_file, export_folder
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.rows import select_columns
from lakefeed.cli.shared_options import lake_command


@lake_command("export")
@click.argument("ref", type=REFERENCE)
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("-w", "--where", metavar="FILTER", help="Only rows for which this is true.")
@click.option("-c", "--columns", metavar="A,B", help="Only these columns.")
@click.option("--files", is_flag=True, help="Make OUT a folder with the files of the rows, and rows.jsonl.")
@click.option("--force", is_flag=True, help="Replace the file OUT.")
def export_command(
    invocation: Invocation,
    ref: Reference,
    target: Path,
    where: str | None,
    columns: str | None,
    files: bool,
    force: bool,
) -> None:
    """Write the rows of a version to OUT: .parquet, .arrow, .csv or .jsonl.

    Text may be compressed: .csv.gz, .jsonl.zst. OUT appears once it is complete.
    """
    rows = ref.open()
    if where is not None:
        rows = rows.filter(where)
    rows = select_columns(rows, columns)
    number = export_folder(rows, target) if files else export_file(rows, target, replace=force)
    invocation.message(f"{target}: {counted(number, 'row')}", path=target, rows=number)
