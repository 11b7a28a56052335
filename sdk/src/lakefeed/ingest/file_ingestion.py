"""Taking files: rows, and the record that their files are in, land in one commit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from lakefeed._typing import ColumnTypes
from lakefeed.catalog import Fence, Lake, Provenance, cast, check_fits
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
    """What is there: ``new`` may go in now, ``settling`` has to wait, ``changed`` is in but differs now.

    ``vanished`` is in and is not there any more; its rows stay.
    """

    new: tuple[ListedFile, ...]
    settling: tuple[ListedFile, ...]
    changed: tuple[ListedFile, ...]
    vanished: tuple[ListedFile, ...] = ()


def read_file(path: Path | str) -> Dataset:
    """The rows of a file whose suffix says what it is."""
    return Dataset.from_file(str(path))


@dataclass(frozen=True, kw_only=True)
class FileSource(FencedSource):
    """What all sources of files share: what is new is found by comparing a listing with the ledger.

    Args (of all of them, by keyword but for the name and the dataset):
        read: the rows of a file; it is handed its path (a URL as text).
        column_types: of the dataset, when it is made.
        description: of the dataset, when it is made.
        settle: seconds; a file changed more recently may still be written to and waits.
        max_files: in one commit.
        on_changed: a file that changed after it went in is only reported, or ("append") read again as a new file: its
            earlier rows stay too. A file that vanished leaves its rows; it is reported.
        drift: where a file does not fit the dataset: "fail"; "evolve" the dataset (new columns, wider types) and fail
            where that cannot be; or "quarantine" the file, or its rows that do not fit, and go on with the rest.
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
                raise InvalidArgumentError(f"ingest {self.name!r}: {setting} is one of {allowed}")
        if self.max_files < 1:
            raise InvalidArgumentError(f"ingest {self.name!r}: max_files is at least 1")

    def waiting(self) -> str | None:
        new = arrivals(self).new
        return f"{len(new)} new, such as {new[0].path}" if new else None

    def take(self, provenance: Provenance) -> Iterator[IngestResult]:
        return ingest_files(self, provenance)

    def listed(self) -> Iterable[ListedFile]:
        """What is there now, in order of paths."""
        raise NotImplementedError

    def location(self, path: str) -> Any:
        """What ``read`` is handed for a file."""
        raise NotImplementedError

    def seen(self, file: ListedFile) -> ListedFile:
        """The file as it is now; where that cannot be told, as it was listed.

        Raises:
            MissingFileError: it has vanished.
        """
        return file


class _UnfitFileError(Exception):
    """A file that cannot go in, found while a commit was under way."""

    def __init__(self, file: ListedFile, reason: str) -> None:
        super().__init__(reason)
        self.file, self.reason = file, reason


def arrivals(source: FileSource) -> Arrivals:
    """What is there, compared with the ledger; in path order. A folder that does not exist is empty.

    A file that changed after it went in is reported and logged, and read again only if ``on_changed`` says "append".
    """
    return _compare(source, ledger.read_ledger(source.pointer()))


def ingest_files(source: FileSource, provenance: Provenance) -> Iterator[IngestResult]:
    """`ingest` for files: every new one, at most ``max_files`` in one commit."""
    bad: dict[ListedFile, str] = {}
    while True:
        before = source.pointer()
        known = ledger.read_ledger(before)
        new = _compare(source, known).new[: source.max_files]
        if not new:
            return
        try:
            with ignore_lost_race(source, before):
                result = _commit_files(source, new, bad, known, before, provenance)
                if result is None:
                    return
                yield result
        except _UnfitFileError as error:
            bad[error.file] = error.reason


