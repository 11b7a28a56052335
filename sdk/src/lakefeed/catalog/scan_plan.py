"""The scan plan of a version: its columns and data files, as bytes that are read without PyIceberg."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.table_columns import FieldNames, TableColumns
from lakefeed.catalog.versions import DatasetVersion

DIGEST_BYTES = hashlib.sha256().digest_size
FILE_ATTRIBUTES = ("path", "rows", "size", "sequence", "manifest", "spec_id", "partition", "sort_order_id")
"""The attributes of data files in a stored plan. Statistics of columns are not among them."""
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
        """False if `dump` has no form for it: delete files, column files, default values, dates of partitions."""
        if self.columns.defaults or self.columns.in_column_files:
            return False
        plain = all(isinstance(value, JSON_TYPES) for file in self.files for value in file.partition)
        return plain and not any(file.has_deletes or file.columns or file.unaligned for file in self.files)

    def dump(self, facts: Any) -> bytes:
        """Returns the plan with ``facts`` (JSON) about it as bytes that begin with their checksum."""
        content = {
            "facts": facts,
            "version": asdict(self.version),
            "schema_id": self.schema_id,
            "first_name": self.first_name,
            "columns": _dump_columns(self.columns),
            "files": [[getattr(file, name) for name in FILE_ATTRIBUTES] for file in self.files],
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
        rows = (dict(zip(FILE_ATTRIBUTES, values, strict=True)) for values in content["files"])
        files = tuple(DataFileRef(**{**row, "partition": tuple(row["partition"])}) for row in rows)
        columns = _parse_columns(content["columns"])
        plan = cls(
            DatasetVersion(**content["version"]), content["schema_id"], columns, files, content.get("first_name")
        )
        return plan, content["facts"]


def _dump_columns(columns: TableColumns) -> dict[str, Any]:
    return {
        "declared": _dump_schema(columns.declared),
        "stored": _dump_schema(columns.stored),
        "schema_id": columns.schema_id,
        "names": [asdict(names) for names in columns.names],
        "partitions": list(columns.partitions.items()),
    }


def _parse_columns(content: Mapping[str, Any]) -> TableColumns:
    return TableColumns(
        declared=_parse_schema(content["declared"]),
        stored=_parse_schema(content["stored"]),
        schema_id=content["schema_id"],
        names=_parse_names(content["names"]),
        partitions={spec: tuple((index, column) for index, column in parts) for spec, parts in content["partitions"]},
    )


def _parse_names(content: Sequence[Mapping[str, Any]]) -> tuple[FieldNames, ...]:
    return tuple(FieldNames(one["id"], tuple(one["names"]), _parse_names(one["children"])) for one in content)


def _dump_schema(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def _parse_schema(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
