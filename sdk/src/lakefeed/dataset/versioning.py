"""The versions of a dataset: which there are, how they differ, and their tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack

from lakefeed import catalog, ops
from lakefeed._validate import check_flag, check_keys
from lakefeed.catalog import properties, version_arguments, versions
from lakefeed.catalog.action import WriteOptions, takes_write_options
from lakefeed.dataset.core import Core, build
from lakefeed.run import row_edits, save
from lakefeed.run import version_changes as comparison

if TYPE_CHECKING:
    from lakefeed.catalog.versions import DatasetVersion
    from lakefeed.dataset.changed_rows import AddedRows, RemovedRows
    from lakefeed.dataset.dataset import Dataset
    from lakefeed.run.version_changes import Changes

AnyAddedRows = TypeVar("AnyAddedRows", bound="AddedRows")


class Versioning(Core):
    """The methods that tell the versions of a dataset apart, name them and bring one back."""

    @property
    def description(self) -> str | None:
        """The text that was given with ``save`` or ``update``."""
        return self._reference.table().properties.get(properties.DESCRIPTION)

    @property
    def column_types(self) -> dict[str, str]:
        """The file columns and their types, such as ``{"photo": "image"}``."""
        return save.typed_columns(self.schema)

    @property
    def metadata(self) -> dict[str, Any]:
        """Name, description, schema, column types, properties, versions, tags and branches, as the catalog has them.

        ``snapshots`` holds an entry for each version, newest first, with ``sequence_number`` (the version),
        ``snapshot_id``, ``operation``, ``added_records``, ``total_records``, ``timestamp_ms`` and what else
        `list_versions` tells.
        """
        return self._reference.metadata()

    def list_versions(self) -> list[DatasetVersion]:
        """Every version, newest first, with who wrote it and how many rows it added."""
        return versions.list_versions(self._reference.table())

    def added_since(self, from_version: int | str | None = None, to_version: int | str | None = None) -> AddedRows:
        """The rows that the versions after ``from_version`` up to ``to_version`` added, oldest commit first.

        Rows that a version left as they were are not among them, whatever it did to the files that hold them: neither
        an upsert's, delete's or compaction's untouched rows, nor what an overwrite has in common with the rows before
        it. An upsert adds the rows that it changed. `restore` adds nothing: what it brings back was added by the
        version that wrote it.

        Where another program has expired versions in the range, their rows come with the next version that is kept.
        Rows that expired versions both added and removed are not given, for no version that is kept has them.

        Args:
            from_version: exclusive; None: from the beginning.
            to_version: inclusive; None: up to this reference's version.

        Raises:
            VersionNotFoundError, InvalidArgumentError: no such versions, or not in order.

        Example:
            >>> _ = Dataset.from_dict({"x": [1]}).save("growing")
            >>> _ = Dataset.from_dict({"x": [2, 3]}).append_to("growing")
            >>> Dataset("growing").added_since(1).to_arrow()["x"].to_pylist()
            [2, 3]
        """
        from lakefeed.dataset.changed_rows import AddedRows

        return self._since(AddedRows, "added", from_version, to_version)

    def removed_since(self, from_version: int | str | None = None, to_version: int | str | None = None) -> RemovedRows:
        """The rows that the versions after ``from_version`` up to ``to_version`` removed, oldest commit first.

        Among them is what an upsert replaced, as it was before. Arguments and errors as for `added_since`. Rows that
        expired versions both added and removed are not given here either: `added_since` has not given them.

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
        """How two versions differ, counted: rows and columns, whatever happened in between; reads what differs only.

        Args:
            from_version: the older one; None: no rows at all.
            to_version: the newer one; None: this reference's version.
            keys: columns that tell which row is which, so that a row can be changed rather than removed and added.

        Raises:
            VersionNotFoundError, InvalidArgumentError, ColumnNotFoundError: nothing was read.

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
        return comparison.changes(source, first, () if keys is None else check_keys(keys))

    def tag(self, tag: str, version: int | str | None = None, *, move: bool = False) -> int:
        """Names a version (None: this reference's) for ``Dataset(name, version=tag)``. Returns its number.

        Raises:
            TagExistsError: the tag stands for another version, and is not to ``move``.
            VersionNotFoundError, InvalidNameError: nothing is changed.

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
        """Removes a tag; the version stays.

        Raises:
            TagNotFoundError: with those that exist.
        """
        catalog.untag(self._lake, self._changed, tag)

    def tags(self) -> dict[str, int]:
        """The tags and the versions that they stand for."""
        return catalog.tags(self._reference.table())

    @takes_write_options
    def restore(
        self,
        version: int | str,
        **options: Unpack[WriteOptions],
    ) -> Dataset:
        """Rows and columns of an old version (a number or tag) as the next version; no data is written.

        `added_since` does not tell rows that come back: whoever follows the dataset has read them when they were new.
        `removed_since` tells what goes.

        Returns:
            The dataset at the version written.

        Raises:
            VersionNotFoundError, CommitConflictError: nothing is written.

        Example:
            >>> _ = Dataset.from_dict({"x": [1, 2]}).save("regretted")
            >>> _ = Dataset("regretted").delete_rows("x == 1")
            >>> Dataset("regretted").restore(1).to_arrow()["x"].to_pylist()
            [1, 2]
        """
        writing = save.Writing.of(options)
        return self._written(
            self.name, row_edits.restore(self._lake, self._changed, version_arguments.check_restored(version), writing)
        )

    def _since(
        self, kind: type[AnyAddedRows], what: Literal["added", "removed"], *given: int | str | None
    ) -> AnyAddedRows:
        source, _ = self._reference.since(what, *map(version_arguments.check_version, given))
        return build(kind, self._lake, ops.Scan(source), self.name, source.version.version, source.version.table_uuid)
