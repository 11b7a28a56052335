"""A source of files in a known format: local paths and fsspec URLs, also in archives and compressed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial, reduce
from typing import Any

import pyarrow as pa

from lakefeed._typing import Block, Locations, Words
from lakefeed._validate import check_optional_schema
from lakefeed.catalog.categories import widen_indices
from lakefeed.errors import (
    FormatError,
    InvalidArgumentError,
    SchemaError,
    TypeMismatchError,
    quoted_list,
)
from lakefeed.formats import FORMATS, Csv, FilePart, Format, file_stamp, format_by_name, format_of
from lakefeed.media import TYPE_KEY
from lakefeed.plan import Fragment, Lineage, PlainSource, Pushdown, cut_fragments, project_schema
from lakefeed.plan.arrays import exact_cast
from lakefeed.plan.duplicate_names import duplicate_names
from lakefeed.sources.file_locations import check_locations, expand_location
from lakefeed.storage.archives.url_chains import parse_chain
from lakefeed.storage.disk.file_identity import Identities
from lakefeed.storage.listed_urls import is_remote
from lakefeed.storage.remote.retrying_file import DIRECT_PROTOCOLS
from lakefeed.storage.urls import display_url, redact, split_protocol

FIELD_ID = b"PARQUET:field_id"
CACHED_ATTRIBUTES: tuple[str, ...] = ("schema", "ranged")


@dataclass(frozen=True)
class FilesSource(PlainSource):
    """Files of one format and one schema, in the given order.

    ``declared``: the columns and types to read, instead of those of the files; other columns are dropped.
    ``null_values``: the cells of CSV that are null, instead of the defaults.
    ``states``: the state of each file when it was first read; later reads require the same state. None: each run starts
    anew. A pickled source requires the state of the files when their schema was read.
    """

    urls: tuple[str, ...]
    format_name: str
    declared: pa.Schema | None = None
    null_values: tuple[str, ...] | None = None
    states: Identities | None = field(default=None, compare=False, repr=False)
    planned: Identities = field(default_factory=Identities, compare=False, repr=False)

    @cached_property
    def schema(self) -> pa.Schema:
        """Returns the columns of the first file, in types that fit the values of all files."""
        if self.declared is not None:
            for url in self._schema_urls:
                self._format.check(url, self.declared, self._planning_states)
            return self.declared
        # File columns declared by another machine would let it choose which files are opened here.
        without = (FIELD_ID, TYPE_KEY) if self.remote else (FIELD_ID,)
        schemas = {
            url: widen_indices(_without_metadata(self._format.schema(url, self._planning_states), without))
            for url in self._schema_urls
        }
        first = schemas[self.urls[0]]
        duplicates = duplicate_names(first.names)
        if not first.names:
            raise SchemaError(f"{display_url(self.urls[0])} has no columns")
        if duplicates:
            raise SchemaError(
                f"{display_url(self.urls[0])} must have columns with different names; duplicates: "
                f"{quoted_list(duplicates)}"
            )
        return reduce(self._unify, schemas.items(), first)

    @property
    def _schema_urls(self) -> tuple[str, ...]:
        """Returns the files that are opened for their schema: all if that is cheap, else only the first."""
        cheap = [url for url in self.urls if self._format.has_row_counts or _protocol(url) in DIRECT_PROTOCOLS]
        return tuple(dict.fromkeys([self.urls[0], *cheap]))

    def _unify(self, schema: pa.Schema, item: tuple[str, pa.Schema]) -> pa.Schema:
        url, other = item
        if sorted(other.names) != sorted(schema.names):
            raise SchemaError(
                f"{display_url(url)} has columns {quoted_list(other.names)} where {display_url(self.urls[0])} has "
                f"{quoted_list(schema.names)}; files read together must have the same columns"
            )
        return pa.schema([self._unify_field(field, other.field(field.name), url) for field in schema])

    def _unify_field(self, field: pa.Field[Any], other: pa.Field[Any], url: str) -> pa.Field[Any]:
        try:
            return pa.unify_schemas([pa.schema([field]), pa.schema([other])], promote_options="permissive").field(0)
        except (pa.ArrowTypeError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise TypeMismatchError(
                f"column {field.name!r} is {other.type} in {display_url(url)} and {field.type} in the files before it; "
                "read the files separately, or declare the type: from_file(…, schema=…)"
            ) from error

    @property
    def identity(self) -> str:
        states = self._run_states
        stamps = [(url, *file_stamp(url, states)) for url in self.urls]
        types = "" if self.declared is None else f" as {self.declared.to_string(show_schema_metadata=False)}"
        nulls = "" if self.null_values is None else f" with nulls {self.null_values}"
        return f"{self.format_name}:{stamps}{types}{nulls}"

    @property
    def location(self) -> str:
        nulls = "" if self.null_values is None else f" with nulls {self.null_values}"
        return f"{self.format_name} {redact(','.join(self.urls))}{nulls}"

    @property
    def exact_identity(self) -> bool:
        return True

    @cached_property
    def ranged(self) -> bool:
        states = self._run_states
        return self._format.has_row_counts and all(self._format.addressable(url, states) for url in self.urls)

    def count(self) -> int | None:
        if not self.ranged:
            return None
        states = self._run_states
        return sum(part.rows or 0 for url in self.urls for part in self._format.parts(url, None, states))

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        # Row positions count before pruning, so a range and a predicate cannot be pushed together.
        hint = pushdown.predicate if pushdown.rows is None else None
        states = self._run_states
        fragments = (
            Fragment((url, part), part.rows, part.size)
            for url in self.urls
            for part in self._format.parts(url, hint, states)
        )
        return cut_fragments(fragments, pushdown.rows)

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        url, part = fragment.key
        assert isinstance(part, FilePart)
        inferred, schema = self.declared is None, project_schema(self.schema, pushdown)
        columns = None if inferred and pushdown.columns is None else schema.names
        batches = self._format.read(
            url, part, self.schema, columns, fragment.start, fragment.stop, strict=inferred, states=self._run_states
        )
        for batch in batches:
            yield _conform_batch(batch, schema, url, all_columns=columns is None)

    def blocks(self, fragment: Fragment, pushdown: Pushdown) -> Generator[Block] | None:
        url, part = fragment.key
        if part.rows is not None:
            return None
        inferred, schema = self.declared is None, project_schema(self.schema, pushdown)
        columns = None if inferred and pushdown.columns is None else schema.names
        blocks = self._format.blocks(url, self.schema, columns, strict=inferred, states=self._run_states)
        if blocks is None:
            return None

        def conform(block: Block) -> list[pa.RecordBatch]:
            return [_conform_batch(batch, schema, url, all_columns=columns is None) for batch in block()]

        return _decoded(blocks, conform)

    def describe(self, pushdown: Pushdown) -> str:
        more = f" and {len(self.urls) - 1} more" if len(self.urls) > 1 else ""
        return f"{self.format_name} {redact(self.urls[0])}{more}"

    @property
    def remote(self) -> bool:
        """Returns whether any of the files is on another machine."""
        return any(is_remote(url) for url in self.urls)

    @property
    def lineage(self) -> Lineage:
        return Lineage(untrusted=frozenset(self.schema.names if self.remote else ()))

    def bound(self, states: Identities) -> FilesSource:
        """Returns the source bound to the file states of a run, which other sources may share."""
        if self.states is not None:
            return self
        bound = replace(self, states=states)
        bound.__dict__.update({name: self.__dict__[name] for name in CACHED_ATTRIBUTES if name in self.__dict__})
        return bound

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "states": self._planning_states}

    @property
    def _planning_states(self) -> Identities:
        return self.planned if self.states is None else self.states

    @property
    def _run_states(self) -> Identities:
        return Identities() if self.states is None else self.states

    @property
    def _format(self) -> Format:
        form = FORMATS[self.format_name]
        if self.null_values is None or not isinstance(form, Csv):
            return form
        return replace(form, null_values=self.null_values)


def create_file_source(
    locations: Locations,
    schema: pa.Schema | None = None,
    form: str | None = None,
    null_values: Words = None,
) -> FilesSource:
    """Returns the source of files at paths, globs or URLs.

    Args:
        locations: one or several paths, globs or URLs.
        schema: the columns and types to read, instead of those of the files.
        form: the name of the format, instead of the format of the suffix.
        null_values: the cells of CSV that are null, instead of the defaults.

    Raises:
        MissingFileError: a file does not exist, or no file matches a glob.
        FormatError: the suffix or ``form`` is not a known format.
        InvalidArgumentError: there are no locations or several formats, a chain has no base, or null values are given
            for files that are not CSV.
    """
    paths = check_locations(locations)
    schema, null_values = check_optional_schema(schema), check_null_values(null_values)
    if not paths:
        raise InvalidArgumentError(f"from_file needs at least one path, got {locations!r}")
    known = None if form is None else format_by_name(form).name

    def check_name(name: str) -> None:
        _ = known or format_of(name)

    urls = tuple(url for location in paths for url in expand_location(location, check_name))
    names = {known or format_of(url).name for url in urls}
    if len(names) > 1:
        raise InvalidArgumentError(
            f"from_file got files of several formats, {quoted_list(sorted(names))}; read each format separately"
        )
    (name,) = names
    if null_values is not None and not isinstance(FORMATS[name], Csv):
        raise InvalidArgumentError(f"null_values is for CSV only, and {display_url(urls[0])} is read as {name}")
    return FilesSource(urls, name, schema, None if null_values is None else tuple(null_values))


def _protocol(url: str) -> str | None:
    protocol: str | None = split_protocol(parse_chain(url).base)[0]
    return protocol


def _without_metadata(schema: pa.Schema, without: Sequence[bytes]) -> pa.Schema:
    """Returns the schema without its own metadata and without the keys ``without`` of its fields."""
    fields = []
    for column in schema:
        metadata: dict[bytes | str, bytes | str] = {
            key: value for key, value in (column.metadata or {}).items() if key not in without
        }
        fields.append(column.with_metadata(metadata) if metadata else column.remove_metadata())
    return pa.schema(fields)


def _decoded(blocks: Generator[Block], conform: Callable[[Block], list[pa.RecordBatch]]) -> Generator[Block]:
    """Yields functions that return the rows of the blocks after ``conform``."""
    with closing(blocks):
        for block in blocks:
            try:
                yield partial(conform, block)
            except FormatError as error:
                blocks.throw(error)


def _conform_batch(batch: pa.RecordBatch, schema: pa.Schema, url: str, *, all_columns: bool) -> pa.RecordBatch:
    names = batch.schema.names
    if not frozenset(names).issuperset(schema.names) or (all_columns and len(names) > len(schema)):
        raise SchemaError(
            f"{display_url(url)} has columns {quoted_list(names)}, expected {quoted_list(schema.names)}; files "
            "read together must have the same columns"
        )
    columns = [_cast_column(batch.column(field.name), field, url) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast_column(column: pa.Array[Any], field: pa.Field[Any], url: str) -> pa.Array[Any]:
    try:
        values = exact_cast(column, field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise FormatError(
            f"{display_url(url)}: column {field.name!r} has values that do not fit {field.type}: {error}. "
            "Declare another type: from_file(…, schema=…)"
        ) from error
    if values.null_count and not field.nullable:
        raise FormatError(f"{display_url(url)}: column {field.name!r} has nulls, but is not nullable in the schema")
    return values


def check_null_values(null_values: Any) -> list[str] | None:
    """Returns the texts that are null in CSV, or None.

    Raises:
        InvalidArgumentError: the values are not a list of texts.
    """
    if null_values is None:
        return None
    if not isinstance(null_values, list | tuple | set | frozenset) or not all(
        isinstance(word, str) for word in null_values
    ):
        raise InvalidArgumentError(f'null_values must be a list of texts, such as ["", "NA"], got {null_values!r:.80}')
    return sorted(null_values) if isinstance(null_values, set | frozenset) else list(null_values)
