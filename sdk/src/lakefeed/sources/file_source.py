"""Rows of files in a known format: local paths and fsspec URLs, in archives and behind compressions too."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial, reduce
from typing import Any

import pyarrow as pa

from lakefeed._typing import Locations, Words
from lakefeed._validate import check_optional_schema
from lakefeed.errors import (
    FormatError,
    InvalidArgumentError,
    MissingFileError,
    SchemaError,
    TypeMismatchError,
    quoted_list,
)
from lakefeed.formats import FORMATS, Csv, FilePart, Format, file_stamp, format_by_name, format_of
from lakefeed.media import TYPE_KEY
from lakefeed.plan import Fragment, Lineage, Plain, Pushdown, cut, projected
from lakefeed.plan.arrays import exact_cast
from lakefeed.plan.duplicate_names import duplicate_names
from lakefeed.storage.archives.url_chains import parse_chain
from lakefeed.storage.disk.file_identity import Identities
from lakefeed.storage.listed_urls import is_remote
from lakefeed.storage.remote.retrying_file import NEVER_BUSY, WEB, asked
from lakefeed.storage.urls import decoded_file_url, redacted, shown, split_protocol

FIELD_ID = b"PARQUET:field_id"
CACHED_ATTRIBUTES: tuple[str, ...] = ("schema", "ranged")


@dataclass(frozen=True)
class FilesSource(Plain):
    """Files of one format and one schema, in the order given.

    ``declared``: the columns and types to read, instead of those that the files show; others are left out.
    ``null_values``: the cells of CSV that are null, instead of the usual ones.
    ``states``: the state in which each file was first seen. Whatever is read later has to be of that state; None: each
    run begins anew. What is pickled has to be in the state in which it was when its schema was read.
    """

    urls: tuple[str, ...]
    format_name: str
    declared: pa.Schema | None = None
    null_values: tuple[str, ...] | None = None
    states: Identities | None = field(default=None, compare=False, repr=False)
    planned: Identities = field(default_factory=Identities, compare=False, repr=False)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the first file, in types that hold what all of them have."""
        if self.declared is not None:
            for url in self._looked_at:
                self._format.check(url, self.declared, self._at_planning)
            return self.declared
        # What another machine says is a file column would be opened here, wherever its references lead.
        without = (FIELD_ID, TYPE_KEY) if self.remote else (FIELD_ID,)
        schemas = {
            url: _without_metadata(self._format.schema(url, self._at_planning), without) for url in self._looked_at
        }
        first = schemas[self.urls[0]]
        twice = duplicate_names(first.names)
        if twice or not first.names:
            raise SchemaError(
                f"{shown(self.urls[0])} needs columns of different names; more than once: {quoted_list(twice)}"
            )
        return reduce(self._joined, schemas.items(), first)

    @property
    def _looked_at(self) -> tuple[str, ...]:
        """The files that are opened for their schema: all of them, where that reads little and from near."""
        near = [url for url in self.urls if self._format.has_row_counts or _protocol(url) in NEVER_BUSY]
        return tuple(dict.fromkeys([self.urls[0], *near]))

    def _joined(self, schema: pa.Schema, more: tuple[str, pa.Schema]) -> pa.Schema:
        url, other = more
        if sorted(other.names) != sorted(schema.names):
            raise SchemaError(
                f"{shown(url)} has columns {quoted_list(other.names)} where {shown(self.urls[0])} has "
                f"{quoted_list(schema.names)}; files read together must have the same columns"
            )
        return pa.schema([self._wider(field, other.field(field.name), url) for field in schema])

    def _wider(self, field: pa.Field[Any], other: pa.Field[Any], url: str) -> pa.Field[Any]:
        try:
            return pa.unify_schemas([pa.schema([field]), pa.schema([other])], promote_options="permissive").field(0)
        except (pa.ArrowTypeError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise TypeMismatchError(
                f"column {field.name!r} is {other.type} in {shown(url)} and {field.type} in the files before it; these "
                "do not fit together: read them one by one, or give from_file(…, schema=…)"
            ) from error

    @property
    def identity(self) -> str:
        states = self._in_this_run
        stamps = [(url, *file_stamp(url, states)) for url in self.urls]
        types = "" if self.declared is None else f" as {self.declared.to_string(show_schema_metadata=False)}"
        nulls = "" if self.null_values is None else f" with nulls {self.null_values}"
        return f"{self.format_name}:{stamps}{types}{nulls}"

    @property
    def location(self) -> str:
        nulls = "" if self.null_values is None else f" with nulls {self.null_values}"
        return f"{self.format_name} {redacted(','.join(self.urls))}{nulls}"

    @property
    def exact_identity(self) -> bool:
        return True

    @cached_property
    def ranged(self) -> bool:
        states = self._in_this_run
        return self._format.has_row_counts and all(self._format.addressable(url, states) for url in self.urls)

    def count(self) -> int | None:
        if not self.ranged:
            return None
        states = self._in_this_run
        return sum(part.rows or 0 for url in self.urls for part in self._format.parts(url, None, states))

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        # Places count before pruning, so a range and a predicate are applied one after the other.
        hint = pushdown.predicate if pushdown.rows is None else None
        states = self._in_this_run
        found = (
            Fragment((url, part), part.rows, part.size)
            for url in self.urls
            for part in self._format.parts(url, hint, states)
        )
        return cut(found, pushdown.rows)

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        url, part = fragment.key
        assert isinstance(part, FilePart)
        strict, schema = self.declared is None, projected(self.schema, pushdown)
        columns = None if strict and pushdown.columns is None else schema.names
        batches = self._format.read(
            url, part, self.schema, columns, fragment.start, fragment.stop, strict=strict, states=self._in_this_run
        )
        for batch in batches:
            yield _conform_batch(batch, schema, url, all_of_it=columns is None)

    def describe(self, pushdown: Pushdown) -> str:
        more = f" and {len(self.urls) - 1} more" if len(self.urls) > 1 else ""
        return f"{self.format_name} {redacted(self.urls[0])}{more}"

    @property
    def remote(self) -> bool:
        """Whether any of the files lies on another machine."""
        return any(is_remote(url) for url in self.urls)

    @property
    def lineage(self) -> Lineage:
        return Lineage(untrusted=frozenset(self.schema.names if self.remote else ()))

    def bound(self, states: Identities) -> FilesSource:
        """These files in the states that a run sees them in, which others may share."""
        if self.states is not None:
            return self
        found = replace(self, states=states)
        found.__dict__.update({name: self.__dict__[name] for name in CACHED_ATTRIBUTES if name in self.__dict__})
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "states": self._at_planning}

    @property
    def _at_planning(self) -> Identities:
        return self.planned if self.states is None else self.states

    @property
    def _in_this_run(self) -> Identities:
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
    """The files at these paths, globs or URLs.

    Args:
        locations: one or several.
        schema: the columns and types to read, instead of those that the files show.
        form: the name of their format, instead of what the suffix says.
        null_values: the cells of CSV that are null, instead of the usual ones.

    Raises:
        MissingFileError: nothing is there.
        FormatError: a suffix that no format has, or no format of that name.
        InvalidArgumentError: no location, files of several formats, or a chain that leads nowhere, or null
            values for files that are not CSV.
    """
    given = check_locations(locations)
    schema, null_values = check_optional_schema(schema), check_null_values(null_values)
    if not given:
        raise InvalidArgumentError(f"from_file needs at least one path, not {locations!r}")
    known = None if form is None else format_by_name(form).name
    urls = tuple(url for location in given for url in _expand_location(str(location), known))
    names = {known or format_of(url).name for url in urls}
    if len(names) > 1:
        raise InvalidArgumentError(
            f"from_file got files of several formats, {quoted_list(sorted(names))}; read them one at a time"
        )
    (name,) = names
    if null_values is not None and not isinstance(FORMATS[name], Csv):
        raise InvalidArgumentError(f"null_values= says which cells of CSV are null; {shown(urls[0])} is read as {name}")
    return FilesSource(urls, name, schema, None if null_values is None else tuple(null_values))


