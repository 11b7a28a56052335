"""`VectorIndex`, an index of vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError
from lakefeed.expr import evaluate
from lakefeed.keyed.index_terms import NearestVector, Rank
from lakefeed.keyed.indexed_rows import IndexedRows
from lakefeed.keyed.search_filters import SearchFilters
from lakefeed.keyed.search_index import SearchIndex
from lakefeed.search.index_ledger import IndexState
from lakefeed.search.text_segments import Hits
from lakefeed.search.vector_files import Mask
from lakefeed.search.vector_schema import MOST_LENGTH, VectorSchema
from lakefeed.search.vector_segments import VectorSegments


class VectorIndex(SearchIndex):
    """An index of vectors of the rows of a table. `Project.create_vector_index` makes one.

    Example:
        >>> from lakefeed.expressions import vector
        >>> client = connect()
        >>> photos = client.create_table("embedded", key_schema={"id": pa.int64()})
        >>> _ = photos.write({"id": [1, 2], "emb": [[0.0, 1.0], [1.0, 0.1]]})
        >>> index = client.create_vector_index("embeddings", photos["emb"])
        >>> client.search(1, vector.nearest(index["emb"], [1.0, 0.0])).read_all()["id"].to_pylist()
        [2]
    """

    def segments_of(self, rows: IndexedRows) -> VectorSegments:
        """Returns the segments, with the types that the columns have now."""
        if "vector" not in rows.segments:
            options = self._definition.options
            columns, name = self.field_schema(rows), options["field"]
            schema = VectorSchema.of(rows.table.key_schema, columns, name, options["metric"])
            rows.segments["vector"] = VectorSegments(schema)
        segments: VectorSegments = rows.segments["vector"]
        return segments

    def _segments(self, rows: IndexedRows) -> VectorSegments:
        return self.segments_of(rows)

    def check(self, ranks: Sequence[Rank], filters: SearchFilters, rows: IndexedRows) -> None:
        """Checks that rankings and filters fit the index, before anything is refreshed."""
        schema = self.segments_of(rows).schema
        for each in ranks:
            if not isinstance(each, NearestVector):
                raise InvalidArgumentError(f"{self.name!r} is an index of vectors: rank by it with vector.nearest")
            if each.field != schema.name:
                raise ColumnNotFoundError(
                    f"the vectors of the index {self.name!r} are in the field {schema.name!r}, not in {each.field!r}"
                )
            self._check_width(each, schema.width)
            if schema.too_long(each.query[None, :]).any():
                raise InvalidArgumentError(
                    f"query is longer than {MOST_LENGTH:g}, so the metric {schema.metric!r} of the index "
                    f"{self.name!r} overflows float32"
                )
        filters.condition(self.name, rows, schema.filter_schema)

    def _check_width(self, rank: NearestVector, width: int | None) -> None:
        if width is not None and len(rank.query) != width:
            raise InvalidArgumentError(
                f"query has {len(rank.query)} values, the vectors of the index {self.name!r} have {width}"
            )

    def rankings(
        self, ranks: Sequence[Rank], filters: SearchFilters, top_k: int, state: IndexState, rows: IndexedRows
    ) -> list[Hits]:
        """Returns the rows of the nearest vectors for each ranking."""
        segments, mask_of = self.segments_of(rows), self._mask(filters, rows)
        rankings = []
        for rank in ranks:
            assert isinstance(rank, NearestVector), "they were checked"
            self._check_width(rank, segments.width(self.ledger, state))
            hits = segments.search(self.ledger, state, rank.query, rank.nprobes, mask_of, top_k)
            rankings.append(Hits(hits.keys, hits.scores * rank.boost))
        return rankings

    def _mask(self, filters: SearchFilters, rows: IndexedRows) -> Callable[[pa.RecordBatch], Mask] | None:
        """Returns the filters as a function of the rows of a segment; None if there are none."""
        schema = self.segments_of(rows).schema.filter_schema
        condition = filters.condition(self.name, rows, schema)
        if condition is None:
            return None
        environment = filters.environment(rows, schema)

        def mask(batch: pa.RecordBatch) -> Mask:
            fields = batch.select(schema.names)
            matching = evaluate(condition, environment.batch(dict.fromkeys(environment.schemas, fields)))
            chosen: Mask = matching.fill_null(False).to_numpy(zero_copy_only=False)
            return chosen

        return mask
