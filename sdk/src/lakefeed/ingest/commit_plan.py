"""The plan of one commit: the files that go in, their common columns, and their file columns."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakefeed._typing import ColumnTypes
from lakefeed.catalog import Lake, Provenance
from lakefeed.dataset import Dataset, dataset_of
from lakefeed.errors import FileError, FormatError, InvalidArgumentError, SchemaError
from lakefeed.ingest import schema_drift
from lakefeed.ingest.delivery_rows import (
    OWN_ERRORS,
    READ_ERRORS,
    BadFileError,
    CommitRows,
    Setbacks,
    UnfitFileError,
    check_name,
    file_schema,
    is_access_error,
    read_rows,
)
from lakefeed.ingest.ledger import ListedFile
from lakefeed.ingest.quarantine import Records, shown_path
from lakefeed.ingest.text_rows import Piece, TextRows
from lakefeed.media import column_type, infer_column_types, may_hold_files
from lakefeed.ops import Scan
from lakefeed.sources.batch_source import BatchesSource
from lakefeed.storage.listed_urls import is_remote

logger = logging.getLogger(__name__)

SAMPLE_ROWS = 100


@dataclass(frozen=True)
class CommitPlan:
    """The rows and files of one commit.

    Attributes:
        rows: the rows.
        files: the files of which rows are read.
        whole: the files that go to the quarantine as a whole.
        types: the media types of the file columns.
        column_types: the media types of a new dataset.
        known: the files of the ledger.
        setbacks: the files that did not go in as they are. Files are added while rows are read.
        provenance: the run and code that write.
        commit_rows: reads the rows.
    """

    rows: Dataset
    files: tuple[ListedFile, ...]
    whole: tuple[ListedFile, ...]
    types: Mapping[str, str]
    column_types: ColumnTypes | str | None
    known: Mapping[str, ListedFile]
    setbacks: Setbacks
    provenance: Provenance
    commit_rows: CommitRows

    @property
    def done(self) -> tuple[ListedFile, ...]:
        """The files that the ledger records."""
        return tuple(sorted((*self.files, *self.whole)))

    @property
    def partly(self) -> Sequence[ListedFile]:
        """The files of which rows are in the quarantine."""
        return [file for file in self.commit_rows.partly if file not in self.setbacks.whole]


def plan_commit(
    source: Any,
    files: Sequence[ListedFile],
    known: Mapping[str, ListedFile],
    records: Records,
    setbacks: Setbacks,
    provenance: Provenance,
    deep: bool,
) -> CommitPlan | None:
    """Returns the plan of a commit of files; None if nothing remains to be committed.

    Raises:
        BadFileError: a file does not fit, and the source does not quarantine it.
        RepeatError: another run has changed the records of the quarantine.
    """
    schemas = _schemas(source, [file for file in files if file not in setbacks.whole], setbacks)
    good = tuple(file for file in files if file not in setbacks.whole and file not in setbacks.failed)
    whole = tuple(file for file in files if file in setbacks.whole)
    if not good and (not whole or not Dataset.exists(source.into)):
        if whole:
            rows = CommitRows(source, (), pa.schema([]), {}, records, _only(setbacks, whole), known, provenance)
            rows.commit_entries([])
            logger.warning(
                "ingest %s: none of %d files fits, and %r does not exist yet", source.name, len(whole), source.into
            )
        return None
    schema = _schema(source, schemas) if good else Dataset(source.into).schema
    types, column_types = _types(source, good, schema)
    commit_rows = CommitRows(source, good, schema, types, records, setbacks, known, provenance, deep)
    remote = any(is_remote(str(source.location(file.path))) for file in good)
    batches = BatchesSource(commit_rows.batches, schema, remote)
    rows_of = dataset_of(Lake.current(), Scan(batches))
    return CommitPlan(rows_of, good, whole, types, column_types, known, setbacks, provenance, commit_rows)


def _only(setbacks: Setbacks, files: Sequence[ListedFile]) -> Setbacks:
    return Setbacks(whole={file: setbacks.whole[file] for file in files})


def _schemas(source: Any, files: Sequence[ListedFile], setbacks: Setbacks) -> dict[ListedFile, pa.Schema]:
    """Returns the columns of the first file that can be read; of all files where the dataset follows them."""
    schemas: dict[ListedFile, pa.Schema] = {}
    for file in files:
        if file in setbacks.failed:
            continue
        try:
            check_name(file)
            schemas[file] = file_schema(source, file)
        except OWN_ERRORS:
            raise
        except UnfitFileError as error:
            setbacks.whole[file] = str(error)
        except (SchemaError, FormatError, InvalidArgumentError) as error:
            _put_off(source, file, error, setbacks)
        except FileError as error:
            setbacks.failed[file] = error
        except READ_ERRORS as error:
            if is_access_error(error):
                setbacks.failed[file] = _unreadable(source, file, error)
            elif source.drift == "quarantine":
                setbacks.whole[file] = f"{type(error).__name__}: {error}"
            else:
                raise
        if schemas and source.drift != "evolve":
            break
    return schemas


def _put_off(
    source: Any, file: ListedFile, error: SchemaError | FormatError | InvalidArgumentError, setbacks: Setbacks
) -> None:
    if source.drift == "quarantine":
        setbacks.whole[file] = str(error)
    elif isinstance(error, FormatError):
        setbacks.failed[file] = error
    elif isinstance(error, InvalidArgumentError):
        setbacks.failed[file] = _unreadable(source, file, error)
    else:
        raise BadFileError(file, error) from error


def _unreadable(source: Any, file: ListedFile, error: Exception) -> FileError:
    return FileError(f"{shown_path(file.path)!r} of ingest {source.name!r} cannot be read: {error}")


def _schema(source: Any, schemas: Mapping[ListedFile, pa.Schema]) -> pa.Schema:
    """Returns the columns that every file of a commit must fit: those of the dataset, or of the first file."""
    if source.drift == "evolve":
        by_path = {file.path: schema for file, schema in schemas.items()}
        try:
            return schema_drift.evolve_schema(source.into, by_path)
        except schema_drift.UnfitColumnError as error:
            file = next(file for file in schemas if file.path == error.path)
            raise BadFileError(file, error) from error
    first = next(iter(schemas.values()))
    if not Dataset.exists(source.into):
        return first
    existing = Dataset(source.into)
    known = {field.name: field for field in existing.schema if field.name not in existing.column_types}
    # By the dataset, not by whichever file comes first.
    return pa.schema([known.get(field.name) or _file_field(field, first) for field in existing.schema])


def _file_field(field: pa.Field[Any], first: pa.Schema) -> pa.Field[Any]:
    """Returns a file column as the files have it: text, unless the first file says otherwise."""
    return first.field(field.name) if field.name in first.names else pa.field(field.name, pa.string())


def _types(
    source: Any, files: Sequence[ListedFile], schema: pa.Schema
) -> tuple[dict[str, str], ColumnTypes | str | None]:
    """Returns the media types of the file columns, and those of the dataset if it is to be created."""
    if Dataset.exists(source.into):
        types = Dataset(source.into).column_types
        return {name: media for name, media in types.items() if name in schema.names}, None
    typed = {field.name: media for field in schema if (media := column_type(field)) is not None}
    if source.column_types == "auto" and any(map(may_hold_files, schema)):
        types = _inferred_types(source, files)
        return {**typed, **types}, types
    if isinstance(source.column_types, Mapping):
        return {**typed, **source.column_types}, source.column_types
    return typed, source.column_types


def _inferred_types(source: Any, files: Sequence[ListedFile]) -> dict[str, str]:
    """Returns the media types that the first rows suggest. A file that cannot be read is left out here."""
    types: dict[str, str] = {}
    rows = 0
    for file in files:
        try:
            sample = _sample(source, file)
        except OWN_ERRORS:
            raise
        except (*READ_ERRORS, SchemaError, FormatError):
            continue
        types = {**infer_column_types(sample), **types}
        rows += len(sample)
        if rows >= SAMPLE_ROWS:
            break
    return types


def _sample(source: Any, file: ListedFile) -> pa.Table:
    rows = read_rows(source, file)
    if not isinstance(rows, TextRows):
        batches = rows.slice(0, SAMPLE_ROWS).batches(format="arrow", load_files=False)
        return pa.Table.from_batches(list(batches), rows.schema)
    pieces = rows.pieces(rows.schema)
    first = next((piece for piece in pieces if isinstance(piece, Piece)), None)
    return rows.schema.empty_table() if first is None else pa.table(first.batch.slice(0, SAMPLE_ROWS))
