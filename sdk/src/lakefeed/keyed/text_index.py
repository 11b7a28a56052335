"""`TextIndex`, an index of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError, quoted_list
from lakefeed.expr import Column
from lakefeed.keyed.index_terms import FindText, Rank
from lakefeed.keyed.indexed_rows import IndexedRows
from lakefeed.keyed.search_filters import SearchFilters
from lakefeed.keyed.search_index import SearchIndex
from lakefeed.keyed.table_terms import table_root
from lakefeed.search.filter_query import FilterQuery
from lakefeed.search.index_ledger import IndexState
from lakefeed.search.text_schema import TextSchema
from lakefeed.search.text_segments import Hits, TextRank, TextSegments


class TextIndex(SearchIndex):
    """An index of words in the rows of a table. `Project.create_text_index` makes one.

    Example:
        >>> from lakefeed.expressions import text
        >>> client = connect()
        >>> pages = client.create_table("indexed", key_schema={"url": pa.string()})
        >>> _ = pages.write({"url": ["a", "b"], "body": ["A black cat", "a dog"]})
        >>> index = client.create_text_index("bodies", text.field(pages["body"]))
        >>> client.search(10, text.find(index["body"], "cat")).read_all()["url"].to_pylist()
        ['a']
    """

    def segments_of(self, rows: IndexedRows) -> TextSegments:
        """Returns the segments, with the types that the columns have now."""
        if "text" not in rows.segments:
            options = self._definition.options
            rows.segments["text"] = TextSegments(TextSchema.of(rows.table.key_schema, self.field_schema(rows), options))
        segments: TextSegments = rows.segments["text"]
        return segments

    def _segments(self, rows: IndexedRows) -> TextSegments:
        return self.segments_of(rows)

    def check(self, ranks: Sequence[Rank], filters: SearchFilters, rows: IndexedRows) -> None:
        """Checks that rankings and filters fit the index, before anything is refreshed."""
        schema = self.segments_of(rows).schema
        for each in ranks:
            if not isinstance(each, FindText):
                raise InvalidArgumentError(f"{self.name!r} is a text index: rank by it with text.find")
            if each.field not in schema.text_names:
                raise ColumnNotFoundError(
                    f"the index {self.name!r} has no text field {each.field!r}; its text fields are "
                    f"{quoted_list(schema.text_names)}"
                )
            if each.slop is not None and not schema.field(each.field).positions:
                raise InvalidArgumentError(
                    f"the field {each.field!r} of the index {self.name!r} has no positions of words, which phrases "
                    "need; create an index with text.field(…, positions=True)"
                )
        self._queries(filters, rows, schema)

    def rankings(
        self, ranks: Sequence[Rank], filters: SearchFilters, top_k: int, state: IndexState, rows: IndexedRows
    ) -> list[Hits]:
        """Returns the best rows. All rankings are one, whose scores are added up."""
        segments = self.segments_of(rows)
        finds = [each for each in ranks if isinstance(each, FindText)]
        texts = [TextRank(each.field, each.text, each.boost, each.slop) for each in finds]
        return [segments.search(self.ledger, state, texts, self._queries(filters, rows, segments.schema), top_k)]

    def _queries(self, filters: SearchFilters, rows: IndexedRows, schema: TextSchema) -> list[Any]:
        condition = filters.condition(self.name, rows, schema.filter_schema)
        tables = {table_root(name) for name in filters.environment(rows, schema.filter_schema).schemas}

        def name_of(column: Column) -> str:
            return str(column.path[1] if column.path[0] in tables else column.path[0])

        return [] if condition is None else FilterQuery(schema, name_of).queries(condition)
