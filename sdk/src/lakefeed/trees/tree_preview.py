"""Trees that are never stored, to see what a draft would change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lakefeed.catalog.lake import Lake
from lakefeed.trees import tree_arguments, tree_finalization
from lakefeed.trees.draft_tree import DraftTree
from lakefeed.trees.file_tree import FileTree
from lakefeed.trees.tree_identity import TreeId
from lakefeed.trees.tree_rows import TreeRows


@dataclass(eq=False)
class _Preview(DraftTree):
    """A draft without a table."""

    @property
    def stored(self) -> TreeRows:
        """The files of the parents: nothing is uploaded."""
        return self.base


def preview_tree(name: str, project: str | None, parents: Sequence[FileTree], label: str | None = None) -> FileTree:
    """Returns a tree to which files can be added, as those of `FileTree.create`, but that the lake does not know.

    Raises:
        InvalidArgumentError, TreeNotFoundError: as for `FileTree.create`.
        TreeStateError: the label is taken.
    """
    lake = Lake.current()
    finished = tree_finalization.parents_of(lake, list(parents), "parents")
    facts = tree_arguments.facts_of_new(
        lake, name, project, finished, tags=None, label=label, output_uri=None, description=None, symlinks="follow"
    )
    tree_finalization.check_label(lake, facts)
    return FileTree._of(_Preview(lake, TreeId.new(facts.dataset), facts, finished))
