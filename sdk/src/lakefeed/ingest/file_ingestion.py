"""`FileSource`, and the ingestion of files: their rows and the ledger entry are one commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from lakefeed._typing import ColumnTypes
from lakefeed.catalog import Fence, Lake, Provenance, cast, check_compatible
from lakefeed.dataset import Dataset, dataset_of
from lakefeed.errors import FileError, FormatError, InvalidArgumentError, SchemaError
from lakefeed.ingest import ledger, quarantine, schema_drift
from lakefeed.ingest.ingestion_source import FencedSource, IngestResult, ignore_lost_race, write_rows
from lakefeed.ingest.ledger import ListedFile
from lakefeed.ops import Scan
from lakefeed.sources.batch_source import BatchesSource
from lakefeed.storage.listed_urls import is_remote

logger = logging.getLogger(__name__)

Drift: TypeAlias = Literal["fail", "evolve", "quarantine"]
Changed: TypeAlias = Literal["report", "append"]


@dataclass(frozen=True)
class Arrivals:
    """The files of a source, compared with its ledger.

    Attributes:
        new: files that a run ingests now.
        settling: new files that were changed too recently.
        changed: ingested files that have changed since.
        vanished: ingested files that no longer exist. Their rows stay.
    """

    new: tuple[ListedFile, ...]
    settling: tuple[ListedFile, ...]
    changed: tuple[ListedFile, ...]
    vanished: tuple[ListedFile, ...] = ()


def read_file(path: Path | str) -> Dataset:
    """Returns the rows of a file whose suffix names its format.

    Args:
        path: the path or URL of the file.

    Raises:
        FormatError: the suffix is unknown.
        FileError: the file cannot be read.
    """
    return Dataset.from_file(str(path))


@dataclass(frozen=True, kw_only=True)
class FileSource(FencedSource):
    """The base of all sources of files. It finds new files by comparing a listing with the ledger.

    Args of every source of files (``name`` and ``into`` also by position):
        name: the name of the source. The ledger is stored under it.
        into: the dataset.
        read: a function that takes the path of a file (a URL as text) and returns its rows.
        column_types: the file columns of a new dataset.
        description: the description of a new dataset.
        settle: seconds. A file that changed more recently may still be written, so it waits.
        max_files: the most files of one commit.
        on_changed: "report" only reports a file that changed after its ingestion. "append" ingests it again as a new
            file; its earlier rows stay. The rows of a file that vanished stay, too.
        drift: the reaction to a file that does not fit the dataset. "fail" raises. "evolve" adds columns and widens
            types, and raises if that is impossible. "quarantine" puts the file, or its rows that do not fit, into the
            quarantine.

    Raises:
        InvalidArgumentError: an argument is malformed.
    """

    name: str = field(kw_only=False)
    into: str = field(kw_only=False)
    read: Callable[[Any], Dataset] = read_file
    column_types: ColumnTypes | Literal["auto"] | None = "auto"
    description: str | None = None
    settle: float = 0.0
    max_files: int = 1_000
    on_changed: Changed = "report"
    drift: Drift = "fail"

    def __post_init__(self) -> None:
        choices = {"on_changed": ("report", "append"), "drift": ("fail", "evolve", "quarantine")}
        for setting, allowed in choices.items():
            if getattr(self, setting) not in allowed:
                raise InvalidArgumentError(
                    f"ingest {self.name!r}: {setting} must be one of {allowed}, got {getattr(self, setting)!r}"
                )
        if self.max_files < 1:
            raise InvalidArgumentError(f"ingest {self.name!r}: max_files must be at least 1, got {self.max_files}")

    def waiting(self) -> str | None:
        """Returns a short description of the new files; None if there are none. It commits nothing.

        Raises:
            FileError: the files cannot be listed.
        """
        new = arrivals(self).new
        return f"{len(new)} new, such as {new[0].path}" if new else None

    def take(self, provenance: Provenance) -> Iterator[IngestResult]:
        """Ingests the new files, and yields the result of each commit.

        Args:
            provenance: the run and code that write.

        Raises:
            FileError, SchemaError: as in `ingest`.
        """
        return ingest_files(self, provenance)

    def list_files(self) -> Iterable[ListedFile]:
        """Returns the files that exist now, in the order of their paths.

        Raises:
            FileError: the files cannot be listed.
        """
        raise NotImplementedError

    def location(self, path: str) -> Any:
        """Returns the argument of ``read`` for a file.

        Args:
            path: the path of the file in the ledger.
        """
        raise NotImplementedError

    def current(self, file: ListedFile) -> ListedFile:
        """Returns the current state of a file, or its state in the listing if the store does not tell.

        Args:
            file: the file as it was listed.

        Raises:
            MissingFileError: the file no longer exists.
        """
        return file


class _UnfitFileError(Exception):
    """A file does not fit the dataset. It is raised during a commit."""

    def __init__(self, file: ListedFile, reason: str) -> None:
        super().__init__(reason)
        self.file, self.reason = file, reason


def arrivals(source: FileSource) -> Arrivals:
    """Returns the files of a source, compared with its ledger, in the order of their paths.

    A file that changed after its ingestion is reported and logged. It is read again only with ``on_changed="append"``.
    A folder that does not exist is empty.

    Args:
        source: the source.

    Raises:
        FileError: the files cannot be listed.
    """
    return _compare(source, ledger.read_ledger(source.pointer()))


def ingest_files(source: FileSource, provenance: Provenance) -> Iterator[IngestResult]:
    """Ingests every new file of a source, at most ``max_files`` in a commit. Yields the result of each commit."""
    unfit: dict[ListedFile, str] = {}
    while True:
        before = source.pointer()
        known = ledger.read_ledger(before)
        new = _compare(source, known).new[: source.max_files]
        if not new:
            return
        try:
            with ignore_lost_race(source, before):
                result = _commit_files(source, new, unfit, known, before, provenance)
                if result is None:
                    return
                yield result
        except _UnfitFileError as error:
            unfit[error.file] = error.reason


def _commit_files(
    source: FileSource,
    new: Sequence[ListedFile],
    unfit: dict[ListedFile, str],
    known: Sequence[ListedFile],
    before: str | None,
    provenance: Provenance,
) -> IngestResult | None:
    """Commits new files. Returns None if no file fits and no dataset exists that could record them."""
    commit = replace(provenance, message=_message(source, new))
    good = [file for file in new if file not in unfit]
    whole = [file for file in new if file in unfit]
    for file in whole:
        quarantine.add_entries(source, file, [quarantine.file_entry(source, file, unfit[file])], commit)
    if not good and not Dataset.exists(source.into):
        logger.warning(
            "ingest %s: none of %d files fits, and %r does not exist yet", source.name, len(new), source.into
        )
        return None
    rejected: set[ListedFile] = set(whole)
    rows = _rows(source, good, rejected, commit) if good else _empty_rows(source)
    again = {file.path for file in new}
    with ledger.store_ledger([*(file for file in known if file.path not in again), *new]) as value:
        fence = Fence(source.fence, expected=before, value=value)
        added, version = write_rows(rows, source, commit, fence, source.column_types)
    logger.info("ingest %s: %d files -> %s v%d", source.name, len(new), source.into, version)
    return IngestResult(
        tuple(file.path for file in good), added, version, tuple(sorted(file.path for file in rejected))
    )


def _compare(source: FileSource, known: Sequence[ListedFile]) -> Arrivals:
    before = {file.path: file for file in known}
    files = tuple(source.list_files())
    changed = tuple(file for file in files if file.path in before and _differs(file, before[file.path]))
    again = set(changed) if source.on_changed == "append" else set()
    for file in () if again else changed:
        logger.warning("ingest %s: %s has changed since it was ingested; it is not read again", source.name, file.path)
    present = {file.path for file in files}
    new = [file for file in files if file.path not in before or file in again]
    fresh = {file for file in new if _may_be_open(file, source.settle)}
    return Arrivals(
        tuple(file for file in new if file not in fresh),
        tuple(file for file in new if file in fresh),
        changed,
        tuple(file for file in known if file.path not in present),
    )


def _differs(now: ListedFile, before: ListedFile) -> bool:
    """Returns whether the known facts of a file differ. Old ledgers and web pages know fewer facts."""
    known = [(now.size, before.size), (now.modified_ns, before.modified_ns)]
    stamps = now.stamp != before.stamp and bool(now.stamp and before.stamp)
    return stamps or any(one != other and min(one, other) >= 0 for one, other in known)


def _may_be_open(file: ListedFile, settle: float) -> bool:
    # abs(): the clock of the machine that writes may be ahead of ours.
    return file.modified_ns >= 0 and abs(time.time() - file.modified_ns / 1e9) < settle


def _rows(
    source: FileSource, files: Sequence[ListedFile], rejected: set[ListedFile], provenance: Provenance
) -> Dataset:
    if source.drift == "evolve":
        schema = schema_drift.evolve_schema(source.into, {file.path: _schema(source, file) for file in files})
    else:
        schema = _common_schema(source, _schema(source, files[0]))
    remote = any(is_remote(str(source.location(file.path))) for file in files)
    rows = BatchesSource(lambda: _batches(source, files, schema, rejected, provenance), schema, remote)
    return dataset_of(Lake.current(), Scan(rows))


def _empty_rows(source: FileSource) -> Dataset:
    return Dataset.from_arrow(Dataset(source.into).schema.empty_table())


def _schema(source: FileSource, file: ListedFile) -> pa.Schema:
    try:
        return source.read(source.location(file.path)).schema
    except (SchemaError, FormatError) as error:
        if source.drift == "quarantine":
            raise _UnfitFileError(file, str(error)) from error
        raise


def _common_schema(source: FileSource, first: pa.Schema) -> pa.Schema:
    """Returns the schema that every file of a commit must fit: the dataset's, or that of the first file."""
    if not Dataset.exists(source.into):
        return first
    existing = Dataset(source.into)
    known = {field.name: field for field in existing.schema if field.name not in existing.column_types}
    if source.drift == "quarantine":  # by the dataset, not by whichever file comes first
        return pa.schema(
            [first.field(f.name) if f.name in first.names and f.name not in known else f for f in existing.schema]
        )
    return pa.schema([known.get(field.name, field) for field in first])


