"""The methods of `Dataset` for versions: list, compare, tag and restore them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack

from lakefeed import catalog, media, ops
from lakefeed._validate import check_flag, check_keys
from lakefeed.catalog import version_arguments
from lakefeed.catalog.action import WriteOptions, takes_write_options
from lakefeed.dataset.core import Core, build
from lakefeed.run import row_edits, save
from lakefeed.run import version_changes as comparison

if TYPE_CHECKING:
    from lakefeed.dataset.changed_rows import AddedRows, RemovedRows
    from lakefeed.dataset.dataset import Dataset
    from lakefeed.run.version_changes import Changes
    from lakefeed.run.version_list import VersionList
    from lakefeed.sources.iceberg_source import IcebergSource

AnyAddedRows = TypeVar("AnyAddedRows", bound="AddedRows")


class Versioning(Core):
    """The methods that list versions, compare them, tag them and restore one."""

    @property
    def description(self) -> str | None:
        """The description from ``save`` or ``update``; None without one.

        Raises:
            UnsavedDatasetError: the dataset is derived from others, or was never saved.
            DatasetNotFoundError: the dataset does not exist.
        """
        return self._reference.description()

    @property
    def column_types(self) -> dict[str, str]:
        """The file columns and their types, such as ``{"photo": "image"}``."""
        return media.typed_columns(self.schema)

    @property
    def metadata(self) -> dict[str, Any]:
        """Name, description, schema, column types, properties, versions, tags and branches from the catalog.

        ``snapshots`` has an entry for each version, newest first, with ``sequence_number`` (the version),
        ``snapshot_id``, ``operation``, ``added_records``, ``total_records``, ``timestamp_ms`` and the other facts of
        `list_versions`.

        Raises:
            UnsavedDatasetError: the dataset is derived from others, or was never saved.
            DatasetNotFoundError: the dataset does not exist.
        """
        return self._reference.metadata()

    def list_versions(self) -> VersionList:
        """Returns every version, newest first, with its author and the number of rows that it added.

        The list prints as a table.

        An overwrite counts all rows before and after it as removed and added: what they have in common shows only when
        both are read, as by `changes`. ``net_records`` is exact for every version.

        Raises:
            UnsavedDatasetError: the dataset is derived from others, or was never saved.
            DatasetNotFoundError: the dataset does not exist.

        Example:
            >>> _ = Dataset.from_dict({"x": [1]}).save("listed")
            >>> _ = Dataset.from_dict({"x": [2, 3]}).append_to("listed")
            >>> [(version.version, version.added_records) for version in Dataset("listed").list_versions()]
            [(2, 2), (1, 1)]
        """
        from lakefeed.run.version_list import VersionList

        return VersionList(self._reference.list_versions())

    def added_since(self, from_version: int | str | None = None, to_version: int | str | None = None) -> AddedRows:
        """Returns the rows that the versions after ``from_version`` up to ``to_version`` added, oldest commit first.

        Rows that a version left unchanged are not among them, even if it rewrote their files: neither the untouched
        rows of an upsert, a delete or a compaction, nor the rows that an overwrite has in common with those before it.
        An upsert adds the rows that it changed. `restore` adds nothing, because earlier versions added the rows that it
        brings back.

        Where another program has expired versions in the range, their rows come with the next version that exists. Rows
        that expired versions both added and removed are not among them, because no existing version has them.

        Args:
            from_version: the version after which the range begins. None begins at the first version.
            to_version: the last version of the range. None ends at this dataset's version.

        Raises:
            VersionNotFoundError: a version does not exist.
            InvalidArgumentError: the versions are malformed or not in order.
            UnsavedDatasetError: the dataset is derived from others, or was never saved.

        Example:
            >>> _ = Dataset.from_dict({"x": [1]}).save("growing")
            >>> _ = Dataset.from_dict({"x": [2, 3]}).append_to("growing")
            >>> Dataset("growing").added_since(1).to_arrow()["x"].to_pylist()
            [2, 3]
        """
        from lakefeed.dataset.changed_rows import AddedRows

        return self._since(AddedRows, "added", from_version, to_version)

    def removed_since(self, from_version: int | str | None = None, to_version: int | str | None = None) -> RemovedRows:
        """Returns the rows that the versions after ``from_version`` up to ``to_version`` removed, oldest commit first.

        They include the rows that an upsert replaced, with their old values. Rows that expired versions both added and
        removed are not among them, as `added_since` has not returned them.

        Args:
            from_version: as in `added_since`.
            to_version: as in `added_since`.

        Raises:
            VersionNotFoundError, InvalidArgumentError, UnsavedDatasetError: as in `added_since`.

        Example:
            >>> _ = Dataset.from_dict({"x": [1, 2, 3]}).save("shrinking")
            >>> _ = Dataset("shrinking").delete_rows("x == 2")
            >>> Dataset("shrinking").removed_since(1).to_arrow()["x"].to_pylist()
            [2]
        """
        from lakefeed.dataset.changed_rows import RemovedRows

        return self._since(RemovedRows, "removed", from_version, to_version)

    def changes(
        self,
        from_version: int | str | None = None,
        to_version: int | str | None = None,
        keys: str | Sequence[str] | None = None,
    ) -> Changes:
        """Counts the differences in rows and columns between two versions. It reads only the files that differ.

        Args:
            from_version: the older version. None compares with no rows at all.
            to_version: the newer version. None is this dataset's version.
            keys: the columns that identify a row. With keys a row can be changed; without them it is removed and added.

        Returns:
            The numbers of added, removed and changed rows, and the changes of columns. Its ``rows()`` are the rows.

        Raises:
            VersionNotFoundError: a version does not exist.
            InvalidArgumentError: the versions are malformed or not in order.
            ColumnNotFoundError: a key does not exist.

        Example:
            >>> _ = Dataset.from_dict({"id": [1, 2], "x": [10, 20]}).save("edited")
            >>> _ = Dataset.from_dict({"id": [2, 3], "x": [21, 30]}).upsert_into("edited", keys="id")
            >>> report = Dataset("edited").changes(1, 2, keys="id")
            >>> report.added, report.removed, report.changed
            (1, 0, 1)
        """
        source, first = self._reference.since(
            "gained", version_arguments.check_version(from_version), version_arguments.check_version(to_version)
        )
        names = () if keys is None else check_keys(keys)
        counted = comparison.changes(source, first, names)
        return replace(counted, make_rows=partial(_rows_that_differ, source, first, names))

    def tag(self, tag: str, version: int | str | None = None, *, move: bool = False) -> int:
        """Names a version, so that ``Dataset(name, version=tag)`` reads it.

        Args:
            tag: the name of the tag.
            version: the version, as a number or another tag. None is this dataset's version.
            move: move a tag that names another version.

        Returns:
            The number of the version.

        Raises:
            TagExistsError: the tag names another version, and ``move`` is False.
            VersionNotFoundError: the version does not exist. Nothing is changed.
            InvalidNameError: the tag breaks the naming rule. Nothing is changed.

        Example:
            >>> _ = Dataset.from_dict({"x": [1]}).save("tagged")
            >>> Dataset("tagged").tag("stable")
            1
            >>> _ = Dataset.from_dict({"x": [2]}).append_to("tagged")
            >>> len(Dataset("tagged", version="stable"))
            1
        """
        chosen = self._version if version is None else version_arguments.check_version(version)
        return catalog.tag(self._lake, self._changed, tag, chosen, check_flag(move, "move"))

    def untag(self, tag: str) -> None:
        """Removes a tag. The version stays.

        Args:
            tag: the name of the tag.

        Raises:
            TagNotFoundError: the tag does not exist. The message lists the existing tags.
        """
        catalog.untag(self._lake, self._changed, tag)

    def tags(self) -> dict[str, int]:
        """Returns the tags and their versions.

        Raises:
            UnsavedDatasetError: the dataset is derived from others, or was never saved.
            DatasetNotFoundError: the dataset does not exist.
        """
        return self._reference.tags()

    @takes_write_options
    def restore(
        self,
        version: int | str,
        **options: Unpack[WriteOptions],
    ) -> Dataset:
        """Makes the rows and columns of an old version the next version. It writes no data.

        `added_since` does not report the rows that come back, because they were reported when they were new.
        `removed_since` reports the rows that disappear.

        Args:
            version: the number or the tag of the old version.
            provenance: as in `save`.
            idempotency_key: as in `save`.
            fence: as in `save`.

        Returns:
            The dataset at the new version.

        Raises:
            VersionNotFoundError: the version does not exist. Nothing is written.
            CommitConflictError: other writers kept winning. Nothing is written.

        Example:
            >>> _ = Dataset.from_dict({"x": [1, 2]}).save("regretted")
            >>> _ = Dataset("regretted").delete_rows("x == 1")
            >>> Dataset("regretted").restore(1).to_arrow()["x"].to_pylist()
            [1, 2]
        """
        writing = save.Writing.of(options)
        return self._written(
            self.name,
            row_edits.restore(self._lake, self._changed, version_arguments.check_restore_version(version), writing),
        )

    def _since(
        self, kind: type[AnyAddedRows], change: Literal["added", "removed"], *versions: int | str | None
    ) -> AnyAddedRows:
        source, _ = self._reference.since(change, *map(version_arguments.check_version, versions))
        return build(kind, self._lake, ops.Scan(source), self.name, source.version.version, source.version.table_uuid)


def _rows_that_differ(source: IcebergSource, from_version: int | None, keys: tuple[str, ...]) -> Dataset:
    from lakefeed.dataset.row_changes import changed_rows

    return changed_rows(source, from_version, keys, comparison.rows_derived_anew(source, from_version) > 0)
