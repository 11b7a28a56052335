"""A source of .h5ad files: their cells as rows, obs as columns, and X or a layer as a column of rows of a matrix.

Nothing is converted: fragments are ranges of rows that are read from the chunks of the files. The source is bound to
the states that the files had when it was made; later changes are an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lakefeed._units import MIB
from lakefeed.arrays.arrow_arrays import number_array
from lakefeed.arrays.arrow_cells import MatrixForm, X, check_columns, matrix_array, matrix_field
from lakefeed.arrays.byte_sources import ByteSource, byte_source, check_suffix
from lakefeed.arrays.cell_file import CellFile, MatrixFacts, read_cell_files
from lakefeed.arrays.cell_matrix import CellMatrix, Positions, Rows
from lakefeed.arrays.chunked_array import ChunkCache
from lakefeed.arrays.decode_threads import map_in_threads
from lakefeed.arrays.h5ad_file import SUFFIXES, require_no_zarr
from lakefeed.arrays.joint_matrix import JointMatrix
from lakefeed.arrays.obs_columns import (
    OBS_NAMES,
    CategoryColumn,
    NumberColumn,
    ObsColumn,
    dictionary_type,
    read_columns,
)
from lakefeed.arrays.variable_join import Columns, JoinVars, check_join, join_variables
from lakefeed.catalog.categories import MAX_UNORDERED_BYTES, declare_categories
from lakefeed.errors import InvalidArgumentError, SchemaError, TypeMismatchError, quoted_list
from lakefeed.expr import Expr, evaluate, roots
from lakefeed.plan import Fragment, Lineage, Pushdown, RangedSource, cut_fragments, project_schema
from lakefeed.plan.take_rows import take_values
from lakefeed.sources.file_locations import check_locations, expand_location
from lakefeed.storage.disk.file_identity import Identities
from lakefeed.storage.listed_urls import is_remote
from lakefeed.storage.remote.retrying_file import identity_at
from lakefeed.storage.urls import display_url, redact

FRAGMENT_BYTES: Final = 8 * MIB
MAX_FRAGMENT_ROWS: Final = 1 << 16
CACHED_BYTES: Final = 128 * MIB
"""Decoded chunks of obs that are held, of all files together."""
MIN_CACHED_BYTES: Final = MIB
CACHED_CHUNKS: Final = 1 << 12


@dataclass(frozen=True)
class CellColumns:
    """The columns of all files together.

    Attributes:
        files: the structure of each file, by its URL.
        schema: the columns.
        width: the number of variables that are read.
        selected: which variables of each file are read, in order; None: all.
    """

    files: Mapping[str, CellFile]
    schema: pa.Schema
    width: int
    selected: Mapping[str, Columns | None]


@dataclass(frozen=True)
class AnndataSource(RangedSource):
    """The cells of .h5ad files, in the given order.

    ``layer``: the layer that is read in place of X. ``form``: the type of the column of the matrix; None: it is not
    read. ``obs``: the columns of obs; None: all. ``join_vars``: how variables are joined that differ between files.
    """

    urls: tuple[str, ...]
    layer: str | None
    form: MatrixForm | None
    obs: tuple[str, ...] | None
    join_vars: JoinVars
    states: Identities = field(default_factory=Identities, compare=False, repr=False)

    @cached_property
    def columns(self) -> CellColumns:
        """The columns of all files, read when the source is made and pickled with it."""
        files = self._describe(list(dict.fromkeys(self.urls)))
        width, selected = self._join(files)
        fields = [self._common_field(name, files) for name in _common_names(files)]
        if self.form is not None:
            if X in [each.name for each in fields]:
                raise SchemaError(
                    f"obs has a column {X!r}, which is the name for the matrix; name the columns to read: "
                    "from_anndata(…, obs=[…])"
                )
            fields.append(_matrix_field(self.form, width, _facts(files.values())))
        return CellColumns(files, pa.schema(fields), width, selected)

    @property
    def schema(self) -> pa.Schema:
        return self.columns.schema

    @property
    def identity(self) -> str:
        stamps = [(url, *identity_at(url, self.states).stamp) for url in self.urls]
        return f"anndata:{stamps} layer={self.layer} x={self.form} obs={self.obs} join_vars={self.join_vars}"

    @property
    def location(self) -> str:
        return f"anndata {redact(','.join(self.urls))}"

    @property
    def immutable(self) -> bool:
        return True  # every read requires the states that `identity` names

    @property
    def lineage(self) -> Lineage:
        return Lineage(untrusted=frozenset(self.schema.names if any(map(is_remote, self.urls)) else ()))

    def count(self) -> int:
        return sum(self.columns.files[url].rows for url in self.urls)

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        read = frozenset(project_schema(self.schema, pushdown).names)
        return cut_fragments((part for url in self.urls for part in self._cut(url, read)), pushdown.rows)

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        url, first = fragment.key
        start = first + fragment.start
        stop = start + (fragment.length or 0)
        schema = project_schema(self.schema, pushdown)
        chosen = self._matching(url, start, stop, pushdown.predicate)
        rows = np.arange(start, stop) if chosen is None else start + chosen
        if not len(rows):
            return
        values = self._obs_values(url, [each for each in schema if not self._is_matrix(each.name)], start, stop)
        if chosen is not None:
            values = {name: take_values(each, number_array(chosen)) for name, each in values.items()}
        columns = [
            self._matrix_values(url, each, rows) if self._is_matrix(each.name) else values[each.name] for each in schema
        ]
        if columns:
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
        else:
            yield pa.RecordBatch.from_arrays([pa.nulls(len(rows))], ["rows"]).select([])

    def describe(self, pushdown: Pushdown) -> str:
        more = f" and {len(self.urls) - 1} more" if len(self.urls) > 1 else ""
        return f"anndata {redact(self.urls[0])}{more}, {self.count()} cells"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_open"}

    def _describe(self, urls: Sequence[str]) -> dict[str, CellFile]:
        sources = map_in_threads(lambda url: byte_source(url, self.states), urls)
        for source in sources:
            check_suffix(source, SUFFIXES)
        files = read_cell_files(sources, self.layer, self.obs, with_matrix=self.form is not None)
        return dict(zip(urls, files, strict=True))

    def _common_field(self, name: str, files: Mapping[str, CellFile]) -> pa.Field[Any]:
        """Returns the field of a column of obs. One without values, which pandas stores as numbers, fits any type."""
        try:
            return _common_field(name, files)
        except TypeMismatchError:
            valued = {url: file for url, file in files.items() if not self._is_missing(url, file.columns[name])}
            if not valued or len(valued) == len(files):
                raise
            return _common_field(name, valued)

    def _is_missing(self, url: str, column: ObsColumn) -> bool:
        if isinstance(column, CategoryColumn):
            return not len(column.categories)
        if not isinstance(column, NumberColumn) or (column.mask is None and not pa.types.is_floating(column.type)):
            return False
        return column.read(byte_source(url, self.states), None, 0, len(column)).null_count == len(column)

    def _join(self, files: Mapping[str, CellFile]) -> tuple[int, dict[str, Columns | None]]:
        if self.form is None:
            return 0, {}
        stored = [file.var_names for file in files.values()]
        if all(each.equals(stored[0]) for each in stored[1:]):
            return len(stored[0]), dict.fromkeys(files)
        names = [[str(name) for name in each.to_pylist()] for each in stored]
        joint, selected = join_variables(names, list(map(redact, files)), self.join_vars)
        return len(joint), dict(zip(files, selected, strict=True))

    def _cut(self, url: str, read: frozenset[str]) -> Iterator[Fragment]:
        """Yields the fragments of a file. They do not depend on the columns that are read, but their sizes do."""
        file = self.columns.files[url]
        obs_bytes = {name: column.row_bytes for name, column in file.columns.items()}
        x_bytes = 0 if file.matrix is None else self._matrix_bytes(file.matrix)
        step = min(max(FRAGMENT_BYTES // max(sum(obs_bytes.values()) + x_bytes, 1), 1), MAX_FRAGMENT_ROWS)
        row_bytes = sum(size for name, size in obs_bytes.items() if name in read) + (x_bytes if X in read else 0)
        for start in range(0, file.rows, step):
            rows = min(step, file.rows - start)
            yield Fragment((url, start), rows, max(rows * row_bytes, 1))

    def _matrix_bytes(self, matrix: MatrixFacts) -> int:
        if matrix.is_sparse and self.form == "sparse":
            return matrix.row_bytes
        return self.columns.width * matrix.dtype.itemsize

    def _matching(self, url: str, start: int, stop: int, predicate: Expr | None) -> Positions | None:
        """Returns the rows for which the predicate is true, from ``start`` on; None if it reads the matrix, or all are.

        A filter above the source is exact.
        """
        if predicate is None:
            return None
        names = roots(predicate)
        fields = [each for each in self.schema if each.name in names]
        if not fields or any(self._is_matrix(name) for name in names):
            return None
        values = list(self._obs_values(url, fields, start, stop).values())
        mask: Any = evaluate(predicate, pa.RecordBatch.from_arrays(values, schema=pa.schema(fields)))
        chosen: Positions = np.flatnonzero(mask.fill_null(False).to_numpy(zero_copy_only=False))
        return None if len(chosen) == stop - start else chosen

    def _is_matrix(self, name: str) -> bool:
        return name == X and self.form is not None

    def _obs_values(self, url: str, fields: Sequence[pa.Field[Any]], start: int, stop: int) -> dict[str, pa.Array[Any]]:
        """Returns columns of obs by name, in the order of ``fields``."""
        opened, stored = self._open, self.columns.files[url].columns
        wanted = {each.name: stored[each.name] for each in fields}
        values = read_columns(wanted, opened.source(url), opened.cache(url), start, stop) if wanted else {}
        return {each.name: _conform(values[each.name], each, url) for each in fields}

    def _matrix_values(self, url: str, column: pa.Field[Any], rows: Positions) -> pa.Array[Any]:
        return matrix_array(self._open.matrix(url).take(rows), column.type)

    @cached_property
    def _open(self) -> _OpenFiles:
        return _OpenFiles(self)


class _OpenFiles:
    """The files of a source as this process reads them. No handle stays open."""

    def __init__(self, source: AnndataSource) -> None:
        self._urls, self._form, self._states = source.urls, source.form, source.states
        self._columns = source.columns
        self._sources: dict[str, ByteSource] = {}
        self._caches: dict[str, ChunkCache] = {}
        self._matrices: dict[str, JointMatrix] = {}
        self._lock = Lock()

    def source(self, url: str) -> ByteSource:
        """Returns the bytes of a file."""
        with self._lock:
            return self._source(url)

    def cache(self, url: str) -> ChunkCache:
        """Returns the decoded chunks of obs of a file."""
        with self._lock:
            if url not in self._caches:
                most_bytes = max(CACHED_BYTES // len(self._urls), MIN_CACHED_BYTES)
                self._caches[url] = ChunkCache(CACHED_CHUNKS, most_bytes)
            return self._caches[url]

    def matrix(self, url: str) -> JointMatrix:
        """Returns the matrix of a file, with the variables that are read of it."""
        with self._lock:
            if url not in self._matrices:
                columns = self._columns
                facts = columns.files[url].matrix
                assert facts is not None, "the source has a column of the matrix"
                part = ContiguousRows(facts.layout.open(self._source(url), None))
                dtype = _matrix_dtype(columns.files.values())
                selected, is_sparse = columns.selected[url], self._form == "sparse"
                self._matrices[url] = JointMatrix([part], [selected], columns.width, dtype, is_sparse)
            return self._matrices[url]

    def _source(self, url: str) -> ByteSource:
        if url not in self._sources:
            self._sources[url] = byte_source(url, self._states)
        return self._sources[url]


class ContiguousRows:
    """A matrix that reads rows which follow one another at once.

    Args:
        matrix: the matrix.
    """

    def __init__(self, matrix: CellMatrix) -> None:
        self._matrix = matrix
        self.shape, self.dtype, self.is_sparse = matrix.shape, matrix.dtype, matrix.is_sparse

    def read(self, start: int, stop: int) -> Rows:
        """Returns the rows from ``start`` to before ``stop``."""
        return self._matrix.read(start, stop)

    def take(self, rows: Positions) -> Rows:
        """Returns rows in any order."""
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and bool((np.diff(rows) == 1).all()):
            return self._matrix.read(int(rows[0]), int(rows[-1]) + 1)
        return self._matrix.take(rows)


def create_anndata_source(locations: Any, layer: Any, form: Any, obs: Any, join_vars: Any) -> AnndataSource:
    """Returns the source of .h5ad files at paths, globs or URLs.

    Args:
        locations: one or several paths, globs or URLs.
        layer: the name of a layer; None for X.
        form: "sparse", "dense", or None to read no matrix.
        obs: the names of columns of obs; None for all.
        join_vars: "auto", "inner" or None, as `lakefeed.arrays.variable_join.join_variables` takes it.

    Raises:
        InvalidArgumentError: an argument is malformed, or a matrix is stored by columns (CSC).
        MissingFileError: a file does not exist, or no file matches a glob.
        FormatError: a file is not a .h5ad file, or it is damaged.
        ColumnNotFoundError: a file lacks a column of obs or the layer.
        SchemaError: the files have different columns or variables.
        MissingDependencyError: the extra ``anndata`` is not installed.
    """
    paths = check_locations(locations, "from_anndata")
    if not paths:
        raise InvalidArgumentError(f"from_anndata needs at least one path, got {locations!r}")
    for path in paths:
        require_no_zarr(path)
    chain = next((path for path in paths if "::" in path), None)
    if chain is not None:
        raise InvalidArgumentError(f"from_anndata reads no files in archives: extract {display_url(chain)} first")
    names = check_columns(layer, form, obs)
    join = check_join(join_vars)
    urls = tuple(url for path in paths for url in expand_location(path, str))
    source = AnndataSource(urls, layer, form, names, join)
    _ = source.columns  # what does not fit is an error of this call
    return source


def _common_names(files: Mapping[str, CellFile]) -> list[str]:
    """Returns the columns of obs, which all files have."""
    (first, file), *others = files.items()
    names = list(file.columns)
    for url, other in others:
        if set(other.columns) != set(names):
            shared = [name for name in names if name in other.columns and name != OBS_NAMES]
            raise SchemaError(
                f"obs of {display_url(url)} has the columns {quoted_list(other.columns)} where {display_url(first)} "
                f"has {quoted_list(names)}; name columns that all files have, such as obs={shared}"
            )
    return names


def _common_field(name: str, files: Mapping[str, CellFile]) -> pa.Field[Any]:
    """Returns the field of a column of obs, in a type that fits all files.

    Raises:
        TypeMismatchError: no type fits.
    """
    if name == OBS_NAMES:
        return pa.field(name, pa.string())
    stored = [file.columns[name] for file in files.values()]
    kinds = list(dict.fromkeys(column.type for column in stored))
    dictionaries = [column.categories for column in stored if isinstance(column, CategoryColumn)]
    if len(dictionaries) == len(stored) and len({each.type for each in dictionaries}) == 1:
        same = all(each.equals(dictionaries[0]) for each in dictionaries)
        ordered = same and all(pa.types.is_dictionary(kind) and kind.ordered for kind in kinds)
        column = pa.field(name, dictionary_type(dictionaries[0].type, ordered))
        small = dictionaries[0].nbytes <= MAX_UNORDERED_BYTES
        return declare_categories(column, dictionaries[0]) if same and small else column
    plain = [kind.value_type if isinstance(kind, pa.DictionaryType) else kind for kind in kinds]
    if len(kinds) == 1:
        return pa.field(name, kinds[0])
    try:
        schemas = [pa.schema([pa.field(name, kind)]) for kind in plain]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0)
    except (pa.ArrowTypeError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TypeMismatchError(
            f"column {name!r} of obs is {quoted_list(kinds)} in different files of {quoted_list(map(redact, files))}; "
            "leave it out (obs=[…]), or read the files separately"
        ) from error


def _conform(values: Any, column: pa.Field[Any], url: str) -> pa.Array[Any]:
    """Returns the values of a column of a file as the type of the column in all files.

    Raises:
        TypeMismatchError: the type lacks one of the values.
    """
    kind: Any = column.type
    if values.type.equals(kind):
        plain: pa.Array[Any] = values
        return plain
    if values.null_count == len(values):
        missing: pa.Array[Any] = pa.nulls(len(values), kind)
        return missing
    if isinstance(kind, pa.DictionaryType):  # only the order differs
        array: pa.Array[Any] = pa.DictionaryArray.from_arrays(values.indices, values.dictionary, ordered=kind.ordered)
        return array
    decoded = values.dictionary_decode() if isinstance(values, pa.DictionaryArray) else values
    try:
        cast: pa.Array[Any] = decoded.cast(kind)
    except pa.ArrowInvalid as error:
        raise TypeMismatchError(
            f"column {column.name!r} of obs is {kind} for all files together, which lacks a value of "
            f"{display_url(url)}: {error}; leave it out (obs=[…]), or read the files separately"
        ) from error
    return cast


def _facts(files: Any) -> list[MatrixFacts]:
    return [file.matrix for file in files if file.matrix is not None]


def _matrix_dtype(files: Any) -> np.dtype[Any]:
    """Returns the type that holds the values of all matrices."""
    dtypes: Sequence[np.dtype[Any]] = [facts.dtype for facts in _facts(files)]
    return np.result_type(*dtypes)


def _matrix_field(form: MatrixForm, width: int, matrices: Sequence[MatrixFacts]) -> pa.Field[Any]:
    return matrix_field(form, width, np.result_type(*(facts.dtype for facts in matrices)))
