"""A version of a dataset in the lake, or what a range of versions added."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.table import Table

from lakefeed.catalog.files import DataFileRef, added_files, data_files
from lakefeed.catalog.fit import cast
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.schema import declared_schema, snapshot_schema
from lakefeed.catalog.versions import DatasetVersion
from lakefeed.errors import VersionNotFoundError
from lakefeed.expr import Expr, to_iceberg
from lakefeed.formats.parquet import ParquetFile, within
from lakefeed.plan import Fragment, Pushdown, cut, projected

FIELD_ID = b"PARQUET:field_id"
WHOLE_FILE = -1


@dataclass(frozen=True)
class Since:
    """Only what the versions after ``version`` (None: from the beginning) added."""

    version: int | None


@dataclass(frozen=True, eq=False)
class IcebergSource:
    """The rows of one snapshot in total row order: (version that wrote them, file within it, place in the file).

    Row groups are fragments, read by us; a file that only PyIceberg can read (deleted rows, nested columns changed
    since) is one fragment, read by PyIceberg.
    """

    lake: Lake
    name: str
    version: DatasetVersion
    since: Since | None = None

    @classmethod
    def of(
        cls, lake: Lake, name: str, table: Table, version: DatasetVersion, since: Since | None = None
    ) -> IcebergSource:
        """The source, with the metadata that the caller has just loaded."""
        source = cls(lake, name, version, since)
        source.__dict__["table"] = table
        return source

    @cached_property
    def table(self) -> Table:
        """The table's metadata; whatever it is now, the snapshot in it has not changed."""
        table = self.lake.table(self.name)
        if table.metadata.snapshot_by_id(self.version.snapshot_id) is None:
            raise self._gone()
        return table

    def _gone(self) -> VersionNotFoundError:
        return VersionNotFoundError(
            f"{self.name!r} has no snapshot {self.version.snapshot_id} (version {self.version.version}) any more: "
            "the dataset was deleted, perhaps made again, or the version has expired"
        )

    @cached_property
    def schema(self) -> pa.Schema:
        return declared_schema(self.table, self.version.snapshot_id)

    @property
    def identity(self) -> str:
        since = "" if self.since is None else f"+since-v{self.since.version or 0}"
        return f"{self.name}@v{self.version.version}#{self.version.snapshot_id}{since}"

    @cached_property
    def files(self) -> tuple[DataFileRef, ...]:
        """The data files, in row order."""
        try:
            if self.since is not None:
                return added_files(self.table, self.since.version, self.version.version)
            return data_files(self.lake, self.table, self.version.snapshot_id)
        except FileNotFoundError as error:
            raise self._gone() from error

    @property
    def ranged(self) -> bool:
        return not any(file.has_deletes for file in self.files)

    @property
    def nested(self) -> bool:
        return True

    def count(self) -> int | None:
        return sum(file.rows for file in self.files) if self.ranged else None

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        # Places count before pruning, so a range and a predicate are not pushed together.
        hint = pushdown.predicate if pushdown.rows is None else None
        for file, start, stop in self._touched(pushdown):
            yield from self._cut(file, hint, start, stop)

    def _touched(self, pushdown: Pushdown) -> Iterator[tuple[DataFileRef, int, int | None]]:
        """The files in which rows may be wanted, each with the range of its rows."""
        start, stop = pushdown.rows or (0, None)
        place = 0
        for file in self._matching(pushdown.predicate if pushdown.rows is None else None):
            if stop is not None and place >= stop:
                return
            if place + file.rows > start:
                yield file, max(start - place, 0), None if stop is None else stop - place
            place += file.rows

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        path, group = fragment.key
        schema = projected(self.schema, pushdown)
        batches = (
            within(self._read_by_pyiceberg(path, schema), fragment.start, fragment.stop)
            if group == WHOLE_FILE
            else self._read_group(path, group, schema, pushdown.fields, fragment.start, fragment.stop)
        )
        return (cast(batch, schema) for batch in batches)

    def describe(self, pushdown: Pushdown) -> str:
        since = "" if self.since is None else f" added since v{self.since.version or 0}"
        read = list(self._touched(pushdown))
        rows = sum((file.rows if stop is None else min(stop, file.rows)) - start for file, start, stop in read)
        reads = f"{len(read)} of {len(self.files)} files, {rows} of {sum(file.rows for file in self.files)} rows"
        return f"{self.name} v{self.version.version}{since} (snapshot {self.version.snapshot_id}, {reads})"

    def _matching(self, predicate: Expr | None) -> tuple[DataFileRef, ...]:
        if predicate is None or self.since is not None:
            return self.files
        row_filter = to_iceberg(predicate, snapshot_schema(self.table, self.version.snapshot_id))
        return data_files(self.lake, self.table, self.version.snapshot_id, row_filter) if row_filter else self.files

    def _cut(self, file: DataFileRef, predicate: Expr | None, start: int, stop: int | None) -> Iterator[Fragment]:
        whole = None if (start, stop) == (0, None) else (start, stop)
        if file.has_deletes:
            yield Fragment((file.path, WHOLE_FILE), None, file.size)
        elif self._structs_changed(file.path):
            yield from cut([Fragment((file.path, WHOLE_FILE), file.rows, file.size)], whole)
        else:
            groups = self._file(file.path).groups(predicate)
            yield from cut((Fragment((file.path, part.key), part.rows, part.size) for part in groups), whole)

    def _file(self, path: str) -> ParquetFile:
        io = self.table.io
        return ParquetFile(path, lambda url: io.new_input(url).open(), immutable=True)

    def _read_group(
        self,
        path: str,
        group: int,
        schema: pa.Schema,
        fields: tuple[tuple[str, ...], ...],
        start: int,
        stop: int | None,
    ) -> Iterator[pa.RecordBatch]:
        file = self._file(path)
        names = self._names_in_file(file.footer(), schema)
        leaves = [
            leaf for name, field in zip(names, schema, strict=True) for leaf in _leaves(file, name, field, fields)
        ]
        for batch in file.read(group, leaves, start, stop):
            columns = [
                pa.nulls(batch.num_rows, field.type) if name is None else batch.column(name)
                for name, field in zip(names, schema, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(columns, names=schema.names)

    def _names_in_file(self, footer: pq.FileMetaData, schema: pa.Schema) -> list[str | None]:
        """The file's name for each column: the one that carries its field id (names change, ids do not)."""
        in_file = footer.schema.to_arrow_schema()
        ids = {(field.metadata or {}).get(FIELD_ID): field.name for field in in_file}
        if ids.keys() == {None}:  # written without ids and added later: names decide
            return [field.name if field.name in in_file.names else None for field in schema]
        iceberg = snapshot_schema(self.table, self.version.snapshot_id)
        return [ids.get(str(iceberg.find_field(field.name).field_id).encode()) for field in schema]

    @cached_property
    def _structs(self) -> dict[bytes, frozenset[tuple[bytes, str]]]:
        from pyiceberg.io.pyarrow import schema_to_pyarrow  # loads pandas

        return fields_of_structs(schema_to_pyarrow(snapshot_schema(self.table, self.version.snapshot_id)))

    def _structs_changed(self, path: str) -> bool:
        """Whether a struct had other fields, or fields of other names, when the file was written."""
        if not any(self._structs.values()):
            return False
        in_file = fields_of_structs(self._file(path).footer().schema.to_arrow_schema())
        return any(fields != self._structs.get(column, fields) for column, fields in in_file.items())

    def _read_by_pyiceberg(self, path: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        from pyiceberg.io.pyarrow import ArrowScan  # loads pandas

        scan = self.table.scan(snapshot_id=self.version.snapshot_id, selected_fields=tuple(schema.names))
        tasks = [task for task in scan.plan_files() if task.file.file_path == path]
        projected = snapshot_schema(self.table, self.version.snapshot_id).select(*schema.names)
        return ArrowScan(self.table.metadata, self.table.io, projected, AlwaysTrue()).to_record_batches(tasks)

    def __getstate__(self) -> dict[str, Any]:
        # The table holds connections; the files are kept, so that a worker need not plan again.
        return {name: value for name, value in self.__dict__.items() if name != "table"}


def fields_of_structs(schema: pa.Schema) -> dict[bytes, frozenset[tuple[bytes, str]]]:
    """By the id of each column: the id and name of every field of a struct in it. Columns without ids are left out."""
    found = {}
    for column in schema:
        fields, inside = set(), [column.type]
        while inside:
            kind = inside.pop()
            children = [kind.field(place) for place in range(kind.num_fields)]
            if pa.types.is_struct(kind):
                fields |= {(_id_of(child), child.name) for child in children}
            inside += [child.type for child in children]
        if _id_of(column):
            found[_id_of(column)] = frozenset(fields)
    return found


def _id_of(field: pa.Field[Any]) -> bytes:
    return (field.metadata or {}).get(FIELD_ID, b"")


def _leaves(
    file: ParquetFile, name: str | None, field: pa.Field[Any], fields: tuple[tuple[str, ...], ...]
) -> list[str]:
    """What to read of a file for a column: its name there, or the dotted paths of the fields that are wanted."""
    if name is None:
        return []
    paths = [".".join((name, *path[1:])) for path in fields if path[0] == field.name]
    schema = file.footer().schema
    known = {schema.column(index).path for index in range(len(schema))} if paths else set()
    there = all(any(leaf == path or leaf.startswith(f"{path}.") for leaf in known) for path in paths)
    # A file that lacks one of the fields (it came later) is read for the whole column.
    return paths if paths and there else [name]
