"""Folders that hold all rows or none, whichever process is killed, shared by the processes of a machine.

``manifest.json`` appears by one rename after its rows are on disk; without it the folder counts as empty. One process
writes at a time, and removes what killed writers left behind.
"""

from __future__ import annotations

import base64
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from lakefeed import _paths
from lakefeed.errors import InvalidArgumentError, UnsupportedError
from lakefeed.storage.disk.atomic_write import new_file, publish, sync_directories, sync_file
from lakefeed.storage.disk.disk_errors import discard
from lakefeed.storage.disk.locks import file_lock

FORMAT = 3
MANIFEST = "manifest.json"
LOCK = "lock"
COMPRESSION: Literal["zstd"] = "zstd"


@dataclass(frozen=True)
class Group:
    """Rows that are read at once. ``size``: their `Fragment.size`; None: as written."""

    rows: pa.Table
    size: int | None = None

    @property
    def num_rows(self) -> int:
        return self.rows.num_rows


@dataclass(frozen=True)
class Manifest:
    """The description of a complete folder."""

    file: str
    schema: pa.Schema
    columns: frozenset[str]
    parts: tuple[tuple[int, int], ...]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Folder:
    """A folder with the rows of one result."""

    path: Path

    suffix: ClassVar[str] = "parquet"

    def manifest(self) -> Manifest | None:
        """Returns the manifest; None if the folder is empty or incomplete."""
        try:
            written = json.loads((self.path / MANIFEST).read_text())
        except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
            return None
        if written.get("format") != FORMAT or not (self.path / written["file"]).is_file():
            return None
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(written["schema"])))
        parts = tuple((rows, size) for rows, size in written["parts"])
        return Manifest(written["file"], schema, frozenset(written["columns"]), parts, written["facts"])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the folder for writing. Other processes wait."""
        with file_lock(self.path / LOCK):
            yield

    def write(
        self, schema: pa.Schema, columns: Iterable[str], groups: Callable[[], Iterable[Group]], facts: dict[str, Any]
    ) -> Manifest:
        """Writes the rows of ``groups``. Call it while `locked`. A failure leaves the previous rows."""
        file = f"rows-{uuid.uuid4().hex}.{self.suffix}"
        narrow = pa.schema([field for field in schema if field.name in set(columns)])
        try:
            parts = self._write_rows(self.path / file, narrow, groups())
            written = {
                "format": FORMAT,
                "file": file,
                "columns": narrow.names,
                "parts": parts,
                "facts": facts,
                "schema": base64.b64encode(schema.serialize().to_pybytes()).decode(),
            }
            self._publish(json.dumps(written))
        except BaseException:
            discard(self.path / file)
            raise
        sync_directories([self.path, self.path.parent])
        self._sweep(file)
        return Manifest(file, schema, frozenset(narrow.names), tuple(parts), facts)

    def _write_rows(self, path: Path, schema: pa.Schema, groups: Iterable[Group]) -> list[tuple[int, int]]:
        parts: list[tuple[int, int]] = []
        sizes: list[int | None] = []
        with new_file(path) as sink:
            try:
                with _parquet_writer(sink, schema) as writer:
                    for group in groups:
                        if group.rows.num_rows:
                            writer.write_table(group.rows, row_group_size=group.rows.num_rows)
                            sizes.append(group.size)
            except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
                raise UnsupportedError(
                    f"these rows cannot be written as Parquet; leave out columns: {error}"
                ) from error
            sync_file(sink)
        footer = pq.read_metadata(path)
        for index, size in enumerate(sizes):
            written = footer.row_group(index)
            parts.append((written.num_rows, written.total_byte_size if size is None else size))
        return parts

    def _publish(self, text: str) -> None:
        temporary = self.path / f"{MANIFEST}.new"
        with new_file(temporary) as sink:
            sink.write(text.encode())
            sync_file(sink)
        try:
            sync_directories([self.path])
            publish(temporary, self.path / MANIFEST)
        except BaseException:
            discard(temporary)
            raise

    def _sweep(self, file: str) -> None:
        for path in self.path.glob(f"rows-*.{self.suffix}"):
            if path.name != file:
                discard(path)


@contextmanager
def _parquet_writer(sink: BinaryIO, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Opens a writer of one Parquet file, which writes no footer after a failure."""
    writer = pq.ParquetWriter(sink, schema, compression=COMPRESSION)
    try:
        yield writer
        writer.close()
    finally:
        writer.is_open = False


def check_folder(path: Any, method: str) -> str | None:
    """Returns the path of a folder, or None."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if path is not None and (not isinstance(text, str) or not _paths.is_storable(text)):
        raise InvalidArgumentError(f"{method}(path={path!r:.80}): give the path of a folder, or None")
    return text
