"""``lakefeed check``: conditions on the rows that a version added."""

from __future__ import annotations

import click

from lakefeed import checks, profiles
from lakefeed.cli import exit_codes
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.rows import split_names
from lakefeed.cli.shared_options import lake_command


@lake_command("check")
@click.argument("ref", type=REFERENCE)
@click.option("--not-null", metavar="A,B", help="These columns have no nulls.")
@click.option("--unique", metavar="A,B", help="No two rows of the dataset share these columns.")
@click.option("--min-rows", type=click.IntRange(min=0), help="The version added at least this many rows.")
@click.option("--files", is_flag=True, help="The files of the rows are in the store; some are read.")
def check_command(
    invocation: Invocation, ref: Reference, not_null: str | None, unique: str | None, min_rows: int | None, files: bool
) -> int:
    """Check the rows that a version added. That they can be read is always checked.

    The exit code is 10 if a check fails.
    """
    dataset = ref.open()
    chosen: list[checks.Check] = [checks.Readable()]
    if not_null is not None:
        chosen.append(checks.NotNull(tuple(split_names(not_null))))
    if unique is not None:
        chosen.append(checks.Unique(tuple(split_names(unique))))
    if min_rows is not None:
        chosen.append(checks.RowCount(least=min_rows))
    if files:
        chosen.append(checks.FilesIntact())
    profile = profiles.profile(dataset.name, dataset.version)
    verdicts = [(check.name, checks.evaluate(check, profile)) for check in chosen]
    invocation.write_table(
        ("check", "passed", "problem"), [(name, verdict.passed, verdict.problem) for name, verdict in verdicts]
    )
    return exit_codes.DONE if all(verdict.passed for _, verdict in verdicts) else exit_codes.ANSWER_IS_NO
