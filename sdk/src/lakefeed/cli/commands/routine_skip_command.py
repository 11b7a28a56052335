"""``lakefeed routine skip``: versions, or rows of them, that a routine leaves out."""

from __future__ import annotations

import click

from lakefeed.cli.declared_names import ROUTINE
from lakefeed.cli.declared_work import file_option
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.routine_options import load_routine
from lakefeed.cli.rows import split_names
from lakefeed.cli.shared_options import change_options, lake_command
from lakefeed.routines import skip


class RowRange(click.ParamType[tuple[int, int]]):
    """A range of rows, such as ``600:700``."""

    name = "range"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Returns the first row and the row after the last one."""
        start, colon, stop = str(value).partition(":")
        if not (colon and start.isdecimal() and stop.isdecimal()):
            self.fail(f"{value!r} is not a range such as 600:700, which begins with row 600 and ends before 700")
        return int(start), int(stop)


@lake_command("skip")
@click.argument("name", type=ROUTINE)
@click.argument("version", type=click.IntRange(min=1))
@file_option
@click.option("-m", "--message", metavar="TEXT", required=True, help="The reason, which is stored with the version.")
@click.option("--rows", type=RowRange(), metavar="START:STOP", help="Only these rows of those that the version added.")
@click.option("--keys", metavar="A,B", help="Only the rows with these values of the key of the routine.")
@click.option("--source", metavar="NAME", help="The dataset of the version; by default the first source.")
@change_options
def routine_skip_command(
    invocation: Invocation,
    name: str,
    version: int,
    files: tuple[str, ...],
    message: str,
    rows: tuple[int, int] | None,
    keys: str | None,
    source: str | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Leave out VERSION, or rows of it, that the routine NAME cannot process.

    A whole version must be the next one that the routine reads. The output gets a version that records the reason.
    """
    if rows is not None and keys is not None:
        raise click.UsageError("choose one of --rows and --keys")
    routine, _ = load_routine(files, name)
    wanted = None if keys is None else split_names(keys)
    part = "" if rows is None else f"rows {rows[0]} to {rows[1] - 1} of "
    part = part if keys is None else f"rows with the keys {keys} of "
    facts = f"{name} leaves out {part}v{version} of {source or routine.sources[0]}: {message}"
    if dry_run:
        invocation.message(f"would record that {facts}", dry_run=True, routine=name)
        return
    invocation.confirm(facts, "Leave them out?", yes)
    done = skip(routine, version, message, source=source, rows=rows, keys=wanted)
    invocation.message(
        f"{facts} ({routine.target} v{done.output_version})",
        routine=name,
        into=routine.target,
        version=done.output_version,
    )
