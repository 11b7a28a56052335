"""``lakefeed routine retry``: the rows on which a routine failed."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout

import click

from lakefeed.cli import exit_codes
from lakefeed.cli.cell_text import Column, counted
from lakefeed.cli.declared_names import ROUTINE
from lakefeed.cli.declared_work import file_option
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.routine_options import load_routine
from lakefeed.cli.rows import split_names
from lakefeed.cli.shared_options import change_options, lake_command
from lakefeed.routines import FailedRow, drop_failed, failed_rows, retry_failed

COLUMNS = (
    Column("source"),
    Column("version", "version"),
    Column("row", "count"),
    Column("key"),
    Column("file"),
    Column("error"),
    Column("message"),
    Column("attempts", "count"),
)


@lake_command("retry")
@click.argument("name", type=ROUTINE)
@file_option
@click.option("--version", type=click.IntRange(min=1), metavar="VERSION", help="Only failed rows of this version.")
@click.option("--keys", metavar="A,B", help="Only failed rows with these keys.")
@click.option("--drop", is_flag=True, help="Remove the failed rows instead, without another call. It needs --message.")
@click.option("-m", "--message", metavar="TEXT", help="The reason to drop them, which is stored with the version.")
@change_options
def routine_retry_command(
    invocation: Invocation,
    name: str,
    files: tuple[str, ...],
    version: int | None,
    keys: str | None,
    drop: bool,
    message: str | None,
    dry_run: bool,
    yes: bool,
) -> int:
    """Pass the rows on which the routine NAME failed to its function again; --dry-run lists them.

    The exit code is 10 if rows fail again.
    """
    if drop != (message is not None):
        raise click.UsageError("--drop and --message belong together: the reason is stored")
    routine, work = load_routine(files, name)
    wanted = None if keys is None else set(split_names(keys))
    rows = [
        each
        for each in failed_rows(routine)
        if version in (None, each.version) and (wanted is None or each.key in wanted)
    ]
    if dry_run:
        invocation.write_table(COLUMNS, map(_cells, rows))
        return exit_codes.DONE
    if not rows:
        invocation.message("no failed rows", succeeded=0, failed=0)
        return exit_codes.DONE
    if drop:
        invocation.confirm(f"{name}: {counted(len(rows), 'failed row')}: {message}", "Drop them?", yes)
        dropped = drop_failed(routine, str(message), rows)
        invocation.message(f"{name}: dropped {counted(dropped, 'failed row')}", dropped=dropped)
        return exit_codes.DONE
    needed = {resource: work.resources[resource] for resource in routine.resources if resource in work.resources}
    with redirect_stdout(sys.stderr):  # what the function prints
        result = retry_failed(routine, rows, resources=needed)
    invocation.write_record(
        {
            Column("succeeded", "count"): result.succeeded,
            Column("failed", "count"): result.failed,
            Column("unavailable", "count"): result.unavailable,
            Column("rows_out", "count"): result.rows_out,
            Column("versions", "list"): [str(each) for each in result.output_versions],
        }
    )
    return exit_codes.ANSWER_IS_NO if result.failed or result.unavailable else exit_codes.DONE


def _cells(row: FailedRow) -> tuple[object, ...]:
    return row.source, row.version, row.row, row.key, row.file, row.error, row.message, row.attempts
