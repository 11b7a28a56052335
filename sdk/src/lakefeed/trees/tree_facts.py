"""The facts of trees, and their publication."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lakefeed.catalog.commit import update_properties
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.versions import version_of
from lakefeed.dataset.core import dataset_at
from lakefeed.errors import TreeStateError
from lakefeed.storage.urls import redact
from lakefeed.trees.draft_tables import DRAFT, facts_of
from lakefeed.trees.draft_tree import DraftTree
from lakefeed.trees.finished_tree import PUBLISHED_PREFIX, TAGS_PREFIX, FinishedTree
from lakefeed.trees.tree_identity import check_label, check_tags
from lakefeed.trees.tree_lookup import open_tree

if TYPE_CHECKING:
    from lakefeed.dataset.dataset import Dataset as RowDataset

logger = logging.getLogger(__name__)


def title(tree: DraftTree | FinishedTree) -> tuple[str, str]:
    """Returns the project and the name, as they were given."""
    return (tree.facts.project, tree.facts.name) if isinstance(tree, DraftTree) else tree.title


def dataset(tree: DraftTree | FinishedTree) -> RowDataset:
    """Returns a version as a dataset.

    Raises:
        TreeStateError: the tree is a draft.
    """
    finished = require_final(tree, "dataset")
    return dataset_at(finished.lake, finished.dataset, version_of(finished.snapshot, finished.table))


def publish(tree: DraftTree | FinishedTree, raise_on_error: bool) -> bool:
    """Publishes a version; see `FileTree.publish`."""
    try:
        finished = require_final(tree, "publish")
    except TreeStateError as error:
        if raise_on_error:
            raise
        logger.warning("%s", error)
        return False
    now = str(time.time_ns() // 1_000_000)
    update_properties(finished.lake, finished.dataset, {PUBLISHED_PREFIX + finished.id.key: now})
    return True


def change_tags(
    tree: DraftTree | FinishedTree, values: Any, change: Callable[[Sequence[str], Sequence[str]], Sequence[str]]
) -> DraftTree | FinishedTree:
    """Changes the tags, and returns the tree with them. ``change`` gets those of now, and those that are given."""
    given, now = check_tags(values, "tags"), reopened(tree)
    if isinstance(now, FinishedTree):
        tags = json.dumps(list(dict.fromkeys(change(now.tags, given))))
        update_properties(now.lake, now.dataset, {TAGS_PREFIX + now.id.key: tags})
        return reopened(now)
    now.facts = replace(now.facts, tags=tuple(dict.fromkeys(change(now.facts.tags, given))))
    update_properties(now.table.tables, now.table.name, {DRAFT: now.facts.to_json()})
    return now


def change_label(tree: DraftTree | FinishedTree, label: Any) -> None:
    """Changes the label of a draft; None for one that `finalize` draws.

    Raises:
        TreeStateError: the tree is final.
    """
    if isinstance(tree, FinishedTree):
        raise TreeStateError(f"the tree {str(tree.id)!r} is final, and its label {tree.label!r} never changes")
    chosen = None if label is None else check_label(label)
    reopened(tree)
    tree.facts = replace(tree.facts, label=chosen)
    update_properties(tree.table.tables, tree.table.name, {DRAFT: tree.facts.to_json()})


def reopened(tree: DraftTree | FinishedTree) -> DraftTree | FinishedTree:
    """Returns the tree with the facts of now. A draft stays the same object.

    Raises:
        TreeNotFoundError: the version was deleted.
        TreeStateError: the draft was finalized or deleted.
    """
    if isinstance(tree, DraftTree):
        table = tree.table.load()
        if table is None:
            raise tree.gone_error()
        tree.facts = facts_of(table)
        return tree
    return open_tree(tree.lake, tree.id)


def storage_url(lake: Lake) -> str:
    """Returns the URL of the blob store, without credentials."""
    return redact(lake.blobs.url)


def require_final(tree: DraftTree | FinishedTree, method: str) -> FinishedTree:
    """Returns the version.

    Raises:
        TreeStateError: the tree is a draft.
    """
    if isinstance(tree, DraftTree):
        raise TreeStateError(f"{method}: the tree {str(tree.id)!r} is a draft; call finalize() first")
    return tree
