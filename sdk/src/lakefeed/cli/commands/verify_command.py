"""``lakefeed verify``: read everything that a version has."""

from __future__ import annotations

import tempfile

import click

from lakefeed.cli import exit_codes
from lakefeed.cli.cell_text import counted
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.shared_options import lake_command, set_variable
from lakefeed.cli.verification import count_readable_rows, file_problems

CACHE_BYTES = 256 << 20


@lake_command("verify")
@click.argument("ref", type=REFERENCE)
@click.option("--files", is_flag=True, help="Also read every file, and compare it with its digest.")
def verify_command(invocation: Invocation, ref: Reference, files: bool) -> int:
    """Read all rows of a version, and list what is missing or damaged.

    The exit code is 10 if there is a problem.
    """
    context = click.get_current_context()
    # Copies in the cache prove nothing about the store.
    folder = context.with_resource(tempfile.TemporaryDirectory(prefix="lakefeed-verify-"))
    set_variable(context, "LAKEFEED__CACHE_DIR", folder)
    set_variable(context, "LAKEFEED__CACHE_BYTES", str(CACHE_BYTES))
    dataset = ref.open()
    rows, problems = count_readable_rows(dataset)
    if files and not problems:
        problems = list(file_problems(dataset))
    invocation.write_table(("subject", "problem"), problems)
    subject = f"{dataset.name} version {dataset.version}"
    if problems:
        invocation.message(f"{subject}: {counted(len(problems), 'problem')}")
        return exit_codes.ANSWER_IS_NO
    invocation.message(f"{subject}: {counted(rows, 'row')} can be read{', with their files' if files else ''}")
    return exit_codes.DONE
