"""The column files that a commit adds and removes, and their snapshot, which moves with that of the version."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate, TableUpdate

from lakefeed.catalog.column_files import ColumnIndex, column_index, column_snapshot_id, path_digest
from lakefeed.catalog.column_schema import column_file_ids, column_schema
from lakefeed.catalog.file_refs import ColumnFileRef
from lakefeed.catalog.properties import COLUMN_BRANCH, COLUMN_SNAPSHOT, HAS_COLUMN_FILES
from lakefeed.catalog.snapshot_builder import Contents, SnapshotBuilder


@dataclass(frozen=True)
class NewColumnFile:
    """A column file to add, with the ids of its columns."""

    file: DataFile
    fields: frozenset[int]


@dataclass(frozen=True)
class ColumnChanges:
    """The changes of the column files in one commit.

    Attributes:
        added: the column files to add.
        removed: for each column file to leave out, by path, the manifest that names it.
        remaining: the ids of the columns that are in column files after the commit.
        none_left: the new version has no column files.
    """

    added: tuple[DataFile, ...] = ()
    removed: Mapping[str, str] = field(default_factory=dict)
    remaining: frozenset[int] = frozenset()
    none_left: bool = True

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)

    @classmethod
    def of(
        cls, table: Table, parent: Snapshot | None, added: Collection[NewColumnFile], present: Collection[str]
    ) -> ColumnChanges:
        """Returns the changes on top of a version.

        Args:
            table: the table, with the columns of the new version.
            parent: the snapshot of the version.
            added: the new column files. Their values replace those of older ones.
            present: the paths of the data files of the new version. Column files of others are left out.
        """
        index = column_index(table, parent)
        digests, current = {path_digest(path) for path in present}, column_file_ids(table)
        newest = max((each.sequence for each in index), default=0) + 1
        new = [_reference(each, newest) for each in added]
        after = ColumnIndex(each for each in (*index, *new) if each.digest in digests and each.fields & current)
        paths = {each.path for each in after}
        removed = {each.path: each.manifest for each in (*index, *index.superseded) if each.path not in paths}
        remaining = frozenset[int]().union(*(each.fields for each in after)) & current
        files = tuple(each.file for each in added if each.file.file_path in paths)
        return cls(files, removed, remaining, none_left=not after)


def _reference(new: NewColumnFile, sequence: int) -> ColumnFileRef:
    file = new.file
    return ColumnFileRef(file.file_path, file.record_count, file.file_size_in_bytes, sequence, new.fields)


class ColumnCommit:
    """The column files of one action. Its snapshot is committed together with that of the version.

    ``table`` is the table to commit to.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._building: tuple[Table, int | None] | None = None
        self._branch: int | None = None

    @cached_property
    def builder(self) -> SnapshotBuilder:
        """The builder of the snapshot of the column files."""
        return SnapshotBuilder(self._table, {HAS_COLUMN_FILES: "true"})

    def prepare(self, table: Table, current: Table, changes: ColumnChanges) -> dict[str, str]:
        """Takes the changes of an attempt, and returns the entries of the summary of the version.

        Args:
            table: the table, with the columns of the new version.
            current: the table before the commit.
            changes: the changes of the column files.
        """
        self._building = self._branch = None
        if not changes:
            return {}
        if changes.none_left:
            return {COLUMN_SNAPSHOT: ""}
        self.builder.contents = Contents(added=changes.added, removed=changes.removed)
        self._building = table, column_snapshot_id(current, current.metadata.current_snapshot())
        return {COLUMN_SNAPSHOT: str(self.builder.snapshot_id)}

    def restore(self, current: Table, old: Snapshot) -> dict[str, str]:
        """Returns to the column files of an old version; see `prepare`."""
        newest = column_snapshot_id(current, current.metadata.current_snapshot())
        self._branch = column_snapshot_id(current, old)
        return {} if newest == self._branch else {COLUMN_SNAPSHOT: str(self._branch or "")}

    def updates(self) -> tuple[TableUpdate, ...]:
        """Builds the snapshot, and returns the updates that follow those of the version's snapshot."""
        if self._building is not None:
            table, parent = self._building
            snapshot = self._build(table, parent)
            return AddSnapshotUpdate(snapshot=snapshot), _branch_update(snapshot.snapshot_id)
        return () if self._branch is None else (_branch_update(self._branch),)

    def _build(self, table: Table, parent: int | None) -> Snapshot:
        schema = column_schema(table.metadata)
        assert schema is not None, "columns of column files have a schema"
        changed = {"current_snapshot_id": parent, "current_schema_id": schema.schema_id}
        snapshot = self.builder.build_snapshot(table.metadata.model_copy(update=changed))
        # It has the number of the version, which Iceberg allows for a snapshot without a parent.
        return snapshot.model_copy(update={"parent_snapshot_id": None})

    @contextmanager
    def discard_with(self, version: SnapshotBuilder) -> Iterator[None]:
        """Removes, at the end of the block, the column files that no snapshot names. They share the version's fate."""
        try:
            yield
        finally:
            if "builder" in self.__dict__:
                with self.builder.discard_on_failure():
                    self.builder.outcome = version.outcome


def _branch_update(snapshot_id: int) -> TableUpdate:
    return SetSnapshotRefUpdate(  # type: ignore[call-arg]  # aliased fields with defaults
        ref_name=COLUMN_BRANCH, type="branch", snapshot_id=snapshot_id
    )
