"""A package that adds a format, a media type, two operations and a source to lakefeed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from lakefeed import Dataset
from lakefeed.formats import Streamed
from lakefeed.media import Handle, MediaType
from lakefeed.plan import Fragment, Step
from lakefeed.plan.source import RangedSource, cut_fragments, project_schema
from lakefeed.plan.take_rows import filter_by_mask

FRAGMENT_ROWS = 1_000


class Words(Streamed):
    """Files of words that are separated by white space: a row for each word."""

    name = "words"
    suffixes = (".words",)

    def head(self, stream: Any) -> pa.Schema:
        return pa.schema({"word": pa.string()})

    def rows(self, stream: Any, schema: Any, columns: Any, strict: bool) -> Iterator[pa.RecordBatch]:
        batch = pa.record_batch({"word": stream.file.read().decode().split()})
        yield batch if columns is None else batch.select(list(columns))


class Subtitles(Handle):
    """The handle of a file with subtitles."""

    media = "subtitles"


SUBTITLES = MediaType("subtitles", Subtitles, content_types={".srt": "application/x-subrip"})


@dataclass(frozen=True, eq=False, repr=False)
class DropNulls(Step):
    """The rows that have a value in all of some columns."""

    columns: tuple[str, ...]

    keeps_columns: ClassVar[bool] = True
    vectorized: ClassVar[bool] = True

    def output_schema(self) -> pa.Schema:
        return self.child.schema

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        for name in self.columns:
            batch = filter_by_mask(batch, batch.column(name).is_valid())
        return batch


def longest(dataset: Dataset, column: str, characters: int) -> Dataset:
    """Returns the rows whose text has at least some characters."""
    return dataset.sql(f"SELECT * FROM data WHERE length({column}) >= {characters}")


@dataclass(frozen=True)
class RangeSource(RangedSource):
    """The whole numbers from 0."""

    count_of_rows: int

    schema = pa.schema({"x": pa.int64()})
    immutable = True

    @property
    def identity(self) -> str:
        return f"range:{self.count_of_rows}"

    def count(self) -> int:
        return self.count_of_rows

    def fragments(self, pushdown: Any) -> Iterator[Fragment]:
        starts = range(0, self.count_of_rows, FRAGMENT_ROWS)
        whole = (Fragment(start, min(FRAGMENT_ROWS, self.count_of_rows - start), size=8_000) for start in starts)
        return cut_fragments(whole, pushdown.rows)

    def read(self, fragment: Fragment, pushdown: Any) -> Iterator[pa.RecordBatch]:
        first = fragment.key + fragment.start
        numbers = pa.record_batch({"x": np.arange(first, first + fragment.length)})
        yield numbers.select(project_schema(self.schema, pushdown).names)

    def describe(self, pushdown: Any) -> str:
        return f"range {self.count_of_rows}"
