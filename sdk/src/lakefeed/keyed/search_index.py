"""`SearchIndex`, common to the indexes of a table."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.versions import versions_between
from lakefeed.errors import ColumnNotFoundError, DatasetNotFoundError, VersionNotFoundError
from lakefeed.expr import Term
from lakefeed.keyed.index_terms import Rank, index_term
from lakefeed.keyed.indexed_rows import IndexedRows
from lakefeed.keyed.search_filters import SearchFilters
from lakefeed.search.index_definition import IndexDefinition
from lakefeed.search.index_ledger import IndexLedger, IndexState
from lakefeed.search.index_refresh import Refresh, SegmentWriter
from lakefeed.search.text_segments import Hits

if TYPE_CHECKING:
    from typing import Self

    from lakefeed.keyed.keyed_table import Table


class SearchIndex:
    """An index of the rows of a table. `TextIndex` and `VectorIndex` inherit from it.

    ``index["field"]`` is a field of it as a term, for the rankings and filters of `Client.search`.
    """

    def __init__(self, lake: Lake, definition: IndexDefinition) -> None:
        self._lake, self._definition = lake, definition

    @property
    def name(self) -> str:
        """The full name."""
        return self._definition.name

    @property
    def definition(self) -> IndexDefinition:
        """The definition."""
        return self._definition

    @cached_property
    def ledger(self) -> IndexLedger:
        """The ledger of the index."""
        return IndexLedger(self._lake, self._definition)

    @property
    def table(self) -> Table:
        """The table."""
        from lakefeed.keyed.keyed_table import open_table

        return open_table(self._lake, self.newest_rows().table.source.name)

    @property
    def version(self) -> int:
        """The version of the table that the index has; 0 if it is empty."""
        position = self.ledger.load().position
        return 0 if position is None else position.version

    @property
    def asof(self) -> dt.datetime | None:
        """The time of the commit of this version, in UTC; None if it has expired, or if there is none."""
        position = self.ledger.load().position
        table = self.newest_rows().table.source.table
        snapshot = None if position is None else table.metadata.snapshot_by_id(position.snapshot_id)
        return None if snapshot is None else dt.datetime.fromtimestamp(snapshot.timestamp_ms / 1000, dt.UTC)

    @property
    def fields(self) -> list[str]:
        """The names of the fields."""
        return list(self._definition.columns)

    def refresh(self) -> Self:
        """Brings the index up to date with its table. An index that is away or damaged is built anew.

        Only rows that were added, changed or removed since are read. Returns the index.

        Raises:
            DatasetNotFoundError: the table was dropped.
            ColumnNotFoundError: a column of the index was dropped or renamed.
            CommitConflictError: other refreshes kept committing first.
        """
        self.refreshed(mend=True)
        return self

    def refreshed(self, mend: bool) -> IndexState:
        """Returns the newest version of the index, after a refresh. With ``mend``, damage is mended."""
        return Refresh(self.ledger, self._segments(self.newest_rows()), self.newest_rows).run(mend)

    def newest_rows(self) -> IndexedRows:
        """Returns the rows of the newest version of the table."""
        return IndexedRows.newest(self._lake, self._definition)

    def field_schema(self, rows: IndexedRows) -> pa.Schema:
        """Returns the columns of the fields.

        Raises:
            ColumnNotFoundError: one was dropped or renamed.
        """
        try:
            return rows.field_schema
        except ColumnNotFoundError as error:
            raise ColumnNotFoundError(
                f"a column of the index {self.name!r} was dropped or renamed: {error.args[0]}\nRename it back, or "
                f"remove the index with drop_index({self.name!r}) and create it again"
            ) from None

    def state_to_search(self, state: IndexState, rows: IndexedRows, window: dt.timedelta | None) -> IndexState:
        """Returns a version of the index that is up to date, or at most so old.

        Args:
            state: the newest version of the index.
            rows: the newest rows of the table, which were looked up after that.
            window: how old the index may be; None for not at all.
        """
        position = state.position
        if position == rows.position:
            return state
        usable = window is not None and position is not None and position.has_columns_of(rows.position)
        if usable and window is not None and self._age(state, rows) <= window:
            return state
        return self.refreshed(mend=False)

    def _age(self, state: IndexState, rows: IndexedRows) -> dt.timedelta:
        """Returns how long ago the first version came that the index lacks."""
        position, table = state.position, rows.table.source.table
        if position is None or position.table_uuid != rows.position.table_uuid:
            return dt.timedelta.max
        try:
            later = versions_between(table, position.version or None, rows.position.version)
        except (VersionNotFoundError, DatasetNotFoundError):
            return dt.timedelta.max
        oldest = min((version.timestamp_ms for version in later), default=0)
        return dt.timedelta(milliseconds=max(time.time() * 1000 - oldest, 0))

    def _segments(self, rows: IndexedRows) -> SegmentWriter:
        """Returns what writes the segments, with the types that the columns have now."""
        raise NotImplementedError

    def check(self, ranks: Sequence[Rank], filters: SearchFilters, rows: IndexedRows) -> None:
        """Checks that rankings and filters fit the index, before anything is refreshed."""
        raise NotImplementedError

    def rankings(
        self, ranks: Sequence[Rank], filters: SearchFilters, top_k: int, state: IndexState, rows: IndexedRows
    ) -> list[Hits]:
        """Returns the best rows of each ranking in a version of the index."""
        raise NotImplementedError

    def __getitem__(self, field: str) -> Term:
        """Returns a field as a term.

        Raises:
            ColumnNotFoundError: the index has no such field.
        """
        return index_term(self.name, field, self.fields)

    __iter__ = None  # else Python would iterate over the items 0, 1, …

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"
