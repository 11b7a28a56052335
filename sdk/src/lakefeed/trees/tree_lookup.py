"""The search for trees by id, or by project, name, label and tags."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import TREE
from lakefeed.errors import DamagedDatasetError, DatasetNotFoundError, InvalidArgumentError, TreeNotFoundError
from lakefeed.trees.draft_tables import DraftFacts, DraftTable, facts_of, list_drafts
from lakefeed.trees.draft_tree import DraftTree, lost_parent_error
from lakefeed.trees.finished_tree import FinishedTree, find_finished, history
from lakefeed.trees.tree_identity import TreeId, dataset_name, slug

MAX_LISTED = 10


def open_tree(lake: Lake, tree: TreeId) -> FinishedTree | DraftTree:
    """Returns the tree of an id.

    Raises:
        TreeNotFoundError: there is none.
    """
    # A draft first, because it vanishes when its version is there.
    facts = draft_facts(lake, tree)
    finished = find_finished(lake, tree)
    if finished is not None:
        return finished
    if facts is None:
        raise TreeNotFoundError(f"there is no file tree {str(tree)!r}; it may have been deleted")
    return open_draft(lake, tree, facts)


def draft_facts(lake: Lake, tree: TreeId) -> DraftFacts | None:
    """Returns the facts of a draft; None if there is none."""
    table = None if tree.number is not None else DraftTable(lake, tree.key).load()
    facts = None if table is None else facts_of(table)
    return facts if facts is not None and facts.dataset == tree.dataset else None


def open_draft(lake: Lake, tree: TreeId, facts: DraftFacts) -> DraftTree:
    """Returns a draft.

    Raises:
        TreeNotFoundError: a parent was deleted.
    """
    return DraftTree(lake, tree, facts, find_parents(lake, tree, facts.parents))


def find_parents(lake: Lake, tree: TreeId, parents: Sequence[str]) -> list[FinishedTree]:
    """Returns the parents of a tree by their ids, in order.

    Raises:
        TreeNotFoundError: one was deleted. The message names it.
    """
    versions = []
    for parent in parents:
        version = find_finished(lake, TreeId.parse(parent))
        if version is None:
            raise lost_parent_error(parent, tree)
        versions.append(version)
    return versions


@dataclass(frozen=True)
class TreeQuery:
    """The properties that trees must have.

    Attributes:
        project: the project; None for any.
        name: the name; None for any.
        label: the label; None for any.
        tags: tags, of which all are needed.
        published: only published versions.
    """

    project: str | None = None
    name: str | None = None
    label: str | None = None
    tags: tuple[str, ...] = ()
    published: bool = False

    def __str__(self) -> str:
        parts = {"project": self.project, "name": self.name, "version": self.label, "tags": list(self.tags) or None}
        return ", ".join(f"{key} {value!r}" for key, value in parts.items() if value is not None)

    def accepts(self, label: str | None, tags: Collection[str]) -> bool:
        """Returns whether a tree with this label and these tags is wanted."""
        return self.label in (None, label) and set(self.tags) <= set(tags)


def find_versions(lake: Lake, wanted: TreeQuery) -> Iterator[FinishedTree]:
    """Yields the wanted versions, those of each dataset newest first."""
    for dataset in _datasets(lake, wanted):
        try:
            table = lake.table(dataset)
        except (DatasetNotFoundError, DamagedDatasetError):
            continue
        if TREE not in table.properties:
            continue
        for version in history(lake, dataset, table):
            if wanted.accepts(version.label, version.tags) and (version.is_published or not wanted.published):
                yield version


def find_drafts(lake: Lake, wanted: TreeQuery) -> list[tuple[TreeId, DraftFacts]]:
    """Returns the wanted drafts. Those that a killed process has finalized, but not removed, are removed now."""
    drafts = []
    for tree, facts in list_drafts(lake) if not wanted.published else ():
        same = wanted.project in (None, facts.project) and wanted.name in (None, facts.name)
        if not same or not wanted.accepts(facts.label, facts.tags):
            continue
        if find_finished(lake, tree) is None:
            drafts.append((tree, facts))
        else:
            DraftTable(lake, tree.key).discard()
    return drafts


def find_tree(lake: Lake, wanted: TreeQuery, only_completed: bool | None) -> FinishedTree | DraftTree:
    """Returns the newest tree that is wanted.

    Args:
        lake: the lake.
        wanted: the properties that it must have.
        only_completed: True for versions only; False for versions and drafts; None for a draft only if there is no
            version.

    Raises:
        TreeNotFoundError: there is none, or there are several drafts or datasets.
    """
    versions = list(find_versions(lake, wanted))
    newest = max(versions, key=lambda each: each.created_ms, default=None)
    if wanted.project is None:
        _require_one(sorted({each.dataset for each in versions}), wanted)
    if newest is not None and only_completed is not False:
        return newest
    drafts = find_drafts(lake, wanted) if only_completed is not True else []
    if newest is not None:
        drafts = [each for each in drafts if each[1].created_ms > newest.created_ms]
        if not drafts:
            return newest
    if not drafts:
        raise TreeNotFoundError(f"there is no file tree of {wanted}.{_hint(lake, wanted, only_completed)}")
    if only_completed is None or newest is None:
        _require_one([str(tree) for tree, _ in drafts], wanted)
    tree, facts = max(drafts, key=lambda each: each[1].created_ms)
    return open_draft(lake, tree, facts)


def _require_one(ids: Sequence[str], wanted: TreeQuery) -> None:
    if len(ids) > 1:
        raise TreeNotFoundError(
            f"there are {len(ids)} file trees of {wanted}: {', '.join(ids[:MAX_LISTED])}; give dataset_id, or the "
            "project"
        )


def _hint(lake: Lake, wanted: TreeQuery, only_completed: bool | None) -> str:
    drafts = find_drafts(lake, wanted) if only_completed is True else []
    if drafts:
        return f" The draft {str(drafts[0][0])!r} is in progress."
    labels = [each.label for each in find_versions(lake, TreeQuery(wanted.project, wanted.name))]
    return f" The versions, newest first, are {', '.join(labels[:MAX_LISTED])}." if labels else ""


def _datasets(lake: Lake, wanted: TreeQuery) -> list[str]:
    """Returns the names of the datasets that may have wanted trees."""
    if wanted.project is not None and wanted.name is not None:
        return [dataset_name(wanted.project, wanted.name)]
    own = lake.settings.catalog.namespace
    names = [name if "." in name else f"{own}.{name}" for name in lake.names()]
    pairs = [(name, *name.split(".")) for name in names if name.count(".") == 1]
    project = None if wanted.project is None else slug(wanted.project)
    table = None if wanted.name is None else slug(wanted.name)
    return [name for name, *parts in pairs if project in (None, parts[0]) and table in (None, parts[1])]


def list_trees(
    lake: Lake, wanted: TreeQuery, partial_name: str | None, ids: Collection[str] | None, only_completed: bool
) -> list[dict[str, Any]]:
    """Returns the facts of trees, newest first."""
    matches = [
        (each.created_ms, *each.title, each.id, each.label, each.tags, each.status)
        for each in find_versions(lake, wanted)
    ]
    if not only_completed:
        drafts = find_drafts(lake, wanted)
        matches += [(f.created_ms, f.project, f.name, t, f.label or "", f.tags, "in_progress") for t, f in drafts]
    matches.sort(key=lambda each: each[0], reverse=True)
    return [
        {
            "name": name,
            "project": project,
            "id": str(tree),
            "created": time_of(created),
            "version": label or None,
            "tags": list(tags),
            "status": status,
        }
        for created, project, name, tree, label, tags, status in matches
        if (partial_name is None or partial_name in name) and (ids is None or str(tree) in ids)
    ]


def time_of(milliseconds: int) -> dt.datetime:
    """Returns a time, with the zone UTC."""
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)


def tree_id_of(value: Any, argument: str, lake: Lake) -> TreeId:
    """Returns the id of a tree: of its text, of a `FileTree`, or of a dataset at a version.

    Raises:
        InvalidArgumentError: it is none of them.
    """
    from lakefeed.dataset.core import Core

    if isinstance(value, Core):
        name = value.name if "." in value.name else f"{lake.settings.catalog.namespace}.{value.name}"
        return TreeId(name, f"v{value.version}")
    text = value if isinstance(value, str) else getattr(value, "id", None)
    if not isinstance(text, str):
        raise InvalidArgumentError(f"{argument} must be the id of a file tree, or a FileTree, got {value!r:.80}")
    return TreeId.parse(text)
