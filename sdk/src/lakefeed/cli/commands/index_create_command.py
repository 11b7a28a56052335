"""``lakefeed index create``: an index of words or vectors."""

from __future__ import annotations

import click

from lakefeed import Table, connect
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import NAME
from lakefeed.cli.rows import split_names
from lakefeed.cli.shared_options import dry_run_option, lake_command
from lakefeed.expressions import text


@lake_command("create")
@click.argument("name")
@click.argument("table", type=NAME)
@click.option("--text", "texts", metavar="A,B", help="The columns that are searched for words.")
@click.option(
    "--tokenizer",
    type=click.Choice(["default", "en_stem", "whitespace", "raw"]),
    default="default",
    show_default=True,
    help="The way in which text is cut into words.",
)
@click.option("--vector", metavar="COLUMN", help="The column of vectors.")
@click.option(
    "--metric", type=click.Choice(["cosine", "l2", "dot"]), default="cosine", show_default=True, help="Of vectors."
)
@click.option("--filters", metavar="A,B", help="The columns by which searches can be narrowed.")
@click.option("-w", "--where", metavar="FILTER", help="Only rows for which this is true.")
@dry_run_option
def index_create_command(
    invocation: Invocation,
    name: str,
    table: str,
    texts: str | None,
    tokenizer: str,
    vector: str | None,
    metric: str,
    filters: str | None,
    where: str | None,
    dry_run: bool,
) -> None:
    """Create the index NAME of words (--text) or of vectors (--vector) of a keyed TABLE, and build it."""
    if (texts is None) == (vector is None):
        raise click.UsageError("choose one of --text and --vector")
    rows = Table(table)
    others = [rows[each] for each in split_names(filters or "")]
    if dry_run:
        _ = rows.key_schema
        version = rows.snapshot().version
        invocation.message(
            f"would index {vector or texts} of version {version} of {table} as {name}",
            dry_run=True,
            index=name,
            table=table,
            version=version,
        )
        return
    client = connect()
    if vector is not None:
        client.create_vector_index(name, rows[vector], *others, metric=metric, where=where)  # type: ignore[arg-type]  # a choice
    else:
        fields = [text.field(rows[each], tokenizer=tokenizer) for each in split_names(texts or "")]
        client.create_text_index(name, *fields, *others, where=where)
    built = client.index(name).version
    invocation.message(f"index {name} has version {built} of {table}", index=name, table=table, version=built)
