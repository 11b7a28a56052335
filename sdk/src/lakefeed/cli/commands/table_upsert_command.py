"""``lakefeed table upsert``: rows of files, by key."""

from __future__ import annotations

from contextlib import nullcontext

import click

from lakefeed import Dataset, Provenance, Table, errors
from lakefeed.cli.cell_text import counted
from lakefeed.cli.file_arguments import list_files, rows_of_files
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import NAME
from lakefeed.cli.rows import split_names
from lakefeed.cli.shared_options import dry_run_option, lake_command
from lakefeed.keyed import keyed_creation


@lake_command("upsert")
@click.argument("name", type=NAME)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
@click.option("--key", metavar="A,B", help="The key columns of a new table.")
@click.option("--compare", is_flag=True, help="Leave rows alone that equal the stored ones.")
@click.option("--format", type=click.Choice(["csv", "jsonl", "parquet", "arrow"]), help="The format of the rows.")
@click.option("-d", "--description", metavar="TEXT", help="The description of a new table.")
@click.option("-m", "--message", metavar="TEXT", help="The reason, which is stored with the version.")
@dry_run_option
def table_upsert_command(
    invocation: Invocation,
    name: str,
    files: tuple[str, ...],
    key: str | None,
    compare: bool,
    format: str | None,
    description: str | None,
    message: str | None,
    dry_run: bool,
) -> None:
    """Write the rows of files to a keyed table, as one version. A table that does not exist is made, with --key.

    Rows with a new key are added. Of an existing key, the columns that the files have are replaced, and the others
    stay. New columns are added to the table.
    """
    rows, _ = rows_of_files(list_files(files), format)
    exists = Dataset.exists(name)
    if not exists and key is None:
        raise errors.DatasetNotFoundError(f"no table {name!r}; give its --key to make it, such as --key id")
    keys = split_names(key or "") or (Table(name).key_schema.names if exists else [])
    missing = [each for each in keys if each not in rows.schema.names]
    if missing:
        raise errors.ColumnNotFoundError.of(missing, rows.schema.names)
    if exists and keys != Table(name).key_schema.names:
        raise errors.SchemaError(f"the key of {name} is {', '.join(Table(name).key_schema.names)}; leave out --key")
    if dry_run:
        action = "upsert into" if exists else f"make a table with the key {', '.join(keys)} and write to"
        number, columns = rows.count(), rows.schema.names
        invocation.message(
            f"would {action} {name}: {counted(number, 'row')}, columns {', '.join(columns)}",
            dry_run=True,
            table=name,
            given=number,
            columns=columns,
        )
        return
    table = Table(name)
    key_schema = [(each, rows.schema.field(each).type) for each in keys]
    with nullcontext() if exists else keyed_creation.new_table(table.lake, name, key_schema, description):
        written = table.write(rows, compare=compare, provenance=Provenance(message=message))
    number = Dataset(name, version=written.version).count()
    invocation.message(
        f"{name} is now version {written.version}, {counted(number, 'row')}",
        table=name,
        version=written.version,
        rows=number,
    )
