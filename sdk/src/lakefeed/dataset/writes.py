"""The methods of `Dataset` that write rows. Each call makes one version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Unpack

from lakefeed._typing import ColumnTypes, IfExists
from lakefeed._validate import check_keys
from lakefeed.catalog.action import WriteOptions, takes_write_options
from lakefeed.dataset.core import Core
from lakefeed.expr import Term, expression_text
from lakefeed.run import row_edits, save, save_modes

if TYPE_CHECKING:
    from lakefeed.dataset.dataset import Dataset


class Writes(Core):
    """The methods that write rows to the lake, or delete rows there."""

    @takes_write_options
    def save(
        self,
        name: str,
        description: str | None = None,
        column_types: ColumnTypes | Literal["auto"] | None = "auto",
        copy_files: Literal["auto"] | bool = "auto",
        stats: bool = True,
        *,
        if_exists: IfExists = "error",
        **options: Unpack[WriteOptions],
    ) -> Dataset:
        """Writes the rows as the first version of a new dataset. It streams them.

        A failure leaves no table and no file.

        Args:
            name: the name of the new dataset. It must be free, unless ``if_exists`` says otherwise.
            description: the description of a new dataset.
            column_types: the file columns of a new dataset. "auto" inspects a sample, a mapping is exact, and None
                means that no column holds files.
            copy_files: "auto" stores local files and keeps remote URLs as references. True stores remote files too.
                False stores no file.
            stats: record facts about the files, such as the width and height of images.
            provenance: the run and code that write.
            idempotency_key: a key under which the dataset saves once. A later save with the same key returns the
                version of the first.
            fence: a condition for the commit; see `Fence`.
            if_exists: the behaviour if the dataset exists. "error" raises. "append" appends the rows, like `append_to`.
                "new_version" replaces its rows and keeps older versions, like `overwrite`, so that a notebook cell can
                run twice.

        Returns:
            The dataset at the new version.

        Raises:
            DatasetExistsError: a dataset of this name exists, and ``if_exists`` is "error". Nothing is written.
            SchemaError: the lake cannot store the columns, or they do not fit the dataset. Nothing is written.
            MissingFileError: a file that the rows name does not exist. Nothing is written.
            StorageError: the disk or store cannot store the data. Nothing is visible.

        Example:
            >>> for _ in range(2):
            ...     saved = Dataset.from_dict({"x": [1, 2]}).save("again", if_exists="new_version")
            >>> saved.version, saved.count()
            (2, 2)
        """
        writing = save.Writing.of(options, copy_files, stats, description, if_exists)
        return self._written(
            name, save_modes.save_or_add(self._lake, self._plan, name, description, column_types, writing)
        )

    @takes_write_options
    def append_to(
        self,
        name: str,
        copy_files: Literal["auto"] | bool = "auto",
        stats: bool = True,
        **options: Unpack[WriteOptions],
    ) -> Dataset:
        """Appends the rows to a dataset as its next version. It is safe with any number of concurrent writers.

        Columns are matched by name. A missing nullable column becomes null, and types may widen. File columns are those
        of the dataset.

        Args:
            name: the name of the dataset.
            copy_files: as in `save`.
            stats: as in `save`.
            provenance: as in `save`.
            idempotency_key: as in `save`.
            fence: as in `save`.

        Returns:
            The dataset at the new version.

        Raises:
            DatasetNotFoundError: the dataset does not exist. Nothing is written.
            SchemaError: the columns do not fit. Nothing is written.
            MissingFileError: a file that the rows name does not exist. Nothing is written.
            CommitConflictError: other writers kept winning. Nothing is written.

        Example:
            >>> _ = Dataset.from_dict({"x": [1]}).save("appended")
            >>> Dataset.from_dict({"x": [2]}).append_to("appended").count()
            2
        """
        writing = save.Writing.of(options, copy_files, stats)
        return self._written(name, save.append_to(self._lake, self._plan, name, writing))

    @takes_write_options
    def overwrite(
        self,
        name: str,
        copy_files: Literal["auto"] | bool = "auto",
        stats: bool = True,
        **options: Unpack[WriteOptions],
    ) -> Dataset:
        """Replaces all rows of a dataset with these rows, as its next version.

        Rows that another writer appends meanwhile are replaced too, as if they had been appended before. There is one
        exception: if these rows were read from the dataset itself, a version that was added since then is a conflict.

        Args:
            name: the name of the dataset.
            copy_files: as in `save`.
            stats: as in `save`.
            provenance: as in `save`.
            idempotency_key: as in `save`.
            fence: as in `save`.

        Returns:
            The dataset at the new version.

        Raises:
            DatasetNotFoundError: the dataset does not exist. Nothing is written.
            SchemaError: the columns do not fit. Nothing is written.
            MissingFileError: a file that the rows name does not exist. Nothing is written.
            CommitConflictError: these rows were read from the dataset itself, and it has a newer version. Nothing is
                written.
            DuplicateKeyError: the dataset has a key, and two of these rows have the same. Nothing is written.

        Example:
            >>> _ = Dataset.from_dict({"x": [3, 1, 2]}).save("sorted")
            >>> Dataset("sorted").sql("SELECT * FROM data ORDER BY x").overwrite("sorted").to_arrow()["x"].to_pylist()
            [1, 2, 3]
        """
        writing = save.Writing.of(options, copy_files, stats)
        return self._written(name, row_edits.overwrite(self._lake, self._plan, name, writing))

    @takes_write_options
    def upsert_into(
        self,
        name: str,
        keys: str | Sequence[str] | None = None,
        copy_files: Literal["auto"] | bool = "auto",
        stats: bool = True,
        **options: Unpack[WriteOptions],
    ) -> Dataset:
        """Replaces the rows of a dataset that have equal keys, and appends the other rows, as its next version.

        A column that these rows lack keeps its value; it is null in new rows. Rows that change nothing are left alone.
        If no row changes anything, the newest version is returned. Null equals null, NaN equals NaN, and -0.0 equals
        0.0. New and changed rows come last in the row order. Concurrent writers of the same new key make one row.

        Args:
            name: the name of the dataset.
            keys: the name of the column that identifies a row, or a list of names. Their types are whole numbers, text,
                bytes, dates or times. None for the key of a keyed table.
            copy_files: as in `save`.
            stats: as in `save`.
            provenance: as in `save`.
            idempotency_key: as in `save`.
            fence: as in `save`.

        Returns:
            The dataset at the new version.

        Raises:
            DuplicateKeyError: two of these rows have the same key. The message shows it.
            DatasetNotFoundError: the dataset does not exist. Nothing is written.
            InvalidArgumentError: ``keys`` is None and the dataset has no key, or it has another one.
            SchemaError: the columns do not fit. Nothing is written.
            MissingFileError: a file that the rows name does not exist. Nothing is written.
            CommitConflictError: other writers kept winning. Nothing is written.

        Example:
            >>> _ = Dataset.from_dict({"id": [1, 2], "x": [10, 20]}).save("prices")
            >>> Dataset.from_dict({"id": [2, 3], "x": [21, 30]}).upsert_into("prices", keys="id").to_arrow().to_pydict()
            {'id': [1, 2, 3], 'x': [10, 21, 30]}
        """
        writing = save.Writing.of(options, copy_files, stats)
        given = None if keys is None else check_keys(keys)
        return self._written(name, row_edits.upsert_into(self._lake, self._plan, name, given, writing))

    @takes_write_options
    def delete_rows(
        self,
        predicate: str | Term,
        **options: Unpack[WriteOptions],
    ) -> Dataset:
        """Deletes the rows for which an expression is true, as the next version.

        Their positions are written to one small delete file; a file that has lost 30 % of its rows is written again
        without them. If no row matches, no version is made. Rows that another writer appends meanwhile are examined
        too.

        Args:
            predicate: the expression, as in `filter`.
            provenance: as in `save`.
            idempotency_key: as in `save`.
            fence: as in `save`.

        Returns:
            The dataset at the new version.

        Raises:
            ExpressionError: the expression cannot be parsed. Nothing is written.
            ColumnNotFoundError: the expression names a column that does not exist. Nothing is written.
            CommitConflictError: other writers kept winning. Nothing is written.

        Example:
            >>> _ = Dataset.from_dict({"x": [1, 2, None]}).save("cleaned")
            >>> Dataset("cleaned").delete_rows("x is null").to_arrow()["x"].to_pylist()
            [1, 2]
        """
        writing = save.Writing.of(options)
        condition = expression_text(predicate, "predicate")
        return self._written(self.name, row_edits.delete_rows(self._lake, self._changed, condition, writing))
