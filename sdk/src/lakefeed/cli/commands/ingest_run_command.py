"""``lakefeed ingest run``: append what is new."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from lakefeed.cli.cell_text import Column
from lakefeed.cli.declared_names import INGESTION
from lakefeed.cli.declared_work import file_option, printing_aside
from lakefeed.cli.ingestion_options import load_ingestions
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.shared_options import dry_run_option, lake_command
from lakefeed.ingest import Source, ingest

COLUMNS = (
    Column("ingestion"),
    Column("files", "count"),
    Column("rows", "count"),
    Column("into"),
    Column("version", "version"),
    Column("quarantined", "count"),
    Column("failed", "count"),
)


@lake_command("run")
@click.argument("names", nargs=-1, type=INGESTION, metavar="[NAME...]")
@file_option
@dry_run_option
def ingest_run_command(invocation: Invocation, names: tuple[str, ...], files: tuple[str, ...], dry_run: bool) -> None:
    """Append the new files and rows of sources. NAME chooses ingestions; by default all of them run.

    Each file and row is appended exactly once, also if runs are killed, repeated, or run at the same time as Dagster's.
    """
    ingestions = load_ingestions(files, names)
    if not dry_run:
        invocation.write_table(COLUMNS, _run(invocation, ingestions))
        return
    due: dict[str, str | None] = {}
    for source in ingestions:
        waiting = source.waiting()
        verb = "nothing new" if waiting is None else f"would append to {source.into}: {waiting}"
        due[source.name] = waiting
        invocation.message(f"{source.name}: {verb}", dry_run=True, waiting=due)


def _run(invocation: Invocation, ingestions: Sequence[Source]) -> Iterator[tuple[Any, ...]]:
    done = False
    for source in ingestions:
        for each in printing_aside(ingest(source)):
            done = True
            invocation.message(f"{source.name}: {each.rows:,} rows, {source.into} is now version {each.version}")
            quarantined, failed = len(each.quarantined), len(each.failed)
            yield source.name, len(each.files), each.rows, source.into, each.version, quarantined, failed
    if not done:
        invocation.message("nothing new")
