"""``lakefeed rm``: move a dataset to the trash, delete it, or delete rows of it."""

from __future__ import annotations

import click

import lakefeed
from lakefeed.cli.cell_text import counted
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import NAME
from lakefeed.cli.shared_options import change_options, lake_command


@lake_command("rm")
@click.argument("name", type=NAME)
@click.option("--rows", metavar="FILTER", help="Delete only the rows for which this is true, as a new version.")
@click.option("--permanent", is_flag=True, help="Delete it for good, not to the trash.")
@click.option("--force", is_flag=True, help="Also delete a dataset whose metadata is damaged.")
@change_options
def rm_command(
    invocation: Invocation, name: str, rows: str | None, permanent: bool, force: bool, dry_run: bool, yes: bool
) -> None:
    """Move a dataset with all its versions to the trash, or delete rows of it as a new version."""
    if rows is not None:
        _delete_rows(invocation, name, rows, dry_run, yes)
        return
    facts = _describe(name, force)
    if dry_run:
        invocation.message(f"would delete {facts}", dry_run=True, dataset=name)
        return
    question = f"Delete {name} for good?" if permanent else f"Move {name} with all its versions to the trash?"
    invocation.confirm(facts, question, yes)
    lakefeed.Dataset(name).delete(permanent=permanent, force=force)
    for_good = permanent or facts.endswith("damaged")
    invocation.message(
        f"deleted {facts}" if for_good else f"moved to the trash: {facts}", dataset=name, in_trash=not for_good
    )


def _describe(name: str, force: bool) -> str:
    try:
        versions = lakefeed.Dataset(name).list_versions()
    except lakefeed.errors.DamagedDatasetError:
        if not force:
            raise
        return f"{name}: damaged"
    rows = versions[0].total_records if versions else 0
    return f"{name}: {counted(len(versions), 'version')}, {counted(rows, 'row')}"


def _delete_rows(invocation: Invocation, name: str, rows: str, dry_run: bool, yes: bool) -> None:
    dataset = lakefeed.get_dataset(name)
    number = dataset.filter(rows).count()
    facts = f"{name}: {number:,} of {counted(dataset.count(), 'row')}"
    if dry_run or not number:
        invocation.message(
            f"would delete {facts}" if dry_run else f"{facts} match: nothing to delete",
            dry_run=dry_run,
            dataset=name,
            removed=number,
        )
        return
    invocation.confirm(facts, "Delete these rows, as a new version?", yes)
    written = dataset.delete_rows(rows)
    rest = written.count()
    invocation.message(
        f"{name} is now version {written.version}, {counted(rest, 'row')}",
        dataset=name,
        version=written.version,
        removed=number,
        rows=rest,
    )