def _expand_location(location: str, form: str | None) -> list[str]:
    chain = parse_chain(location)
    inside = location.removesuffix(chain.base)
    protocol, _ = split_protocol(chain.base)
    if not chain.base:
        raise InvalidArgumentError(f"{shown(location)} ends in '::' and so leads nowhere")
    if protocol in WEB:
        _ = form or format_of(location)
        return [location]  # whether it is there shows when it is read; a second request would only ask it twice
    decoded = decoded_file_url(chain.base)
    for base in [chain.base] if decoded is None else [decoded, chain.base]:
        if asked(base, lambda fs, path: fs.exists(path)):
            _ = form or format_of(inside + base)
            return [inside + base]
        if glob.has_magic(base):
            with_protocol = split_protocol(base)[0] is not None
            found = asked(base, partial(_glob_files, with_protocol=with_protocol))
            if found:
                return [f"{inside}{name}" for name in found]
    if glob.has_magic(decoded or chain.base):
        raise MissingFileError(f"no file matches {shown(location)}")
    _ = form or format_of(location)
    raise MissingFileError(f"there is no file {shown(chain.base)}")


def _glob_files(fs: Any, pattern: str, with_protocol: bool) -> list[str]:
    names = [name for name in sorted(fs.glob(pattern)) if not fs.isdir(name)]
    return [fs.unstrip_protocol(name) for name in names] if with_protocol else names


