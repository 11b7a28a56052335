"""``lakefeed routine pending``: the versions that routines have yet to read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from lakefeed.cli import exit_codes
from lakefeed.cli.cell_text import Column
from lakefeed.cli.declared_names import ROUTINE
from lakefeed.cli.declared_work import file_option
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.routine_options import load_routines, unchecked
from lakefeed.cli.shared_options import lake_command
from lakefeed.routines import Routine, pending

COLUMNS = (
    Column("routine"),
    Column("source"),
    Column("version", "version"),
    Column("rows", "count"),
    Column("changed", "time"),
    Column("left_out"),
)


@lake_command("pending")
@click.argument("names", nargs=-1, type=ROUTINE, metavar="[NAME...]")
@file_option
@click.option("--exit-code", is_flag=True, help="Exit with 10 if a version is pending.")
def routine_pending_command(
    invocation: Invocation, names: tuple[str, ...], files: tuple[str, ...], exit_code: bool
) -> int:
    """List the versions that routines have yet to read, oldest first. NAME chooses routines."""
    routines, _ = load_routines(files, names)
    rows = [row for routine in routines for row in _versions(routine)]
    invocation.write_table(COLUMNS, rows)
    if not rows:
        invocation.message("nothing is pending")
    return exit_codes.ANSWER_IS_NO if exit_code and rows else exit_codes.DONE


def _versions(routine: Routine) -> Iterator[tuple[Any, ...]]:
    todo = pending(unchecked(routine))
    for part in todo.ranges if todo is not None else ():
        for index, each in enumerate(part.versions):
            done = part.begin if index == 0 else 0
            reason = (part.left_out or {}).get(each.version)
            yield routine.name, part.source, each.version, part.rows_of(each) - done, each.timestamp_ms, reason
