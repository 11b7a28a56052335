"""``lakefeed tree ls``: the file trees of the lake."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import click

from lakefeed import FileTree, errors
from lakefeed.cli.cell_text import Column
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import lake_exists
from lakefeed.cli.shared_options import lake_command
from lakefeed.cli.tree_references import shown_name, tree_facts

COLUMNS = (
    Column("tree"),
    Column("label"),
    Column("status"),
    Column("files", "count"),
    Column("bytes", "bytes"),
    Column("changed", "time"),
    Column("tags", "list"),
    Column("id"),
)


@lake_command("ls")
@click.argument("pattern", required=False)
@click.option("-a", "--all", "every", is_flag=True, help="List all versions, not only the newest of each tree.")
def tree_ls_command(invocation: Invocation, pattern: str | None, every: bool) -> None:
    """List the file trees: the newest version of each, and the drafts.

    PATTERN selects names, such as 'animals.*'.
    """
    facts = tree_facts() if lake_exists() else []
    chosen = [each for each in facts if pattern is None or fnmatchcase(_name(each), pattern)]
    if not chosen:
        invocation.message("no file trees" + ("" if pattern is None else f" matching {pattern!r}"))
    invocation.write_table(COLUMNS, _rows(sorted(chosen, key=_name), every))


def _name(facts: dict[str, Any]) -> str:
    return shown_name(facts["id"].partition("@")[0])


def _rows(chosen: list[dict[str, Any]], every: bool) -> Iterator[tuple[Any, ...]]:
    seen = set[str]()
    for facts in chosen:
        name = _name(facts)
        draft = facts["status"] == "in_progress"
        if not draft and not every and name in seen:
            continue
        if not draft:
            seen.add(name)
        files, size = _size(facts["id"])
        created = int(facts["created"].timestamp() * 1000)
        yield name, facts["version"], facts["status"], files, size, created, facts["tags"], facts["id"]


def _size(tree_id: str) -> tuple[int | None, int | None]:
    """Returns the number of files and their bytes; None for a tree that was deleted since, or that cannot be read."""
    try:
        entries = FileTree.get(tree_id).file_entries_dict.values()
    except errors.LakefeedError:
        return None, None
    return len(entries), sum(each.size or 0 for each in entries)
