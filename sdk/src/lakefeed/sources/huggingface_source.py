"""A source of Hugging Face datasets, and the export of rows to them (the extra ``huggingface``).

Image, Audio, Video, Mesh, Pdf and Nifti become file columns of contents. Sounds and videos that a dataset in memory
knows only by local path become file columns of paths. Class labels stay integers, and the field's metadata holds their
names (`NAMES_KEY`, JSON).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from lakefeed._units import MIB
from lakefeed.errors import (
    FileError,
    FormatError,
    InvalidArgumentError,
    MissingDependencyError,
    MissingFileError,
    UnsupportedError,
    quoted_list,
)
from lakefeed.media import TYPE_KEY, column_type
from lakefeed.media.python_objects import encode_picture
from lakefeed.plan import Fragment, PlainSource, Pushdown, cut_fragments, project_schema
from lakefeed.plan.arrays import exact_cast
from lakefeed.plan.fingerprint import digest
from lakefeed.storage.urls import expand_home

if TYPE_CHECKING:
    from datasets import Dataset, Features, IterableDataset

NAMES_KEY = b"lakefeed.names"
FRAGMENT_BYTES = 32 * MIB
FRAGMENT_ROWS = 8_192
STREAM_ROWS = 256
"""The number of rows in a batch of a stream; the first row waits for all of them."""

EMBED_ROWS = 8
"""The number of files that are read together from their paths; they may be videos."""

MAX_DEPTH = 8
STREAM_SHARDS = 16
"""The number of shards of a stream, which is also the maximum number of worker processes."""

# By class name, because older versions of `datasets` lack some.
_MEDIA_TYPES = {"Image": "image", "Audio": "audio", "Video": "video", "Mesh": "3d", "Pdf": "file", "Nifti": "file"}
_DECODED_KINDS = {"Image": "Image", "AudioDecoder": "Audio", "VideoDecoder": "Video"}
_LONG_MEDIA = frozenset({"Audio", "Video"})  # too large to hold in memory if a path suffices
_FEATURE_NAMES = {"image": "Image", "audio": "Audio", "video": "Video", "3d": "Mesh"}


@dataclass(frozen=True, eq=False)
class HuggingFaceSource(PlainSource):
    """The rows of a ``datasets.Dataset`` or, streamed, of a ``datasets.IterableDataset``."""

    dataset: Dataset | IterableDataset

    @cached_property
    def schema(self) -> pa.Schema:
        """Returns the features as Arrow types."""
        features = self.dataset.features
        return pa.schema(
            [_arrow_field(field, features[field.name], self._has_paths(field)) for field in features.arrow_schema]
        )

    @cached_property
    def identity(self) -> str:
        if self.ranged:
            return f"huggingface:{self.dataset._fingerprint}"
        return f"huggingface:{digest(_stream_definition(self.dataset))}"

    @property
    def exact_identity(self) -> bool:
        return self.ranged

    @property
    def ranged(self) -> bool:
        return hasattr(self.dataset, "num_rows")

    def _has_paths(self, field: pa.Field[Any]) -> bool:
        """Returns whether the column has sounds or videos that are known only by local paths."""
        if not self.ranged or type(self.dataset.features[field.name]).__name__ not in _LONG_MEDIA:
            return False
        column = self.dataset.data.column(field.name)
        contents, paths = (pc.struct_field(column, [field.type.get_field_index(name)]) for name in ("bytes", "path"))
        remote = pc.any(pc.match_substring(paths, "://")).as_py()
        return bool(contents.null_count == len(column) and paths.null_count < len(column) and not remote)

    def count(self) -> int | None:
        return len(self.dataset) if self.ranged else None

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        total = self.count()
        if total is None:
            yield Fragment("all", None)
            return
        row_bytes = max(self.dataset.data.nbytes // max(self.dataset.data.num_rows, 1), 1)
        step = min(max(FRAGMENT_BYTES // row_bytes, 1), FRAGMENT_ROWS)
        lengths = ((start, min(step, total - start)) for start in range(0, total, step))
        yield from cut_fragments((Fragment(start, rows, rows * row_bytes) for start, rows in lengths), pushdown.rows)

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        schema = project_schema(self.schema, pushdown)
        selection: Any = self.dataset.select_columns(schema.names).with_format("arrow")
        with _translate_errors():
            if fragment.rows is None:
                tables = selection.iter(batch_size=STREAM_ROWS)
            else:
                start = fragment.key + fragment.start
                tables = iter([selection[start : start + (fragment.length or 0)]])
            for table in tables:
                for batch in table.to_batches():
                    yield _convert_batch(batch, schema, self.dataset.features)

    def describe(self, pushdown: Pushdown) -> str:
        name = getattr(self.dataset.info, "builder_name", None) or type(self.dataset).__name__
        rows = self.count()
        return f"huggingface {name}{'' if rows is None else f' ({rows} rows)'}"


def create_huggingface_source(
    dataset: Any, split: str | None, streaming: Any, options: Mapping[str, Any]
) -> HuggingFaceSource:
    """Returns the source of a name on the hub (or a folder, or a format such as "json"), or of a dataset in memory.

    Raises:
        MissingDependencyError: `datasets` is not installed.
        MissingFileError: the dataset does not exist.
        FileError: the dataset cannot be reached.
        InvalidArgumentError: the split or configuration does not exist.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError("from_huggingface needs datasets: pip install 'lakefeed[huggingface]'") from error
    if not isinstance(streaming, bool):
        raise InvalidArgumentError(f"streaming must be True or False, got {streaming!r:.80}")
    if isinstance(dataset, str | os.PathLike):
        with _translate_errors(), _translate_choice_errors():
            dataset = datasets.load_dataset(
                expand_home(os.fspath(dataset)), split=split, streaming=streaming, **options
            )
    elif options:
        raise InvalidArgumentError(f"{quoted_list(options)} can only be used when a dataset is loaded by name")
    elif split is not None and not isinstance(dataset, Mapping):
        raise InvalidArgumentError(f"split={split!r} cannot be used with a dataset that is one split; omit it")
    selected = _choose_split(dataset, split)
    if not isinstance(selected, datasets.Dataset | datasets.IterableDataset):
        raise InvalidArgumentError(
            f"from_huggingface takes a name, a datasets.Dataset or an IterableDataset, got {type(dataset).__name__}"
        )
    if selected.features is None:
        with _translate_errors():
            selected = _resolve_features(selected)
    if not selected.features:
        raise InvalidArgumentError("the dataset has no columns")
    return HuggingFaceSource(selected)


