"""Searches: the keys of the best rows, with their scores."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lakefeed._validate import is_whole
from lakefeed.catalog.lake import Lake
from lakefeed.errors import InvalidArgumentError, SchemaError, quoted_list
from lakefeed.expr import expression_text
from lakefeed.keyed.index_creation import SCORE
from lakefeed.keyed.index_terms import FindText, Rank
from lakefeed.keyed.open_index import open_state
from lakefeed.keyed.search_filters import SearchFilters
from lakefeed.keyed.search_index import SearchIndex
from lakefeed.search.rank_fusion import fuse_rankings
from lakefeed.search.text_segments import Hits

FUSED_HITS: Final = 100
"""The least number of rows of each ranking that are considered where several are fused."""
FUSED_SHARE: Final = 4
"""So many times the number of wanted rows are considered of each ranking."""


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
            raise InvalidArgumentError("a search needs a ranking, such as text.find(index['caption'], 'cat')")
        condition = None if filters is None else expression_text(filters, "filters")
        window = freshness_window
        if window is not None and (not isinstance(window, dt.timedelta) or window < dt.timedelta(0)):
            raise InvalidArgumentError(f"freshness_window must be a timedelta from 0, or None, got {window!r:.80}")
        return cls(lake, int(top_k), tuple(rank_by), condition, window)

    def run(self) -> pa.RecordBatchReader:
        """Returns the keys and scores of the best rows, best first."""
        opened = [open_state(self.lake, name) for name in dict.fromkeys(each.index for each in self.ranks)]
        indexes, states = [index for index, _ in opened], [state for _, state in opened]
        _check_one_table(indexes)
        rows = [index.newest_rows() for index in indexes]
        filters = SearchFilters(self.lake, self.filters, tuple(index.name for index in indexes))
        for index, each in zip(indexes, rows, strict=True):
            index.check(self._ranks_of(index), filters, each)
        single = len(indexes) == 1 and (len(self.ranks) == 1 or all(isinstance(each, FindText) for each in self.ranks))
        depth = self.top_k if single else max(FUSED_SHARE * self.top_k, FUSED_HITS)
        rankings, weights = [], list[float]()
        for index, state, each in zip(indexes, states, rows, strict=True):
            ranks = self._ranks_of(index)
            current = index.state_to_search(state, each, self.window)
            hits = index.rankings(ranks, filters, depth, current, each)
            rankings += hits
            weights += [each.boost for each in ranks] if len(hits) == len(ranks) else [1.0] * len(hits)
        return _result(rankings[0] if single else fuse_rankings(rankings, weights, self.top_k))

    def _ranks_of(self, index: SearchIndex) -> list[Rank]:
        return [each for each in self.ranks if each.index == index.name]


def _check_one_table(indexes: Sequence[SearchIndex]) -> None:
    tables = {index.definition.table_uuid: index.definition.table for index in indexes}
    if len(tables) > 1:
        raise SchemaError(
            f"the indexes {quoted_list(index.name for index in indexes)} are of different tables: "
            f"{quoted_list(sorted(tables.values()))}"
        )


def _result(hits: Hits) -> pa.RecordBatchReader:
    schema = hits.keys.schema.append(pa.field(SCORE, pa.float32(), nullable=False))
    scores = pa.array(np.asarray(hits.scores, np.float32))
    batch = pa.RecordBatch.from_arrays([*hits.keys.columns, scores], schema=schema)
    return pa.RecordBatchReader.from_batches(schema, [batch])