def _protocol(url: str) -> str | None:
    protocol: str | None = split_protocol(parse_chain(url).base)[0]
    return protocol


def _without_metadata(schema: pa.Schema, without: Sequence[bytes]) -> pa.Schema:
    """Without what only the file is about: its own metadata, and ``without`` that of its fields."""
    fields = []
    for column in schema:
        kept: dict[bytes | str, bytes | str] = {
            key: value for key, value in (column.metadata or {}).items() if key not in without
        }
        fields.append(column.with_metadata(kept) if kept else column.remove_metadata())
    return pa.schema(fields)


def _conform_batch(batch: pa.RecordBatch, schema: pa.Schema, url: str, *, all_of_it: bool) -> pa.RecordBatch:
    names = batch.schema.names
    if not frozenset(names).issuperset(schema.names) or (all_of_it and len(names) > len(schema)):
        raise SchemaError(
            f"{shown(url)} has columns {quoted_list(names)} where {quoted_list(schema.names)} were to be read; files "
            "read together must have the same columns"
        )
    columns = [_cast_column(batch.column(field.name), field, url) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast_column(column: pa.Array[Any], field: pa.Field[Any], url: str) -> pa.Array[Any]:
    try:
        fitted = exact_cast(column, field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise FormatError(
            f"{shown(url)}: column {field.name!r} has values that do not fit the type {field.type}: {error}. "
            "from_file(…, schema=…) says which types to read"
        ) from error
    if fitted.null_count and not field.nullable:
        raise FormatError(f"{shown(url)}: column {field.name!r} holds nulls, which the schema says it does not")
    return fitted


def check_locations(given: Any) -> list[str]:
    """Returns paths, globs or URLs as a list of text."""
    one = isinstance(given, str | os.PathLike)
    many = [given] if one else given
    if not isinstance(many, Sequence) or not all(isinstance(item, str | os.PathLike) for item in many):
        raise InvalidArgumentError(f"from_file takes a path or URL, or a list of them, not {given!r:.80}")
    return [os.fspath(item) for item in many]


def check_null_values(given: Any) -> list[str] | None:
    """Returns the texts that are null in CSV, or None."""
    if given is None:
        return None
    if not isinstance(given, list | tuple | set | frozenset) or not all(isinstance(word, str) for word in given):
        raise InvalidArgumentError(f'null_values= takes a list of texts, such as ["", "NA"], not {given!r:.80}')
    return sorted(given) if isinstance(given, set | frozenset) else list(given)
