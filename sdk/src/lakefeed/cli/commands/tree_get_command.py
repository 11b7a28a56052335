"""``lakefeed tree get``: a local copy of a file tree."""

from __future__ import annotations

from pathlib import Path

import click

from lakefeed import _paths, errors
from lakefeed.cli.invocation import Invocation
from lakefeed.cli.references import REFERENCE, Reference
from lakefeed.cli.shared_options import lake_command
from lakefeed.cli.tree_references import open_tree


@lake_command("get")
@click.argument("ref", type=REFERENCE)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--files", "patterns", multiple=True, metavar="PATTERN", help="Only these files; may be repeated.")
@click.option("--part", type=click.IntRange(min=0), metavar="NUMBER", help="Only one of several parts, from 0.")
@click.option("--parts", type=click.IntRange(min=1), metavar="NUMBER", help="The number of parts.")
@click.option("--force", is_flag=True, help="Replace FOLDER with everything in it.")
def tree_get_command(
    invocation: Invocation,
    ref: Reference,
    folder: Path | None,
    patterns: tuple[str, ...],
    part: int | None,
    parts: int | None,
    force: bool,
) -> None:
    """Copy the files of a tree to FOLDER, and print its path.

    Without FOLDER, it is a read-only copy in the cache of this machine. Every file is verified.
    """
    if (part is None) != (parts is None):
        raise click.UsageError("--part and --parts belong together: the first of four parts is --part 0 --parts 4")
    if folder is None and force:
        raise click.UsageError("--force replaces FOLDER, which is missing")
    tree = open_tree(ref)
    files = list(patterns) or None
    if (
        folder is not None
        and not force
        and _paths.exists(folder)
        and (not _paths.is_folder(folder) or any(folder.iterdir()))
    ):
        raise errors.InvalidArgumentError(
            f"{str(folder)!r} is not empty; choose another folder, or replace it with --force"
        )
    if folder is None:
        path = tree.get_local_copy(part=part, num_parts=parts, files=files)
    else:
        path = tree.get_mutable_local_copy(folder, force, part=part, num_parts=parts, files=files)
    if invocation.json:
        invocation.write_json({"tree": tree.id, "label": tree.version, "path": path})
    else:
        invocation.write_line(str(path))
