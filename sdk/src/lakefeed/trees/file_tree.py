"""`FileTree`: folders of files as versions, with the calls of ClearML's ``Dataset``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from lakefeed._validate import check_flag
from lakefeed.catalog.lake import Lake
from lakefeed.trees import (
    tree_arguments,
    tree_changes,
    tree_facts,
    tree_finalization,
)
from lakefeed.trees.draft_tree import DraftTree
from lakefeed.trees.finished_tree import FinishedTree
from lakefeed.trees.readable_tree import ReadableTree
from lakefeed.trees.tree_results import AddedFiles, Synced


class FileTree(ReadableTree):
    """A tree of files: a version, which never changes, or a draft, to which files are added and uploaded.

    A version is one of a dataset whose rows are the files, which `dataset` returns. Trees are made by `create`, `get`
    and `squash`. A file tree is for one thread; several processes may upload to one draft.

    Example:
        >>> from pathlib import Path
        >>> Path("photos").mkdir()
        >>> _ = Path("photos/a.txt").write_text("hello")
        >>> tree = FileTree.create("photos", "animals")
        >>> tree.add_files("photos")
        1
        >>> tree.upload()
        >>> tree.finalize()
        True
        >>> FileTree.get(dataset_project="animals", dataset_name="photos").list_files()
        ['a.txt']
    """

    def __init__(self) -> None:
        raise TypeError("a FileTree is made by FileTree.create(…), FileTree.get(…) or FileTree.squash(…)")

    # ------------------------------------------------------------------------------------- trees

    @classmethod
    def create(
        cls,
        dataset_name: str,
        dataset_project: str | None = None,
        parent_datasets: Any = None,
        use_current_task: bool = False,
        *,
        dataset_tags: Sequence[str] | None = None,
        dataset_version: str | None = None,
        output_uri: str | None = None,
        description: str | None = None,
        symlinks: Literal["follow", "error"] = "follow",
    ) -> FileTree:
        """Creates a draft with the files of its parents.

        Args:
            dataset_name: the name.
            dataset_project: the project; None for that of the last parent.
            parent_datasets: ids, file trees or `lakefeed.Dataset` objects of trees, in order. Of a path in several
                parents, that of the last one counts.
            use_current_task: accepted for ClearML's code; there are no tasks.
            dataset_tags: tags.
            dataset_version: the label. By default the newest label plus 0.0.1 is drawn by `finalize`.
            output_uri: the URL of the blob store of the lake, or None.
            description: a description.
            symlinks: "follow" reads the files and folders that links lead to; "error" refuses links that lead out of
                the folder that is added.

        Returns:
            The draft.

        Raises:
            InvalidArgumentError: an argument is wrong, there is no project, or a parent is a draft.
            TreeNotFoundError: a parent does not exist.
            TreeStateError: the label is taken.
            ConflictingPathsError: a path is a file in one parent and a folder in another.
            UnsupportedError: ``output_uri`` is another store.
        """
        lake = Lake.current()
        check_flag(use_current_task, "use_current_task")
        parents = tree_finalization.parents_of(lake, parent_datasets, "parent_datasets")
        facts = tree_arguments.facts_of_new(
            lake,
            dataset_name,
            dataset_project,
            parents,
            tags=dataset_tags,
            label=dataset_version,
            output_uri=output_uri,
            description=description,
            symlinks=symlinks,
        )
        return cls._of(tree_finalization.create_draft(lake, facts, parents))

    @classmethod
    def get(
        cls,
        dataset_id: str | None = None,
        dataset_project: str | None = None,
        dataset_name: str | None = None,
        dataset_tags: Sequence[str] | None = None,
        only_completed: bool | None = None,
        only_published: bool = False,
        *,
        dataset_version: str | None = None,
        alias: str | None = None,
        auto_create: bool = False,
        writable_copy: bool = False,
        include_archived: bool = False,
    ) -> FileTree:
        """Returns a tree: that of an id, or the newest one that fits.

        Args:
            dataset_id: the id. Nothing else may be given with it.
            dataset_project: the project. Alone, it means its newest tree.
            dataset_name: the name.
            dataset_tags: tags, of which the tree must have all.
            only_completed: True for versions only; False for the newest of versions and drafts; None for a draft only
                if there is no version.
            only_published: only published versions.
            dataset_version: the label.
            alias: accepted for ClearML's code; there are no tasks.
            auto_create: create a draft if the project has no tree of the name.
            writable_copy: create a draft with the tree as its parent, and return the draft.
            include_archived: accepted for ClearML's code; there is no archive.

        Returns:
            The tree.

        Raises:
            TreeNotFoundError: there is none, or several drafts or projects fit.
            InvalidArgumentError: an argument is wrong.
        """
        wanted = tree_arguments.wanted(dataset_project, dataset_name, dataset_tags, only_published, dataset_version)
        tree_arguments.check_get_options(alias, auto_create, writable_copy, include_archived)
        if auto_create and tree_arguments.is_new(Lake.current(), dataset_id, wanted):
            return cls.create(str(wanted.name), wanted.project)
        tree = cls._of(tree_arguments.find(Lake.current(), dataset_id, wanted, only_completed))
        return cls.create(tree.name, tree.project, [tree]) if writable_copy else tree

    @classmethod
    def list_datasets(
        cls,
        dataset_project: str | None = None,
        partial_name: str | None = None,
        tags: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        only_completed: bool = True,
    ) -> list[dict[str, Any]]:
        """Returns facts of trees, newest first.

        Args:
            dataset_project: the project.
            partial_name: a part of the name.
            tags: tags, of which a tree must have all.
            ids: ids.
            only_completed: leave out drafts.

        Returns:
            For each tree its name, project, id, created, version, tags and status.

        Raises:
            InvalidArgumentError: an argument is wrong.
        """
        return tree_arguments.listed(Lake.current(), dataset_project, partial_name, tags, ids, only_completed)

    @classmethod
    def squash(
        cls,
        dataset_name: str,
        dataset_ids: Sequence[Any] | None = None,
        dataset_project_name_pairs: Sequence[tuple[str, str]] | None = None,
        output_url: str | None = None,
    ) -> FileTree:
        """Makes a version without parents: the first tree, then the changes of each next one. Stores no content.

        Args:
            dataset_name: the name of the new tree. Its project is that of the first one.
            dataset_ids: ids or file trees, in order.
            dataset_project_name_pairs: projects and names, in order; the newest version of each is taken.
            output_url: the URL of the blob store of the lake, or None.

        Returns:
            The version.

        Raises:
            InvalidArgumentError: there is no tree, or one is a draft.
            TreeNotFoundError: one does not exist.
        """
        lake = Lake.current()
        tree_arguments.check_store(lake, output_url, "output_url")
        trees = tree_arguments.squashed_trees(lake, dataset_ids, dataset_project_name_pairs)
        return cls._of(tree_finalization.squash(lake, tree_arguments.check_title(dataset_name, "dataset_name"), trees))

    @classmethod
    def delete(
        cls,
        dataset_id: str | None = None,
        dataset_project: str | None = None,
        dataset_name: str | None = None,
        force: bool = False,
        *,
        dataset_version: str | None = None,
        entire_dataset: bool = False,
    ) -> None:
        """Deletes a draft or a version. `lakefeed.collect_garbage` removes the contents that nothing else needs.

        Args:
            dataset_id: the id. Nothing else may be given with it.
            dataset_project: the project.
            dataset_name: the name. The newest version is deleted; if there is none, the only draft.
            force: also delete what other trees have as a parent, or what is published.
            dataset_version: the label of the version.
            entire_dataset: delete all versions of the name.

        Raises:
            TreeNotFoundError: the tree does not exist.
            InUseError: other trees have it as a parent, or it is published.
        """
        wanted = tree_arguments.wanted(dataset_project, dataset_name, None, False, dataset_version)
        tree_arguments.delete(Lake.current(), dataset_id, wanted, force, entire_dataset)

    # ------------------------------------------------------------------------------------- changes of a draft

    def add_files(
        self,
        path: Any,
        wildcard: str | Sequence[str] | None = None,
        local_base_folder: Any = None,
        dataset_path: str | None = None,
        recursive: bool = True,
        verbose: bool = False,
        *,
        max_workers: int | None = None,
    ) -> AddedFiles:
        """Adds a local file or folder. Nothing is stored before `upload`. Equal files of the parents are left alone.

        Args:
            path: the file or folder.
            wildcard: patterns of the files to add. One without "/" is for names, at any depth with ``recursive``.
            local_base_folder: the folder from which the paths in the tree start; by default ``path``, or the folder of
                the file.
            dataset_path: the folder in the tree.
            recursive: also add the files in folders below ``path``.
            verbose: log each file.
            max_workers: accepted for ClearML's code.

        Returns:
            The number of files of new paths, with the attributes ``added``, ``modified`` and ``unchanged``.

        Raises:
            TreeStateError: the tree is final.
            MissingFileError: the path does not exist, or a link leads to nothing. Nothing was added.
            FileError: a file cannot be read, or is not a regular file. Nothing was added.
            ConflictingPathsError: a path would be a file and a folder. Nothing was added.
            InvalidArgumentError: an argument is wrong, or a name cannot be in a tree. Nothing was added.
        """
        draft = self._draft("add_files")
        tree_arguments.check_workers(max_workers)
        return tree_changes.add_files(
            draft, path, wildcard, local_base_folder, dataset_path, check_flag(recursive, "recursive"), verbose
        )

    def add_external_files(
        self,
        source_url: str | Sequence[str],
        wildcard: str | Sequence[str] | None = None,
        dataset_path: str | None = None,
        recursive: bool = True,
        verbose: bool = False,
        *,
        max_workers: int | None = None,
        strict: bool = True,
    ) -> AddedFiles:
        """Adds links to files elsewhere, with their sizes and tags. Their contents are not stored in the lake.

        A copy fetches them, and fails if one has changed since.

        Args:
            source_url: the URL of a file (``https://``), or of a file or folder of an object store (``s3://``,
                ``gs://``), or several ones.
            wildcard: as in `add_files`, for the paths below the URL.
            dataset_path: the folder in the tree.
            recursive: also add the files in folders below the URL.
            verbose: log the number.
            max_workers: accepted for ClearML's code.
            strict: raise an error for a file that cannot be read, instead of leaving it out.

        Returns:
            The number of files of new paths, with the attributes ``added``, ``modified`` and ``unchanged``.

        Raises:
            TreeStateError: the tree is final.
            MissingFileError, FileError: a file cannot be read, and ``strict`` is True. Nothing was added.
            RefusedTargetError: the URL is that of a local file. Nothing was added.
            CredentialsError: a URL holds credentials. Nothing was added.
            ConflictingPathsError, InvalidArgumentError: as for `add_files`.
        """
        draft = self._draft("add_external_files")
        tree_arguments.check_workers(max_workers)
        return tree_changes.add_external_files(draft, source_url, wildcard, dataset_path, recursive, verbose, strict)

    def remove_files(self, dataset_path: str | None = None, recursive: bool = True, verbose: bool = False) -> int:
        """Removes files from the draft.

        Args:
            dataset_path: a path, a folder or a pattern, from the root of the tree.
            recursive: with a folder, also the files in folders below; in patterns, ``*`` also matches "/".
            verbose: log the number.

        Returns:
            The number of removed files.

        Raises:
            TreeStateError: the tree is final.
            InvalidArgumentError: ``dataset_path`` is None or empty.
        """
        return tree_changes.remove_files(self._draft("remove_files"), dataset_path, recursive, verbose)

    def sync_folder(self, local_path: Any, dataset_path: str | None = None, verbose: bool = False) -> Synced:
        """Makes the tree below ``dataset_path`` equal to a local folder. Nothing is stored before `upload`.

        Args:
            local_path: the folder.
            dataset_path: the folder in the tree; None for the whole tree.
            verbose: log the numbers.

        Returns:
            The numbers of removed files, and of modified or added ones, with the attributes ``added`` and ``modified``.

        Raises:
            TreeStateError: the tree is final.
            MissingFileError: the folder does not exist. Nothing was changed.
            FileError, ConflictingPathsError, InvalidArgumentError: as for `add_files`.
        """
        return tree_changes.sync_folder(self._draft("sync_folder"), local_path, dataset_path, verbose)

    def upload(
        self,
        show_progress: bool = True,
        verbose: bool = False,
        output_url: str | None = None,
        compression: Any = None,
        *,
        max_workers: int | None = None,
    ) -> None:
        """Uploads the files that were added, and records removals. After it they survive this process.

        Files that have vanished stay pending; the others are uploaded. Contents that the lake has are not stored again.

        Args:
            show_progress: show a progress bar.
            verbose: log the number of files.
            output_url: the URL of the blob store of the lake, or None.
            compression: accepted for ClearML's code; contents are stored as they are.
            max_workers: accepted for ClearML's code.

        Raises:
            TreeStateError: the tree is final, or another process has finalized or deleted the draft.
            MissingFileError, FileError: files have vanished or cannot be read. The message names them.
        """
        draft = self._draft("upload")
        tree_arguments.check_workers(max_workers)
        tree_arguments.check_store(self._home, output_url, "output_url")
        tree_changes.upload(draft, check_flag(show_progress, "show_progress"), verbose)

    def finalize(self, verbose: bool = False, raise_on_error: bool = True, *, auto_upload: bool = False) -> bool:
        """Makes the draft a version, which never changes.

        Args:
            verbose: log the id.
            raise_on_error: raise TreeStateError instead of returning False.
            auto_upload: call `upload` first.

        Returns:
            True; False if there are pending uploads or the tree is final, and ``raise_on_error`` is False.

        Raises:
            TreeStateError: there are pending uploads, the tree is final, or its label was taken.
            ConflictingPathsError: a path is a file and a folder, by uploads of several processes.
            CommitConflictError: other writers kept committing first. Nothing was written.
        """
        finished = tree_changes.finalize(self._tree, verbose, raise_on_error, auto_upload)
        self._tree = self._tree if finished is None else finished
        return finished is not None

    def publish(self, raise_on_error: bool = True) -> bool:
        """Publishes a version: `delete` refuses it without ``force``.

        Args:
            raise_on_error: raise TreeStateError instead of returning False.

        Returns:
            True; False if the tree is a draft, and ``raise_on_error`` is False.

        Raises:
            TreeStateError: the tree is a draft.
        """
        return tree_facts.publish(self._tree, check_flag(raise_on_error, "raise_on_error"))

    # ------------------------------------------------------------------------------------- inside

    @classmethod
    def _of(cls, tree: DraftTree | FinishedTree) -> FileTree:
        opened = cls.__new__(cls)
        opened._home, opened._tree = tree.lake, tree
        return opened

    def _draft(self, method: str) -> DraftTree:
        return tree_changes.require_draft(self._tree, method)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileTree) and self.id == other.id and self._home.settings == other._home.settings

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        state = "final" if self.is_final() else "draft"
        return f"<FileTree {self.id!r} ({state})>"


Dataset = FileTree
"""ClearML's name of the class."""
