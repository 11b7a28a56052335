"""Searches: the keys of the best rows, with their scores."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakefeed._validate import is_whole
from lakefeed.catalog.lake import Lake
from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError, SchemaError, quoted_list
from lakefeed.expr import Column, Expr, expression_text
from lakefeed.expr.parser import parse
from lakefeed.keyed.bound_values import Environment
from lakefeed.keyed.index_creation import SCORE
from lakefeed.keyed.index_terms import INDEX, Rank
from lakefeed.keyed.indexed_rows import IndexedRows
from lakefeed.keyed.open_index import open_index
from lakefeed.keyed.search_index import SearchIndex
from lakefeed.keyed.table_terms import table_root
from lakefeed.keyed.text_index import TextIndex
from lakefeed.search.filter_query import FilterQuery, check_conjunction
from lakefeed.search.index_ledger import IndexState
from lakefeed.search.text_segments import Hits, TextRank


@dataclass(frozen=True, eq=False)
class Search:
    """A search, with its arguments checked.

    Attributes:
        lake: the lake.
        top_k: the number of rows.
        ranks: the rankings.
        filters: the condition; None for all rows.
        window: how old an index may be; None for not at all.
    """

    lake: Lake
    top_k: int
    ranks: tuple[Rank, ...]
    filters: str | None
    window: dt.timedelta | None

    @classmethod
    def of(cls, lake: Lake, top_k: Any, rank_by: Sequence[Any], filters: Any, freshness_window: Any) -> Search:
        """Returns the search of the arguments of `Client.search`."""
        if not is_whole(top_k) or top_k < 1:
            raise InvalidArgumentError(f"top_k must be a whole number of at least 1, got {top_k!r:.80}")
        for each in rank_by:
            if not isinstance(each, Rank):
                raise InvalidArgumentError(
                    f"rank_by takes rankings, such as text.find(index['caption'], 'cat'), got {each!r:.80}"
                )
        if not rank_by:
            raise InvalidArgumentError(
                "a search needs at least one ranking, such as text.find(index['caption'], 'cat')"
            )
        condition = None if filters is None else expression_text(filters, "filters")
        window = freshness_window
        if window is not None and (not isinstance(window, dt.timedelta) or window < dt.timedelta(0)):
            raise InvalidArgumentError(f"freshness_window must be a timedelta from 0, or None, got {window!r:.80}")
        return cls(lake, int(top_k), tuple(rank_by), condition, window)

    def run(self) -> pa.RecordBatchReader:
        """Returns the keys and scores of the best rows, best first."""
        indexes = {name: open_index(self.lake, name) for name in dict.fromkeys(each.index for each in self.ranks)}
        _check_one_table(list(indexes.values()))
        searches = [self._prepare(index) for index in indexes.values()]
        rankings = [hits for each in searches for hits in each.hits()]
        return _result(rankings[0])

    def _prepare(self, index: SearchIndex) -> _IndexSearch:
        ranks = [each for each in self.ranks if each.index == index.name]
        rows = index.newest_rows()
        prepared = _IndexSearch(self, index, ranks)
        prepared.check(rows)
        return prepared


@dataclass(frozen=True, eq=False)
class _IndexSearch:
    """The rankings of one index."""

    search: Search
    index: SearchIndex
    ranks: list[Rank]

    def check(self, rows: IndexedRows) -> None:
        """Checks that the rankings and the filters fit the index, before anything is refreshed."""
        assert isinstance(self.index, TextIndex)
        schema = self.index.segments_of(rows).schema
        for each in self.ranks:
            if each.field not in schema.text_names:
                raise ColumnNotFoundError(
                    f"the index {self.index.name!r} has no text field {each.field!r}; its text fields are "
                    f"{quoted_list(schema.text_names)}"
                )
        self.queries(rows)

    def condition(self, rows: IndexedRows, schema: pa.Schema) -> Expr | None:
        """Returns the filters, bound to the filter fields.

        Raises:
            ColumnNotFoundError, ExpressionError: they do not fit.
            InvalidArgumentError: they have an ``or``.
        """
        text = self.search.filters
        if text is None:
            return None
        environment = Environment(rows.table.lake, {INDEX + self.index.name: schema, rows.table.name: schema})
        bound = parse(text, environment.schema_for(text))
        check_conjunction(bound)
        return bound

    def queries(self, rows: IndexedRows) -> list[Any]:
        """Returns the filters as queries of a text index."""
        assert isinstance(self.index, TextIndex)
        schema = self.index.segments_of(rows).schema
        condition = self.condition(rows, schema.filter_schema)
        return [] if condition is None else FilterQuery(schema, self._field_name(rows)).queries(condition)

    def _field_name(self, rows: IndexedRows) -> Any:
        roots = {table_root(INDEX + self.index.name), table_root(rows.table.name)}

        def name_of(column: Column) -> str:
            return str(column.path[1] if column.path[0] in roots else column.path[0])

        return name_of

    def hits(self) -> list[Hits]:
        """Returns the hits of each ranking. Rankings by text are one."""
        assert isinstance(self.index, TextIndex)
        state, rows = self.index.state_to_search(self.search.window)
        return [self._text_hits(self.index, state, rows)]

    def _text_hits(self, index: TextIndex, state: IndexState, rows: IndexedRows) -> Hits:
        segments = index.segments_of(rows)
        ranks = [TextRank(each.field, each.text, each.boost) for each in self.ranks]
        return segments.search(index.ledger, state, ranks, self.queries(rows), self.search.top_k)


def _check_one_table(indexes: Sequence[SearchIndex]) -> None:
    tables = {index.definition.table_uuid: index.definition.table for index in indexes}
    if len(tables) > 1:
        raise SchemaError(
            f"the indexes {quoted_list(index.name for index in indexes)} are of different tables: "
            f"{quoted_list(sorted(tables.values()))}"
        )


def _result(hits: Hits) -> pa.RecordBatchReader:
    schema = hits.keys.schema.append(pa.field(SCORE, pa.float32(), nullable=False))
    batch = pa.RecordBatch.from_arrays([*hits.keys.columns, pa.array(hits.scores)], schema=schema)
    return pa.RecordBatchReader.from_batches(schema, [batch])
