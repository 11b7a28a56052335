"""``lakefeed tree show``: one file tree."""

from __future__ import annotations

from typing import Any

import click

from lakefeed.cli.cell_text import Column
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.shared_options import lake_command
from lakefeed.cli.tree_references import open_tree, shown_name, tree_facts

FILE_COLUMNS = (Column("path"), Column("bytes", "bytes"), Column("executable"), Column("sha256"), Column("link"))


@lake_command("show")
@click.argument("ref", type=REFERENCE)
@click.option("--files", "pattern", metavar="PATTERN", help="List the files that match, such as '*' or 'cats/*.jpg'.")
def tree_show_command(invocation: Invocation, ref: Reference, pattern: str | None) -> None:
    """Show a file tree: label, files, bytes, parents, tags and description, or list its files.

    REF is the name of a tree, alone or with a label, a version or the id of a draft: animals.photos@1.0.2.
    """
    tree = open_tree(ref)
    entries = tree.file_entries_dict
    if pattern is not None:
        chosen = (entries[path] for path in tree.list_files(pattern))
        invocation.write_table(
            FILE_COLUMNS, ((each.relative_path, each.size, each.executable, each.hash, each.link) for each in chosen)
        )
        return
    name = tree.id.partition("@")[0]
    status = next((each["status"] for each in tree_facts(name) if each["id"] == tree.id), None)
    record: dict[str | Column, Any] = {
        "tree": shown_name(name),
        "label": tree.version,
        "id": tree.id,
        "status": status,
        Column("version", "version"): tree.dataset.version if tree.is_final() else None,
        Column("files", "count"): len(entries),
        Column("bytes", "bytes"): sum(each.size or 0 for each in entries.values()),
        Column("changed", "time"): int(tree.created.timestamp() * 1000),
        Column("parents", "list"): tree.parents,
        Column("tags", "list"): tree.tags,
        "description": tree.description,
    }
    shown = record if invocation.json else {key: value for key, value in record.items() if value not in (None, [])}
    invocation.write_record(shown)
