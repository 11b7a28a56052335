"""``lakefeed routine ls``: the routines of a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lakefeed import errors
from lakefeed.cli.cell_text import Column
from lakefeed.cli.declared_work import file_option
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.routine_options import load_routines, unchecked
from lakefeed.cli.shared_options import lake_command
from lakefeed.routines import Routine, due, failed_rows, pending, position

COLUMNS = (
    Column("routine"),
    Column("on", "list"),
    Column("into"),
    Column("read", "version"),
    Column("pending", "count"),
    Column("rows", "count"),
    Column("failed", "count"),
    Column("due"),
    Column("reason"),
)


@lake_command("ls")
@file_option
def routine_ls_command(invocation: Invocation, files: tuple[str, ...]) -> None:
    """List the routines that a file declares, and what each has yet to read.

    'read' is the newest version that is done, 'pending' the number of versions that are not read yet, 'failed' the
    number of failed rows that wait for a retry.
    """
    routines, _ = load_routines(files, ())
    invocation.write_table(COLUMNS, _rows(invocation, routines))


def _rows(invocation: Invocation, routines: list[Routine]) -> Iterator[tuple[Any, ...]]:
    for routine in routines:
        start = routine.name, routine.sources, routine.output
        try:
            decision = due(unchecked(routine), others=routines)
            todo = pending(unchecked(routine))
            reached, failed = position(routine), len(failed_rows(routine))
        except errors.LakefeedError as error:
            yield *start, None, None, None, None, None, "error"
            invocation.message(f"lakefeed: routine {routine.name}: {error}")
            continue
        versions, rows = (0, 0) if todo is None else (len(todo.versions), todo.rows)
        read = None if reached is None else reached.version
        yield *start, read, versions, rows, failed, decision.ready is not None, decision.reason
