"""The files of a tree: copies of them, and listings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lakefeed.trees import tree_copies, tree_listings
from lakefeed.trees.described_tree import DescribedTree
from lakefeed.trees.draft_tree import DraftTree
from lakefeed.trees.finished_tree import FinishedTree
from lakefeed.trees.tree_results import FileEntry


class ReadableTree(DescribedTree):
    """A file tree whose files can be copied and listed. `FileTree` inherits from it."""

    def is_dirty(self) -> bool:
        """Returns whether files wait to be uploaded."""
        return isinstance(self._tree, DraftTree) and self._tree.is_dirty

    def is_final(self) -> bool:
        """Returns whether the tree is a version."""
        return isinstance(self._tree, FinishedTree)

    # ------------------------------------------------------------------------------------- copies

    def get_local_copy(
        self,
        use_soft_links: bool | None = None,
        raise_on_error: bool = True,
        *,
        part: int | None = None,
        num_parts: int | None = None,
        max_workers: int | None = None,
        files: str | Sequence[str] | None = None,
    ) -> str | None:
        """Returns a folder with a read-only copy of the files, in the cache of this machine.

        The copy appears whole. Each call looks at each file, and mends those that are missing or changed. To a folder
        into which somebody has put other files it does nothing, and makes another copy.

        Args:
            use_soft_links: return a folder of symbolic links to the files of the copy. By default the folder has the
                files; equal ones of several versions are hard links where possible.
            raise_on_error: raise an error instead of returning None.
            part: the number of one of several parts, from 0: disjoint ones of about the same number of bytes.
            num_parts: the number of parts.
            max_workers: the number of threads.
            files: patterns of the files to copy, as in `remove_files`.

        Returns:
            The path of the folder; None if a file cannot be read or written, and ``raise_on_error`` is False.

        Raises:
            TreeStateError: the tree is a draft.
            InvalidArgumentError: an argument is wrong, or a pattern matches no file.
            MissingFileError, IntegrityError: the store has lost or damaged a content.
            StorageError: the disk is full, or cannot be written to.
            ConflictingPathsError: two paths are one on this file system.
        """
        return tree_copies.local_copy(self._tree, use_soft_links, raise_on_error, part, num_parts, max_workers, files)

    def get_mutable_local_copy(
        self,
        target_folder: Any,
        overwrite: bool = False,
        raise_on_error: bool = True,
        *,
        part: int | None = None,
        num_parts: int | None = None,
        max_workers: int | None = None,
        files: str | Sequence[str] | None = None,
    ) -> str | None:
        """Returns a folder with a writable copy of the files.

        It appears whole, except in a folder that is a mount point, or whose parent cannot be written to: there the
        complete copy is moved into the folder, entry by entry.

        Args:
            target_folder: the folder, which must be empty or not exist.
            overwrite: replace a folder that is there, with everything in it.
            raise_on_error: raise an error instead of returning None.
            part: as in `get_local_copy`.
            num_parts: as in `get_local_copy`.
            max_workers: as in `get_local_copy`.
            files: as in `get_local_copy`.

        Returns:
            The path of the folder; None after an error, if ``raise_on_error`` is False.

        Raises:
            InvalidArgumentError: the folder is not empty, and ``overwrite`` is False.
            TreeStateError, FileError, ConflictingPathsError: as for `get_local_copy`.
        """
        return tree_copies.mutable_copy(
            self._tree, target_folder, overwrite, raise_on_error, part, num_parts, max_workers, files
        )

    def verify_dataset_hash(
        self, local_copy_path: Any = None, skip_hash: bool = False, verbose: bool = False
    ) -> list[str]:
        """Returns the paths of the files of a copy that are missing, or whose bytes differ.

        Args:
            local_copy_path: the folder; None for the copy in the cache.
            skip_hash: compare sizes only.
            verbose: log the result.

        Raises:
            TreeStateError: the tree is a draft.
            MissingFileError: the folder does not exist.
        """
        return tree_copies.verify(self._tree, local_copy_path, skip_hash, verbose)

    # ------------------------------------------------------------------------------------- listings

    def list_files(
        self, dataset_path: str | None = None, recursive: bool = True, dataset_id: str | None = None
    ) -> list[str]:
        """Returns the paths of files, sorted.

        Args:
            dataset_path: a path, a folder or a pattern; None for all files.
            recursive: as in `remove_files`.
            dataset_id: only the files whose content this version brought.
        """
        return tree_listings.list_files(self._home, self._tree, dataset_path, recursive, dataset_id)

    def list_added_files(self, dataset_id: Any = None) -> list[str]:
        """Returns the paths that another tree lacks, sorted.

        Args:
            dataset_id: the other tree; None for the parents.
        """
        return tree_listings.differences(self._home, self._tree, dataset_id).added

    def list_removed_files(self, dataset_id: Any = None) -> list[str]:
        """Returns the paths of another tree that this one lacks, sorted.

        Args:
            dataset_id: the other tree; None for the parents.
        """
        return tree_listings.differences(self._home, self._tree, dataset_id).removed

    def list_modified_files(self, dataset_id: Any = None) -> list[str]:
        """Returns the paths whose content or executable bit differs from that in another tree, sorted.

        Args:
            dataset_id: the other tree; None for the parents.
        """
        return tree_listings.differences(self._home, self._tree, dataset_id).modified

    def list_renamed_files(self, dataset_id: Any = None) -> list[tuple[str, str]]:
        """Returns pairs of a removed and an added path of one content.

        Args:
            dataset_id: the other tree; None for the parents.
        """
        return tree_listings.renamed(self._home, self._tree, dataset_id)

    @property
    def file_entries_dict(self) -> Mapping[str, FileEntry]:
        """The files by path. Changes of the mapping change nothing else."""
        return tree_listings.entries(self._tree)

    def get_dependency_graph(self) -> dict[str, list[str]]:
        """Returns the ids of the parents of this tree and of all its ancestors, by id."""
        return tree_listings.dependency_graph(self._home, self._tree)
