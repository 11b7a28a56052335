"""Ingestion: the files that land in a folder, appended to a dataset exactly once each.

Which files are in is written in a *ledger*, an immutable file in the blob store. The dataset points at it with a fence
(a table property that moves in the same commit as the rows), so the rows of a file and the record that it is in become
visible together or not at all. Killed runs, repeated runs and runs at the same time neither lose nor double a file.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from lakefeed._typing import ColumnTypes
from lakefeed.catalog import DatasetVersion, Fence, Lake, Provenance, cast, check_fits, fence_value, resolve
from lakefeed.dataset import Dataset
from lakefeed.errors import DatasetExistsError, FenceError, FileError, MissingFileError, SchemaError

logger = logging.getLogger(__name__)

PARTIAL_PREFIXES = (".", "_")
PARTIAL_SUFFIXES = (".tmp", ".part", ".partial", ".crdownload")
# Marks a fence value as the sha256 of a blob that is in use, for whoever collects garbage.
BLOB = "blob:"
LEDGER: dict[str, pa.DataType] = {"path": pa.string(), "size": pa.int64(), "modified_ns": pa.int64()}
LEDGER_SCHEMA = pa.schema(LEDGER)


def read_file(path: Path) -> Dataset:
    """The rows of a file whose suffix says what it is."""
    return Dataset.from_file(str(path))


@dataclass(frozen=True)
class FolderSource:
    """Files of ``folder`` that match ``pattern``, each read by ``read`` and appended to dataset ``into``.

    ``folder``: absolute, or relative to ``$LAKEFEED_HOME``. ``settle`` (seconds): a file changed more recently may
    still be written to and waits. ``max_files``: in one commit. ``column_types``: of the dataset, when it is made.
    """

    name: str
    into: str
    folder: str
    pattern: str = "**/*"
    read: Callable[[Path], Dataset] = read_file
    column_types: ColumnTypes | Literal["auto"] | None = "auto"
    description: str | None = None
    settle: float = 5.0
    max_files: int = 1_000

    @property
    def fence(self) -> str:
        """The key under which the dataset points at the ledger."""
        return f"ingest/{self.name}"

    @property
    def path(self) -> Path:
        """The folder as it is for the settings in force."""
        return Lake.current().settings.home / self.folder


@dataclass(frozen=True, order=True)
class Landed:
    """A file as it was seen: ``path`` relative to the folder (with ``/``), ``size`` in bytes."""

    path: str
    size: int
    modified_ns: int


@dataclass(frozen=True)
class Arrivals:
    """What lies in the folder: ``new`` may go in now, ``settling`` has to wait, ``changed`` is in but differs now."""

    new: tuple[Landed, ...]
    settling: tuple[Landed, ...]
    changed: tuple[Landed, ...]


@dataclass(frozen=True)
class IngestResult:
    """One commit: these ``files`` became ``rows`` of ``version``."""

    files: tuple[str, ...]
    rows: int
    version: int


def arrivals(source: FolderSource) -> Arrivals:
    """What lies in the folder, compared with the ledger; in path order. A folder that does not exist is empty.

    A file that changed after it went in is reported and logged, never read again: its rows would be in twice.
    """
    return _arrivals(source, _ledger(_pointer(source)))


def ingest(source: FolderSource, *, run: str | None = None, code: str | None = None) -> Iterator[IngestResult]:
    """Append every new file, at most ``max_files`` in one commit; yields each commit as it lands.

    Raises:
        MissingFileError: a file vanished, or one that it refers to is not there; nothing of its commit is in.
        FileError: a file was changed while it was read; nothing of its commit is in.
    """
    while True:
        pointer = _pointer(source)
        ledger = _ledger(pointer)
        files = _arrivals(source, ledger).new[: source.max_files]
        if not files:
            return
        try:
            provenance = Provenance(run=run, code=code, message=_message(source, files))
            result = _commit(source, files, ledger, pointer, provenance)
        except DatasetExistsError:
            logger.info("ingest %s: %r has just been made by another", source.name, source.into)
        except FenceError:
            if _pointer(source) == pointer:  # not moved at all: the next attempt would fail the same way
                raise
            logger.info("ingest %s: another run was first with %d files", source.name, len(files))
        else:
            yield result


def _commit(
    source: FolderSource, files: Sequence[Landed], ledger: Sequence[Landed], pointer: str | None, provenance: Provenance
) -> IngestResult:
    lake = Lake.current()
    with lake.blobs.saving() as saving:
        recorded = saving.put_alone(io.BytesIO(_to_parquet([*ledger, *files])))
        saving.flush()
        fence = Fence(source.fence, expected=pointer, value=f"{BLOB}{recorded.sha256}")
        version = _written(source, _rows(source, files), fence, provenance)
    logger.info("ingest %s: %d files -> %s v%d", source.name, len(files), source.into, version.version)
    return IngestResult(tuple(file.path for file in files), version.added_records, version.version)


def _written(source: FolderSource, rows: Dataset, fence: Fence, provenance: Provenance) -> DatasetVersion:
    lake = Lake.current()
    if lake.exists(source.into):
        written = rows.append_to(source.into, provenance=provenance, fence=fence)
    else:
        written = rows.save(
            source.into,
            description=source.description,
            column_types=source.column_types,
            provenance=provenance,
            fence=fence,
        )
    return resolve(lake.table(source.into), written.version)


def _arrivals(source: FolderSource, ledger: Sequence[Landed]) -> Arrivals:
    known = {file.path: file for file in ledger}
    found = tuple(_landed(source))
    changed = tuple(file for file in found if file != known.get(file.path, file))
    for file in changed:
        logger.warning("ingest %s: %s has changed since it was ingested; it is not read again", source.name, file.path)
    new = [file for file in found if file.path not in known]
    fresh = {file for file in new if _may_be_open(file, source.settle)}
    return Arrivals(tuple(f for f in new if f not in fresh), tuple(f for f in new if f in fresh), changed)


def _landed(source: FolderSource) -> Iterator[Landed]:
    folder = source.path
    for path in sorted(folder.glob(source.pattern)):
        relative = path.relative_to(folder)
        if not _is_partial(relative) and path.is_file():
            yield _seen(folder, relative.as_posix())


def _seen(folder: Path, relative: str) -> Landed:
    try:
        stat = (folder / relative).stat()
    except FileNotFoundError as error:
        raise MissingFileError(f"{relative!r} has vanished from {folder}") from error
    return Landed(relative, stat.st_size, stat.st_mtime_ns)


def _is_partial(relative: Path) -> bool:
    hidden = any(part.startswith(PARTIAL_PREFIXES) for part in relative.parts)
    return hidden or relative.suffix.lower() in PARTIAL_SUFFIXES


def _may_be_open(file: Landed, settle: float) -> bool:
    # abs(): the clock of the machine that writes may be ahead of ours.
    return abs(time.time() - file.modified_ns / 1e9) < settle


def _rows(source: FolderSource, files: Sequence[Landed]) -> Dataset:
    schema = _common_schema(source, source.read(source.path / files[0].path).schema)
    return Dataset.from_batches(lambda: _batches(source, files, schema), schema=schema)


def _common_schema(source: FolderSource, first: pa.Schema) -> pa.Schema:
    """What every file of a commit has to fit: the dataset's types; before there is one, those of the first file."""
    if not Dataset.exists(source.into):
        return first
    existing = Dataset(source.into)
    known = {field.name: field for field in existing.schema if field.name not in existing.column_types}
    return pa.schema([known.get(field.name, field) for field in first])


