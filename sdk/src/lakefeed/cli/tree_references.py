"""File trees that a command line names: ``animals.photos``, ``animals.photos@1.0.2``, or the id of a draft."""

from __future__ import annotations

import re
from typing import Any

from lakefeed import Dataset, FileTree, Settings, errors
from lakefeed.cli.references import Reference

DRAWN = re.compile(r"[0-9a-f]{12}")


def open_tree(ref: Reference) -> FileTree:
    """Returns a tree: the newest version, or the only draft if there is none; or that of a version, label, tag or id.

    Raises:
        TreeNotFoundError: there is none.
        InvalidArgumentError: the rows of the dataset are not the files of a tree.
    """
    name = full_name(ref.name)
    pin = str(ref.version)
    if DRAWN.fullmatch(pin):
        try:
            return FileTree.get(f"{name}@{pin}")
        except errors.TreeNotFoundError:
            pass  # then it is a label or a tag
    if ref.is_pinned or Dataset.exists(ref.name):
        return FileTree.get(f"{name}@v{ref.open().version}")
    drafts = [each["id"] for each in tree_facts(name) if each["status"] == "in_progress"]
    if len(drafts) == 1:
        return FileTree.get(drafts[0])
    if drafts:
        raise errors.TreeNotFoundError(f"{ref.name} has no version, and several drafts: {', '.join(drafts)}")
    return FileTree.get(f"{name}@v{ref.open().version}")  # its error suggests similar names


def tree_facts(name: str | None = None) -> list[dict[str, Any]]:
    """Returns facts of the trees of a dataset, or of all trees, newest first; drafts too."""
    facts = FileTree.list_datasets(only_completed=False)
    return [each for each in facts if name in (None, each["id"].partition("@")[0])]


def full_name(name: str) -> str:
    """Returns the name of a dataset with its namespace."""
    return name if "." in name else f"{Settings.load().catalog.namespace}.{name}"


def shown_name(name: str) -> str:
    """Returns the name of a dataset without the default namespace, as lists of datasets have it."""
    return name.removeprefix(f"{Settings.load().catalog.namespace}.")
