"""Projects: namespaces of tables and indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from lakefeed._validate import check_flag, check_text
from lakefeed.catalog.lake import Lake
from lakefeed.errors import InvalidNameError
from lakefeed.keyed import (
    index_creation,
    key_space_index,
    keyed_creation,
    open_index,
    table_names,
)
from lakefeed.keyed.keyed_table import Table, open_table

if TYPE_CHECKING:
    from lakefeed.keyed.key_space_index import KeySpaceIndex
    from lakefeed.keyed.search_index import SearchIndex
    from lakefeed.keyed.text_index import TextIndex
    from lakefeed.keyed.vector_index import VectorIndex


class Project:
    """A namespace of tables. Names are ``table``, or ``dataset.table`` in a namespace inside it.

    `Client.project` makes one. Names in it are relative to it.
    """

    def __init__(self, lake: Lake, name: str = "") -> None:
        self._lake, self._prefix = lake, f"{name}." if name else ""
        if name:
            lake.identifier(f"{name}.table")

    @property
    def id(self) -> str:
        """The name."""
        return self._prefix.removesuffix(".")

    @property
    def name(self) -> str:
        """The name."""
        return self.id

    def create_table(
        self,
        identifier: str,
        *,
        key_schema: Any,
        root_uri: str | None = None,
        exist_ok: bool = False,
        description: str | None = None,
        column_files: bool = True,
    ) -> Table:
        """Creates a table; see `Table.create`.

        Args:
            identifier: the name.
            key_schema: the key columns: a ``pyarrow.Schema``, fields, pairs of a name and a type, or a mapping.
            root_uri: the folder or URL below which the files of the table lie; None for the warehouse.
            exist_ok: return the table if it exists with this key.
            description: a description of the table.
            column_files: write derived columns into column files. False writes the rows again instead, so that every
                engine sees the columns at once.

        Raises:
            DatasetExistsError: the table exists, and ``exist_ok`` is False.
            SchemaError: the table exists with another key, or the key has no columns.
        """
        name = self._full(identifier)
        return keyed_creation.create_table(self._lake, name, key_schema, root_uri, exist_ok, description, column_files)

    def table(self, identifier: str) -> Table:
        """Returns a table.

        Args:
            identifier: the name.

        Raises:
            DatasetNotFoundError: the table does not exist.
            InvalidArgumentError: the dataset has no key.
        """
        table = open_table(self._lake, self._full(identifier))
        _ = table.key_schema
        return table

    def list_tables(self) -> list[Table]:
        """Returns the tables, ordered by name. Datasets without a key are left out."""
        return [open_table(self._lake, name) for name in table_names.keyed_names(self._lake, self._prefix)]

    def drop_table(self, identifier: str) -> None:
        """Removes a table with its files.

        Args:
            identifier: the name.

        Raises:
            DatasetNotFoundError: the table does not exist.
        """
        self._lake.drop(self.table(identifier).identifier)

    def move_table(self, identifier: str, new_dataset: str) -> Table:
        """Moves a table to another dataset of the project, and returns it under its new name.

        Args:
            identifier: the name.
            new_dataset: the dataset. It is created if it is missing.

        Raises:
            DatasetNotFoundError: the table does not exist.
            DatasetExistsError: the dataset has a table of that name.
        """
        old = self.table(identifier)
        new = self._full(f"{check_text(new_dataset, 'new_dataset')}.{old.name}")
        return open_table(self._lake, table_names.rename(self._lake, old.identifier, new))

    def rename_table(self, identifier: str, new_table: str) -> Table:
        """Renames a table within its dataset, and returns it under its new name.

        Args:
            identifier: the name.
            new_table: the new name, without the dataset.

        Raises:
            DatasetNotFoundError: the table does not exist.
            DatasetExistsError: there is a table of the new name.
        """
        old = self.table(identifier)
        if "." in check_text(new_table, "new_table"):
            raise InvalidNameError(f"new_table {new_table!r}: give the name without the dataset; move_table moves")
        above = old.identifier.rpartition(".")[0]
        new = f"{above}.{new_table}" if above else new_table
        return open_table(self._lake, table_names.rename(self._lake, old.identifier, new))

    def create_text_index(
        self, name: str, *projections: Any, where: Any = None, root_uri: str | None = None, exist_ok: bool = False
    ) -> TextIndex:
        """Creates and builds a text index of a table, for `Client.search`.

        Args:
            name: the name of the index.
            projections: columns of one table. Those of `lakefeed.expressions.text.field` can be searched for words; the
                others are filter fields.
            where: a condition of the rows, as text or a term.
            root_uri: the location of the files of the index.
            exist_ok: return the index if it exists with these fields.

        Raises:
            DatasetExistsError: the index exists, and ``exist_ok`` is False or its fields are others.
            InvalidArgumentError: no field is a text field, or the columns are not of one table with a key.
            TypeMismatchError, UnsupportedError: a field has a type that cannot be indexed.
        """
        return index_creation.create_text_index(
            self._lake, self._full(name, "name"), projections, where, root_uri, exist_ok
        )

    def create_vector_index(
        self,
        name: str,
        term: Any,
        *projections: Any,
        metric: Literal["cosine", "l2", "dot"] = "cosine",
        where: Any = None,
        root_uri: str | None = None,
        exist_ok: bool = False,
    ) -> VectorIndex:
        """Creates and builds an index of vectors of a table, for `Client.search`.

        Args:
            name: the name of the index.
            term: the column with the vectors: lists of numbers of one width, or tensors. Rows with null are left out.
            projections: further columns of the table: the filter fields.
            metric: ``cosine`` and ``dot`` score by the cosine and by the dot product, ``l2`` by the negative distance.
            where: a condition of the rows, as text or a term.
            root_uri: the location of the files of the index.
            exist_ok: return the index if it exists with these fields.

        Raises:
            DatasetExistsError: the index exists, and ``exist_ok`` is False or its fields are others.
            InvalidArgumentError: a vector has NaN, or the columns are not of one table with a key.
            TypeMismatchError: the column does not hold vectors, or their widths differ.
            UnsupportedError: a filter field has a type that cannot be indexed.
        """
        return index_creation.create_vector_index(
            self._lake, self._full(name, "name"), term, projections, metric, where, root_uri, exist_ok
        )

    def index(self, name: str) -> SearchIndex:
        """Returns an index.

        Args:
            name: the name.

        Raises:
            IndexNotFoundError: the index does not exist.
        """
        return open_index.open_index(self._lake, self._full(name, "name"))

    def text_index(self, name: str) -> TextIndex:
        """Returns a text index.

        Args:
            name: the name.

        Raises:
            IndexNotFoundError: the index does not exist.
            InvalidArgumentError: it is an index of another kind.
        """
        return open_index.open_text_index(self._lake, self._full(name, "name"))

    def vector_index(self, name: str) -> VectorIndex:
        """Returns an index of vectors.

        Args:
            name: the name.

        Raises:
            IndexNotFoundError: the index does not exist.
            InvalidArgumentError: it is an index of another kind.
        """
        return open_index.open_vector_index(self._lake, self._full(name, "name"))

    def list_indexes(self) -> list[SearchIndex]:
        """Returns the indexes, ordered by name."""
        return open_index.list_indexes(self._lake, self._prefix)

    def drop_index(self, name: str) -> None:
        """Removes an index. Its table stays as it is.

        Args:
            name: the name.

        Raises:
            IndexNotFoundError: the index does not exist.
        """
        open_index.drop_index(self._lake, self._full(name, "name"))

    def create_key_space_index(
        self,
        name: str,
        granularity: int,
        *projections: Any,
        where: Any = None,
        root_uri: str | None = None,
        exist_ok: bool = False,
    ) -> KeySpaceIndex:
        """Creates an index of the ranges of the keys of a scan, each of about so many rows. It reads the keys.

        Args:
            name: the name of the index.
            granularity: the number of rows of a range. After a refresh, a range has at most twice as many.
            projections: as in `Client.scan`.
            where: a condition of the rows, as text or a term.
            root_uri: must be None: the ranges are kept in the warehouse.
            exist_ok: return the index if it exists with this granularity and these columns.

        Raises:
            DatasetExistsError: the index exists, and ``exist_ok`` is False or its definition is another one.
            InvalidArgumentError: the granularity is not a whole number of at least 1.
            UnsupportedError: a column calls a function that has no name in a module.
        """
        ok, full = check_flag(exist_ok, "exist_ok"), self._full(name, "name")
        return key_space_index.create_index(self._lake, full, granularity, projections, where, root_uri, ok)

    def key_space_index(self, name: str) -> KeySpaceIndex:
        """Returns an index of ranges of keys.

        Args:
            name: its name.

        Raises:
            IndexNotFoundError: the index does not exist.
            DamagedDatasetError: it cannot be read. The message says how to make it anew.
        """
        return key_space_index.open_index(self._lake, self._full(name, "name"))

    def list_key_space_indexes(self) -> list[KeySpaceIndex]:
        """Returns the indexes of ranges of keys, ordered by name. Damaged ones are left out."""
        indexes = key_space_index.list_indexes(self._lake, self._prefix)
        return sorted(indexes, key=lambda index: index.name)

    def drop_key_space_index(self, name: str) -> None:
        """Removes an index of ranges of keys. It may be damaged.

        Args:
            name: its name.

        Raises:
            IndexNotFoundError: the index does not exist.
        """
        key_space_index.drop_index(self._lake, self._full(name, "name"))

    def _full(self, identifier: Any, argument: str = "identifier") -> str:
        return f"{self._prefix}{check_text(identifier, argument)}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}>" if self.id else f"<{type(self).__name__}>"
