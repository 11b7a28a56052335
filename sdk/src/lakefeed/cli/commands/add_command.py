"""``lakefeed add``: save or append files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import click

import lakefeed
from lakefeed.cli.cell_text import counted
from lakefeed.cli.file_arguments import FILE_COLUMN, list_files, rows_of_files
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import NAME
from lakefeed.cli.rows import split_names
from lakefeed.cli.shared_options import dry_run_option, lake_command

if TYPE_CHECKING:
    from lakefeed import Dataset

IfExists: TypeAlias = Literal["error", "append", "new_version"]


@lake_command("add")
@click.argument("name", type=NAME)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
@click.option("--create", is_flag=True, help="Fail if the dataset exists.")
@click.option("--overwrite", is_flag=True, help="Replace the rows. Older versions stay.")
@click.option("--upsert", metavar="KEYS", help="Replace the rows with equal keys, and append the others.")
@click.option("--column", metavar="NAME", default=FILE_COLUMN, show_default=True, help="The column of other files.")
@click.option("--label-from", type=click.Choice(["parent"]), help="Add a column 'label': the folder of each file.")
@click.option("--format", type=click.Choice(["csv", "jsonl", "parquet", "arrow"]), help="The format of the rows.")
@click.option("-d", "--description", metavar="TEXT", help="The description of a new dataset.")
@click.option("-m", "--message", metavar="TEXT", help="The reason, which is stored with the version.")
@dry_run_option
def add_command(
    invocation: Invocation,
    name: str,
    files: tuple[str, ...],
    create: bool,
    overwrite: bool,
    upsert: str | None,
    column: str,
    label_from: str | None,
    format: str | None,
    description: str | None,
    message: str | None,
    dry_run: bool,
) -> None:
    """Save files as a dataset, or append them to it.

    CSV, JSON lines, Parquet and Arrow files are rows. Other files (images, videos, …) become a column, a row each. All
    files of a folder are added.
    """
    if create + overwrite + (upsert is not None) > 1:
        raise click.UsageError("choose one of --create, --overwrite and --upsert")
    rows, column_types = rows_of_files(list_files(files), format, label_from, column)
    exists = lakefeed.Dataset.exists(name)
    if create and exists:
        raise lakefeed.errors.DatasetExistsError(f"dataset {name!r} exists already; leave out --create to append to it")
    keys = [] if upsert is None else split_names(upsert)
    if upsert is not None and not exists:
        _check_keys(rows, keys)
    if dry_run:
        action = "create" if not exists else "overwrite" if overwrite else "upsert into" if upsert else "append to"
        number, columns = rows.count(), rows.schema.names
        invocation.message(
            f"would {action} {name}: {counted(number, 'row')}, columns {', '.join(columns)}",
            dry_run=True,
            dataset=name,
            added=number,
            columns=columns,
        )
        return
    provenance = lakefeed.Provenance(message=message)
    if upsert is not None and exists:
        written = rows.upsert_into(name, keys, provenance=provenance)
    else:
        mode: IfExists = "error" if create else "new_version" if overwrite else "append"
        written = rows.save(name, description, column_types or "auto", if_exists=mode, provenance=provenance)
    number = written.count()
    invocation.message(
        f"{name} is now version {written.version}, {counted(number, 'row')}",
        dataset=name,
        version=written.version,
        rows=number,
    )


def _check_keys(rows: Dataset, keys: list[str]) -> None:
    """Checks the keys of rows for a new dataset, as an upsert into an existing one does.

    Raises:
        ColumnNotFoundError: a key column is missing.
        DuplicateKeyError: two rows have the same keys.
    """
    missing = [each for each in keys if each not in rows.schema.names]
    if missing or not keys:
        raise lakefeed.errors.ColumnNotFoundError.of(missing or "", rows.schema.names)
    names = ", ".join('"{}"'.format(each.replace('"', '""')) for each in keys)
    repeated = (
        rows.sql(f"SELECT {names} FROM rows GROUP BY {names} HAVING count(*) > 1 LIMIT 1", "rows")
        .to_arrow()
        .to_pylist()
    )
    if repeated:
        raise lakefeed.errors.DuplicateKeyError(
            f"the rows have keys more than once: {repeated[0]}. Keep one row of each key"
        )
