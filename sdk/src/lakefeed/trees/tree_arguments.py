"""The arguments of the class methods of a file tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lakefeed._validate import check_flag, check_text, is_list, is_whole
from lakefeed.catalog.lake import Lake
from lakefeed.errors import InvalidArgumentError, TreeNotFoundError, UnsupportedError
from lakefeed.storage.urls import redact
from lakefeed.trees import tree_deletion, tree_finalization, tree_lookup
from lakefeed.trees.draft_tables import DraftFacts
from lakefeed.trees.draft_tree import DraftTree
from lakefeed.trees.finished_tree import FinishedTree, tree_table
from lakefeed.trees.tree_identity import TreeId, check_label, check_tags, check_title, dataset_name
from lakefeed.trees.tree_lookup import TreeQuery

__all__ = ["check_title"]


def facts_of_new(
    lake: Lake,
    name: Any,
    project: Any,
    parents: Sequence[FinishedTree],
    *,
    tags: Any,
    label: Any,
    output_uri: Any,
    description: Any,
    symlinks: Any,
) -> DraftFacts:
    """Returns the facts of a new draft."""
    check_store(lake, output_uri, "output_uri")
    if symlinks not in ("follow", "error"):
        raise InvalidArgumentError(f'symlinks must be "follow" or "error", got {symlinks!r:.80}')
    return tree_finalization.new_facts(
        check_title(name, "dataset_name"),
        None if project is None else check_title(project, "dataset_project"),
        parents,
        None if label is None else check_label(label),
        check_tags(tags, "dataset_tags"),
        None if description is None else check_text(description, "description"),
        symlinks,
    )


def check_store(lake: Lake, url: Any, argument: str) -> None:
    """Checks that a URL is that of the blob store of the lake.

    Raises:
        UnsupportedError: it is another one.
    """
    if url is None or url is True:
        return
    if check_text(url, argument).rstrip("/") != lake.blobs.url.rstrip("/"):
        raise UnsupportedError(
            f"{argument}={redact(url)!r}: contents go to the blob store of the lake, {redact(lake.blobs.url)!r}. "
            "Choose another one with the setting blobs.url, or leave the argument out"
        )


def check_workers(value: Any) -> None:
    """Checks a number of workers, or None."""
    if value is not None and (not is_whole(value) or value < 1):
        raise InvalidArgumentError(f"max_workers must be a whole number from 1, or None, got {value!r:.80}")


def wanted(project: Any, name: Any, tags: Any, published: Any, label: Any) -> TreeQuery:
    """Returns what trees must have."""
    return TreeQuery(
        None if project is None else check_title(project, "dataset_project"),
        None if name is None else check_title(name, "dataset_name"),
        None if label is None else check_label(label),
        check_tags(tags, "dataset_tags"),
        check_flag(published, "only_published"),
    )


def find(lake: Lake, tree: Any, wanted: TreeQuery, only_completed: Any) -> FinishedTree | DraftTree:
    """Returns the tree of an id, or the newest one that is wanted."""
    if only_completed is not None:
        check_flag(only_completed, "only_completed")
    if tree is None:
        _require_name(wanted)
        return tree_lookup.find_tree(lake, wanted, only_completed)
    _refuse_others(wanted)
    match = tree_lookup.open_tree(lake, tree_lookup.tree_id_of(tree, "dataset_id", lake))
    if isinstance(match, DraftTree) and (only_completed or wanted.published):
        raise TreeNotFoundError(f"{str(match.id)!r} is in progress")
    if isinstance(match, FinishedTree) and wanted.published and not match.is_published:
        raise TreeNotFoundError(f"{str(match.id)!r} is not published")
    return match


def check_get_options(alias: Any, auto_create: Any, writable_copy: Any, include_archived: Any) -> None:
    """Checks the arguments of `FileTree.get` beside those that choose a tree."""
    if alias is not None:
        check_text(alias, "alias")
    check_flag(auto_create, "auto_create")
    check_flag(writable_copy, "writable_copy")
    check_flag(include_archived, "include_archived")


def is_new(lake: Lake, tree: Any, wanted: TreeQuery) -> bool:
    """Returns whether a project has no tree of a name, neither a version nor a draft."""
    if tree is not None or wanted.project is None or wanted.name is None:
        return False
    query = TreeQuery(wanted.project, wanted.name)
    return next(tree_lookup.find_versions(lake, query), None) is None and not tree_lookup.find_drafts(lake, query)


def _require_name(wanted: TreeQuery) -> None:
    if wanted.project is None and wanted.name is None:
        raise InvalidArgumentError("give dataset_id, or dataset_project and dataset_name")


def _refuse_others(wanted: TreeQuery) -> None:
    if wanted.project is not None or wanted.name is not None or wanted.label is not None or wanted.tags:
        raise InvalidArgumentError(f"give either dataset_id or {wanted}, not both")


def listed(
    lake: Lake, project: Any, partial_name: Any, tags: Any, ids: Any, only_completed: Any
) -> list[dict[str, Any]]:
    """Returns facts of trees."""
    if ids is not None and (not is_list(ids) or not all(isinstance(each, str) for each in ids)):
        raise InvalidArgumentError(f"ids must be a list of ids, got {ids!r:.80}")
    part = None if partial_name is None else check_text(partial_name, "partial_name")
    filters = wanted(project, None, tags, False, None)
    chosen = None if ids is None else set(ids)
    return tree_lookup.list_trees(lake, filters, part, chosen, check_flag(only_completed, "only_completed"))


def squashed_trees(lake: Lake, ids: Any, pairs: Any) -> list[FinishedTree]:
    """Returns the trees to squash."""
    if (ids is None) == (pairs is None):
        raise InvalidArgumentError("give either dataset_ids or dataset_project_name_pairs")
    if ids is not None:
        trees = tree_finalization.parents_of(lake, ids, "dataset_ids")
    else:
        trees = [_newest(lake, pair) for pair in (pairs if is_list(pairs) else [None])]
    if not trees:
        name = "dataset_project_name_pairs" if ids is None else "dataset_ids"
        raise InvalidArgumentError(f"{name} is empty: there is no tree to squash")
    return trees


def _newest(lake: Lake, pair: Any) -> FinishedTree:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise InvalidArgumentError(
            f"dataset_project_name_pairs must be a list of pairs of a project and a name, got {pair!r:.80}"
        )
    project, name = (check_title(each, "dataset_project_name_pairs") for each in pair)
    match = tree_lookup.find_tree(lake, TreeQuery(project, name), only_completed=True)
    assert isinstance(match, FinishedTree), "only completed"
    return match


def delete(lake: Lake, tree: Any, wanted: TreeQuery, force: Any, entire: Any) -> None:
    """Deletes the tree of an id, or one or all that are wanted."""
    check_flag(force, "force")
    if check_flag(entire, "entire_dataset") and wanted.label is not None:
        raise InvalidArgumentError("give either dataset_version or entire_dataset=True, not both")
    if tree is not None:
        _refuse_others(wanted)
        chosen = tree_lookup.tree_id_of(tree, "dataset_id", lake)
    elif wanted.project is None or wanted.name is None:
        raise InvalidArgumentError("give dataset_id, or dataset_project and dataset_name")
    elif not entire:
        chosen = tree_lookup.find_tree(lake, wanted, None).id
    else:
        chosen = TreeId(dataset_name(wanted.project, wanted.name), "v1")
    if not entire:
        tree_deletion.delete_tree(lake, chosen, force)
        return
    table = tree_table(lake, chosen.dataset)
    if table is None:
        raise TreeNotFoundError(f"there is no dataset {chosen.dataset!r} of file trees")
    tree_deletion.delete_dataset(lake, chosen.dataset, table, force)
