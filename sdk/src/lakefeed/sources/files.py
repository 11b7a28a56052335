"""Rows of files in a known format: local paths and fsspec URLs."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import fsspec
import pyarrow as pa
from fsspec.core import split_protocol

from lakefeed.errors import FormatError, InvalidArgumentError, MissingFileError, SchemaError, TypeMismatchError, listed
from lakefeed.formats import FORMATS, FilePart, Format, format_of, stamp
from lakefeed.plan import Fragment, Pushdown, cut

FIELD_ID = b"PARQUET:field_id"


@dataclass(frozen=True)
class FilesSource:
    """Files of one format and one schema, in the order given."""

    urls: tuple[str, ...]
    format_name: str

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the first file, in types that hold what all of them have."""
        schemas = [self._format.schema(url) for url in self.urls]
        first = schemas[0]
        twice = sorted({name for name in first.names if first.names.count(name) > 1})
        if twice or not first.names:
            raise SchemaError(f"{self.urls[0]!r} needs columns of different names; more than once: {listed(twice)}")
        for url, other in zip(self.urls, schemas, strict=True):
            if sorted(other.names) != sorted(first.names):
                raise SchemaError(
                    f"{url!r} has columns {listed(other.names)} where {self.urls[0]!r} has {listed(first.names)}; "
                    "files read together must have the same columns"
                )
        try:
            return pa.unify_schemas([_plain(schema) for schema in schemas], promote_options="permissive")
        except pa.ArrowTypeError as error:
            raise TypeMismatchError(f"the files do not fit together, read them one by one: {error}") from error

    @property
    def identity(self) -> str:
        stamps = [(url, *stamp(url)) for url in self.urls]
        return f"{self.format_name}:{stamps}"

    @property
    def ranged(self) -> bool:
        return self._format.counted

    @property
    def nested(self) -> bool:
        return False

    def count(self) -> int | None:
        if not self._format.counted:
            return None
        return sum(part.rows or 0 for url in self.urls for part in self._format.parts(url, None))

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        # Places count before pruning, so a range and a predicate are applied one after the other.
        hint = pushdown.predicate if pushdown.rows is None else None
        found = (
            Fragment((url, part), part.rows, part.size) for url in self.urls for part in self._format.parts(url, hint)
        )
        return cut(found, pushdown.rows)

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        url, part = fragment.key
        assert isinstance(part, FilePart)
        columns = None if pushdown.columns is None else list(pushdown.columns)
        schema = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        for batch in self._format.read(url, part, self.schema, columns, fragment.start, fragment.stop):
            yield _fitted(batch, schema, url)

    def describe(self, pushdown: Pushdown) -> str:
        more = f" and {len(self.urls) - 1} more" if len(self.urls) > 1 else ""
        return f"{self.format_name} {self.urls[0]}{more}"

    @property
    def _format(self) -> Format:
        return FORMATS[self.format_name]


def files(locations: str | Sequence[str]) -> FilesSource:
    """The files at these paths, globs or URLs.

    Raises:
        MissingFileError: nothing is there.
        FormatError: a suffix that no format has.
        InvalidArgumentError: no location, or files of several formats.
    """
    given = [locations] if isinstance(locations, str) else list(locations)
    if not given:
        raise InvalidArgumentError("from_file needs at least one path")
    urls = tuple(url for location in given for url in _expand(str(location)))
    names = {format_of(url).name for url in urls}
    if len(names) > 1:
        raise InvalidArgumentError(
            f"from_file got files of several formats, {listed(sorted(names))}; read them one at a time"
        )
    return FilesSource(urls, names.pop())


def _expand(location: str) -> list[str]:
    protocol, _ = split_protocol(location)
    if protocol in ("http", "https"):
        format_of(location)
        return [location]  # whether it is there shows when it is read; a second request would only ask it twice
    fs, path = fsspec.core.url_to_fs(location)
    if glob.has_magic(location) and not fs.exists(path):
        found = [name for name in sorted(fs.glob(path)) if not fs.isdir(name)]
        if not found:
            raise MissingFileError(f"no file matches {location!r}")
        return [fs.unstrip_protocol(name) if protocol else name for name in found]
    format_of(location)
    if not fs.exists(path):
        raise MissingFileError(f"there is no file {location!r}")
    return [location]


def _plain(schema: pa.Schema) -> pa.Schema:
    """Without what only the file is about: its own metadata and the ids of its fields."""
    fields = []
    for field in schema:
        kept: dict[bytes | str, bytes | str] = {
            key: value for key, value in (field.metadata or {}).items() if key != FIELD_ID
        }
        fields.append(field.with_metadata(kept) if kept else field.remove_metadata())
    return pa.schema(fields)


def _fitted(batch: pa.RecordBatch, schema: pa.Schema, url: str) -> pa.RecordBatch:
    columns = [batch.column(name) for name in schema.names]
    try:
        fitted = [
            column if column.type.equals(field.type) else column.cast(field.type)
            for column, field in zip(columns, schema, strict=True)
        ]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise FormatError(f"{url!r} has values that do not fit the other files' types: {error}") from error
    return pa.RecordBatch.from_arrays(fitted, schema=schema)
