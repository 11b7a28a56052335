"""`Snapshot`, a version of a keyed table, fixed for ever."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed.dataset.core import build
from lakefeed.dataset.dataset import Dataset
from lakefeed.keyed.pinned_table import PinnedTable

if TYPE_CHECKING:
    import duckdb
    import polars as pl

    from lakefeed.keyed.keyed_scan import Scan
    from lakefeed.keyed.keyed_table import Table


class Snapshot:
    """A version of a table. Its rows never change.

    Example:
        >>> table = Table.create("fixed", key_schema={"id": pa.int64()})
        >>> before = table.write({"id": [1]})
        >>> after = table.write({"id": [2]})
        >>> before.scan().to_table().num_rows, after.scan().to_table().num_rows
        (1, 2)
    """

    def __init__(self, table: Table, pinned: PinnedTable) -> None:
        self._table, self._pinned = table, pinned

    @property
    def table(self) -> Table:
        """The table."""
        return self._table

    @property
    def version(self) -> int:
        """The number of the version."""
        return self._pinned.version.version

    @property
    def asof(self) -> dt.datetime:
        """The time of the commit, in UTC."""
        return dt.datetime.fromtimestamp(self._pinned.version.timestamp_ms / 1000, dt.UTC)

    def schema(self) -> pa.Schema:
        """Returns the columns."""
        return self._pinned.schema

    def scan(self, *columns: Any, where: Any = None) -> Scan:
        """Returns the rows of this version; see `Table.scan`.

        Args:
            columns: projections of this table; none for all columns.
            where: a condition, as text or a term.

        Example:
            >>> table = Table.create("snapped", key_schema={"id": pa.int64()})
            >>> table.write({"id": [1, 2]}).scan(where="id > 1").to_table().to_pydict()
            {'id': [2]}
        """
        return self._table.scan(*columns, where=where, asof=self.version)

    def as_dataset(self) -> Dataset:
        """Returns the version as a dataset."""
        uuid = str(self._pinned.version.table_uuid)
        return build(Dataset, self._table.lake, None, self._table.identifier, self.version, uuid)

    def to_arrow_dataset(self) -> Any:
        """Returns the rows as a ``pyarrow.dataset.Dataset``. It holds them in memory."""
        return self.scan().to_arrow_dataset()

    def to_polars(self) -> pl.LazyFrame:
        """Returns the rows as a polars LazyFrame, which reads only the columns that are used."""
        return self.scan().to_lazy_polars()

    def to_duckdb(self) -> duckdb.DuckDBPyRelation:
        """Returns the rows as a DuckDB relation."""
        return self.scan().to_duckdb()

    def __repr__(self) -> str:
        return f"<Snapshot {self.version} of {self._table.identifier!r}>"