def _batches(
    source: FileSource,
    files: Sequence[ListedFile],
    schema: pa.Schema,
    rejected: set[ListedFile],
    provenance: Provenance,
) -> Iterator[pa.RecordBatch]:
    for file in files:
        try:
            if source.drift == "quarantine":
                yield from _fitting_batches(source, file, schema, rejected, provenance)
            else:
                yield from _whole_file(source, file, schema)
        except SchemaError as error:
            raise type(error)(f"{file.path!r} of ingest {source.name!r} does not fit: {error}") from error
        if _differs(source.current(file), file):
            raise FileError(
                f"{file.path!r} of ingest {source.name!r} changed while it was read; a later run reads it again"
            )


def _whole_file(source: FileSource, file: ListedFile, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    rows = source.read(source.location(file.path))
    check_compatible(rows.schema, pa.schema([_castable_field(rows.schema, field) for field in schema]))
    for batch in rows.batches(format="arrow", load_files=False):
        yield cast(batch, schema)


def _fitting_batches(
    source: FileSource, file: ListedFile, schema: pa.Schema, rejected: set[ListedFile], provenance: Provenance
) -> Iterator[pa.RecordBatch]:
    """Yields the rows that fit. Before it ends, the others are in the quarantine."""
    unfit: list[quarantine.Entry] = []
    try:
        rows = source.read(source.location(file.path))
        quarantine.check_columns(rows.schema, schema)
        begin = 0
        for batch in rows.batches(format="arrow", load_files=False):
            good, bad = quarantine.split_batch(batch, schema)
            unfit += [quarantine.row_entry(source, file, begin + index, reason, one) for index, reason, one in bad]
            begin += batch.num_rows
            if len(unfit) > quarantine.MAX_ROWS:
                raise _UnfitFileError(
                    file, f"more than {quarantine.MAX_ROWS} rows do not fit, the first: {unfit[0].reason}"
                )
            yield from good
    except (SchemaError, FormatError) as error:
        raise _UnfitFileError(file, str(error)) from error
    if unfit:
        rejected.add(file)
        quarantine.add_entries(source, file, unfit, provenance)


def _castable_field(schema: pa.Schema, field: pa.Field[Any]) -> pa.Field[Any]:
    """Returns the field with the file's type if both are numbers, so that `cast` checks each value.

    Whether a text file shows 1 or 1.0 is a matter of chance.
    """
    own = schema.field(field.name) if field.name in schema.names else field
    integer = pa.types.is_integer(own.type) or pa.types.is_integer(field.type)
    return own if integer and _is_number(own.type) and _is_number(field.type) else field


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _message(source: FileSource, files: Sequence[ListedFile]) -> str:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"ingest {source.name}: {files[0].path}{more}"
