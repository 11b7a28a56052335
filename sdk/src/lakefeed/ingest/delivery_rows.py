"""The rows of delivered files for one commit, without the files and rows that cannot go in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from lakefeed.catalog import Provenance, cast, check_compatible
from lakefeed.dataset import Dataset
from lakefeed.errors import (
    CatalogUnavailableError,
    ChangedFileError,
    DatasetExistsError,
    FenceError,
    FileError,
    FormatError,
    InvalidArgumentError,
    LakefeedError,
    MissingDependencyError,
    MissingFileError,
    SchemaError,
    StorageError,
)
from lakefeed.ingest import quarantine
from lakefeed.ingest.file_cells import FileCells
from lakefeed.ingest.ledger import ListedFile
from lakefeed.ingest.quarantine import Entry, FileRecord, Records, shown_path
from lakefeed.ingest.text_deliveries import text_rows
from lakefeed.ingest.text_rows import BadRow, Piece, TextRows
from lakefeed.media.probes import Probes

NOT_UTF8_NAME = "the name is not UTF-8"
"""The stamp of a file whose name cannot be stored as it is."""
OWN_ERRORS = (CatalogUnavailableError, MissingDependencyError, StorageError)
"""Errors that do not come from the delivered file."""
READ_ERRORS = (ArithmeticError, EOFError, LookupError, OSError, TypeError, ValueError, pa.ArrowException)
"""Errors of a file that the function ``read`` cannot read."""
CONNECTION_WORDS = ("Connect", "Timeout", "Proxy", "SSL", "HTTP")
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 60.0, 6 * 3600.0


class Delivery(Protocol):
    """The part of a source of files that reads them."""

    @property
    def name(self) -> str: ...
    @property
    def into(self) -> str: ...
    @property
    def fence(self) -> str: ...
    @property
    def read(self) -> Callable[[Any], Dataset]: ...
    @property
    def drift(self) -> str: ...
    @property
    def row_policy(self) -> str: ...

    def location(self, path: str) -> Any: ...
    def current(self, file: ListedFile) -> ListedFile: ...


class RepeatError(Exception):
    """The commit must be repeated without some of its files. Raised while rows are written."""


class UnfitFileError(Exception):
    """A file does not fit the dataset as a whole."""


@dataclass
class Setbacks:
    """The files of a run that did not go in as they are.

    Attributes:
        whole: files for the quarantine, with the reasons.
        failed: files that could not be read and are tried again later, with the errors.
        incomplete: those of them of which a row names a file that is missing.
        changing: files that change while they are read.
    """

    whole: dict[ListedFile, str] = field(default_factory=dict)
    failed: dict[ListedFile, LakefeedError] = field(default_factory=dict)
    incomplete: set[ListedFile] = field(default_factory=set)
    changing: dict[ListedFile, ChangedFileError] = field(default_factory=dict)


@dataclass
class FileRows:
    """The rows of one file that fit, and the entries of the others."""

    source: Any
    file: ListedFile
    schema: pa.Schema
    cells: FileCells
    record: FileRecord
    entries: list[Entry] = field(default_factory=list)
    bad: set[int] = field(default_factory=set)
    total: int = 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yields the rows that fit, in order."""
        earlier = frozenset(self.record.rows)
        for piece in self._pieces():
            if isinstance(piece, BadRow):
                self.total = piece.row + 1
                if piece.row not in earlier:
                    reason, text = piece.reason, piece.text
                    self._set_aside(
                        piece.row, quarantine.text_entry(self.source, self.file, piece.row, piece.line, text, reason)
                    )
                continue
            self.total = piece.row + piece.batch.num_rows
            good, unfit = quarantine.split_batch(piece.batch, self.schema)
            for index, reason, row in unfit:
                if piece.row + index not in earlier:
                    self._set_aside(piece.row + index, self._row_entry(piece, index, reason, row))
            for index, batch in good:
                yield from self._with_files(piece, index, batch, earlier)

    def _pieces(self) -> Iterator[Piece | BadRow]:
        rows = read_rows(self.source, self.file)
        if isinstance(rows, TextRows):
            check_text_columns(rows, self.schema)
            yield from rows.pieces(self.schema)
            return
        quarantine.check_columns(rows.schema, self.schema)
        begin = 0
        for batch in rows.batches(format="arrow", load_files=False):
            yield Piece(batch, begin)
            begin += batch.num_rows

    def _with_files(
        self, piece: Piece, index: int, batch: pa.RecordBatch, earlier: frozenset[int]
    ) -> Iterator[pa.RecordBatch]:
        """Yields the rows whose files can be stored. The rows before stay before."""
        begin = piece.row + index
        batch, errors = self.resolved(batch, begin)
        for row, (_, error) in sorted(errors.items()):
            if begin + row not in earlier:
                own = piece.batch.slice(index + row, 1)
                reason = str(error).partition(" Nothing was committed.")[0]
                self._set_aside(begin + row, self._row_entry(piece, index + row, reason, own))
        if self.source.row_policy == "null":
            yield _without_cells(batch, {row: name for row, (name, _) in errors.items()})
            return
        left_out = {*errors, *(row - begin for row in earlier if begin <= row < begin + batch.num_rows)}
        yield from _without_rows(batch, left_out)

    def resolved(
        self, batch: pa.RecordBatch, begin: int
    ) -> tuple[pa.RecordBatch, dict[int, tuple[str, LakefeedError]]]:
        """Returns the rows with absolute names of files, and the errors of their files. The first is row ``begin``."""
        if not self.cells.types:
            return batch, {}
        batch = self.cells.resolve(batch)
        return batch, self.cells.find_errors(batch, begin)

    def _row_entry(self, piece: Piece, index: int, reason: str, row: pa.RecordBatch) -> Entry:
        return quarantine.row_entry(self.source, self.file, piece.row + index, reason, row, piece.locate(index))

    def _set_aside(self, row: int, entry: Entry) -> None:
        self.bad.add(row)
        self.entries.append(entry)
        count = len(self.bad)
        if count > quarantine.MAX_ENTRIES or (count > quarantine.MAX_ROWS and 2 * count > self.total):
            raise UnfitFileError(f"more than {count - 1} rows do not fit, the first: {self.entries[0].reason}")


