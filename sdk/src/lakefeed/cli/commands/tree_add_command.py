"""``lakefeed tree add``: a new version of a file tree."""

from __future__ import annotations

import click

from lakefeed import Dataset, FileTree
from lakefeed.cli.cell_text import counted
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import NAME, Reference
from lakefeed.cli.shared_options import dry_run_option, lake_command
from lakefeed.cli.tree_references import full_name, open_tree
from lakefeed.trees.tree_preview import preview_tree


@lake_command("add")
@click.argument("name", type=NAME)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.option("--sync", is_flag=True, help="Also remove the files of the tree that the folder lacks.")
@click.option("--into", metavar="FOLDER", help="The folder in the tree.")
@click.option("--files", "patterns", multiple=True, metavar="PATTERN", help="Only these files; may be repeated.")
@click.option("--label", metavar="LABEL", help="The label of the version; by default the one after the newest.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A tag of the version; may be repeated.")
@click.option("-d", "--description", metavar="TEXT", help="The description of the version.")
@dry_run_option
def tree_add_command(
    invocation: Invocation,
    name: str,
    paths: tuple[str, ...],
    sync: bool,
    into: str | None,
    patterns: tuple[str, ...],
    label: str | None,
    tags: tuple[str, ...],
    description: str | None,
    dry_run: bool,
) -> None:
    """Make a version of a file tree: the newest one with the files and folders of PATH, or a first one.

    Equal files are not stored again. If nothing differs, there is no new version.
    """
    if sync and (len(paths) > 1 or patterns):
        raise click.UsageError("--sync makes the tree equal to one folder: give one PATH, and no --files")
    parents = [open_tree(Reference(name))] if Dataset.exists(name) else []
    project, _, title = full_name(name).rpartition(".")
    name_of, project_of = (parents[0].name, parents[0].project) if parents else (title, project)
    if dry_run:
        preview = preview_tree(name_of, project_of, parents, label)
        _fill(preview, paths, sync, into, patterns)
        numbers = _numbers(preview)
        invocation.message(f"would change {name}: {_describe(numbers)}", dry_run=True, tree=name, **numbers)
        return
    draft = FileTree.create(
        name_of, project_of, parents, dataset_version=label, dataset_tags=tags, description=description
    )
    try:
        _fill(draft, paths, sync, into, patterns)
        numbers = _numbers(draft)
        if not draft.is_dirty() and parents and not draft.list_removed_files():
            invocation.message(
                f"{name} is {parents[0].version} still: nothing differs", tree=name, label=parents[0].version, **numbers
            )
        else:
            draft.upload(show_progress=not invocation.quiet)
            draft.finalize()
            invocation.message(
                f"{name} is now {draft.version}, {_describe(numbers)}", tree=name, label=draft.version, **numbers
            )
    finally:
        if not draft.is_final():
            FileTree.delete(draft.id)


def _fill(tree: FileTree, paths: tuple[str, ...], sync: bool, into: str | None, patterns: tuple[str, ...]) -> None:
    if sync:
        tree.sync_folder(paths[0], into)
        return
    for path in paths:
        tree.add_files(path, list(patterns) or None, dataset_path=into)


def _describe(numbers: dict[str, int]) -> str:
    files = counted(numbers["files"], "file")
    return f"{files}: +{numbers['added']:,} -{numbers['removed']:,} ~{numbers['modified']:,}"


def _numbers(draft: FileTree) -> dict[str, int]:
    return {
        "files": len(draft.list_files()),
        "added": len(draft.list_added_files()),
        "removed": len(draft.list_removed_files()),
        "modified": len(draft.list_modified_files()),
    }
