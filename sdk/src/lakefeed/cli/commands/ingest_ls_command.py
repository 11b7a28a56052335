"""``lakefeed ingest ls``: the ingestions of a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lakefeed import errors
from lakefeed.cli.cell_text import Column
from lakefeed.cli.declared_work import file_option
from lakefeed.cli.ingestion_options import load_ingestions
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.shared_options import lake_command
from lakefeed.ingest import FileSource, Source, arrivals

COLUMNS = (
    Column("ingestion"),
    Column("into"),
    Column("source"),
    Column("waiting"),
    Column("settling", "count"),
    Column("changed", "count"),
    Column("vanished", "count"),
    Column("failed", "count"),
)


@lake_command("ls")
@file_option
def ingest_ls_command(invocation: Invocation, files: tuple[str, ...]) -> None:
    """List the ingestions that a file declares, and what each has to append.

    Of files: 'settling' were written just now, 'changed' and 'vanished' were ingested before, and 'failed' wait for
    another try.
    """
    invocation.write_table(COLUMNS, _rows(invocation, load_ingestions(files, ())))


def _rows(invocation: Invocation, ingestions: Sequence[Source]) -> Iterator[tuple[Any, ...]]:
    for source in ingestions:
        start = source.name, source.into, type(source).__name__
        try:
            waiting = source.waiting()
            counts: tuple[int | None, ...] = (None,) * 4
            if isinstance(source, FileSource):
                found = arrivals(source)
                counts = tuple(map(len, (found.settling, found.changed, found.vanished, found.failed)))
        except (errors.LakefeedError, OSError) as error:
            yield *start, "error", None, None, None, None
            invocation.message(f"lakefeed: ingestion {source.name}: {error}")
            continue
        yield *start, waiting, *counts
