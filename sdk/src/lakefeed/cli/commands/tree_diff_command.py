"""``lakefeed tree diff``: the files that differ between two trees."""

from __future__ import annotations

from collections.abc import Iterator

import click

from lakefeed import FileTree
from lakefeed.cli import exit_codes
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.shared_options import lake_command
from lakefeed.cli.tree_references import open_tree


@lake_command("diff")
@click.argument("old", type=REFERENCE, metavar="REF")
@click.argument("new", type=REFERENCE, metavar="[NEWER]", required=False)
@click.option("--exit-code", is_flag=True, help="Exit with 10 if there are differences.")
def tree_diff_command(invocation: Invocation, old: Reference, new: Reference | None, exit_code: bool) -> int:
    """List the files that differ between two trees, also of different names.

    NEWER is by default the newest version. One REF without a version is compared with its parents.
    """
    if new is None and not old.is_pinned:
        tree, other = open_tree(old), None
    else:
        tree, other = open_tree(Reference(old.name) if new is None else new), open_tree(old)
    rows = list(_differences(tree, other))
    invocation.write_table(("change", "path", "before"), rows)
    title = "its parents" if other is None else other.id
    if not rows:
        invocation.message(f"{tree.id} has the files of {title}")
    return exit_codes.ANSWER_IS_NO if exit_code and rows else exit_codes.DONE


def _differences(tree: FileTree, other: FileTree | None) -> Iterator[tuple[str, str, str | None]]:
    """Yields a sign, the path, and the former path of each file: added, removed, modified or renamed."""
    renamed = tree.list_renamed_files(other)
    sources, targets = {before for before, _ in renamed}, {after for _, after in renamed}
    yield from (("-", path, None) for path in tree.list_removed_files(other) if path not in sources)
    yield from (("+", path, None) for path in tree.list_added_files(other) if path not in targets)
    yield from (("~", path, None) for path in tree.list_modified_files(other))
    yield from ((">", after, before) for before, after in renamed)
