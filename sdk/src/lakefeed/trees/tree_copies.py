"""The copies of a tree that a user asks for, with their arguments checked."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lakefeed import _paths
from lakefeed._validate import check_flag
from lakefeed.errors import FileError, LakefeedError, MissingFileError
from lakefeed.storage.disk.hashing import sha256_file
from lakefeed.storage.disk.sealed_files import UNKNOWN_SIZE
from lakefeed.trees.copy_manifest import CopiedFile
from lakefeed.trees.copy_selection import check_part, check_patterns
from lakefeed.trees.draft_tree import DraftTree
from lakefeed.trees.finished_tree import FinishedTree
from lakefeed.trees.folder_scan import local_path_of
from lakefeed.trees.local_copies import LocalCopy
from lakefeed.trees.mutable_copies import copy_to
from lakefeed.trees.tree_arguments import check_workers
from lakefeed.trees.tree_facts import require_final

logger = logging.getLogger(__name__)


def _copy_of(
    tree: DraftTree | FinishedTree, method: str, part: Any, num_parts: Any, files: Any, workers: Any
) -> LocalCopy:
    check_part(part, num_parts)
    check_workers(workers)
    patterns = check_patterns(files)
    return LocalCopy(require_final(tree, method), part, num_parts, patterns, workers)


def _path_or_none(make: Callable[[], Path], raise_on_error: Any, errors: tuple[type[LakefeedError], ...]) -> str | None:
    try:
        return str(make())
    except errors as error:
        if raise_on_error:
            raise
        logger.warning("%s", error)
        return None


def local_copy(
    tree: DraftTree | FinishedTree,
    soft_links: Any,
    raise_on_error: Any,
    part: Any,
    num_parts: Any,
    workers: Any,
    files: Any,
) -> str | None:
    """Returns the folder of a read-only copy; see `FileTree.get_local_copy`."""
    if soft_links is not None:
        check_flag(soft_links, "use_soft_links")
    check_flag(raise_on_error, "raise_on_error")
    copy = replace(_copy_of(tree, "get_local_copy", part, num_parts, files, workers), soft_links=bool(soft_links))
    return _path_or_none(copy.get, raise_on_error, (FileError,))


def mutable_copy(
    tree: DraftTree | FinishedTree,
    target: Any,
    overwrite: Any,
    raise_on_error: Any,
    part: Any,
    num_parts: Any,
    workers: Any,
    files: Any,
) -> str | None:
    """Returns the folder of a writable copy; see `FileTree.get_mutable_local_copy`."""
    check_flag(overwrite, "overwrite")
    check_flag(raise_on_error, "raise_on_error")
    folder = local_path_of(target, "target_folder")
    copy = _copy_of(tree, "get_mutable_local_copy", part, num_parts, files, workers)
    return _path_or_none(lambda: copy_to(copy, folder, overwrite), raise_on_error, (LakefeedError,))


def verify(tree: DraftTree | FinishedTree, path: Any, skip_hash: Any, verbose: Any) -> list[str]:
    """Returns the paths of files that are missing or differ; see `FileTree.verify_dataset_hash`."""
    check_flag(skip_hash, "skip_hash")
    check_flag(verbose, "verbose")
    copy = LocalCopy(require_final(tree, "verify_dataset_hash"))
    folder = (copy.find() or copy.get()) if path is None else local_path_of(path, "local_copy_path")
    if not _paths.is_folder(folder):
        raise MissingFileError(f"local_copy_path: there is no folder {str(folder)!r}{_paths.explain_missing(folder)}")
    wrong = [each.path for each in copy.files if not _is_equal(folder / each.path, each, skip_hash)]
    if verbose:
        logger.info("%d of %d files of %s differ: %s", len(wrong), len(copy.files), folder, wrong[:10])
    return wrong


def _is_equal(path: Path, file: CopiedFile, skip_hash: bool) -> bool:
    try:
        same_size = file.size in (os.stat(path).st_size, UNKNOWN_SIZE)  # noqa: PTH116
        return same_size and (skip_hash or file.external is not None or sha256_file(path)[0] == file.sha256)
    except OSError:
        return False
