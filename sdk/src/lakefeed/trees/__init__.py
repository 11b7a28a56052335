"""File trees: folders of files as versions of a dataset, with the names of ClearML's ``Dataset``."""

from typing import TYPE_CHECKING

from lakefeed._lazy import lazy_attributes

if TYPE_CHECKING:
    from lakefeed.trees.file_tree import Dataset, FileTree
    from lakefeed.trees.tree_results import AddedFiles, FileEntry, Synced

__all__ = ["AddedFiles", "Dataset", "FileEntry", "FileTree", "Synced"]

if not TYPE_CHECKING:  # else a type checker would take any name
    __getattr__ = lazy_attributes(
        __name__,
        {
            "file_tree": ("Dataset", "FileTree"),
            "tree_results": ("AddedFiles", "FileEntry", "Synced"),
        },
    )
