"""The changes of a draft that a user asks for, with their arguments checked."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from lakefeed import _paths
from lakefeed._validate import check_flag
from lakefeed.errors import FileError, InvalidArgumentError, MissingFileError, TreeStateError
from lakefeed.trees import tree_finalization, tree_upload
from lakefeed.trees.draft_tree import DraftTree
from lakefeed.trees.external_files import list_external
from lakefeed.trees.finished_tree import FinishedTree
from lakefeed.trees.folder_scan import LocalFile, local_path_of, scan
from lakefeed.trees.tree_paths import check_folder, check_path, is_wild, join, pattern_of, wildcard_matcher
from lakefeed.trees.tree_results import AddedFiles, Synced

logger = logging.getLogger(__name__)


def require_draft(tree: DraftTree | FinishedTree, method: str) -> DraftTree:
    """Returns the draft.

    Raises:
        TreeStateError: the tree is final.
    """
    if isinstance(tree, DraftTree):
        return tree
    raise TreeStateError(
        f"{method}: the tree {str(tree.id)!r} is final, and versions never change; create one with it as a parent: "
        f"FileTree.create(…, parent_datasets=[{str(tree.id)!r}])"
    )


def add_files(
    draft: DraftTree, path: Any, wildcard: Any, base: Any, folder: Any, recursive: bool, verbose: Any
) -> AddedFiles:
    """Adds a local file or folder; see `FileTree.add_files`."""
    check_flag(verbose, "verbose")
    source = local_path_of(path, "path")
    matches, target = wildcard_matcher(wildcard, recursive), check_folder(folder, "dataset_path")
    if not os.path.lexists(source):
        hint = "; patterns go into wildcard" if is_wild(source.name) else ""
        raise MissingFileError(f"add_files: path={str(source)!r}: there is no such file or folder{hint}")
    start = local_path_of(base, "local_base_folder") if base is not None else _default_base(source)
    if not source.is_relative_to(start):
        raise InvalidArgumentError(f"add_files: {str(source)!r} is not below local_base_folder={str(start)!r}")
    scanned = scan(source, matches, start, _symlinks(draft), recursive, _own_folders(draft))
    counts = draft.add(_targets(scanned, target, "add_files"), "add_files")
    if verbose:
        logger.info("added %d files to %s, modified %d", counts.added, draft.id, counts.modified)
    return counts


def _default_base(source: Any) -> Any:
    return source if _paths.is_folder(source) else source.parent


def _symlinks(draft: DraftTree) -> Any:
    return draft.facts.symlinks


def _own_folders(draft: DraftTree) -> list[Path]:
    """Returns the folders of the lake, which changes while its own files are added."""
    return [draft.lake.settings.home, draft.lake.settings.cache]


def _targets(scanned: dict[str, LocalFile], folder: str, origin: str) -> dict[str, LocalFile]:
    if not folder:
        return scanned
    return {check_path(join(folder, path), origin): file for path, file in scanned.items()}


def add_external_files(
    draft: DraftTree, source: Any, wildcard: Any, folder: Any, recursive: Any, verbose: Any, strict: Any
) -> AddedFiles:
    """Adds links to files elsewhere; see `FileTree.add_external_files`."""
    for value, name in ((recursive, "recursive"), (verbose, "verbose"), (strict, "strict")):
        check_flag(value, name)
    matches, target = wildcard_matcher(wildcard, recursive), check_folder(folder, "dataset_path")
    scanned, errors = list_external(source, matches, recursive, strict)
    for error in errors:
        logger.warning("add_external_files: %s", error)
    placed = {check_path(join(target, path), "add_external_files"): file for path, file in scanned.items()}
    counts = draft.add(placed, "add_external_files")
    if verbose:
        logger.info("added %d links to %s, modified %d", counts.added, draft.id, counts.modified)
    return counts


def remove_files(draft: DraftTree, pattern: Any, recursive: Any, verbose: Any) -> int:
    """Removes files; see `FileTree.remove_files`."""
    check_flag(verbose, "verbose")
    check_flag(recursive, "recursive")
    if pattern is None:
        raise InvalidArgumentError(
            "remove_files: dataset_path must be a path, a folder or a pattern, got None; '*' removes all files"
        )
    removed = draft.remove(pattern_of(pattern, "dataset_path"), recursive)
    if verbose:
        logger.info("removed %d files from %s", removed, draft.id)
    return removed


def sync_folder(draft: DraftTree, path: Any, folder: Any, verbose: Any) -> Synced:
    """Makes the tree equal to a folder; see `FileTree.sync_folder`."""
    check_flag(verbose, "verbose")
    source, target = local_path_of(path, "local_path"), check_folder(folder, "dataset_path")
    if not _paths.exists(source):
        raise MissingFileError(
            f"sync_folder: local_path={str(source)!r}: there is no such folder{_paths.explain_missing(source)}. "
            "Nothing was removed"
        )
    if not _paths.is_folder(source):
        raise FileError(f"sync_folder: local_path={str(source)!r} is not a folder; add it with add_files")
    scanned = scan(source, lambda path: True, source, _symlinks(draft), left_out=_own_folders(draft))
    counts = draft.sync(_targets(scanned, target, "sync_folder"), target, "sync_folder")
    if verbose:
        logger.info("removed %d files from %s, changed %d", counts[0], draft.id, counts[1])
    return counts


def upload(draft: DraftTree, show_progress: bool, verbose: Any) -> None:
    """Uploads pending files; see `FileTree.upload`."""
    check_flag(verbose, "verbose")
    waiting = len(draft.pending)
    tree_upload.upload(draft, show_progress)
    if verbose:
        logger.info("uploaded %d changes of %s", waiting, draft.id)


def finalize(
    tree: DraftTree | FinishedTree, verbose: Any, raise_on_error: Any, auto_upload: Any
) -> FinishedTree | None:
    """Makes a draft a version; returns None after a failure that is not to be raised. See `FileTree.finalize`."""
    check_flag(verbose, "verbose")
    check_flag(raise_on_error, "raise_on_error")
    check_flag(auto_upload, "auto_upload")
    try:
        draft = require_draft(tree, "finalize")
        if auto_upload:
            tree_upload.upload(draft, show_progress=False)
        finished = tree_finalization.finalize(draft)
    except TreeStateError as error:
        if raise_on_error:
            raise
        logger.warning("finalize: %s", error)
        return None
    if verbose:
        logger.info("finalized %s as version %s", finished.id, finished.label)
    return finished
