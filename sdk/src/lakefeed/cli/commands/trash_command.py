"""``lakefeed trash``: deleted datasets."""

from __future__ import annotations

import datetime as dt

import click

import lakefeed
from lakefeed.cli.cell_text import Column, counted
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import check_new_name
from lakefeed.cli.shared_options import change_options, lake_command

COLUMNS = (Column("dataset"), Column("deleted", "time"), Column("versions", "count"), Column("rows", "count"))


@lake_command("trash")
@click.argument("action", type=click.Choice(["ls", "restore", "empty"]), default="ls")
@click.argument("name", required=False)
@click.argument("new_name", required=False)
@click.option("--older-than", metavar="DAYS", type=click.FloatRange(min=0), help="Only what was deleted before.")
@change_options
def trash_command(
    invocation: Invocation,
    action: str,
    name: str | None,
    new_name: str | None,
    older_than: float | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """List deleted datasets (ls), bring back the last deleted of a NAME (restore), or remove them for good (empty)."""
    if action != "restore" and new_name is not None:
        raise click.UsageError(f"trash {action} takes one name at most")
    if action == "ls":
        _list(invocation, name)
    elif action == "empty":
        _empty(invocation, name, None if older_than is None else dt.timedelta(days=older_than), dry_run, yes)
    elif name is None:
        raise click.UsageError("restore needs the name of a deleted dataset, such as: lakefeed trash restore photos")
    elif dry_run:
        if name not in {each.name for each in lakefeed.Dataset.list_trash()}:
            raise lakefeed.errors.DatasetNotFoundError(f"the trash has no dataset {name!r}")
        check_new_name(new_name or name)
        invocation.message(
            f"would restore {name}" + ("" if new_name is None else f" as {new_name}"),
            dry_run=True,
            dataset=new_name or name,
        )
    else:
        restored = lakefeed.Dataset.undelete(name, new_name)
        versions = len(restored.list_versions())
        invocation.message(
            f"restored {restored.name}: {counted(versions, 'version')}", dataset=restored.name, versions=versions
        )


def _list(invocation: Invocation, name: str | None) -> None:
    trashed = [each for each in lakefeed.Dataset.list_trash() if name in (None, each.name)]
    if not trashed:
        invocation.message("the trash is empty" if name is None else f"the trash has no dataset {name!r}")
    invocation.write_table(
        COLUMNS,
        (
            (each.name, each.deleted_at and int(each.deleted_at.timestamp() * 1000), each.versions, each.rows)
            for each in trashed
        ),
    )


def _empty(invocation: Invocation, name: str | None, older_than: dt.timedelta | None, dry_run: bool, yes: bool) -> None:
    before = None if older_than is None else dt.datetime.now(dt.UTC) - older_than
    chosen = [
        each
        for each in lakefeed.Dataset.list_trash()
        if name in (None, each.name) and (before is None or (each.deleted_at is not None and each.deleted_at <= before))
    ]
    facts = f"{counted(len(chosen), 'dataset')} in the trash: {', '.join(each.name for each in chosen)}"
    if dry_run or not chosen:
        names = [each.name for each in chosen]
        invocation.message(f"would remove {facts}" if chosen else "nothing to remove", dry_run=dry_run, datasets=names)
        return
    invocation.confirm(facts, "Remove them for good?", yes)
    removed = lakefeed.Dataset.empty_trash(older_than, name=name)
    invocation.message(f"removed {counted(len(removed), 'dataset')}", datasets=[each.name for each in chosen])
