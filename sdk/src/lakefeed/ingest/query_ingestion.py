"""`QuerySource`: ingests rows of a database by watermark. Each commit covers a range of a column that only grows."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed._typing import ColumnTypes
from lakefeed.catalog import Fence, Provenance
from lakefeed.dataset import Dataset
from lakefeed.errors import (
    ColumnNotFoundError,
    FileError,
    InvalidArgumentError,
    TypeMismatchError,
)
from lakefeed.ingest.ingestion_source import FencedSource, IngestResult, ignore_lost_race, write_rows

if TYPE_CHECKING:
    from sqlalchemy import Connection

CHUNK_ROWS = 4_096
MAX_DIGITS = 38


@dataclass(frozen=True)
class QuerySource(FencedSource):
    """Appends the rows of a database query in the order of a watermark column.

    Args:
        name: the name of the source.
        into: the dataset.
        url: the database in SQLAlchemy's form, such as ``postgresql+psycopg2://user@host/db`` or
            ``sqlite:////data/app.db``. Pass secrets by the environment.
        query: a SELECT without ORDER BY.
        watermark: a column of the query that is never null and only grows, such as a serial number or the time of the
            last change. Rows that appear later with an older value are not ingested.
        lag: for a watermark of times (in UTC), the seconds by which it stays behind the clock, for transactions that
            commit late.
        schema: the schema of the rows. None takes that of the dataset, or infers it from the first rows.
        max_rows: the approximate number of rows in one commit. Rows with the same watermark stay together.
        column_types: the file columns of a new dataset.
        description: the description of a new dataset.

    Raises:
        InvalidArgumentError: an argument is malformed.
    """

    name: str
    into: str
    url: str
    query: str
    watermark: str
    lag: float = 0.0
    schema: pa.Schema | None = None
    max_rows: int = 100_000
    column_types: ColumnTypes | str | None = None
    description: str | None = None

    def __post_init__(self) -> None:
        if self.max_rows < 1 or self.lag < 0:
            raise InvalidArgumentError(f"ingest {self.name!r}: max_rows must be at least 1 and lag at least 0")

    def waiting(self) -> str | None:
        """Returns the watermark up to which rows are new, as text; None if there are none.

        Raises:
            FileError: the database cannot be read.
        """
        end = self._end(_watermark_value(self.pointer()))
        return None if end is None else f"rows up to {self.watermark} {end}"

    def take(self, provenance: Provenance) -> Iterator[IngestResult]:
        """Ingests the new rows, and yields the result of each commit.

        Args:
            provenance: the run and code that write.

        Raises:
            FileError: the database cannot be read.
            ColumnNotFoundError: the query lacks the watermark column.
            TypeMismatchError: the rows do not fit the schema.
        """
        while True:
            before = self.pointer()
            begin = _watermark_value(before)
            end = self._end(begin)
            if end is None:
                return
            commit = replace(provenance, message=f"ingest {self.name}: up to {self.watermark} {end}")
            fence = Fence(self.fence, expected=before, value=_watermark_text(end))
            with ignore_lost_race(self, before):
                added, version = write_rows(self._rows(begin, end), self, commit, fence, self.column_types)
                yield IngestResult((f"{self.watermark} {end}",), added, version)

    def _end(self, begin: Any) -> Any:
        """Returns the watermark up to which the next commit reads; None if there are no new rows."""
        from sqlalchemy import text

        column = self._quoted()
        limit = self._limit()
        bounds = [f"{column} > :begin"] * (begin is not None) + [f"{column} <= :latest"] * (limit is not None)
        where = f" WHERE {' AND '.join(bounds)}" if bounds else ""
        # The last of the next max_rows values; whoever shares it comes along.
        some = f"SELECT {column} AS w FROM ({self._escaped}) q{where} ORDER BY 1 LIMIT {self.max_rows}"
        parameters = ({"begin": begin} if begin is not None else {}) | ({"latest": limit} if limit is not None else {})
        with self._connected() as connection:
            return connection.execute(text(f"SELECT max(w) FROM ({some}) p"), parameters).scalar()

    def _rows(self, begin: Any, end: Any) -> Dataset:
        with closing(self._chunks(begin, end, self._known_schema())) as chunks:
            schema = next(chunks).schema
        return Dataset.from_batches(lambda: self._chunks(begin, end, schema), schema=schema)

    def _chunks(self, begin: Any, end: Any, schema: pa.Schema | None) -> Generator[pa.RecordBatch]:
        from sqlalchemy import text

        column = self._quoted()
        after = f" AND {column} > :begin" if begin is not None else ""
        statement = f"SELECT * FROM ({self._escaped}) q WHERE {column} <= :end{after} ORDER BY {column}"
        parameters = {"end": end} | ({"begin": begin} if begin is not None else {})
        with self._connected() as connection:
            result = connection.execution_options(stream_results=True).execute(text(statement), parameters)
            with closing(result):
                names = list(result.keys())
                if self.watermark not in names:
                    raise ColumnNotFoundError.of(self.watermark, names, "the query")
                for rows in result.partitions(CHUNK_ROWS):
                    batch = _batch(names, rows, schema)
                    schema = batch.schema
                    yield batch

    def _known_schema(self) -> pa.Schema | None:
        if self.schema is not None or not Dataset.exists(self.into):
            return self.schema
        return Dataset(self.into).schema

    def _limit(self) -> Any:
        return dt.datetime.now(dt.UTC).replace(tzinfo=None) - dt.timedelta(seconds=self.lag) if self.lag else None

    @property
    def _escaped(self) -> str:
        """The query with escaped colons, as in a JSON text. They are not our parameters."""
        return re.sub(r"(?<![:\w\\]):(?=\w)", r"\\:", self.query)

    def _quoted(self) -> str:
        return '"' + self.watermark.replace('"', '""') + '"'

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        from sqlalchemy import create_engine
        from sqlalchemy.exc import SQLAlchemyError
        from sqlalchemy.pool import NullPool

        try:
            engine = create_engine(self.url, poolclass=NullPool)
            with engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise FileError(f"the query of ingest {self.name!r} failed: {error}") from error


def _batch(names: Sequence[str], rows: Sequence[Any], schema: pa.Schema | None) -> pa.RecordBatch:
    columns = {name: [row[index] for row in rows] for index, name in enumerate(names)}
    try:
        if schema is None:
            inferred = pa.RecordBatch.from_pydict(columns).schema
            schema = pa.schema([field.with_type(_widest_type(field.type)) for field in inferred])
        batch_schema = pa.schema(
            [schema.field(name) if name in schema.names else pa.field(name, pa.null()) for name in names]
        )
        return pa.RecordBatch.from_pydict(columns, schema=batch_schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise TypeMismatchError(f"rows of the query do not fit {schema}: {error}; give the source a schema") from error


def _widest_type(kind: pa.DataType) -> pa.DataType:
    """Returns the widest type of the kind that the first rows show. A column without values becomes text."""
    if pa.types.is_decimal(kind):
        return pa.decimal128(MAX_DIGITS, kind.scale)
    return pa.string() if pa.types.is_null(kind) else kind


def _watermark_text(value: Any) -> str:
    """Returns a watermark with its type, as the fence's value."""
    kind, value_text = next(
        ((name, write(value)) for name, (kind, write, _) in _KINDS.items() if type(value) is kind), (None, "")
    )
    if kind is None:
        raise InvalidArgumentError(f"a watermark cannot be a {type(value).__name__}; use a number, a text or a time")
    return json.dumps([kind, value_text])


def _watermark_value(text: str | None) -> Any:
    if text is None:
        return None
    kind, value_text = json.loads(text)
    return _KINDS[kind][2](value_text)


_KINDS: dict[str, tuple[type, Any, Any]] = {
    "int": (int, str, int),
    "float": (float, repr, float),
    "str": (str, str, str),
    "decimal": (decimal.Decimal, str, decimal.Decimal),
    "datetime": (dt.datetime, dt.datetime.isoformat, dt.datetime.fromisoformat),
    "date": (dt.date, dt.date.isoformat, dt.date.fromisoformat),
}