@dataclass
class CommitRows:
    """The rows of the files of one commit.

    Attributes:
        source: the source.
        files: the files.
        schema: the columns of the rows.
        types: the media types of the file columns.
        records: the records of the quarantine.
        setbacks: the files that did not go in as they are. Files are added while rows are read.
        known: whether a path with a state is in the ledger.
        provenance: the run and code that write.
        deep: whether the files that rows name are read to their end before the rows are written.
        probes: reads the files that rows name, if damaged ones are left out.
    """

    source: Any
    files: Sequence[ListedFile]
    schema: pa.Schema
    types: Mapping[str, str]
    records: Records
    setbacks: Setbacks
    known: Mapping[str, ListedFile]
    provenance: Provenance
    deep: bool = False
    partly: dict[ListedFile, tuple[int, ...]] = field(default_factory=dict)
    probes: Probes | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yields the rows. Before it ends, all entries of the quarantine are committed.

        Raises:
            RepeatError: rows of a file were yielded that must not be committed. The file is among the setbacks.
            SchemaError, FormatError: a file does not fit, and the source does not quarantine it.
        """
        with Probes() if self.source.row_policy != "fail" else nullcontext() as self.probes:
            yield from self._batches()

    def _batches(self) -> Iterator[pa.RecordBatch]:
        entries: list[Entry] = []
        self.partly.clear()
        is_lost = False
        for file in self.files:
            if file in self.setbacks.whole:
                continue
            rows = self._file_rows(file)
            has_begun = False
            try:
                for batch in self._checked(rows):
                    if not is_lost and batch.num_rows:
                        has_begun = True
                        yield batch
            except UnfitFileError as error:
                self.setbacks.whole[file] = str(error)
                is_lost = is_lost or has_begun
            except ChangedFileError as error:
                self.setbacks.changing[file] = error
                is_lost = True
            except _IncompleteRowError as error:
                self.setbacks.failed[file] = error.error
                if isinstance(error.error, MissingFileError):
                    self.setbacks.incomplete.add(file)
                is_lost = True
            except OWN_ERRORS:
                raise
            except (FileError, FormatError) as error:
                self.setbacks.failed[file] = error
                is_lost = True
            else:
                entries += rows.entries
                bad = tuple(sorted({*rows.record.rows, *rows.bad}))
                if bad:
                    self.partly[file] = bad
        if is_lost:
            raise RepeatError
        self.commit_entries(entries)

    def commit_entries(self, entries: Sequence[Entry]) -> None:
        """Commits entries and the records of files that are not in the ledger yet.

        Raises:
            RepeatError: another run has changed the records.
        """
        whole = [file for file in self.setbacks.whole if not self.records.of(file).whole]
        entries = [
            *entries, *(quarantine.file_entry(self.source, file, self.setbacks.whole[file]) for file in whole)
        ]  # fmt: skip
        if not entries:
            return
        now = {
            **{file: self.records.of(file)._replace(rows=rows) for file, rows in self.partly.items()},
            **{file: self.records.of(file)._replace(whole=True) for file in self.setbacks.whole},
        }
        quarantine.log_entries(self.source.name, entries)
        write_records(self.source, self.records, entries, now, self.known, self.provenance)

    def _file_rows(self, file: ListedFile) -> FileRows:
        location = str(self.source.location(file.path))
        cells = FileCells(self.types, location, self.deep, self.probes)
        return FileRows(self.source, file, self.schema, cells, self.records.of(file))

    def _checked(self, rows: FileRows) -> Iterator[pa.RecordBatch]:
        """Yields the rows of a file, with the errors that the policies ask for."""
        file, source = rows.file, self.source
        check_name(file)
        tolerant = source.drift == "quarantine"
        try:
            yield from rows.batches() if tolerant else self._whole_file(rows)
        except OWN_ERRORS:
            raise
        except (SchemaError, FormatError, InvalidArgumentError) as error:
            if tolerant:
                raise UnfitFileError(str(error)) from error
            if isinstance(error, InvalidArgumentError):  # such as a chain in a name
                raise FileError(f"{shown_path(file.path)!r} of ingest {source.name!r}: {error}") from error
            if isinstance(error, FormatError):
                raise
            text = f"{shown_path(file.path)!r} of ingest {source.name!r} does not fit: {error}"
            raise BadFileError(file, type(error)(text)) from error
        except FileError:
            raise
        except READ_ERRORS as error:
            if is_access_error(error):
                raise FileError(
                    f"{shown_path(file.path)!r} of ingest {source.name!r} cannot be read: {error}"
                ) from error
            if not tolerant:
                raise
            raise UnfitFileError(f"{type(error).__name__}: {error}") from error
        if file_differs(source.current(file), file):
            raise ChangedFileError(
                f"{shown_path(file.path)!r} of ingest {source.name!r} changed while it was read; a later run reads it "
                "again"
            )

    def _whole_file(self, rows: FileRows) -> Iterator[pa.RecordBatch]:
        source, schema = self.source, self.schema
        read = source.read(source.location(rows.file.path))
        check_compatible(read.schema, pa.schema([_castable_field(read.schema, field) for field in schema]))
        begin = 0
        for batch in read.batches(format="arrow", load_files=False):
            yield from self._with_files(rows, Piece(batch, begin), cast(batch, schema))
            begin += batch.num_rows

    def _with_files(self, rows: FileRows, piece: Piece, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        if self.source.row_policy != "fail":
            yield from rows._with_files(piece, 0, batch, frozenset(rows.record.rows))
            return
        batch, errors = rows.resolved(batch, piece.row)
        if errors:
            _, error = errors[min(errors)]
            text = f"{shown_path(rows.file.path)!r} of ingest {self.source.name!r}: {error}"
            raise _IncompleteRowError(type(error)(text)) from error
        yield batch


class _IncompleteRowError(Exception):
    """A row names a file that cannot be stored, and the source does not quarantine rows."""

    def __init__(self, error: LakefeedError) -> None:
        super().__init__(str(error))
        self.error = error


class BadFileError(Exception):
    """A file does not fit, and the source does not quarantine it."""

    def __init__(self, file: ListedFile, error: SchemaError) -> None:
        super().__init__(str(error))
        self.file, self.error = file, error


def check_name(file: ListedFile) -> None:
    """Raises UnfitFileError for a file whose name cannot be stored."""
    if file.stamp == NOT_UTF8_NAME:
        raise UnfitFileError(f"the name '{file.path}' is not UTF-8, so no text can hold it; rename the file")


def file_schema(source: Any, file: ListedFile) -> pa.Schema:
    """Returns the columns of a file. With ``drift="quarantine"``, rows that cannot be read do not matter.

    Raises:
        FormatError, FileError: the file cannot be read.
    """
    return read_rows(source, file).schema


def read_rows(source: Any, file: ListedFile) -> TextRows | Dataset:
    """Returns the rows of a file. With ``drift="quarantine"``, each row of a text file is read on its own if need be.

    Raises:
        FormatError, FileError: the file cannot be read.
    """
    location = source.location(file.path)
    if source.drift != "quarantine":
        rows: Dataset = source.read(location)
        return rows
    # Not read_file, which looks at the types of the first rows, and fails where one of them is broken.
    text = text_rows(str(location)) if source.read is read_file else None
    if text is not None:
        return text
    rows = source.read(location)
    return text_rows(rows) or rows


def read_file(path: Path | str) -> Dataset:
    """Returns the rows of a file whose suffix names its format.

    Args:
        path: the path or URL of the file.

    Raises:
        FormatError: the suffix is unknown.
        FileError: the file cannot be read.
    """
    return Dataset.from_file(str(path))


def check_text_columns(text: TextRows, required: pa.Schema) -> None:
    """Checks that a text file has the required columns. A column that only some rows have is checked row by row."""
    own = [field for field in text.schema if field.name in required.names or text.everywhere(field.name)]
    quarantine.check_columns(pa.schema(own), required)


def file_differs(now: ListedFile, before: ListedFile) -> bool:
    """Returns whether the known facts of a file differ. Old ledgers and web pages know fewer facts."""
    if now == before:
        return False
    known = [(now.size, before.size), (now.modified_ns, before.modified_ns)]
    stamps = now.stamp != before.stamp and bool(now.stamp and before.stamp)
    return stamps or any(one != other and min(one, other) >= 0 for one, other in known)


def is_access_error(error: Exception) -> bool:
    """Returns whether an error of a user's function says that a file cannot be reached, as opposed to its content.

    Libraries raise OSError without a number for content that they cannot read, too.
    """
    if not isinstance(error, OSError):
        return False
    return (
        error.errno is not None
        or isinstance(error, ConnectionError | TimeoutError)
        or any(word in type(error).__name__ for word in CONNECTION_WORDS)
    )


def write_records(
    source: Any,
    before: Records,
    entries: Sequence[Entry],
    now: Mapping[ListedFile, FileRecord],
    known: Mapping[str, ListedFile],
    provenance: Provenance,
) -> None:
    """Adds entries, and the records of files. Records of files that are in the ledger are dropped.

    Raises:
        RepeatError: another run has changed the records.
    """
    paths = {record.file.path for record in now.values()}
    others = [record for path, record in before.files.items() if path not in paths and known.get(path) != record.file]
    try:
        quarantine.add_entries(source, before, entries, [*others, *now.values()], provenance)
    except (FenceError, DatasetExistsError) as error:
        raise RepeatError from error


def next_try_ns(attempts: int, *, at_once: bool) -> int:
    """Returns the time of the next attempt after some failed ones. The waits double, up to six hours.

    Args:
        attempts: the number of failed attempts.
        at_once: whether the second attempt needs no wait.
    """
    doubled = FIRST_WAIT_SECONDS * 2 ** min(attempts - 1 - at_once, 20)
    wait = 0.0 if at_once and attempts == 1 else min(doubled, MAX_WAIT_SECONDS)
    return time.time_ns() + int(wait * 1e9)


def _without_rows(batch: pa.RecordBatch, rows: set[int]) -> Iterator[pa.RecordBatch]:
    if not rows:
        yield batch
        return
    yield batch.filter(pa.array([row not in rows for row in range(batch.num_rows)], pa.bool_()))


def _without_cells(batch: pa.RecordBatch, cells: Mapping[int, str]) -> pa.RecordBatch:
    """Returns the rows with null in the given cells."""
    arrays: list[pa.Array[Any]] = list(batch.columns)
    for name in set(cells.values()):
        index = batch.schema.get_field_index(name)
        values = arrays[index].to_pylist()
        arrays[index] = pa.array(
            [None if cells.get(row) == name else value for row, value in enumerate(values)], arrays[index].type
        )
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def _castable_field(schema: pa.Schema, field: pa.Field[Any]) -> pa.Field[Any]:
    """Returns the field with the file's type if both are numbers, so that `cast` checks each value.

    Whether a text file shows 1 or 1.0 is a matter of chance.
    """
    own = schema.field(field.name) if field.name in schema.names else field
    integer = pa.types.is_integer(own.type) or pa.types.is_integer(field.type)
    return own if integer and _is_number(own.type) and _is_number(field.type) else field


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)
