"""Rows of files in a known format: local paths and fsspec URLs."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import fsspec
import pyarrow as pa
from fsspec.core import split_protocol

from lakefeed.errors import InvalidArgumentError, MissingFileError, SchemaError
from lakefeed.formats import FORMATS, FilePart, Format, format_of, stamp
from lakefeed.plan import Fragment, Pushdown, cut


@dataclass(frozen=True)
class FilesSource:
    """Files of one format and one schema, in the order given."""

    urls: tuple[str, ...]
    format_name: str

    @cached_property
    def schema(self) -> pa.Schema:
        schema = self._format.schema(self.urls[0])
        for url in self.urls[1:]:
            other = self._format.schema(url)
            if other.names != schema.names:
                raise SchemaError(
                    f"{url!r} has columns {other.names} where {self.urls[0]!r} has {schema.names}; "
                    "files read together must have the same columns"
                )
        return schema.remove_metadata()

    @property
    def identity(self) -> str:
        stamps = [(url, *stamp(url)) for url in self.urls]
        return f"{self.format_name}:{stamps}"

    @property
    def ranged(self) -> bool:
        return self._format.counted

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
            yield batch if batch.schema.equals(schema, check_metadata=True) else batch.select(schema.names).cast(schema)

    def describe(self) -> str:
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
        raise InvalidArgumentError(f"from_file got files of several formats, {sorted(names)}; read them one at a time")
    return FilesSource(urls, names.pop())


def _expand(location: str) -> list[str]:
    format_of(location)
    protocol, _ = split_protocol(location)
    if glob.has_magic(location) and protocol not in ("http", "https"):
        found = sorted(file.full_name if protocol else file.path for file in fsspec.open_files(location, "rb"))
        if not found:
            raise MissingFileError(f"no file matches {location!r}")
        return found
    fs, path = fsspec.core.url_to_fs(location)
    if not fs.exists(path):
        raise MissingFileError(f"there is no file {location!r}")
    return [location]
