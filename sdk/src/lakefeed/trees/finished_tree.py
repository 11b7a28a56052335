"""Finished trees: the versions of a dataset whose rows are files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from lakefeed.catalog import renaming
from lakefeed.catalog.ancestry import ancestry
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import LABEL, TREE, TREE_ID, TREE_PARENTS
from lakefeed.catalog.versions import version_number, version_of
from lakefeed.errors import DatasetNotFoundError, InvalidArgumentError, TreeNotFoundError
from lakefeed.sources.iceberg_source import IcebergSource
from lakefeed.trees.draft_tables import read_rows
from lakefeed.trees.tree_identity import TreeId, dataset_name
from lakefeed.trees.tree_rows import TREE_SCHEMA, TreeRows

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

PUBLISHED_PREFIX: Final = "lakefeed.tree.published."
"""Begins the table property with the time at which a version was published, by the key of its id."""
TAGS_PREFIX: Final = "lakefeed.tree.tags."
"""Begins the table property with tags that were set after a version was made, as JSON, by the key of its id."""

# Snapshot summary.
TAGS: Final = "lakefeed.tree.tags"
ABOUT: Final = "lakefeed.tree.description"


@dataclass(frozen=True, eq=False)
class FinishedTree:
    """A version of a tree.

    Attributes:
        lake: the lake.
        dataset: the name of the dataset.
        table: the table, with the metadata of when the tree was looked up.
        snapshot: the snapshot of the version.
        older: the snapshot before it; None for the first version.
    """

    lake: Lake
    dataset: str
    table: Table
    snapshot: Snapshot
    older: Snapshot | None

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.lake, self.id)

    @property
    def id(self) -> TreeId:
        """The id. A version that another program wrote has one with its number."""
        return TreeId(self.dataset, self.fact(TREE_ID) or f"v{version_number(self.snapshot)}")

    @property
    def label(self) -> str:
        """The label. That of a version that another program wrote is its number."""
        return self.fact(LABEL) or f"v{version_number(self.snapshot)}"

    @property
    def parents(self) -> tuple[str, ...]:
        """The ids of the parents, in order."""
        written = self.fact(TREE_PARENTS)
        if written is not None:
            return tuple(json.loads(written))
        return () if self.older is None else (str(id_of(self.dataset, self.older)),)

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags: those of the version, or those that were set since, by the time it was looked up."""
        return tuple(json.loads(self.table.properties.get(TAGS_PREFIX + self.id.key) or self.fact(TAGS) or "[]"))

    @property
    def description(self) -> str | None:
        """The description."""
        return self.fact(ABOUT)

    @property
    def created_ms(self) -> int:
        """The time of its commit, in milliseconds since 1970 (UTC)."""
        return self.snapshot.timestamp_ms

    @property
    def title(self) -> tuple[str, str]:
        """The project and the name, as they were given."""
        return title_of(self.table, self.dataset)

    @property
    def is_published(self) -> bool:
        """True if the version was published by the time it was looked up."""
        return PUBLISHED_PREFIX + self.id.key in self.table.properties

    @property
    def status(self) -> str:
        """Either "published" or "completed"."""
        return "published" if self.is_published else "completed"

    def fact(self, name: str) -> str | None:
        """Returns an entry of the snapshot summary."""
        return fact_of(self.snapshot, name)

    @cached_property
    def rows(self) -> TreeRows:
        """The files.

        Raises:
            VersionNotFoundError: the version was deleted.
        """
        source = IcebergSource(self.lake, self.dataset, version_of(self.snapshot, self.table))
        return TreeRows.of(read_rows(self.lake, source, TREE_SCHEMA))


def _reopen(lake: Lake, tree: TreeId) -> FinishedTree:
    """Returns the version of an id, in another process."""
    finished = find_finished(lake, tree)
    if finished is None:
        raise TreeNotFoundError(f"there is no file tree {str(tree)!r}; it may have been deleted")
    return finished


def fact_of(snapshot: Snapshot, name: str) -> str | None:
    """Returns an entry of a snapshot summary."""
    return None if snapshot.summary is None else snapshot.summary.additional_properties.get(name)


def id_of(dataset: str, snapshot: Snapshot) -> TreeId:
    """Returns the id of a version."""
    return TreeId(dataset, fact_of(snapshot, TREE_ID) or f"v{version_number(snapshot)}")


def title_of(table: Table, dataset: str) -> tuple[str, str]:
    """Returns the project and the name of a tree, as they were given."""
    title = json.loads(table.properties[TREE])
    project, _, name = dataset.rpartition(".")
    given = str(title.get("project", project)), str(title.get("name", name))
    return given if dataset_name(*given) == dataset else (project, name)  # it was renamed


def tree_table(lake: Lake, dataset: str) -> Table | None:
    """Returns the table of a tree; None if it does not exist.

    Raises:
        InvalidArgumentError: there is a dataset of that name that is not a file tree.
    """
    try:
        table = lake.table(dataset)
    except DatasetNotFoundError:
        return None
    if TREE not in table.properties:
        raise InvalidArgumentError(
            f"{dataset!r} is a dataset whose rows are not the files of a tree; read it with "
            f"lakefeed.Dataset({dataset!r}), or choose another name"
        )
    return table


def history(lake: Lake, dataset: str, table: Table) -> Iterator[FinishedTree]:
    """Yields the versions of a tree, newest first."""
    lineage = ancestry(table)
    for snapshot, older in zip_longest(lineage, lineage[1:]):
        yield FinishedTree(lake, dataset, table, snapshot, older)


def find_finished(lake: Lake, tree: TreeId) -> FinishedTree | None:
    """Returns the version of an id; None if there is none (any more). The dataset may have been renamed since."""
    dataset = renaming.following_name(lake, tree.dataset)
    table = tree_table(lake, dataset)
    if table is None:
        return None
    for version in history(lake, dataset, table):
        by_number = tree.number is not None and version_number(version.snapshot) == tree.number
        if version.id.key == tree.key or by_number:
            return version
    return None
