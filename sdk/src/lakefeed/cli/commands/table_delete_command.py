"""``lakefeed table delete``: rows by their keys."""

from __future__ import annotations

import json

import click
import pyarrow as pa

from lakefeed import Dataset, Provenance, Table, errors
from lakefeed.cli.cell_text import counted
from lakefeed.cli.file_arguments import list_files, rows_of_files
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import NAME
from lakefeed.cli.shared_options import change_options, lake_command


@lake_command("delete")
@click.argument("name", type=NAME)
@click.argument("keys", nargs=-1, metavar="[KEY...]")
@click.option("-f", "--file", metavar="FILE", help="Delete the keys in a CSV, JSON lines, Parquet or Arrow file.")
@click.option("-m", "--message", metavar="TEXT", help="The reason, which is stored with the version.")
@change_options
def table_delete_command(
    invocation: Invocation,
    name: str,
    keys: tuple[str, ...],
    file: str | None,
    message: str | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Delete the rows of a keyed table that have these keys, as one version.

    KEY is a value; for a key of several columns it is a JSON object such as '{"user": 7, "day": "2026-11-01"}'.
    """
    if bool(keys) == (file is not None):
        raise click.UsageError("give the keys, or a --file with them")
    table = Table(name)
    schema = table.key_schema
    rows = _keys_of_file(file, schema) if file is not None else _parse_keys(keys, schema)
    present = table.as_dataset().join(Dataset.from_arrow(rows), schema.names).count()
    facts = f"{name}: {counted(present, 'row')} with {counted(rows.num_rows, 'key')}"
    if dry_run or not present:
        invocation.message(
            f"would delete {facts}" if dry_run else f"{facts}: nothing to delete",
            dry_run=dry_run,
            table=name,
            removed=present,
        )
        return
    invocation.confirm(facts, "Delete these rows, as a new version?", yes)
    written = table.delete_keys(rows, provenance=Provenance(message=message))
    number = Dataset(name, version=written.version).count()
    invocation.message(
        f"{name} is now version {written.version}, {counted(number, 'row')}",
        table=name,
        version=written.version,
        removed=present,
        rows=number,
    )


def _keys_of_file(file: str, schema: pa.Schema) -> pa.Table:
    rows, _ = rows_of_files(list_files([file]))
    missing = [each for each in schema.names if each not in rows.schema.names]
    if missing:
        raise errors.ColumnNotFoundError.of(missing, rows.schema.names)
    return _cast(rows.select(schema.names).to_arrow(), schema)


def _parse_keys(keys: tuple[str, ...], schema: pa.Schema) -> pa.Table:
    if len(schema) == 1:
        return _cast(pa.table({schema.names[0]: pa.array(keys, pa.string())}), schema)
    records = []
    for key in keys:
        try:
            record = json.loads(key)
        except json.JSONDecodeError:
            record = None
        if not isinstance(record, dict) or record.keys() != set(schema.names):
            example = json.dumps(dict.fromkeys(schema.names, "…"), ensure_ascii=False)
            raise click.BadParameter(f"{key!r} is not a JSON object with the key columns, such as {example}")
        records.append({name: None if record[name] is None else str(record[name]) for name in schema.names})
    return _cast(pa.Table.from_pylist(records, pa.schema([(name, pa.string()) for name in schema.names])), schema)


def _cast(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    try:
        return rows.cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        kinds = ", ".join(f"{field.name} {field.type}" for field in schema)
        raise errors.TypeMismatchError(f"the keys do not fit the key columns ({kinds}): {error}") from None
