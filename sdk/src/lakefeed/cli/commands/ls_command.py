"""``lakefeed ls``: the datasets of the lake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import click

import lakefeed
from lakefeed import overview
from lakefeed.cli.cell_text import Column
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import list_names
from lakefeed.cli.shared_options import lake_command

COLUMNS = (
    Column("dataset"),
    Column("version", "version"),
    Column("rows", "count"),
    Column("bytes", "bytes"),
    Column("files", "list"),
    Column("changed", "time"),
    Column("by"),
    Column("tags", "list"),
    Column("label"),
)


@lake_command("ls")
@click.argument("pattern", required=False)
def ls_command(invocation: Invocation, pattern: str | None) -> None:
    """List the datasets, with the newest version of each.

    PATTERN selects names, such as 'photos*'.
    """
    names = [name for name in list_names() if pattern is None or fnmatchcase(name, pattern)]
    if not names:
        home = lakefeed.Settings.load().home
        matching = "" if pattern is None else f" matching {pattern!r}"
        invocation.message(f"no datasets{matching} in {home}")
    invocation.write_table(COLUMNS, _rows(names, invocation))


def _rows(names: Sequence[str], invocation: Invocation) -> Iterator[tuple[Any, ...]]:
    for name, summary in overview.list_summaries(names) if names else ():
        if isinstance(summary, lakefeed.errors.FileError):
            yield (name, *([None] * (len(COLUMNS) - 1)))
            invocation.message(f"lakefeed: {summary}")
        else:
            yield _row(name, summary)


def _row(name: str, summary: Any) -> tuple[Any, ...]:
    return (
        name,
        summary.version,
        summary.rows,
        summary.bytes,
        summary.file_types,
        summary.timestamp_ms,
        summary.user,
        summary.tags,
        summary.label,
    )
