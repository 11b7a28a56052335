"""``lakefeed sql``: a query over datasets."""

from __future__ import annotations

import difflib
import re

import click

import lakefeed
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import list_names, parse_reference
from lakefeed.cli.rows import write_rows
from lakefeed.cli.shared_options import lake_command

WORD = re.compile(r"\w+")


@lake_command("sql")
@click.argument("query")
@click.option(
    "-t", "--table", "tables", multiple=True, metavar="NAME=REF", help="A version as a table, such as old=photos@3."
)
def sql_command(invocation: Invocation, query: str, tables: tuple[str, ...]) -> None:
    """Run a SELECT over datasets, in DuckDB's SQL.

    Tables are the datasets that QUERY names. Versions, and names with '-' or '.', need --table.
    """
    inputs = dict(_parse_table(table) for table in tables)
    words = {word.lower() for word in WORD.findall(query)} - {name.lower() for name in inputs}
    datasets = list_names()
    inputs |= {name: lakefeed.Dataset(name) for name in datasets if name in words}
    if not inputs:
        near = [name for word in sorted(words) for name in difflib.get_close_matches(word, datasets, n=1)]
        hint = f" Did you mean {lakefeed.errors.quoted_list(near)}?" if near else ""
        hint = hint or _hint(query, datasets)
        raise lakefeed.errors.DatasetNotFoundError(
            f"the query names no dataset; the datasets are {lakefeed.errors.quoted_list(datasets)}.{hint}"
        )
    (name, first), *others = inputs.items()
    write_rows(invocation, first.sql(query, name, tables=dict(others)))


def _hint(query: str, datasets: list[str]) -> str:
    """Returns a sentence for names that SQL has no words for."""
    name = next((each for each in datasets if not each.isidentifier() and each in query), None)
    return "" if name is None else f" Give {name!r} a name, such as: --table {WORD.findall(name)[-1]}={name}"


def _parse_table(text: str) -> tuple[str, lakefeed.Dataset]:
    name, equals, reference = text.partition("=")
    if not (equals and name.isidentifier() and reference):
        raise click.BadParameter(f"{text!r} is not NAME=REF, such as old=photos@3", param_hint="--table")
    try:
        return name, parse_reference(reference).open()
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--table") from None
