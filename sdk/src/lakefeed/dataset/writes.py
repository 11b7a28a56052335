"""The writes: one call is one version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Unpack

from lakefeed._typing import ColumnTypes, IfExists
from lakefeed._validate import check_keys, check_text
from lakefeed.catalog.action import WriteOptions, takes_write_options
from lakefeed.dataset.core import Core
from lakefeed.run import row_edits, save, save_modes

if TYPE_CHECKING:
    from lakefeed.dataset.dataset import Dataset


class Writes(Core):
    """The methods that write rows to the lake, or take rows away there."""

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
        """The first version of a new dataset. Streams; a failure leaves no table and no file.

        Args:
            name: must be free, unless ``if_exists`` says otherwise.
            description: shown with the dataset; of a new one only.
            column_types: which columns hold files: "auto" looks at a sample, a mapping is exact, None is none; of a new
                dataset only.
            copy_files: "auto" stores local files and keeps remote URLs as references; True stores remote ones too;
                False stores nothing.
            stats: record what files are (an image's width and height).
            provenance: which run and code wrote it.
            idempotency_key: a save that landed under this key is not repeated but returned.
            fence: see `Fence`.
            if_exists: where there is a dataset of that name: "error"; "append" the rows to it, as `append_to`;
                "new_version": the rows take the place of its rows, as `overwrite`, and older versions stay. So a cell
                of a notebook can be run twice.

        Returns:
            The dataset at the version written.

        Raises:
            DatasetExistsError, SchemaError, MissingFileError: nothing is written.

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
        """The rows appended to a dataset as its next version; safe with any number of writers. Arguments as in `save`.

        Columns go by name: a missing nullable one becomes null, types may widen. File columns follow the dataset.

        Returns:
            The dataset at the version written.

        Raises:
            DatasetNotFoundError, SchemaError, MissingFileError, CommitConflictError: nothing is written.
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
        """These rows in place of all rows of a dataset, as its next version. Arguments as in `save`.

        Rows that another writer appends meanwhile are replaced too, as if they had come before. Only rows that were
        read from the very dataset do not take away what came after them: then nothing is written.

        Returns:
            The dataset at the version written.

        Raises:
            DatasetNotFoundError, SchemaError, MissingFileError: nothing is written.
            CommitConflictError: these rows were read from the dataset itself, which has moved on since.

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
        keys: str | Sequence[str],
        copy_files: Literal["auto"] | bool = "auto",
        stats: bool = True,
        **options: Unpack[WriteOptions],
    ) -> Dataset:
        """These rows in place of those of equal keys, and the others as new rows: the dataset's next version.

        Columns that these rows lack keep their value (null in new rows). Rows that change nothing are left alone, and
        if all are such, the newest version is returned; null equals null, NaN equals NaN, -0.0 equals 0.0. What is new
        or changed comes last in the row order. Writers that race on a new key make one row of it. Other arguments as in
        `save`.

        Args:
            name: the dataset.
            keys: the column or columns that tell which row is which: whole numbers, text, bytes, dates or times.
            copy_files: as in `save`.
            stats: as in `save`.
            provenance: as in `save`.
            idempotency_key: as in `save`.
            fence: as in `save`.

        Returns:
            The dataset at the version written.

        Raises:
            DuplicateKeyError: two of these rows have one key; the message shows it.
            DatasetNotFoundError, SchemaError, MissingFileError, CommitConflictError: nothing is written.

        Example:
            >>> _ = Dataset.from_dict({"id": [1, 2], "x": [10, 20]}).save("prices")
            >>> Dataset.from_dict({"id": [2, 3], "x": [21, 30]}).upsert_into("prices", keys="id").to_arrow().to_pydict()
            {'id': [1, 2, 3], 'x': [10, 21, 30]}
        """
        writing = save.Writing.of(options, copy_files, stats)
        return self._written(name, row_edits.upsert_into(self._lake, self._plan, name, check_keys(keys), writing))

    @takes_write_options
    def delete_rows(
        self,
        predicate: str,
        **options: Unpack[WriteOptions],
    ) -> Dataset:
        """The newest rows without those for which an expression is true, as the next version. See `filter`.

        Only files that hold such a row are written again; where none does, there is no new version. Rows that another
        writer appends meanwhile are looked at too.

        Returns:
            The dataset at the version written.

        Raises:
            ExpressionError, ColumnNotFoundError, CommitConflictError: nothing is written.

        Example:
            >>> _ = Dataset.from_dict({"x": [1, 2, None]}).save("cleaned")
            >>> Dataset("cleaned").delete_rows("x is null").to_arrow()["x"].to_pylist()
            [1, 2]
        """
        writing = save.Writing.of(options)
        wanted = check_text(predicate, "predicate")
        return self._written(self.name, row_edits.delete_rows(self._lake, self._changed, wanted, writing))
