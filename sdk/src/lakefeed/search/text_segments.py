"""Segments of text indexes: they are written with tantivy, and searched."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement
from math import comb
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from cachetools import LRUCache

from lakefeed._arrow import compute as pc
from lakefeed.errors import InvalidArgumentError
from lakefeed.search.index_ledger import IndexLedger, IndexState
from lakefeed.search.key_text import decode_keys, term_of
from lakefeed.search.local_files import local_folder, read_local_files
from lakefeed.search.text_schema import ID, TextField, TextSchema, analyze, analyze_phrase, key_of, tantivy

META: Final = "meta.json"
LARGE_HEAP: Final = 128_000_000
SMALL_HEAP: Final = 20_000_000
OPEN_INDEXES: Final = 16
MORE_HITS: Final = 8
FEW_HITS: Final = 1_000
"""Up to so many hits, Python sorts them faster than Arrow."""
MOST_PHRASES: Final = 1_001
"""The most ways to put other words between the words of a phrase."""

_open: LRUCache[tuple[str, str, int], Any] = LRUCache(OPEN_INDEXES)
_open_lock = threading.Lock()


class TextRank(NamedTuple):
    """A text to rank by.

    Attributes:
        field: the name of the field.
        text: the text.
        boost: its weight.
        slop: None ranks by the words of the text. A number ranks by all of them in their order, with at most so many
            other words between them.
    """

    field: str
    text: str
    boost: float = 1.0
    slop: int | None = None


class Hits(NamedTuple):
    """The best rows, in the order of the ranking: their keys and scores."""

    keys: pa.RecordBatch
    scores: np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class TextSegments:
    """Writes and searches the segments of one text index."""

    schema: TextSchema

    def write(self, folder: Path, removed: Iterable[str], added: Iterable[pa.RecordBatch], large: bool) -> list[str]:
        """Brings the segments in a folder up to date, and returns the names of the files that are needed from now on.

        Files that are there already are not changed.

        Args:
            folder: the folder; empty for a new index.
            removed: the keys, as text, of rows to remove.
            added: rows to add.
            large: there are many rows.
        """
        index = tantivy().Index(self.schema.compiled, str(folder), reuse=True)
        writer = index.writer(heap_size=LARGE_HEAP if large else SMALL_HEAP, num_threads=1)
        for text in removed:
            writer.delete_documents_by_term(ID, term_of(text))
        for batch in added:
            for document in self.schema.documents(batch):
                writer.add_document(document)
        writer.commit()
        writer.wait_merging_threads()
        return live_files(folder)

    def search(
        self, ledger: IndexLedger, state: IndexState, ranks: Sequence[TextRank], filters: Sequence[Any], top_k: int
    ) -> Hits:
        """Returns the best rows. Rows of equal score are in the order of their keys.

        Args:
            ledger: the index.
            state: its version.
            ranks: the texts.
            filters: queries that the rows must match.
            top_k: the number of rows.

        Raises:
            DamagedDatasetError: a file of the index is lost or damaged.
        """
        query = self._query(ranks, filters)

        def read() -> tuple[list[str], list[float]]:
            searcher = open_searcher(ledger, state)
            pairs = _best(searcher, query, top_k)
            return [key_of(searcher.doc(address)) for _, address in pairs], [score for score, _ in pairs]

        texts, scores = read_local_files(ledger, state, read, partial(close_searcher, ledger, state))
        return best_hits(decode_keys(texts, self.schema.key), np.array(scores, np.float32), top_k)

    def _query(self, ranks: Sequence[TextRank], filters: Sequence[Any]) -> Any:
        module = tantivy()
        query, occur = module.Query, module.Occur
        words = []
        for rank in ranks:
            for part in self._parts(self.schema.field(rank.field), rank):
                words.append((occur.Should, part if rank.boost == 1 else query.boost_query(part, rank.boost)))
        if not words:
            return query.empty_query()
        ranking = query.boolean_query(words)
        if not filters:
            return ranking
        conditions = [(occur.Must, query.const_score_query(each, 0.0)) for each in filters]
        return query.boolean_query([(occur.Must, ranking), *conditions])

    def _parts(self, field: TextField, rank: TextRank) -> list[Any]:
        """Returns queries whose scores are added up: one for each word, or one for a phrase."""
        query, schema, name = tantivy().Query, self.schema.compiled, field.stored_name
        if rank.slop is None:
            return [query.term_query(schema, name, word) for word in analyze(field.tokenizer, rank.text)]
        words = analyze_phrase(field.tokenizer, rank.text)
        if len(words) < 2:
            return [query.term_query(schema, name, word) for _, word in words]
        spaced = _spaced_phrases(words, rank.slop)
        phrases = [query.phrase_query(schema, name, each, 0) for each in spaced]
        return phrases if len(phrases) == 1 else [query.disjunction_max_query(phrases)]


def _spaced_phrases(words: Sequence[tuple[int, str]], slop: int) -> list[list[tuple[int, str]]]:
    """Returns the phrases that have at most ``slop`` other words between these words.

    The slop of tantivy is a distance: it also matches words in another order, and counts one word for two.

    Raises:
        InvalidArgumentError: there are too many.
    """
    if comb(slop + len(words) - 1, slop) > MOST_PHRASES:
        most = next(each for each in range(slop, -1, -1) if comb(each + len(words) - 1, each) <= MOST_PHRASES)
        raise InvalidArgumentError(f"slop={slop} is too large for a phrase of {len(words)} words; it is at most {most}")
    first = words[0][0]
    shifts = combinations_with_replacement(range(slop + 1), len(words) - 1)
    return [
        [(position - first + shift, word) for (position, word), shift in zip(words, (0, *each), strict=True)]
        for each in shifts
    ]


def _best(searcher: Any, query: Any, top_k: int) -> list[Any]:
    """Returns the best hits, with all that have the score of the last one, because their keys decide."""
    most = max(searcher.num_docs, 1)  # tantivy allocates memory for as many hits as it is asked for
    limit = min(top_k + 1, most)
    while True:
        hits: list[Any] = searcher.search(query, limit, count=False).hits
        if limit == most or len(hits) < limit or hits[-1][0] < hits[top_k - 1][0]:
            return [hit for hit in hits if hit[0] >= hits[min(top_k, len(hits)) - 1][0]]
        limit = min(limit * MORE_HITS, most)


def best_hits(keys: pa.RecordBatch, scores: np.ndarray[Any, np.dtype[np.float32]], top_k: int) -> Hits:
    """Returns the best rows; rows of equal score are in the order of their keys."""
    if len(scores) <= FEW_HITS:
        rows = list(zip(*(column.to_pylist() for column in keys.columns), strict=True))
        order = sorted(range(len(scores)), key=lambda position: (-scores[position], rows[position]))[:top_k]
        return Hits(keys.take(pa.array(order, pa.int64())), scores[order])
    columns: dict[str, Any] = {"score": pa.array(scores)}
    for index, column in enumerate(keys.columns):
        columns[f"k{index}"] = _sortable(column)
    sort_keys: list[Any] = [("score", "descending"), *((f"k{index}", "ascending") for index in range(keys.num_columns))]
    positions: Any = pc.sort_indices(pa.table(columns), sort_keys=sort_keys)[:top_k]
    return Hits(keys.take(positions), scores[positions.to_numpy()])


def _sortable(column: Any) -> Any:
    if isinstance(column, pa.ExtensionArray):
        return _sortable(column.storage)
    return column.cast(pa.binary()) if pa.types.is_fixed_size_binary(column.type) else column


def live_files(folder: Path) -> list[str]:
    """Returns the names of the files that the newest commit in a folder needs."""
    segments = json.loads((folder / META).read_bytes())["segments"]
    deletes = {each["segment_id"].replace("-", ""): each["deletes"] for each in segments}
    names = [META]
    for path in folder.iterdir():
        segment, _, rest = path.name.partition(".")
        if segment not in deletes:
            continue
        if rest.endswith("del"):
            current = deletes[segment]
            if current is None or rest != f"{current['opstamp']}.del":
                continue
        names.append(path.name)
    return sorted(names)


def open_searcher(ledger: IndexLedger, state: IndexState) -> Any:
    """Returns a searcher of a version of an index."""
    key = (str(ledger.lake.settings.cache), state.ledger_uuid, state.snapshot_id)
    with _open_lock:
        searcher = _open.get(key)
    if searcher is None:
        index = tantivy().Index.open(str(local_folder(ledger, state)))
        index.config_reader(reload_policy="manual")
        index.reload()
        searcher = index.searcher()
        with _open_lock:
            _open[key] = searcher
    return searcher


def close_searcher(ledger: IndexLedger, state: IndexState) -> None:
    """Forgets the searcher of a version, whose files are damaged."""
    with _open_lock:
        _open.pop((str(ledger.lake.settings.cache), state.ledger_uuid, state.snapshot_id), None)
