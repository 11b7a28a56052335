"""The deletion of trees: drafts, single versions, and datasets with all their versions."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pyiceberg.table import Table

from lakefeed.catalog.forget_version import forget_version
from lakefeed.catalog.lake import Lake
from lakefeed.errors import InUseError, TreeNotFoundError, quoted_list
from lakefeed.trees.draft_tables import DraftTable, list_drafts
from lakefeed.trees.finished_tree import FinishedTree, find_finished, history
from lakefeed.trees.tree_identity import TreeId
from lakefeed.trees.tree_lookup import TreeQuery, draft_facts, find_versions
from lakefeed.trees.tree_reports import discard_reports


def delete_tree(lake: Lake, tree: TreeId, force: bool) -> None:
    """Removes a draft or a version. A garbage collection removes the contents that nothing else needs.

    Raises:
        TreeNotFoundError: the tree does not exist.
        InUseError: other trees have it as a parent, or it is published, and ``force`` is False.
    """
    finished = find_finished(lake, tree)
    if finished is not None:
        _require_unused(lake, [finished], force)
        forget_version(lake, finished.dataset, finished.snapshot.snapshot_id)
    elif draft_facts(lake, tree) is None:
        raise TreeNotFoundError(f"there is no file tree {str(tree)!r}; it may have been deleted")
    if draft_facts(lake, tree) is not None:
        DraftTable(lake, tree.key).discard()


def delete_dataset(lake: Lake, dataset: str, table: Table, force: bool) -> None:
    """Removes a dataset with all its versions.

    Raises:
        InUseError: trees of other datasets have one as a parent, or one is published, and ``force`` is False.
    """
    _require_unused(lake, list(history(lake, dataset, table)), force)
    lake.drop(dataset)
    discard_reports(lake, dataset)


def _require_unused(lake: Lake, trees: Collection[FinishedTree], force: bool) -> None:
    users = () if force else tuple(dict.fromkeys(_users(lake, trees)))
    if users:
        raise InUseError(
            f"{quoted_list(tree.id for tree in trees)} is used: {'; '.join(users[:10])}. Nothing was deleted; delete "
            "these first, or pass force=True",
            users,
        )


def _users(lake: Lake, trees: Collection[FinishedTree]) -> Iterator[str]:
    """Yields who uses one of the trees, except the trees themselves."""
    own = {str(tree.id) for tree in trees}
    keys = {tree.id.key for tree in trees if tree.id.number is None}  # ids of parents may have an earlier name

    def is_used(parents: Collection[str]) -> bool:
        return bool(own.intersection(parents)) or any(parent.rpartition("@")[2] in keys for parent in parents)

    for tree in trees:
        if tree.is_published:
            yield f"{tree.id} is published"
    for version in find_versions(lake, TreeQuery()):
        if str(version.id) not in own and is_used(version.parents):
            yield f"{version.id} has it as a parent"
    for draft, facts in list_drafts(lake):
        if is_used(facts.parents):
            yield f"the draft {draft} has it as a parent"
