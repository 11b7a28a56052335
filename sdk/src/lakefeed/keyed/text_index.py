"""`TextIndex`, an index of words."""

from __future__ import annotations

from lakefeed.keyed.indexed_rows import IndexedRows
from lakefeed.keyed.search_index import SearchIndex
from lakefeed.search.text_schema import TextSchema
from lakefeed.search.text_segments import TextSegments


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
        options = self._definition.options
        return TextSegments(TextSchema.of(rows.table.key_schema, rows.field_schema, options))

    def _segments(self, rows: IndexedRows) -> TextSegments:
        return self.segments_of(rows)
