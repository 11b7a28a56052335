"""The scan plan of a version: its columns and data files, as bytes that are read without PyIceberg."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from lakefeed.catalog.file_refs import PARQUET, ColumnFileRef, DataFileRef, DeleteFileRef
from lakefeed.catalog.table_columns import FieldNames, TableColumns
from lakefeed.catalog.versions import DatasetVersion

DIGEST_BYTES = hashlib.sha256().digest_size
FILE_ATTRIBUTES = ("path", "rows", "size", "sequence", "manifest", "spec_id", "partition", "sort_order_id")
"""The attributes of data files in a stored plan. Statistics of columns are not among them."""
DELETE_FILE_ATTRIBUTES = ("path", "rows", "sequence", "first", "last", "file_format", "manifest")
COLUMN_FILE_ATTRIBUTES = ("path", "rows", "size", "sequence", "fields", "manifest")
JSON_TYPES = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class ScanPlan:
    """The columns and data files that a scan of a version reads.

    Attributes:
        version: the version.
        schema_id: the schema in which rows are read; None for that of the snapshot.
        columns: the columns of that schema.
        files: the data files in row order. A plan that was parsed has no statistics of columns.
        first_name: the first name of the dataset; None if it is unknown, as in plans of earlier releases.
    """

    version: DatasetVersion
    schema_id: int | None
    columns: TableColumns
    files: tuple[DataFileRef, ...]
    first_name: str | None = None

    @property
    def storable(self) -> bool:
        """False if `dump` has no form for it: default values and partitions of other types than those of JSON.

        Nor does it have one for delete files that are not Parquet, and for rows without their values of column files.
        """
        values = (*self.columns.defaults.values(), *(value for file in self.files for value in file.partition))
        plain = all(isinstance(value, JSON_TYPES) for value in values)
        parquet = all(each.file_format == PARQUET for each in self._delete_files)
        return plain and parquet and not any(file.unaligned or file.among is not None for file in self.files)

    @property
    def paths(self) -> list[str]:
        """The locations of the files that a scan reads."""
        column_files = [each.path for file in self.files for each in file.columns]
        return [*(file.path for file in self.files), *(each.path for each in self._delete_files), *column_files]

    @property
    def manifests(self) -> set[str]:
        """The locations of the manifests that name these files."""
        of_columns = {each.manifest for file in self.files for each in file.columns}
        return of_columns.union((file.manifest for file in self.files), (each.manifest for each in self._delete_files))

    @property
    def _delete_files(self) -> list[DeleteFileRef]:
        """The delete files, each once, although it may apply to several data files."""
        return list(dict.fromkeys(each for file in self.files for each in file.deletes))

    def dump(self, facts: Any) -> bytes:
        """Returns the plan with ``facts`` (JSON) about it as bytes that begin with their checksum."""
        deletes = self._delete_files
        numbers = {each: number for number, each in enumerate(deletes)}
        content = {
            "facts": facts,
            "version": asdict(self.version),
            "schema_id": self.schema_id,
            "first_name": self.first_name,
            "columns": _dump_columns(self.columns),
            "files": [_values(file, FILE_ATTRIBUTES) for file in self.files],
            "deletes": [_dump_delete_file(each) for each in deletes],
            "deletes_of": [[numbers[each] for each in file.deletes] for file in self.files],
            "columns_of": [[_dump_column_file(each) for each in file.columns] for file in self.files],
        }
        body = json.dumps(content).encode()
        return hashlib.sha256(body).digest() + body

    @classmethod
    def parse(cls, data: bytes) -> tuple[ScanPlan, Any]:
        """Returns the plan and the facts that `dump` wrote.

        Raises:
            ValueError: the bytes are damaged.
        """
        digest, body = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != digest:
            raise ValueError("the checksum of a scan plan does not match")
        content = json.loads(body)
        columns = _parse_columns(content["columns"])
        files = tuple(_parse_files(content))
        plan = cls(
            DatasetVersion(**content["version"]), content["schema_id"], columns, files, content.get("first_name")
        )
        return plan, content["facts"]


def _values(value: Any, attributes: Sequence[str]) -> list[Any]:
    return [getattr(value, name) for name in attributes]


def _dump_delete_file(file: DeleteFileRef) -> list[Any]:
    values = dict(zip(DELETE_FILE_ATTRIBUTES, _values(file, DELETE_FILE_ATTRIBUTES), strict=True))
    last = None if file.last is None else file.last.hex()
    return list({**values, "first": file.first.hex(), "last": last}.values())


def _parse_delete_file(values: Sequence[Any]) -> DeleteFileRef:
    row = dict(zip(DELETE_FILE_ATTRIBUTES, values, strict=True))
    last = None if row["last"] is None else bytes.fromhex(row["last"])
    return DeleteFileRef(**{**row, "first": bytes.fromhex(row["first"]), "last": last})


def _dump_column_file(file: ColumnFileRef) -> list[Any]:
    return [sorted(each) if isinstance(each, frozenset) else each for each in _values(file, COLUMN_FILE_ATTRIBUTES)]


def _parse_column_file(values: Sequence[Any]) -> ColumnFileRef:
    row = dict(zip(COLUMN_FILE_ATTRIBUTES, values, strict=True))
    return ColumnFileRef(**{**row, "fields": frozenset(row["fields"])})


def _parse_files(content: Mapping[str, Any]) -> Iterator[DataFileRef]:
    deletes = [_parse_delete_file(values) for values in content["deletes"]]
    parts = zip(content["files"], content["deletes_of"], content["columns_of"], strict=True)
    for values, numbers, columns in parts:
        row = dict(zip(FILE_ATTRIBUTES, values, strict=True))
        row |= {"partition": tuple(row["partition"]), "deletes": tuple(deletes[number] for number in numbers)}
        yield DataFileRef(**row, columns=tuple(map(_parse_column_file, columns)))


def _dump_columns(columns: TableColumns) -> dict[str, Any]:
    return {
        "declared": _dump_schema(columns.declared),
        "stored": _dump_schema(columns.stored),
        "schema_id": columns.schema_id,
        "names": [asdict(names) for names in columns.names],
        "partitions": list(columns.partitions.items()),
        "defaults": list(columns.defaults.items()),
        "in_column_files": sorted(columns.in_column_files),
    }


def _parse_columns(content: Mapping[str, Any]) -> TableColumns:
    return TableColumns(
        declared=_parse_schema(content["declared"]),
        stored=_parse_schema(content["stored"]),
        schema_id=content["schema_id"],
        names=_parse_names(content["names"]),
        partitions={spec: tuple((index, column) for index, column in parts) for spec, parts in content["partitions"]},
        defaults=dict(content["defaults"]),
        in_column_files=frozenset(content["in_column_files"]),
    )


def _parse_names(content: Sequence[Mapping[str, Any]]) -> tuple[FieldNames, ...]:
    return tuple(FieldNames(one["id"], tuple(one["names"]), _parse_names(one["children"])) for one in content)


def _dump_schema(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def _parse_schema(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
