"""The methods of `Dataset` that change columns and description, or delete the dataset."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed import catalog, media
from lakefeed._typing import ColumnTypes
from lakefeed._validate import check_column_name, check_data_type, check_flag, check_keys, check_text
from lakefeed.catalog import copying, lake, renaming, trash
from lakefeed.dataset.core import dataset_named
from lakefeed.dataset.versioning import Versioning
from lakefeed.errors import InvalidArgumentError
from lakefeed.run import metadata_update

if TYPE_CHECKING:
    from lakefeed.catalog.trash import TrashedDataset
    from lakefeed.dataset.dataset import Dataset


class Administration(Versioning):
    """The methods that change a dataset as a whole, without a new version."""

    def add_column(self, name: str, type: Any) -> pa.Schema:
        """Adds a column at the end. It is null in the rows that exist.

        This changes metadata only. It makes no version and writes no rows: versions keep their columns, and the newest
        rows (``Dataset(name)``) are read with the current columns.

        Args:
            name: the name of the new column.
            type: an Arrow type, or a file type such as ``"image"``.

        Returns:
            The new schema.

        Raises:
            SchemaError: the dataset has a column of this name, or cannot store the type.
            InvalidArgumentError: the name is empty, or the type is unknown.
            DatasetNotFoundError: the dataset does not exist.

        Example:
            >>> _ = Dataset.from_dict({"x": [1]}).save("widening")
            >>> _ = Dataset("widening").add_column("score", pa.float32())
            >>> Dataset("widening").to_arrow().to_pylist()
            [{'x': 1, 'score': None}]
        """
        return catalog.add_column(self._lake, self._changed, media.new_column(name, type))

    def rename_column(self, old: str, new: str) -> pa.Schema:
        """Renames a column. Like `add_column` it changes metadata only.

        Args:
            old: the current name.
            new: the new name.

        Returns:
            The new schema.

        Raises:
            ColumnNotFoundError: the dataset has no column ``old``.
            SchemaError: the dataset has a column ``new`` already.

        Example:
            >>> _ = Dataset.from_dict({"x": [1]}).save("renaming")
            >>> Dataset("renaming").rename_column("x", "y").names
            ['y']
        """
        return catalog.rename_column(self._lake, self._changed, check_text(old, "old"), check_column_name(new, "new"))

    def drop_column(self, columns: str | Sequence[str]) -> pa.Schema:
        """Drops one or several columns, all or none of them. Older versions keep them.

        Like `add_column` it changes metadata only.

        Args:
            columns: the name of a column, or a list of names.

        Returns:
            The new schema.

        Raises:
            ColumnNotFoundError: the dataset lacks one of the columns.
            SchemaError: no column would remain.

        Example:
            >>> _ = Dataset.from_dict({"x": [1], "y": [2]}).save("dropping")
            >>> Dataset("dropping").drop_column("y").names
            ['x']
        """
        return catalog.drop_columns(self._lake, self._changed, check_keys(columns))

    def widen_column(self, name: str, type: pa.DataType) -> pa.Schema:
        """Gives a column a type that holds more, such as ``int64`` instead of ``int32``.

        Like `add_column` it changes metadata only.

        Args:
            name: the name of the column.
            type: the new Arrow type.

        Returns:
            The new schema.

        Raises:
            ColumnNotFoundError: the dataset has no such column.
            TypeMismatchError: the new type cannot hold every value of the old one.

        Example:
            >>> _ = Dataset.from_dict({"x": [1]}, pa.schema({"x": pa.int32()})).save("wider")
            >>> Dataset("wider").widen_column("x", pa.int64()).field("x").type
            DataType(int64)
        """
        return catalog.widen_column(self._lake, self._changed, check_text(name, "name"), check_data_type(type))

    def update(self, *, description: str | None = None, column_types: ColumnTypes | None = None) -> dict[str, Any]:
        """Changes the description or the file columns, without a new version.

        Args:
            description: the new description. None keeps the current one.
            column_types: the file columns and their types. Columns that are not named hold no files. None keeps the
                current types.

        Returns:
            `metadata` after the change.

        Raises:
            DatasetNotFoundError: the dataset does not exist.
            ColumnNotFoundError, TypeMismatchError: a column does not exist, or cannot hold files. Nothing is changed.
            InvalidArgumentError: a file type is unknown. Nothing is changed.

        Example:
            >>> _ = Dataset.from_dict({"x": [1]}).save("described")
            >>> Dataset("described").update(description="One number.")["description"]
            'One number.'
        """
        metadata_update.update_metadata(self._lake, self._changed, description, column_types)
        return self.metadata

    def set_column_types(self, column_types: ColumnTypes) -> None:
        """Sets the file columns and their types, without a new version.

        Args:
            column_types: a mapping of columns to file types. Columns that it does not name hold no files.

        Raises:
            ColumnNotFoundError, TypeMismatchError: a column does not exist, or cannot hold files. Nothing is changed.
            InvalidArgumentError: the mapping is None, or a file type is unknown. Nothing is changed.
        """
        if column_types is None:
            raise InvalidArgumentError(
                "column_types must be a mapping of columns to file types, got None; {} means no file column"
            )
        self.update(column_types=column_types)

    def move(self, name: str) -> Dataset:
        """Gives the dataset another name, also one in another namespace. Returns the dataset of that name.

        It keeps its versions, tags, description and files, positions of routines and ingestions, and states of loaders.
        The old name is gone; a new dataset of that name continues after its last version number.

        Args:
            name: the new name, such as ``photos`` or ``team.photos``. A missing namespace is created.

        Raises:
            DatasetNotFoundError: the dataset does not exist.
            DatasetExistsError: there is a dataset of the new name. Nothing is changed.
            InvalidNameError, InvalidArgumentError: the name breaks the naming rule, or is the old one.
            CommitConflictError: other writers kept winning. Nothing is changed.

        Example:
            >>> _ = Dataset.from_dict({"x": [1]}).save("draft-photos")
            >>> Dataset("draft-photos").move("team.photos").list_versions()[0].version
            1
        """
        renaming.rename(self._lake, self._changed, check_text(name, "name"))
        return dataset_named(self._lake, name, self._version, self._identity.table_uuid)

    def copy(self, name: str) -> Dataset:
        """Copies the dataset with its versions and tags. Returns the copy. Both share files, so no data is copied.

        Of a dataset at a version (``Dataset(name, version=3)``), this version and those before it are copied. Changes
        of the one do not show in the other. The positions of routines and ingestions are copied too.

        Args:
            name: the name of the copy. A missing namespace is created.

        Raises:
            DatasetNotFoundError, VersionNotFoundError: the dataset or the version does not exist.
            DatasetExistsError: there is a dataset of that name. Nothing is changed.

        Example:
            >>> _ = Dataset.from_dict({"x": [1]}).save("original")
            >>> len(Dataset("original").copy("experiment"))
            1
        """
        copying.copy(self._lake, self._changed, check_text(name, "name"), self._version)
        return dataset_named(self._lake, name)

    def delete(self, *, permanent: bool = False, force: bool = False) -> None:
        """Moves the dataset with all versions to the trash. `undelete` brings it back, `empty_trash` removes it.

        Args:
            permanent: delete it for good. Files at the table's own location are removed, unless another table names
                them. Files elsewhere stay, such as those that PyIceberg's ``add_files`` registered, and those in the
                blob store, because other datasets may use them. With the table property ``gc.enabled=false`` all files
                stay.
            force: also delete a dataset whose metadata is damaged. Such a dataset is deleted for good.

        Raises:
            DatasetNotFoundError: the dataset does not exist.
            DamagedDatasetError: its metadata is lost or unreadable, and ``force`` is False. Nothing is removed.
            SharedWarehouseError: the warehouse belongs to another catalog. Nothing is removed.

        Example:
            >>> _ = Dataset.from_dict({"x": [1]}).save("temporary")
            >>> Dataset("temporary").delete()
            >>> Dataset.exists("temporary")
            False
        """
        trash.delete(self._lake, self._changed, check_flag(permanent, "permanent"), check_flag(force, "force"))

    @staticmethod
    def list_trash() -> list[TrashedDataset]:
        """Returns the datasets in the trash, the last deleted first.

        Raises:
            CatalogUnavailableError: the catalog cannot be reached.

        Example:
            >>> _ = Dataset.from_dict({"x": [1]}).save("unneeded")
            >>> Dataset("unneeded").delete()
            >>> Dataset.list_trash()[0].name
            'unneeded'
        """
        return trash.list_trash(lake.Lake.current())

    @staticmethod
    def undelete(name: str, new_name: str | None = None) -> Dataset:
        """Brings a dataset back from the trash with all its versions and tags. Returns the dataset.

        Of several datasets of one name, this is the last deleted; `list_trash` gives the others, which have the method
        ``restore``.

        Args:
            name: the name that the dataset had.
            new_name: the name to give it. None is the name that it had.

        Raises:
            DatasetNotFoundError: the trash has no dataset of this name.
            DatasetExistsError: there is a dataset of the name. Give a ``new_name``.

        Example:
            >>> _ = Dataset.from_dict({"x": [1]}).save("regretted-delete")
            >>> Dataset("regretted-delete").delete()
            >>> len(Dataset.undelete("regretted-delete"))
            1
        """
        home, new = lake.Lake.current(), None if new_name is None else check_text(new_name, "new_name")
        return dataset_named(home, trash.restore(home, check_text(name, "name"), new))

    @staticmethod
    def empty_trash(older_than: dt.timedelta | None = None, *, name: str | None = None) -> list[TrashedDataset]:
        """Deletes datasets in the trash for good. Returns them. `collect_garbage` then removes their blobs.

        Args:
            older_than: only datasets that were deleted longer ago than this. None is all.
            name: only datasets that had this name. None is all.

        Raises:
            InvalidArgumentError: ``older_than`` is negative or not a ``datetime.timedelta``.
            SharedWarehouseError: the warehouse belongs to another catalog. Nothing is removed.

        Example:
            >>> import datetime as dt
            >>> Dataset.empty_trash(older_than=dt.timedelta(days=30))
            []
        """
        return trash.empty_trash(lake.Lake.current(), older_than, name)

    @staticmethod
    def exists(name: str) -> bool:
        """Returns whether the lake has a dataset of this name.

        Args:
            name: the name, such as ``photos`` or ``team.photos``.

        Raises:
            InvalidNameError: the name breaks the naming rule.
            CatalogUnavailableError: the catalog cannot be reached.
        """
        return lake.Lake.current().exists(name)
