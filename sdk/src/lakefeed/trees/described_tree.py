"""The facts of a file tree: names, label, tags, metadata and reports."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lakefeed.catalog.lake import Lake
from lakefeed.trees import tree_facts, tree_logger, tree_lookup, tree_reports
from lakefeed.trees.draft_tree import DraftTree
from lakefeed.trees.finished_tree import FinishedTree
from lakefeed.trees.tree_identity import check_title

if TYPE_CHECKING:
    from lakefeed.dataset.dataset import Dataset as RowDataset


class DescribedTree:
    """A file tree with its facts. `FileTree` inherits from it."""

    _home: Lake
    _tree: DraftTree | FinishedTree

    @property
    def id(self) -> str:
        """The id."""
        return str(self._tree.id)

    @property
    def name(self) -> str:
        """The name, as it was given."""
        return tree_facts.title(self._tree)[1]

    @property
    def project(self) -> str:
        """The project, as it was given."""
        return tree_facts.title(self._tree)[0]

    @property
    def version(self) -> str | None:
        """The label. That of a draft without one is drawn by `finalize`; until then it is None.

        That of a draft may be set, for example if another version took it meanwhile.
        """
        return self._tree.label if isinstance(self._tree, FinishedTree) else self._tree.facts.label

    @version.setter
    def version(self, label: str | None) -> None:
        tree_facts.change_label(self._tree, label)

    @property
    def tags(self) -> list[str]:
        """The tags. They may be set, also those of a version."""
        return list(self._tree.tags if isinstance(self._tree, FinishedTree) else self._tree.facts.tags)

    @tags.setter
    def tags(self, values: Sequence[str]) -> None:
        self._tree = tree_facts.change_tags(self._tree, values, lambda _, given: given)

    def add_tags(self, tags: str | Sequence[str]) -> None:
        """Adds tags.

        Args:
            tags: the tags.
        """
        self._tree = tree_facts.change_tags(self._tree, tags, lambda old, given: (*old, *given))

    def remove_tags(self, tags: str | Sequence[str]) -> None:
        """Removes tags. Those that the tree lacks change nothing.

        Args:
            tags: the tags.
        """
        self._tree = tree_facts.change_tags(self._tree, tags, lambda old, given: [t for t in old if t not in given])

    def get_logger(self) -> tree_logger.TreeLogger:
        """Returns the logger of the tree, for statistics and previews. `finalize` changes nothing about the reports."""
        return tree_logger.TreeLogger(tree_reports.TreeReports(self._home, self._tree.id))

    def set_metadata(self, metadata: Any, metadata_name: str = "metadata") -> None:
        """Sets metadata, which may change also after `finalize`.

        Args:
            metadata: what JSON can hold, or a pandas DataFrame of such values, which becomes a mapping of columns.
            metadata_name: its name.

        Raises:
            InvalidArgumentError: JSON cannot hold it.
        """
        reports = tree_reports.TreeReports(self._home, self._tree.id)
        tree_reports.set_metadata(reports, metadata, check_title(metadata_name, "metadata_name"))

    def get_metadata(self, metadata_name: str = "metadata") -> Any:
        """Returns metadata; None if there is none of this name.

        Args:
            metadata_name: its name.
        """
        reports = tree_reports.TreeReports(self._home, self._tree.id)
        return tree_reports.get_metadata(reports, check_title(metadata_name, "metadata_name"))

    @property
    def description(self) -> str | None:
        """The description."""
        return self._tree.description if isinstance(self._tree, FinishedTree) else self._tree.facts.description

    @property
    def created(self) -> dt.datetime:
        """The time of the version, or of the creation of the draft, with the zone UTC."""
        milliseconds = self._tree.created_ms if isinstance(self._tree, FinishedTree) else self._tree.facts.created_ms
        return tree_lookup.time_of(milliseconds)

    @property
    def parents(self) -> list[str]:
        """The ids of the parents, in order."""
        return list(self._tree.parents if isinstance(self._tree, FinishedTree) else self._tree.facts.parents)

    @property
    def dataset(self) -> RowDataset:
        """The version as a dataset: a row for each file, for filters, splits and training.

        Raises:
            TreeStateError: the tree is a draft.
        """
        return tree_facts.dataset(self._tree)

    def get_default_storage(self) -> str:
        """Returns the URL of the blob store, without credentials."""
        return tree_facts.storage_url(self._home)
