"""``lakefeed routine run``: run routines over the rows that they have not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from lakefeed import errors
from lakefeed.cli.cell_text import Column, counted
from lakefeed.cli.declared_names import ROUTINE
from lakefeed.cli.declared_work import DeclaredWork, file_option, printing_aside
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.routine_options import load_routines, unchecked
from lakefeed.cli.shared_options import dry_run_option, lake_command
from lakefeed.compute import current_engine
from lakefeed.routines import Routine, due, pending, run_versions

COLUMNS = (
    Column("routine"),
    Column("up_to", "version"),
    Column("rows_in", "count"),
    Column("rows_out", "count"),
    Column("failed", "count"),
    Column("into"),
    Column("version", "version"),
)


@lake_command("run")
@click.argument("names", nargs=-1, type=ROUTINE, metavar="[NAME...]")
@file_option
@click.option("--due", "only_due", is_flag=True, help="Only routines that their triggers make due.")
@click.option("--up-to", type=click.IntRange(min=1), metavar="VERSION", help="Read no later version of the source.")
@click.option("--unchecked", "all_versions", is_flag=True, help="Read versions whose checks Dagster did not record.")
@dry_run_option
def routine_run_command(
    invocation: Invocation,
    names: tuple[str, ...],
    files: tuple[str, ...],
    only_due: bool,
    up_to: int | None,
    all_versions: bool,
    dry_run: bool,
) -> None:
    """Run routines over the rows that they have not read. NAME chooses routines; by default all of them run.

    Each row is read exactly once, also if runs are killed, repeated, or run at the same time as Dagster's. Routines
    that write a dataset run before those that read it.
    """
    routines, work = load_routines(files, names)
    if up_to is not None and len(routines) > 1:
        raise click.UsageError(f"--up-to is for one routine: choose one of {', '.join(each.name for each in routines)}")
    chosen = [unchecked(each) if all_versions else each for each in routines]
    _check(chosen)
    if dry_run:
        for routine in chosen:
            invocation.message(_would_run(routine, chosen, up_to, only_due), dry_run=True)
        return
    invocation.write_table(COLUMNS, _run(invocation, chosen, work, up_to, only_due))


def _check(routines: Sequence[Routine]) -> None:
    waiting = [each.name for each in routines if each.only_checked]
    if waiting:
        raise errors.InvalidArgumentError(
            f"{errors.quoted_list(waiting)} reads only versions whose checks Dagster has recorded; "
            "--unchecked reads the others too"
        )


def _would_run(routine: Routine, routines: Sequence[Routine], up_to: int | None, only_due: bool) -> str:
    decision = due(routine, others=routines)
    todo = pending(routine, up_to)
    if todo is None or (only_due and decision.ready is None):
        return f"{routine.name}: {'nothing to read' if todo is None else decision.reason}"
    sources = ", ".join(f"{each.source} up to v{each.to_version}" for each in todo.ranges if each.versions)
    return f"would run {routine.name}: {counted(todo.rows, 'row')} of {sources}"


def _run(
    invocation: Invocation, routines: Sequence[Routine], work: DeclaredWork, up_to: int | None, only_due: bool
) -> Iterator[tuple[Any, ...]]:
    done = False
    for routine in routines:
        if only_due and due(routine, others=routines).ready is None:
            continue
        needed = {name: work.resources[name] for name in routine.resources if name in work.resources}
        engine = current_engine() if routine.distributed else None
        for each in printing_aside(run_versions(routine, up_to=up_to, resources=needed, engine=engine)):
            done = True
            invocation.message(f"{routine.name}: v{each.to_version}, {each.rows_in:,} rows in, {each.rows_out:,} out")
            yield (
                routine.name,
                each.to_version,
                each.rows_in,
                each.rows_out,
                each.failed,
                routine.target,
                each.output_version,
            )
    if not done:
        invocation.message("nothing to run")
