"""`TreeSummary`: a version of a file tree for people: its label, its parents, and the paths that it changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import TREE
from lakefeed.errors import LakefeedError
from lakefeed.media.image import Image
from lakefeed.profiles import is_unreachable
from lakefeed.trees.finished_tree import find_finished
from lakefeed.trees.tree_finalization import parents_overlay
from lakefeed.trees.tree_identity import TreeId
from lakefeed.trees.tree_parents import other_datasets
from lakefeed.trees.tree_reports import METADATA, TreeReports
from lakefeed.trees.tree_rows import TreeRows, compare, renames

MAX_PATHS: Final = 50
MAX_REPORTS: Final = 20


@dataclass(frozen=True)
class TreeSummary:
    """A version of a file tree.

    Attributes:
        id: the id.
        title: the project and the name, as they were given.
        label: the label.
        parents: the ids of the parents, in order, with their labels; None for those that were deleted.
        tags: the tags.
        description: the description; None if there is none.
        status: either "published" or "completed".
        files: the number of files.
        changes: the number of paths by change: "added", "modified", "removed" and "renamed". Renamed files are counted
            as added and as removed too. Compared are the parents.
        sources: the names of the other datasets of which trees are parents.
        paths: the first paths of each change, sorted; of renamed files the old path, an arrow and the new one.
        reports: the first reports that are neither metadata nor images, oldest first.
        images: the first images that were reported.
        unread: the reason for which the files of the version or of its parents could not be read; None if they were.
    """

    id: str
    title: tuple[str, str]
    label: str
    parents: Mapping[str, str | None]
    tags: Sequence[str]
    description: str | None
    status: str
    sources: Sequence[str] = ()
    files: int | None = None
    changes: Mapping[str, int] | None = None
    paths: Mapping[str, Sequence[str]] | None = None
    reports: Sequence[Mapping[str, Any]] = ()
    images: Sequence[Image] = ()
    unread: str | None = None


def summarize(dataset: str, version: int) -> TreeSummary | None:
    """Returns the summary of a version; None for a dataset whose rows are not the files of a tree.

    Args:
        dataset: the name of the dataset.
        version: the number of the version.

    Raises:
        DatasetNotFoundError: the dataset does not exist.
        LakefeedError, OSError: a store, a server or the catalog cannot be reached.
    """
    lake = Lake.current()
    if TREE not in lake.table(dataset).properties:
        return None
    name = _full_name(lake, dataset)
    tree = find_finished(lake, TreeId(name, f"v{version}"))
    if tree is None:
        return None
    reports = TreeReports(lake, tree.id).rows()
    images = [row["file"] for row in reports if row["kind"] == "image" and row["file"] is not None]
    others = [row for row in reports if row["kind"] not in (METADATA, "image")]
    facts: dict[str, Any] = {
        "id": str(tree.id),
        "title": tree.title,
        "label": tree.label,
        "parents": {parent: _label_of(lake, parent) for parent in tree.parents},
        "tags": tree.tags,
        "description": tree.description,
        "status": tree.status,
        "sources": other_datasets(lake, name, tree.parents),
        "reports": others[:MAX_REPORTS],
        "images": [Image(sha256=each["sha256"], size=each["size"], store=lake.blobs) for each in images[:MAX_REPORTS]],
    }
    try:
        return TreeSummary(**facts, **_changes(parents_overlay(lake, tree), tree.rows))
    except (LakefeedError, OSError) as error:
        if is_unreachable(error):
            raise
        return TreeSummary(**facts, unread=f"{type(error).__name__}: {error}")


def _full_name(lake: Lake, dataset: str) -> str:
    return dataset if "." in dataset else f"{lake.settings.catalog.namespace}.{dataset}"


def _label_of(lake: Lake, parent: str) -> str | None:
    tree = find_finished(lake, TreeId.parse(parent))
    return None if tree is None else tree.label


def _changes(old: TreeRows, new: TreeRows) -> dict[str, Any]:
    difference = compare(old, new)
    paths = {
        **difference._asdict(),
        "renamed": [f"{before} → {after}" for before, after in renames(old, new, difference)],
    }
    return {
        "files": len(new),
        "changes": {change: len(each) for change, each in paths.items()},
        "paths": {change: each[:MAX_PATHS] for change, each in paths.items()},
    }
