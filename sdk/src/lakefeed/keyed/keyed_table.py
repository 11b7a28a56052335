"""`Table`, a table whose rows are unique by key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

import pyarrow as pa

from lakefeed._typing import ColumnTypes
from lakefeed.catalog.action import WriteOptions
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.schema import declared_schema
from lakefeed.catalog.version_arguments import check_version
from lakefeed.dataset.core import build
from lakefeed.dataset.dataset import Dataset
from lakefeed.keyed import (
    enrichment,
    key_space_index,
    keyed_creation,
    keyed_scan,
    table_snapshot,
    table_terms,
    transaction,
)
from lakefeed.keyed.as_of import check_asof
from lakefeed.keyed.pinned_table import PinnedTable, require_key
from lakefeed.run.save import Writing

if TYPE_CHECKING:
    import os

    import duckdb
    import polars as pl

    from lakefeed.keyed.enrichment import Enrichment
    from lakefeed.keyed.key_space_index import KeySpaceIndex
    from lakefeed.keyed.keyed_scan import Scan
    from lakefeed.keyed.mds_stream import ScanStream
    from lakefeed.keyed.table_snapshot import Snapshot
    from lakefeed.keyed.transaction import Transaction


class Table:
    """A table whose rows are unique by key. Writing a key again replaces the values of the columns that are written.

    A table is a dataset: ``Dataset(table.identifier)`` reads its versions, tags and changes. ``table["a.b"]`` is a
    column of it as a term, ``table[["a", "b"]]`` are several columns, for scans.

    Args:
        name: the name of the table: ``photos``, or ``team.photos``.

    Raises:
        InvalidNameError: the name breaks the naming rule. A table that does not exist is an error when it is used.

    Example:
        >>> photos = Table.create("photos", key_schema={"id": pa.int64()})
        >>> _ = photos.write({"id": [1, 2], "label": ["cat", "dog"]})
        >>> _ = photos.write({"id": [2, 3], "score": [0.5, 0.9]})
        >>> photos.scan().to_table().to_pylist()[1]
        {'id': 2, 'label': 'dog', 'score': 0.5}
    """

    def __init__(self, name: str) -> None:
        self._home, self._identifier = Lake.current(), name
        self._home.identifier(name)

    @classmethod
    def create(
        cls,
        name: str,
        *,
        key_schema: Any,
        root_uri: str | None = None,
        exist_ok: bool = False,
        description: str | None = None,
        column_files: bool = True,
    ) -> Table:
        """Creates a table in the lake of the current settings.

        Args:
            name: the name.
            key_schema: the key columns: a ``pyarrow.Schema``, fields, pairs of a name and a type, or a mapping.
            root_uri: the folder or URL below which the files of the table lie; None for the warehouse.
            exist_ok: return the table if it exists with this key.
            description: a description of the table.
            column_files: write derived columns into column files. False writes the rows again instead, so that every
                engine sees the columns at once.

        Raises:
            DatasetExistsError: the table exists, and ``exist_ok`` is False.
            SchemaError: the table exists with another key, or the key has no columns.

        Example:
            >>> Table.create("made", key_schema=[("a", pa.int64()), ("b", pa.string())]).key_schema.names
            ['a', 'b']
        """
        return keyed_creation.create_table(
            Lake.current(), name, key_schema, root_uri, exist_ok, description, column_files
        )

    @property
    def lake(self) -> Lake:
        """The lake of the table."""
        return self._home

    def __lakefeed_lineage__(self) -> tuple[str, Lake]:
        return self._identifier, self._home

    @property
    def identifier(self) -> str:
        """The full name."""
        return self._identifier

    @property
    def name(self) -> str:
        """The last part of the name."""
        return self._identifier.rpartition(".")[2]

    @property
    def dataset(self) -> str:
        """The part of the name before the last one; the default namespace if there is none."""
        return self._home.identifier(self._identifier)[-2]

    @property
    def project(self) -> str | None:
        """The first of three parts of the name; None if there are fewer."""
        parts = self._identifier.split(".")
        return parts[0] if len(parts) > 2 else None

    @property
    def key_schema(self) -> pa.Schema:
        """The key columns.

        Raises:
            DatasetNotFoundError: the table does not exist.
            InvalidArgumentError: the dataset has no key.
        """
        table = self._home.table(self._identifier)
        keys, schema = require_key(table, self._identifier), declared_schema(table)
        return pa.schema([schema.field(key) for key in keys])

    def schema(self) -> pa.Schema:
        """Returns all columns, those of the key first."""
        return declared_schema(self._home.table(self._identifier))

    def write(
        self,
        rows: Any,
        push_down_nulls: bool = False,
        *,
        compare: bool = False,
        column_types: ColumnTypes | Literal["auto"] | None = "auto",
        copy_files: Literal["auto"] | bool = "auto",
        stats: bool = True,
        **options: Unpack[WriteOptions],
    ) -> Snapshot:
        """Writes rows as one version. Other columns of an existing key keep their values; a new key is a new row.

        New columns, and new fields of structs, are added to the table. A type becomes wider if that loses nothing.

        Args:
            rows: a mapping of columns (dots in names lead into structs), a list of dicts, a pyarrow Table, RecordBatch,
                RecordBatchReader or StructArray, a pandas or polars DataFrame, a Dataset, or a scan.
            push_down_nulls: write a null struct as a struct of nulls. By default it is an error.
            compare: leave rows alone that equal the stored ones, so that `Dataset.changes` does not tell them.
            column_types: the file columns among new columns, as in `Dataset.save`.
            copy_files: as in `Dataset.save`.
            stats: as in `Dataset.save`.
            options: ``provenance``, ``idempotency_key`` and ``fence``, as in `Dataset.save`.

        Returns:
            The new version; the newest one if there are no rows.

        Raises:
            DuplicateKeyError: a key occurs twice in the rows.
            SchemaError: a key column is missing or null, or a struct is null.
            TypeMismatchError: a type does not fit that of the column.
            CommitConflictError: other writers kept winning. Nothing was written.

        Example:
            >>> table = Table.create("written", key_schema={"id": pa.int64()})
            >>> table.write([{"id": 1, "size": {"w": 3}}]).version
            2
            >>> _ = table.write({"id": [1], "size.h": [4]})
            >>> table.scan().to_table().to_pylist()
            [{'id': 1, 'size': {'w': 3, 'h': 4}}]
        """
        writing = Writing.of(options, copy_files, stats)
        with transaction.Transaction(self, compare=compare, column_types=column_types, writing=writing) as changes:
            changes.write(rows, push_down_nulls)
            written = changes.commit()
        return written or self.snapshot()

    def delete_keys(self, keys: Any, **options: Unpack[WriteOptions]) -> Snapshot:
        """Deletes the rows of these keys, as one version. Keys that the table lacks change nothing.

        Args:
            keys: rows with the key columns only, in any form that `write` takes. For a key of one column also a list of
                values.
            options: as in `write`.

        Returns:
            The new version; the newest one if no row is deleted.

        Raises:
            SchemaError: these are not the key columns.

        Example:
            >>> table = Table.create("deleting", key_schema={"id": pa.int64()})
            >>> _ = table.write({"id": [1, 2, 3]})
            >>> table.delete_keys([1, 3, 9]).scan().to_table().to_pydict()
            {'id': [2]}
        """
        with transaction.Transaction(self, writing=Writing.of(options)) as changes:
            changes.delete_keys(keys)
            written = changes.commit()
        return written or self.snapshot()

    def drop_columns(self, column_paths: Sequence[str], **options: Unpack[WriteOptions]) -> Snapshot:
        """Drops columns as one version: all of them, or none if one does not exist. Older versions keep them.

        Args:
            column_paths: names of columns; dots lead into structs.
            options: as in `write`.

        Returns:
            The new version.

        Raises:
            ColumnNotFoundError: the table lacks one of them.
            SchemaError: one is a key column.

        Example:
            >>> table = Table.create("narrowed", key_schema={"id": pa.int64()})
            >>> _ = table.write({"id": [1], "a": [2], "b.c": [3], "b.d": [4]})
            >>> table.drop_columns(["a", "b.c"]).schema().names
            ['id', 'b']
        """
        with transaction.Transaction(self, writing=Writing.of(options)) as changes:
            changes.drop_columns(column_paths)
            written = changes.commit()
        return written or self.snapshot()

    def compact(self, **options: Unpack[WriteOptions]) -> Snapshot:
        """Writes all rows again as one sequence of full files in the order of the key, as one version.

        Writes merge small files themselves (``write.compaction``). After a compaction, reads in the order of the key
        cost as much as any others. Of several rows of one key, which another program has appended, the last one
        remains. Writers need not stop meanwhile. Older versions keep their files.

        Args:
            options: as in `write`.

        Returns:
            The new version; the newest one if the table is compact.

        Raises:
            CommitConflictError: other writers kept merging the same files. Nothing was written.

        Example:
            >>> table = Table.create("compacting", key_schema={"id": pa.int64()})
            >>> _ = table.write({"id": [2], "x": [1]}), table.write({"id": [1], "x": [2]})
            >>> table.compact().version
            4
        """
        with transaction.Transaction(self, writing=Writing.of(options)) as changes:
            changes.compact()
            written = changes.commit()
        return written or self.snapshot()

    def enrich(self, *projections: Any, where: Any = None) -> Enrichment:
        """Returns an enrichment, which derives columns for the rows of this table when it is applied.

        The columns are written into column files beside the rows, so the cost depends on the new columns only. Columns
        that exist are derived anew. Other engines see the columns once the rows are rewritten (see `compact`).

        Args:
            projections: the columns, as in `Client.scan`: mappings of names to terms over this table and others with
                the same key.
            where: a condition, as text or a term. Other rows keep their values; those of new columns are null.

        Raises:
            SchemaError: the projections have only key columns.

        Example:
            >>> table = Table.create("enriched", key_schema={"id": pa.int64()})
            >>> _ = table.write({"id": [1, 2], "x": [10, 20]})
            >>> _ = table.enrich({"half": table["x"] / 2}, where="x > 10").apply()
            >>> table.scan().to_table().to_pylist()
            [{'id': 1, 'x': 10, 'half': None}, {'id': 2, 'x': 20, 'half': 10.0}]
        """
        return enrichment.Enrichment(self, projections, where)

    def txn(
        self,
        *,
        compare: bool = False,
        column_types: ColumnTypes | Literal["auto"] | None = "auto",
        copy_files: Literal["auto"] | bool = "auto",
        stats: bool = True,
        base: int | None = None,
        **options: Unpack[WriteOptions],
    ) -> Transaction:
        """Begins a transaction, whose writes become visible together.

        Args:
            base: the version at which it begins, for operations that were taken before: it includes operations of this
                version and later ones. None for the newest.
            compare: as in `write`.
            column_types: as in `write`.
            copy_files: as in `write`.
            stats: as in `write`.
            options: as in `write`.
        """
        writing = Writing.of(options, copy_files, stats)
        return transaction.Transaction(self, compare=compare, column_types=column_types, writing=writing, base=base)

    def snapshot(self, asof: Any = None) -> Snapshot:
        """Returns a version, which stays fixed.

        Args:
            asof: a datetime with a time zone, microseconds since 1970, a version number, a tag, or None for the newest.

        Raises:
            VersionNotFoundError: the version does not exist.
        """
        return table_snapshot.Snapshot(self, PinnedTable.of(self._home, self._identifier, check_asof(asof)))

    def scan(self, *columns: Any, where: Any = None, asof: Any = None) -> Scan:
        """Returns a scan of this table: of the newest version now, whatever is written later.

        Args:
            columns: names of columns, and projections of this table; none for all columns.
            where: a condition, as text or a term.
            asof: as in `snapshot`.

        Example:
            >>> table = Table.create("scanned", key_schema={"id": pa.int64()})
            >>> _ = table.write({"id": [2, 1], "x": [20, 10]})
            >>> table.scan("x", where=table["id"] > 0).to_table().to_pydict()
            {'x': [10, 20]}
        """
        pin = check_asof(asof)
        older = None if pin is None else lambda: PinnedTable.of(self._home, self._identifier, pin).schema
        chosen = table_terms.columns_of_names(self, columns, older)
        return keyed_scan.Scan.of(self._home, chosen or (self,), where, asof, self._identifier)

    def to_streaming(
        self,
        index: KeySpaceIndex,
        *,
        projection: Any = None,
        cache_dir: str | os.PathLike[str] | None = None,
        shard_row_block_size: int | None = None,
    ) -> ScanStream:
        """Returns a stream for MosaicML's ``StreamingDataset``, of the version and with the shards of an index.

        Args:
            index: an index of the keys of this table.
            projection: the columns; None for those of the index.
            cache_dir: as in `Scan.to_streaming`.
            shard_row_block_size: as in `Scan.to_streaming`.

        Raises:
            InvalidArgumentError: the index is of another table, or an argument is malformed.
        """
        scan, shards = key_space_index.scan_of_index(index, self._identifier, projection)
        return scan.to_streaming(shards, cache_dir=cache_dir, shard_row_block_size=shard_row_block_size)

    def as_dataset(self, version: int | str | None = None) -> Dataset:
        """Returns the table as a dataset.

        Args:
            version: the number or the tag of a version; None follows the newest.
        """
        return build(Dataset, self._home, None, self._identifier, check_version(version))

    def select(self, *names: str, exclude: Sequence[str] = ()) -> table_terms.TableColumns:
        """Returns some columns of the table, for scans.

        Args:
            names: the columns to select; none for all.
            exclude: the columns to leave out.

        Raises:
            ColumnNotFoundError: the table lacks one of them.
        """
        return table_terms.TableColumns.of(self, names, exclude)

    def __getitem__(self, key: Any) -> Any:
        """Returns a column as a term, or several columns for scans."""
        return table_terms.item_of(self, key)

    __iter__ = None  # else Python would iterate over the items 0, 1, …

    def to_arrow_dataset(self) -> Any:
        """Returns the newest version as a ``pyarrow.dataset.Dataset``. It holds the rows in memory."""
        return self.snapshot().to_arrow_dataset()

    def to_polars(self) -> pl.LazyFrame:
        """Returns the newest version as a polars LazyFrame, which reads only the columns that are used."""
        return self.snapshot().to_polars()

    def to_duckdb(self) -> duckdb.DuckDBPyRelation:
        """Returns the newest version as a DuckDB relation."""
        return self.snapshot().to_duckdb()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and (self._home.settings, self._identifier) == (
            other.lake.settings,
            other.identifier,
        )

    def __hash__(self) -> int:
        return hash(self._identifier)

    def __repr__(self) -> str:
        return f"<Table {self._identifier!r}>"


def open_table(lake: Lake, name: str) -> Table:
    """Returns a table of a lake without looking at it."""
    lake.identifier(name)
    table = Table.__new__(Table)
    table._home, table._identifier = lake, name
    return table
