"""The lists of files of trees, and of their differences and ancestors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from lakefeed._arrow import compute as pc
from lakefeed._validate import check_flag
from lakefeed.catalog.lake import Lake
from lakefeed.trees.draft_tree import DraftTree
from lakefeed.trees.finished_tree import FinishedTree, find_finished
from lakefeed.trees.tree_finalization import parents_overlay
from lakefeed.trees.tree_identity import TreeId
from lakefeed.trees.tree_lookup import open_tree, tree_id_of
from lakefeed.trees.tree_paths import matching, pattern_of
from lakefeed.trees.tree_results import FileEntry
from lakefeed.trees.tree_rows import Difference, TreeRows, column, compare, renames


def rows_of(tree: DraftTree | FinishedTree) -> TreeRows:
    """Returns the files of a tree; of a draft also those that wait to be uploaded."""
    return tree.view() if isinstance(tree, DraftTree) else tree.rows


def list_files(lake: Lake, tree: DraftTree | FinishedTree, pattern: Any, recursive: Any, dataset_id: Any) -> list[str]:
    """Returns paths; see `FileTree.list_files`."""
    check_flag(recursive, "recursive")
    rows, wanted = rows_of(tree), None if pattern is None else pattern_of(pattern, "dataset_path")
    if dataset_id is not None:
        origin = str(tree_id_of(dataset_id, "dataset_id", lake))
        rows = rows.select(pc.fill_null(pc.equal(column(rows.table, "origin"), pa.scalar(origin)), False))
    paths = rows.paths if wanted is None else rows.paths.filter(matching(rows.paths, wanted, recursive))
    if wanted is None and not recursive:
        paths = paths.filter(pc.invert(pc.match_substring(paths, "/")))
    return list(paths.to_pylist())


def _pair(lake: Lake, tree: DraftTree | FinishedTree, other: Any) -> tuple[TreeRows, TreeRows]:
    if other is None:
        return parents_overlay(lake, tree), rows_of(tree)
    return rows_of(open_tree(lake, tree_id_of(other, "dataset_id", lake))), rows_of(tree)


def differences(lake: Lake, tree: DraftTree | FinishedTree, other: Any) -> Difference:
    """Returns what a tree has, lacks and has with another content, compared with another tree or its parents."""
    return compare(*_pair(lake, tree, other))


def renamed(lake: Lake, tree: DraftTree | FinishedTree, other: Any) -> list[tuple[str, str]]:
    """Returns pairs of removed and added paths of one content."""
    old, new = _pair(lake, tree, other)
    return renames(old, new, compare(old, new))


def entries(tree: DraftTree | FinishedTree) -> Mapping[str, FileEntry]:
    """Returns the files by path."""
    rows = rows_of(tree).table
    files = rows["file"].to_pylist()
    others = (rows[name].to_pylist() for name in ("path", "executable", "origin"))
    return {
        path: FileEntry(path, file["sha256"], origin, file["size"], bool(executable), file["url"])
        for path, executable, origin, file in zip(*others, files, strict=True)
    }


def dependency_graph(lake: Lake, tree: DraftTree | FinishedTree) -> dict[str, list[str]]:
    """Returns the ids of the parents of a tree and of its ancestors, by id. Deleted ancestors have no parents."""
    graph: dict[str, list[str]] = {}
    parents = tree.facts.parents if isinstance(tree, DraftTree) else tree.parents
    waiting = [(str(tree.id), list(parents))]
    while waiting:
        key, above = waiting.pop()
        graph[key] = above
        for each in above:
            if each not in graph:
                finished = find_finished(lake, TreeId.parse(each))
                waiting.append((each, [] if finished is None else list(finished.parents)))
    return graph