def _batches(source: FolderSource, files: Sequence[Landed], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for file in files:
        rows = source.read(source.path / file.path)
        try:
            check_fits(rows.schema, pa.schema([_by_value(rows.schema, field) for field in schema]))
            yield from (cast(batch, schema) for batch in rows.batches(format="arrow", load_files=False))
        except SchemaError as error:
            raise type(error)(f"{file.path!r} in {source.path} does not fit: {error}") from error
        if _seen(source.path, file.path) != file:
            raise FileError(f"{file.path!r} in {source.path} was changed while it was read; it is tried again later")


def _by_value(given: pa.Schema, field: pa.Field[Any]) -> pa.Field[Any]:
    """The field as the file has it, where `cast` looks at each value: a text file tells 1 from 1.0 by chance."""
    found = given.field(field.name) if field.name in given.names else field
    exact = pa.types.is_integer(found.type) or pa.types.is_integer(field.type)
    return found if exact and _is_number(found.type) and _is_number(field.type) else field


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _pointer(source: FolderSource) -> str | None:
    lake = Lake.current()
    return fence_value(lake.table(source.into), source.fence) if lake.exists(source.into) else None


def _ledger(pointer: str | None) -> tuple[Landed, ...]:
    if pointer is None:
        return ()
    table = pq.read_table(io.BytesIO(Lake.current().blobs.read(pointer.removeprefix(BLOB))), schema=LEDGER_SCHEMA)
    return tuple(Landed(**row) for row in table.to_pylist())


def _to_parquet(files: Sequence[Landed]) -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pylist([asdict(file) for file in sorted(files)], schema=LEDGER_SCHEMA)
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _message(source: FolderSource, files: Sequence[Landed]) -> str:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"ingest {source.name}: {files[0].path}{more}"
