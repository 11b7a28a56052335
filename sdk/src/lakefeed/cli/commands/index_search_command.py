"""``lakefeed index search``: the best rows for words or a vector."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import click
import pyarrow as pa

from lakefeed import connect
from lakefeed.cli.index_names import INDEX
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.rows import split_names
from lakefeed.cli.shared_options import lake_command
from lakefeed.expressions import text, vector
from lakefeed.keyed import SearchIndex

SCORE = "score"


@lake_command("search")
@click.argument("name", type=INDEX)
@click.argument("query")
@click.option("-n", "number", type=click.IntRange(min=1), default=10, show_default=True, help="The number of rows.")
@click.option("-c", "--columns", metavar="A,B", help="Show these columns of the table, too.")
@click.option("--field", metavar="FIELD", help="Search this field only; by default all text fields.")
@click.option("-w", "--where", metavar="FILTER", help="A condition over filter fields, such as 'year > 2024'.")
@click.option(
    "--max-age",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Search an index that is at most so old as it is.",
)
def index_search_command(
    invocation: Invocation,
    name: str,
    query: str,
    number: int,
    columns: str | None,
    field: str | None,
    where: str | None,
    max_age: float | None,
) -> None:
    """Show the keys and scores of the best rows for QUERY: words, or a vector as a JSON list. Best first.

    The index is brought up to date before, unless --max-age allows an older one.
    """
    client = connect()
    index = client.index(name)
    window = None if max_age is None else dt.timedelta(seconds=max_age)
    hits = client.search(number, *_rankings(index, query, field), filters=where, freshness_window=window).read_all()
    names = [*hits.schema.names, *(each for each in split_names(columns or "") if each not in hits.schema.names)]
    more = names[len(hits.schema.names) :]
    invocation.write_table(names, _rows(index, hits, more))


def _rankings(index: SearchIndex, query: str, field: str | None) -> list[Any]:
    options = index.definition.options
    if index.definition.kind == "text":
        return [text.find(index[each], query) for each in ([field] if field is not None else options)]
    try:
        values = json.loads(query)
    except json.JSONDecodeError:
        values = None
    if not isinstance(values, list):
        raise click.BadParameter(f"{index.name} is an index of vectors: QUERY is a JSON list such as '[0.5, 0.1]'")
    return [vector.nearest(index[field or options["field"]], values)]


def _rows(index: SearchIndex, hits: pa.Table, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    """Yields the hits, best first, with the values of further columns."""
    keys = [each for each in hits.schema.names if each != SCORE]
    values: dict[tuple[Any, ...], dict[str, Any]] = {}
    if columns:
        found = index.table.scan(*keys, *columns).to_table(key_table=hits.select(keys))
        values = {tuple(row[key] for key in keys): row for row in found.to_pylist()}
    for hit in hits.to_pylist():
        row = values.get(tuple(hit[key] for key in keys), {})
        yield *hit.values(), *(row.get(column) for column in columns)
