"""File trees: folders of files as versions of a dataset, with the names of ClearML's ``Dataset``."""

from typing import TYPE_CHECKING

from lakefeed._lazy import lazy_attributes

if TYPE_CHECKING:
    from lakefeed.trees.file_tree import Dataset, FileTree
    from lakefeed.trees.tree_parents import parent_datasets
    from lakefeed.trees.tree_results import AddedFiles, FileEntry, Synced
    from lakefeed.trees.tree_summary import TreeSummary, summarize

__all__ = ["AddedFiles", "Dataset", "FileEntry", "FileTree", "Synced", "TreeSummary", "parent_datasets", "summarize"]

if not TYPE_CHECKING:  # else a type checker would take any name
    __getattr__ = lazy_attributes(
        __name__,
        {
            "file_tree": ("Dataset", "FileTree"),
            "tree_parents": ("parent_datasets",),
            "tree_results": ("AddedFiles", "FileEntry", "Synced"),
            "tree_summary": ("TreeSummary", "summarize"),
        },
    )
