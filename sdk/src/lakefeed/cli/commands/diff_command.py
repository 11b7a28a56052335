"""``lakefeed diff``: the changes between two versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lakefeed.cli import exit_codes
from lakefeed.cli.cell_text import to_json
from lakefeed.cli.differing_rows import differing_rows, signed_rows
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.rows import split_names
from lakefeed.cli.shared_options import lake_command

if TYPE_CHECKING:
    from lakefeed import Changes, Dataset


@lake_command("diff")
@click.argument("old", type=REFERENCE, metavar="REF")
@click.argument("new", type=REFERENCE, metavar="[NEWER]", required=False)
@click.option("--keys", metavar="A,B", help="The columns that identify a row, so that a row can be changed.")
@click.option(
    "--rows", "number", metavar="NUMBER", type=click.IntRange(min=1), help="Show at most this many of the rows."
)
@click.option("--exit-code", is_flag=True, help="Exit with 10 if there are differences.")
def diff_command(
    invocation: Invocation, old: Reference, new: Reference | None, keys: str | None, number: int | None, exit_code: bool
) -> int:
    """Count the rows and columns that differ between two versions of a dataset.

    NEWER is by default the newest version. One REF without a version compares the newest with the one before.
    """
    if new is not None and new.name != old.name:
        raise click.UsageError(f"diff compares versions of one dataset, not {old.name!r} with {new.name!r}")
    newest = Reference(old.name) if new is None else new
    dataset = newest.open()
    start = old.version_before() if new is None and not old.is_pinned else old.open().version
    names = [] if keys is None else split_names(keys)
    changes = dataset.changes(start, None, names or None)
    if invocation.json:
        _write_json(invocation, dataset, changes, number)
    else:
        _write_lines(invocation, dataset, changes)
        if number is not None and changes:
            names = dataset.schema.names
            invocation.write_table(("change", *names), signed_rows(changes, names, number))
    return exit_codes.ANSWER_IS_NO if exit_code and changes else exit_codes.DONE


def _write_json(invocation: Invocation, dataset: Dataset, changes: Changes, number: int | None) -> None:
    schema = changes.schema
    shown = {} if number is None else {"rows": [to_json(row) for row in differing_rows(changes, number)]}
    invocation.write_json(
        {
            "dataset": dataset.name,
            "from_version": changes.from_version,
            "to_version": changes.to_version,
            "added": changes.added,
            "removed": changes.removed,
            "changed": changes.changed,
            "columns": {
                "added": {name: str(kind) for name, kind in schema.added.items()},
                "dropped": {name: str(kind) for name, kind in schema.dropped.items()},
                "renamed": dict(schema.renamed),
                "retyped": {name: [str(kind) for kind in kinds] for name, kinds in schema.retyped.items()},
            },
            **shown,
        }
    )


def _write_lines(invocation: Invocation, dataset: Dataset, changes: Changes) -> None:
    schema = changes.schema
    start = "nothing" if changes.from_version is None else f"v{changes.from_version}"
    invocation.write_line(f"{dataset.name} {start} -> v{changes.to_version}")
    changed = "" if changes.changed is None else f" ~{changes.changed:,}"
    invocation.write_line(f"+{changes.added:,} -{changes.removed:,}{changed} rows")
    if changes.from_version is not None:
        lines = [f"+ {name}: {kind}" for name, kind in schema.added.items()]
        lines += [f"- {name}: {kind}" for name, kind in schema.dropped.items()]
        lines += [f"~ {before} -> {after}" for before, after in schema.renamed.items()]
        lines += [f"~ {name}: {before} -> {after}" for name, (before, after) in schema.retyped.items()]
        for line in lines:
            invocation.write_line(f"{line[0]} column {line[2:]}")