def _resolve_features(stream: Any) -> Any:
    """Returns a mapped stream with its columns. Only its first rows show them.

    Its function was given decoded images, sounds and videos, and returns such. They are encoded again, images without
    loss.
    """
    import datasets

    head = stream.with_format(None)._head()
    media = {name: kind for name, cells in head.items() if (kind := _decoded_kind(cells)) is not None}
    if not media:
        return stream._resolve_features()
    plain = pa.Table.from_pydict({name: cells for name, cells in head.items() if name not in media})
    features = dict(datasets.Features.from_arrow_schema(plain.schema))
    ordered = {name: getattr(datasets, media[name])() if name in media else features[name] for name in head}
    arguments = {"names": [name for name, kind in media.items() if kind == "Image"]}
    return stream.with_format(None).map(_encode_images, fn_kwargs=arguments, features=datasets.Features(ordered))


def _decoded_kind(cells: Sequence[Any]) -> str | None:
    """Returns the name of the feature whose decoded values these are."""
    classes = [kind for cell in cells if cell is not None for kind in type(cell).__mro__]
    return next((name for kind in classes if (name := _DECODED_KINDS.get(kind.__name__)) and not _is_plain(kind)), None)


def _is_plain(kind: type) -> bool:
    return kind.__module__.split(".")[0] not in {"PIL", "datasets", "torchcodec"}


