"""Changes of a dataset that make no version: its columns, its description, its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from lakefeed import catalog, media
from lakefeed._typing import ColumnTypes
from lakefeed._validate import check_column_name, check_data_type, check_flag, check_keys, check_text
from lakefeed.catalog import lake
from lakefeed.dataset.versioning import Versioning
from lakefeed.errors import InvalidArgumentError
from lakefeed.run import metadata_update


class Administration(Versioning):
    """The methods that change a dataset as a whole, without a version."""

    def add_column(self, name: str, type: Any) -> pa.Schema:
        """A new column at the end, null in the rows that there are: an Arrow type, or a file type such as ``"image"``.

        Like the other changes of columns it makes no version and writes no row: versions keep their columns, and the
        newest rows (``Dataset(name)``) are read with the columns that there are now. Returns the schema.

        Raises:
            SchemaError: there is such a column, or the type cannot be kept.

        Example:
            >>> _ = Dataset.from_dict({"x": [1]}).save("widening")
            >>> _ = Dataset("widening").add_column("score", pa.float32())
            >>> Dataset("widening").to_arrow().to_pylist()
            [{'x': 1, 'score': None}]
        """
        return catalog.add_column(self._lake, self._changed, media.new_column(name, type))

    def rename_column(self, old: str, new: str) -> pa.Schema:
        """A column under another name; see `add_column`.

        Raises:
            ColumnNotFoundError, SchemaError: there is no ``old``, or a ``new``.
        """
        return catalog.rename_column(self._lake, self._changed, check_text(old, "old"), check_column_name(new, "new"))

    def drop_column(self, columns: str | Sequence[str]) -> pa.Schema:
        """Without a column or several (all or none); older versions still have them. See `add_column`.

        Raises:
            ColumnNotFoundError, SchemaError: there is no such column, or no other.
        """
        return catalog.drop_columns(self._lake, self._changed, check_keys(columns))

    def widen_column(self, name: str, type: pa.DataType) -> pa.Schema:
        """A column of a type that holds more, such as ``int64`` for ``int32``; see `add_column`.

        Raises:
            ColumnNotFoundError, TypeMismatchError: there is no such column, or the type does not hold all it may hold.
        """
        return catalog.widen_column(self._lake, self._changed, check_text(name, "name"), check_data_type(type))

    def update(self, *, description: str | None = None, column_types: ColumnTypes | None = None) -> dict[str, Any]:
        """New description or column types (exactly those named); no new version. Returns `metadata`."""
        metadata_update.update_metadata(self._lake, self._changed, description, column_types)
        return self.metadata

    def set_column_types(self, column_types: ColumnTypes) -> None:
        """Which columns hold files, exactly; no new version.

        Raises:
            ColumnNotFoundError, InvalidArgumentError, TypeMismatchError: nothing is changed.
        """
        if column_types is None:
            raise InvalidArgumentError("column_types=None: give a mapping of columns to types; {} is none")
        self.update(column_types=column_types)

    def delete(self, *, force: bool = False) -> None:
        """Removes the dataset and its versions; files in the blob store stay, others may use them.

        Files go that lie at the table's own location in the lake and that no other table names. Files elsewhere, such
        as those that PyIceberg's ``add_files`` registered, stay; with the table property ``gc.enabled=false`` all do.

        Args:
            force: also where metadata of the dataset is damaged.

        Raises:
            DatasetNotFoundError: there is no such dataset.
            DamagedDatasetError: its metadata is lost or cannot be read; nothing was removed.
            SharedWarehouseError: the warehouse belongs to another catalog; nothing was removed.
        """
        self._lake.drop(self._changed, force=check_flag(force, "force"))

    @staticmethod
    def exists(name: str) -> bool:
        """Whether the lake has a dataset of that name."""
        return lake.Lake.current().exists(name)