def _commit_files(
    source: FileSource,
    new: Sequence[ListedFile],
    bad: dict[ListedFile, str],
    known: Sequence[ListedFile],
    before: str | None,
    provenance: Provenance,
) -> IngestResult | None:
    """One commit of new files; None where all are bad and no dataset is there yet to say that they were seen."""
    said = replace(provenance, message=_message(source, new))
    good = [file for file in new if file not in bad]
    left_out = [file for file in new if file in bad]
    for file in left_out:
        quarantine.add_entries(source, file, [quarantine.file_entry(source, file, bad[file])], said)
    if not good and not Dataset.exists(source.into):
        logger.warning("ingest %s: no file of %d fits, and %r is not there yet", source.name, len(new), source.into)
        return None
    rejected: set[ListedFile] = set(left_out)
    rows = _rows(source, good, rejected, said) if good else _empty_rows(source)
    again = {file.path for file in new}
    with ledger.store_ledger([*(file for file in known if file.path not in again), *new]) as value:
        fence = Fence(source.fence, expected=before, value=value)
        added, version = write_rows(rows, source, said, fence, source.column_types)
    logger.info("ingest %s: %d files -> %s v%d", source.name, len(new), source.into, version)
    return IngestResult(
        tuple(file.path for file in good), added, version, tuple(sorted(file.path for file in rejected))
    )


def _compare(source: FileSource, known: Sequence[ListedFile]) -> Arrivals:
    before = {file.path: file for file in known}
    found = tuple(source.listed())
    changed = tuple(file for file in found if file.path in before and _differs(file, before[file.path]))
    again = set(changed) if source.on_changed == "append" else set()
    for file in () if again else changed:
        logger.warning("ingest %s: %s has changed since it was ingested; it is not read again", source.name, file.path)
    present = {file.path for file in found}
    new = [file for file in found if file.path not in before or file in again]
    fresh = {file for file in new if _may_be_open(file, source.settle)}
    return Arrivals(
        tuple(file for file in new if file not in fresh),
        tuple(file for file in new if file in fresh),
        changed,
        tuple(file for file in known if file.path not in present),
    )


def _differs(now: ListedFile, before: ListedFile) -> bool:
    """Where both know: a ledger of before may know less, and a web page says nothing of its files."""
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
    """What every file of a commit has to fit: the dataset's types; before there is one, those of the first file."""
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
        if _differs(source.seen(file), file):
            raise FileError(f"{file.path!r} of ingest {source.name!r} was changed while it was read; it is tried later")


def _whole_file(source: FileSource, file: ListedFile, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    rows = source.read(source.location(file.path))
    check_fits(rows.schema, pa.schema([_castable_field(rows.schema, field) for field in schema]))
    for batch in rows.batches(format="arrow", load_files=False):
        yield cast(batch, schema)


def _fitting_batches(
    source: FileSource, file: ListedFile, schema: pa.Schema, rejected: set[ListedFile], provenance: Provenance
) -> Iterator[pa.RecordBatch]:
    """The rows that fit; the others are in the quarantine before the last of them is handed on."""
    refused: list[quarantine.Entry] = []
    try:
        rows = source.read(source.location(file.path))
        quarantine.check_columns(rows.schema, schema)
        at = 0
        for batch in rows.batches(format="arrow", load_files=False):
            good, bad = quarantine.split_batch(batch, schema)
            refused += [quarantine.row_entry(source, file, at + index, reason, one) for index, reason, one in bad]
            at += batch.num_rows
            if len(refused) > quarantine.MAX_ROWS:
                raise _UnfitFileError(
                    file, f"more than {quarantine.MAX_ROWS} rows do not fit, the first: {refused[0].reason}"
                )
            yield from good
    except (SchemaError, FormatError) as error:
        raise _UnfitFileError(file, str(error)) from error
    if refused:
        rejected.add(file)
        quarantine.add_entries(source, file, refused, provenance)


def _castable_field(given: pa.Schema, field: pa.Field[Any]) -> pa.Field[Any]:
    """The field as the file has it, where `cast` looks at each value: a text file tells 1 from 1.0 by chance."""
    found = given.field(field.name) if field.name in given.names else field
    exact = pa.types.is_integer(found.type) or pa.types.is_integer(field.type)
    return found if exact and _is_number(found.type) and _is_number(field.type) else field


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _message(source: FileSource, files: Sequence[ListedFile]) -> str:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"ingest {source.name}: {files[0].path}{more}"