def _encode_images(row: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    images = {name: row[name] for name in names if hasattr(row.get(name), "save")}
    return {**row, **{name: {"bytes": encode_picture(image), "path": None} for name, image in images.items()}}


def export_rows(rows: Any, schema: pa.Schema, streaming: bool) -> Dataset | IterableDataset:
    """Returns the rows as a dataset of ``datasets``: in memory, or ``streaming``."""
    return to_iterable_dataset(rows, schema) if streaming else to_dataset(rows, schema)


def to_dataset(rows: Any, schema: pa.Schema) -> Dataset:
    """Returns the rows as a ``datasets.Dataset`` in memory, with image bytes as Image and named integers as ClassLabel.

    Args:
        rows: a dataset of this package.
        schema: the schema before files were loaded, with the media types of the columns.

    Raises:
        MissingDependencyError: `datasets` is not installed.
        UnsupportedError: `datasets` lacks the type of a column.
    """
    datasets = import_datasets("to_huggingface")
    features, plain = _encode_table(with_field_metadata(rows.collect(), schema))
    return datasets.Dataset(datasets.table.InMemoryTable(plain), info=datasets.DatasetInfo(features=features))


def to_iterable_dataset(rows: Any, schema: pa.Schema) -> IterableDataset:
    """Returns the rows as a ``datasets.IterableDataset`` that reads them in every iteration; see `to_dataset`.

    Its shards are row ranges, if the number of rows is known.
    """
    datasets = import_datasets("to_huggingface")
    features, typed = features_of(rows, schema)
    arguments = {"shards": _split_into_shards(rows), "schema": typed}
    return datasets.IterableDataset.from_generator(_generate_rows, features=features, gen_kwargs=arguments)


def features_of(rows: Any, schema: pa.Schema) -> tuple[Features, pa.Schema]:
    """Returns the features of rows whose files were loaded, and their schema with the media types of ``schema``."""
    typed = with_field_metadata(rows.schema.empty_table(), schema)
    return _encode_table(typed)[0], typed.schema


def _split_into_shards(rows: Any) -> list[Any]:
    try:
        total = len(rows)
    except TypeError:  # only reading tells
        return [rows]
    step = max(-(-total // STREAM_SHARDS), 1)
    return [rows.slice(start, min(start + step, total)) for start in range(0, total, step)] or [rows]


def _generate_rows(shards: Sequence[Any], schema: pa.Schema) -> Iterator[dict[str, Any]]:
    for shard in shards:
        yield from examples(shard, schema)


def examples(rows: Any, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    """Yields the rows of a dataset as `datasets` encodes them; ``schema`` is that of `features_of`."""
    for batch in rows.batches(STREAM_ROWS, format="arrow"):
        _, plain = _encode_table(with_field_metadata(pa.Table.from_batches([batch]), schema))
        yield from plain.to_pylist()


def import_datasets(method: str) -> Any:
    """Returns the module `datasets`.

    Raises:
        MissingDependencyError: it is not installed. The message names ``method``.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingDependencyError(f"{method} needs datasets: pip install 'lakefeed[huggingface]'") from error
    return datasets


def _encode_table(table: pa.Table) -> tuple[Features, pa.Table]:
    """Returns the features of the columns, and the table in their storage types."""
    import datasets

    features, columns = {}, []
    for field, column in zip(table.schema, table.columns, strict=True):
        features[field.name], encoded = _encode_column(field, column)
        columns.append(encoded)
    return datasets.Features(features), pa.table(columns, names=table.column_names)


def with_field_metadata(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Returns the table with the field metadata of ``schema``, which loading files removed."""
    fields = []
    for field in table.schema:
        metadata: Any = schema.field(field.name).metadata or {}
        fields.append(field.with_metadata(metadata))
    return table.cast(pa.schema(fields))


def _encode_column(field: pa.Field[Any], column: pa.ChunkedArray[Any]) -> tuple[Any, pa.ChunkedArray[Any]]:
    import datasets

    names = (field.metadata or {}).get(NAMES_KEY)
    if names is not None and pa.types.is_integer(field.type):
        return datasets.ClassLabel(names=json.loads(names)), column.cast(pa.int64())
    feature = _file_feature(field)
    if feature is not None:
        return feature, pa.chunked_array([_file_structs(chunk) for chunk in column.chunks], feature.pa_type)
    if isinstance(field.type, pa.DictionaryType):
        return _encode_column(field.with_type(field.type.value_type), column.cast(field.type.value_type))
    try:
        feature = datasets.Features.from_arrow_schema(pa.schema([field.remove_metadata()]))[field.name]
    except ValueError as error:
        raise UnsupportedError(f"column {field.name!r}: datasets has no type for {field.type}: {error}") from error
    return feature, column


def _file_feature(field: pa.Field[Any]) -> Any:
    """Returns the feature for a column of loaded files; None for other columns and unsupported media types."""
    import datasets

    loaded = pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type) or pa.types.is_string(field.type)
    name = _FEATURE_NAMES.get(column_type(field) or "")
    kind = getattr(datasets, name, None) if name is not None and loaded else None
    return kind() if kind is not None else None


def _file_structs(chunk: pa.Array[Any]) -> pa.StructArray:
    contents, paths = pa.nulls(len(chunk), pa.binary()), pa.nulls(len(chunk), pa.string())
    arrays: list[pa.Array[Any]] = (
        [contents, chunk] if pa.types.is_string(chunk.type) else [chunk.cast(pa.binary()), paths]
    )
    fields: list[pa.Field[Any]] = [pa.field("bytes", pa.binary()), pa.field("path", pa.string())]
    return pa.StructArray.from_arrays(arrays, fields=fields, mask=chunk.is_null())


def _choose_split(dataset: Any, split: str | None) -> Any:
    if not isinstance(dataset, Mapping):
        return dataset
    if split is None and len(dataset) == 1:
        return next(iter(dataset.values()))
    if split not in dataset:
        raise InvalidArgumentError(f"unknown split {split!r}; choose one of {quoted_list(dataset)}")
    return dataset[split]


def _arrow_field(field: pa.Field[Any], feature: Any, as_paths: bool) -> pa.Field[Any]:
    import datasets

    media = _MEDIA_TYPES.get(type(feature).__name__)
    if media is not None:
        return pa.field(field.name, pa.string() if as_paths else pa.large_binary(), metadata={TYPE_KEY: media.encode()})
    if isinstance(feature, datasets.ClassLabel):
        return field.with_metadata({NAMES_KEY: json.dumps(feature.names).encode()})
    if isinstance(field.type, pa.BaseExtensionType):
        shape: tuple[Any, ...] = getattr(feature, "shape", None) or (None,)
        storage = field.type.storage_type
        return pa.field(field.name, storage if None in shape else _vector_type(shape, storage))
    return field


def _vector_type(shape: tuple[int, ...], kind: pa.DataType) -> pa.DataType:
    """Returns nested lists as fixed-size lists of the shape."""
    while pa.types.is_list(kind):
        kind = kind.value_type
    for size in reversed(shape):
        kind = pa.list_(kind, size)
    return kind


def _convert_batch(batch: pa.RecordBatch, schema: pa.Schema, features: Any) -> pa.RecordBatch:
    columns = []
    for field in schema:
        column: Any = batch.column(field.name)
        try:
            if column_type(field) is not None:
                column = _file_contents(column, features[field.name], as_paths=pa.types.is_string(field.type))
            elif isinstance(column, pa.ExtensionArray):
                column = column.storage
            columns.append(exact_cast(column, field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise FormatError(f"from_huggingface: column {field.name!r} does not fit {field.type}: {error}") from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _file_contents(column: Any, feature: Any, *, as_paths: bool) -> pa.Array[Any]:
    """Returns the contents of files, read from their paths where necessary; or the paths."""
    storage = feature.cast_storage(column)
    if as_paths:
        return _struct_child(storage, "path")
    contents = _struct_child(storage, "bytes")
    if contents.null_count == storage.null_count:
        return contents
    chunks = [storage.slice(start, EMBED_ROWS) for start in range(0, len(storage), EMBED_ROWS)]
    return pa.concat_arrays(
        [_struct_child(feature.embed_storage(chunk), "bytes").cast(pa.large_binary()) for chunk in chunks]
    )


def _struct_child(storage: Any, name: str) -> pa.Array[Any]:
    child: pa.Array[Any] = storage.flatten()[storage.type.get_field_index(name)]
    return child


def _stream_definition(value: Any, depth: int = 0) -> Any:
    """Returns the parts that define a stream, for its identity: files, functions, arguments, shuffles."""
    fingerprint = getattr(value, "_fingerprint", None)
    if fingerprint is not None:
        return fingerprint
    if depth > MAX_DEPTH:
        return type(value).__name__
    if isinstance(value, Mapping):
        return {str(key): _stream_definition(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_stream_definition(item, depth + 1) for item in value]
    if type(value).__module__.startswith("datasets.") and hasattr(value, "__dict__"):
        parts = {name: item for name, item in vars(value).items() if "state" not in name and not name.endswith("cache")}
        return [type(value).__name__, _stream_definition(parts, depth + 1)]
    return value


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Raises errors of the hub and of files as ours."""
    try:
        yield
    except FileError:
        raise
    except FileNotFoundError as error:
        raise MissingFileError(f"from_huggingface: {error}") from error
    except (ConnectionError, TimeoutError) as error:
        raise FileError(f"from_huggingface: the hub cannot be reached: {error}") from error
    except pa.ArrowException as error:
        raise FormatError(f"from_huggingface: values do not fit the type of their column: {error}") from error


@contextmanager
def _translate_choice_errors() -> Iterator[None]:
    """Raises errors about the split or the configuration as ours."""
    try:
        yield
    except ValueError as error:
        raise InvalidArgumentError(f"from_huggingface: {error}") from error
