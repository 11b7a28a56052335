"""Drafts become versions: new drafts, their commit, and squashes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from lakefeed.catalog.lake import Lake
from lakefeed.errors import DatasetNotFoundError, InvalidArgumentError, TreeNotFoundError, TreeStateError
from lakefeed.trees import tree_upload
from lakefeed.trees.draft_tables import DraftFacts, DraftTable, facts_of
from lakefeed.trees.draft_tree import DraftTree, parent_rows
from lakefeed.trees.finished_tree import FinishedTree, find_finished, tree_table
from lakefeed.trees.tree_commit import commit_tree, taken_error, used_labels
from lakefeed.trees.tree_identity import TreeId, dataset_name
from lakefeed.trees.tree_lookup import find_parents, tree_id_of
from lakefeed.trees.tree_paths import check_conflicts
from lakefeed.trees.tree_rows import ADD, REMOVE, TreeRows, apply_changes, compare, overlay


def parents_of(lake: Lake, values: Any, argument: str) -> list[FinishedTree]:
    """Returns finished trees.

    Raises:
        InvalidArgumentError: one is a draft, or not a tree.
        TreeNotFoundError: one does not exist.
    """
    if values is None:
        return []
    items = list(values) if isinstance(values, list | tuple) else [values]
    return [_finished(lake, tree_id_of(value, argument, lake), argument) for value in items]


def _finished(lake: Lake, tree: TreeId, argument: str) -> FinishedTree:
    finished = find_finished(lake, tree)
    if finished is not None:
        return finished
    if tree.number is None and DraftTable(lake, tree.key).load() is not None:
        raise InvalidArgumentError(f"{argument}: {str(tree)!r} is in progress; call finalize() of it first")
    raise TreeNotFoundError(f"{argument}: there is no file tree {str(tree)!r}")


def create_draft(lake: Lake, facts: DraftFacts, parents: Sequence[FinishedTree]) -> DraftTree:
    """Creates a draft.

    Raises:
        InvalidArgumentError: the name is that of a dataset that is not a tree.
        TreeStateError: the label is taken.
        ConflictingPathsError: a path is a file in one parent and a folder in another.
    """
    check_label(lake, facts)
    tree = TreeId.new(facts.dataset)
    draft = DraftTree(lake, tree, facts, parents)
    if len(parents) > 1:
        _ = draft.base  # raises if the parents contradict one another
    draft.table.create(facts)
    return draft


def check_label(lake: Lake, facts: DraftFacts) -> None:
    """Checks that the name is free or that of a tree, and that no version of it has the label.

    Raises:
        InvalidArgumentError: the name is that of a dataset that is not a tree.
        TreeStateError: the label is taken.
    """
    table = tree_table(lake, facts.dataset)
    if table is not None and facts.label is not None and facts.label in (labels := used_labels(table)):
        raise taken_error(facts, labels)


def new_facts(
    name: str,
    project: str | None,
    parents: Sequence[FinishedTree],
    label: str | None,
    tags: tuple[str, ...],
    description: str | None,
    symlinks: str,
) -> DraftFacts:
    """Returns the facts of a new draft.

    Raises:
        InvalidArgumentError: there is no project.
    """
    if project is None and not parents:
        raise InvalidArgumentError("dataset_project is missing, and there are no parents that it could be taken from")
    chosen = project if project is not None else parents[-1].title[0]
    ids = tuple(str(each.id) for each in parents)
    now = time.time_ns() // 1_000_000
    return DraftFacts(dataset_name(chosen, name), name, chosen, label, ids, tags, description, now, symlinks)


def finalize(draft: DraftTree) -> FinishedTree:
    """Makes a draft the next version of its dataset. Repeated calls make one version.

    Raises:
        TreeStateError: files wait to be uploaded, the draft was deleted, or its label was taken.
        ConflictingPathsError: a path is a file and a folder, by uploads of several processes.
        CommitConflictError: other writers kept committing first. Nothing was written.
    """
    if draft.is_dirty:
        waiting = sum(file is not None for file in draft.pending.values())
        raise TreeStateError(f"{waiting} files wait to be uploaded; call upload() first, or pass auto_upload=True")
    finished = find_finished(draft.lake, draft.id)
    if finished is not None and draft.pending:
        raise draft.gone_error()
    if draft.pending:
        tree_upload.upload(draft, show_progress=False)
    try:
        return finished or _commit(draft)
    except (DatasetNotFoundError, TreeStateError):
        finished = find_finished(draft.lake, draft.id)  # another process may have been faster
        if finished is None:
            raise
        return finished
    finally:
        if finished is not None:
            draft.table.discard()


def _commit(draft: DraftTree) -> FinishedTree:
    try:
        draft.table.seal()
    except DatasetNotFoundError:
        raise draft.gone_error() from None
    try:
        rows = draft.check_stored("finalize")
        table = draft.table.load()
        draft.facts = draft.facts if table is None else facts_of(table)  # its tags may have changed
        return commit_tree(draft.lake, draft.id, draft.facts, rows, draft.table.discard)
    except (TreeStateError, InvalidArgumentError):  # the same for any process that finalizes it now
        _open_again(draft)
        raise


def _open_again(draft: DraftTree) -> None:
    try:
        draft.table.open_again()
    except DatasetNotFoundError:
        return


def squash(lake: Lake, name: str, trees: Sequence[FinishedTree]) -> FinishedTree:
    """Makes a tree without parents of the first tree and the changes of each next one, in order.

    Raises:
        ConflictingPathsError: a path would be a file and a folder.
    """
    rows = trees[0].rows
    for tree in trees[1:]:
        rows = apply_changes(rows, _changes(parents_overlay(lake, tree), tree.rows))
    check_conflicts(rows.path_list, "squash")
    facts = new_facts(name, trees[0].title[0], (), None, (), None, "follow")
    return commit_tree(lake, TreeId.new(facts.dataset), facts, _without_origin(rows), lambda: None)


def _changes(base: TreeRows, rows: TreeRows) -> pa.Table:
    difference = compare(base, rows)
    parts = [
        (rows, sorted([*difference.added, *difference.modified]), ADD),
        (base, difference.removed, REMOVE),
    ]
    tables = []
    for source, paths, op in parts:
        positions = [source.index(path) for path in paths]
        table = source.table.take(pa.array(positions, pa.int64()))
        tables.append(table.append_column("op", pa.array([op] * len(paths), pa.string())))
    return pa.concat_tables(tables)


def _without_origin(rows: TreeRows) -> TreeRows:
    at = rows.table.schema.get_field_index("origin")
    nothing: Any = pa.nulls(len(rows), pa.string())
    return TreeRows(rows.table.set_column(at, rows.table.schema.field(at), nothing))


def parents_overlay(lake: Lake, tree: FinishedTree | DraftTree) -> TreeRows:
    """Returns the files of the parents of a tree.

    Raises:
        TreeNotFoundError: a parent was deleted. The message names it.
    """
    if isinstance(tree, DraftTree):
        find_parents(lake, tree.id, tree.facts.parents)  # also if the files of a deleted one are still known here
        return tree.base
    parents = find_parents(lake, tree.id, tree.parents)
    return overlay([parent_rows(each, tree.id) for each in parents], list(tree.parents))
