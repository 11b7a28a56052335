"""Ledgers of indexes: hidden tables whose rows are the live segment files of an index.

A refresh replaces the rows in one commit. Its fence is the version of the table that the files index, so of two
refreshes from one version only one succeeds. The files are blobs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa
from pyiceberg.exceptions import NoSuchTableError

from lakefeed.catalog.action import Fence, fence_value
from lakefeed.catalog.commit import create
from lakefeed.catalog.edit_commit import Draft, edit
from lakefeed.catalog.hidden_tables import HiddenTables
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.versions import newest_or_empty
from lakefeed.errors import (
    DamagedDatasetError,
    DatasetExistsError,
    DatasetNotFoundError,
    IndexNotFoundError,
    IntegrityError,
    MissingFileError,
    quoted_list,
)
from lakefeed.media.file import FILE
from lakefeed.media.file_column_types import typed_schema
from lakefeed.ops import Scan
from lakefeed.run.local_runner import LocalRunner
from lakefeed.run.write_context import content_saving
from lakefeed.search.index_definition import IndexDefinition
from lakefeed.sources.iceberg_source import IcebergSource
from lakefeed.storage.disk.hashing import sha256_file

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from lakefeed.storage.blobs.blob_store import BlobStore
    from lakefeed.storage.blobs.blob_writer import BlobWriter

NAMESPACE: Final = "_indexes"
DEFINITION: Final = "lakefeed.index.definition"
SOURCE: Final = "source"
SHOWN_INDEXES: Final = 10
"""So many indexes are named in the error for one that does not exist."""
_FIELDS: list[pa.Field[Any]] = [
    pa.field("name", pa.string()),
    pa.field("padding", pa.int32()),
    pa.field("file", FILE.struct),
]
SCHEMA: Final = typed_schema(pa.schema(_FIELDS), {"file": FILE.name})
PADDING: Final = 16
"""The random bytes after a content that gets another digest, because the store has damaged the blob of its own."""
_POSITION = re.compile(r"(.+)@v(\d+)#(-?\d+)(?:~(\w+))?")


class Position(NamedTuple):
    """A version of a table.

    Attributes:
        table_uuid: the uuid of the table.
        version: the number of the version.
        snapshot_id: its snapshot.
        columns: a digest of the ids and types of the columns that are indexed; empty if it was not recorded.
    """

    table_uuid: str
    version: int
    snapshot_id: int
    columns: str = ""

    def __str__(self) -> str:
        return f"{self.table_uuid}@v{self.version}#{self.snapshot_id}{self.columns and f'~{self.columns}'}"

    def has_columns_of(self, other: Position) -> bool:
        """Returns whether the indexed columns are those of another version, as far as this is known."""
        return not self.columns or self.columns == other.columns

    @classmethod
    def parse(cls, text: str | None) -> Position | None:
        """Returns the position in a text; None for None."""
        match = None if text is None else _POSITION.fullmatch(text)
        return None if match is None else cls(match[1], int(match[2]), int(match[3]), match[4] or "")


class SegmentFile(NamedTuple):
    """A file of an index.

    Attributes:
        name: the name.
        sha256: the blob.
        size: the size of the blob in bytes.
        padding: the bytes at the end of the blob that are not of the file.
    """

    name: str
    sha256: str
    size: int
    padding: int = 0


@dataclass(frozen=True)
class IndexState:
    """A version of an index.

    Attributes:
        ledger_uuid: the hidden table.
        snapshot_id: the snapshot of it.
        position: the version of the table that is indexed; None if nothing is.
        table: the hidden table with its metadata.
    """

    ledger_uuid: str
    snapshot_id: int
    position: Position | None
    table: Table


@dataclass(frozen=True)
class IndexLedger:
    """The ledger of one index."""

    lake: Lake
    definition: IndexDefinition

    @property
    def tables(self) -> HiddenTables:
        """The hidden tables of all indexes."""
        return HiddenTables(self.lake, NAMESPACE)

    @property
    def name(self) -> str:
        """The name of the hidden table."""
        return self.definition.table_name

    def create(self) -> None:
        """Creates the ledger of an empty index.

        Raises:
            DatasetExistsError: there is an index of this name.
        """
        create(self.tables, self.name, SCHEMA, (), properties={DEFINITION: self.definition.to_json()})

    def create_again(self) -> None:
        """Creates the ledger anew. What is left of the old one is removed from the catalog."""
        with suppress(NoSuchTableError):
            self.lake.catalog.drop_table(self.tables.identifier(self.name))
        try:
            self.create()
        except DatasetExistsError:
            return  # another process was faster

    def load(self) -> IndexState:
        """Returns the newest version of the index.

        Raises:
            IndexNotFoundError: the index was dropped.
            DamagedDatasetError: the metadata of its ledger is lost.
        """
        name = self.definition.name
        try:
            table = self.tables.table(self.name)
        except DatasetNotFoundError:
            raise index_not_found(self.lake, name) from None
        except DamagedDatasetError as error:
            lost = f"the index {name!r} is damaged: the metadata of its ledger cannot be read"
            raise DamagedDatasetError(f"{lost}. {mending(self.definition)}") from error
        return state_of(table)

    def files(self, state: IndexState) -> list[SegmentFile]:
        """Returns the live files of a version.

        Raises:
            DamagedDatasetError, FileError: the ledger cannot be read.
        """
        source = IcebergSource.of(self.tables, self.name, state.table, newest_or_empty(state.table))
        batches = LocalRunner(self.lake.settings).batches(Scan(source))
        rows = [row for batch in batches for row in batch.to_pylist()]
        return [SegmentFile(row["name"], row["file"]["sha256"], row["file"]["size"], row["padding"]) for row in rows]

    def commit(
        self,
        state: IndexState,
        position: Position,
        unchanged: Sequence[SegmentFile],
        new: Mapping[str, Path],
        distrust: bool = False,
    ) -> None:
        """Makes files the next version of the index.

        Args:
            state: the version that the files were made of.
            position: the version of the table that they index.
            unchanged: the files that the version has already.
            new: the other files, by name.
            distrust: the store may have damaged blobs of equal content, which are not used.

        Raises:
            FenceError: another refresh was faster. Nothing was committed.
        """
        expected = None if state.position is None else str(state.position)
        with content_saving(self.lake) as (writer, check):
            if writer.needs_protection:
                writer.protect([bytes.fromhex(each.sha256) for each in unchanged])
            store = self.lake.blobs if distrust else None
            stored = [*unchanged, *(_stored(writer, name, path, store) for name, path in sorted(new.items()))]
            writer.flush()
            rows = _rows(stored)

            def revise(draft: Draft) -> None:
                for file in draft.files:
                    draft.remove(file)
                draft.add(tuple(stored), lambda: [rows])

            edit(
                self.tables,
                self.name,
                revise,
                counts_exact=False,
                fence=Fence(SOURCE, expected, str(position)),
                before_commit=check,
                always=True,
            )
        self.tables.forget_old_versions(self.name)

    def drop(self) -> None:
        """Removes the index.

        Raises:
            IndexNotFoundError: there is no such index.
        """
        try:
            self.tables.discard(self.name)
        except DatasetNotFoundError:
            raise index_not_found(self.lake, self.definition.name) from None
        except DamagedDatasetError:
            self.lake.catalog.drop_table(self.tables.identifier(self.name))


def _stored(writer: BlobWriter, name: str, path: Path, distrusted: BlobStore | None) -> SegmentFile:
    size = path.stat().st_size
    if distrusted is not None and _is_damaged(distrusted, sha256_file(path)[0]):
        with path.open("ab") as stream:
            stream.write(os.urandom(PADDING))
        return _stored(writer, name, path, None)._replace(padding=PADDING)
    if size < writer.packing.below:
        blob = writer.put(path.read_bytes())
    else:
        with path.open("rb") as stream:
            blob = writer.put_single(stream)
    return SegmentFile(name, *blob)


def _is_damaged(store: BlobStore, sha256: str) -> bool:
    """Returns whether the store has another content where this one should be."""
    try:
        if store.has(sha256):
            store.copy_to(sha256, len)
    except (MissingFileError, IntegrityError):
        return True
    return False


def _rows(files: Sequence[SegmentFile]) -> pa.RecordBatch:
    fields: dict[str, Any] = {
        "sha256": [file.sha256 for file in files],
        "size": [file.size for file in files],
        "content_type": ["application/octet-stream"] * len(files),
        "filename": [file.name for file in files],
    }
    records = pa.StructArray.from_arrays(
        [pa.array(fields[f.name], f.type) if f.name in fields else pa.nulls(len(files), f.type) for f in FILE.struct],
        fields=list(FILE.struct),
    )
    names, paddings = [file.name for file in files], [file.padding for file in files]
    columns: list[Any] = [pa.array(names, pa.string()), pa.array(paddings, pa.int32()), records]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def mending(definition: IndexDefinition) -> str:
    """Returns how to make a damaged index anew, for messages."""
    return f"Its refresh() builds it anew: client.index({definition.name!r}).refresh()"


def state_of(table: Table) -> IndexState:
    """Returns the version of an index in the metadata of its ledger."""
    position = Position.parse(fence_value(table, SOURCE))
    snapshot_id = table.metadata.current_snapshot_id
    return IndexState(str(table.metadata.table_uuid), -1 if snapshot_id is None else snapshot_id, position, table)


def find_index(lake: Lake, name: str) -> tuple[IndexDefinition, IndexState]:
    """Returns the definition and the newest version of an index.

    Raises:
        IndexNotFoundError: there is no such index.
        DamagedDatasetError: it is damaged so that its definition is lost.
    """
    lake.identifier(name)
    wanted = IndexDefinition(name, "text", "", "", {})
    try:
        table = HiddenTables(lake, NAMESPACE).table(wanted.table_name)
        return IndexDefinition.from_json(table.properties[DEFINITION]), state_of(table)
    except DatasetNotFoundError:
        raise index_not_found(lake, name) from None
    except (DamagedDatasetError, KeyError, ValueError, TypeError) as error:
        raise DamagedDatasetError(
            f"the index {name!r} is damaged: the metadata of its ledger, with its definition, cannot be read. "
            f"drop_index({name!r}) removes it; then create it again, it has no rows of its own"
        ) from error


def list_definitions(lake: Lake) -> Iterator[IndexDefinition]:
    """Yields the definitions of the indexes of a lake. Damaged ones are left out."""
    hidden = HiddenTables(lake, NAMESPACE)
    for name in hidden.names():
        try:
            table = hidden.table(name)
            yield IndexDefinition.from_json(table.properties[DEFINITION])
        except (DatasetNotFoundError, DamagedDatasetError, KeyError, ValueError, TypeError):
            continue


def index_not_found(lake: Lake, name: str) -> IndexNotFoundError:
    """Returns the error for an index that does not exist."""
    count = len(HiddenTables(lake, NAMESPACE).names())
    names = sorted(
        each.name for each in islice(list_definitions(lake), SHOWN_INDEXES)
    )  # each costs a look at its ledger
    there = f"The indexes are {quoted_list(names)}." if names else "There are no indexes."
    if count > SHOWN_INDEXES:
        there = f"Among the {count} indexes are {quoted_list(names)}; list_indexes() gives all."
    return IndexNotFoundError(
        f"no index {name!r}. {there} Create it with create_text_index or create_vector_index; refresh() of an index "
        "that was opened before it was dropped creates it again"
    )
