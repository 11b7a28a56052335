"""Reports about trees: texts, numbers, small tables and media, and metadata. They are kept by the id of the tree."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from lakefeed._arrow import compute as pc
from lakefeed.catalog import renaming
from lakefeed.catalog.commit import append, create
from lakefeed.catalog.hidden_tables import HiddenTables
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.versions import newest_or_empty
from lakefeed.errors import DatasetExistsError, DatasetNotFoundError, InvalidArgumentError
from lakefeed.media.file import FILE
from lakefeed.media.file_column_types import typed_schema
from lakefeed.media.media_records import records_array
from lakefeed.run.write_context import content_saving
from lakefeed.sources.iceberg_source import IcebergSource
from lakefeed.trees.draft_tables import read_rows
from lakefeed.trees.tree_identity import TreeId
from lakefeed.trees.tree_rows import column

NAMESPACE: Final = "_reports"
METADATA: Final = "metadata"
MAX_TEXT_CHARACTERS: Final = 1_000_000
_COLUMNS: list[pa.Field[Any]] = [
    pa.field("tree", pa.string()),
    pa.field("time", pa.timestamp("us", "UTC")),
    pa.field("kind", pa.string()),
    pa.field("title", pa.string()),
    pa.field("series", pa.string()),
    pa.field("iteration", pa.int64()),
    pa.field("value", pa.float64()),
    pa.field("text", pa.string()),
    pa.field("file", FILE.struct),
]
REPORT_SCHEMA: Final = typed_schema(pa.schema(_COLUMNS), {"file": FILE.name})


class TreeReports:
    """The reports about one tree.

    Args:
        lake: the lake.
        tree: the id.
    """

    def __init__(self, lake: Lake, tree: TreeId) -> None:
        self._home, self._tree = lake, tree

    @property
    def _name(self) -> str:
        return table_name(_first_name(self._home, self._tree.dataset))

    def add(self, kind: str, title: str, *, file: tuple[str, bytes] | None = None, **values: Any) -> None:
        """Adds a report: a text, a value or a file, of which the name and the bytes are given."""
        text = values.get("text")
        if text is not None and len(text) > MAX_TEXT_CHARACTERS:
            raise InvalidArgumentError(f"a report may have {MAX_TEXT_CHARACTERS:,} characters, got {len(text):,}")
        row = {"tree": self._tree.key, "time": dt.datetime.now(dt.UTC), "kind": kind, "title": title, **values}
        tables = HiddenTables(self._home, NAMESPACE)
        with content_saving(self._home) as (writer, check):
            record = None
            if file is not None:
                blob = writer.put(file[1])
                writer.flush()
                kind_of = FILE.content_type(file[0], file[1][:64])
                record = {"sha256": blob.sha256, "size": blob.size, "content_type": kind_of, "filename": file[0]}
            arrays: list[Any] = [pa.array([row.get(each.name)], each.type) for each in _COLUMNS[:-1]]
            batch = pa.RecordBatch.from_arrays([*arrays, records_array([record], FILE)], schema=REPORT_SCHEMA)
            if not tables.exists(self._name):
                try:
                    create(tables, self._name, REPORT_SCHEMA, [batch], before_commit=check)
                    return
                except DatasetExistsError:
                    pass  # another process was faster
            append(tables, self._name, [batch], schema=REPORT_SCHEMA, before_commit=check)

    def rows(self, *kinds: str) -> list[dict[str, Any]]:
        """Returns the reports, oldest first; with ``kinds``, those of these kinds."""
        tables = HiddenTables(self._home, NAMESPACE)
        try:
            table = tables.table(self._name)
        except DatasetNotFoundError:
            return []
        source = IcebergSource.of(tables, self._name, table, newest_or_empty(table))
        rows = read_rows(self._home, source, REPORT_SCHEMA)
        rows = rows.filter(pc.equal(column(rows, "tree"), pa.scalar(self._tree.key)))
        return [row for row in rows.to_pylist() if not kinds or row["kind"] in kinds]


def table_name(dataset: str) -> str:
    """Returns the name of the table with the reports about the trees of a dataset."""
    return f"r{hashlib.sha256(dataset.encode()).hexdigest()[:16]}"


def _first_name(lake: Lake, dataset: str) -> str:
    """Returns the first name of a dataset; the name of one that is not finalized yet."""
    name = renaming.following_name(lake, dataset)
    try:
        return renaming.first_name(lake.table(name), dataset)
    except DatasetNotFoundError:
        return dataset


def discard_reports(lake: Lake, dataset: str) -> None:
    """Removes the reports about all trees of a dataset, unless a dataset that had its name may have reports there."""
    if any(each.to for each in lake.deletions(dataset)):
        return
    try:
        HiddenTables(lake, NAMESPACE).discard(table_name(dataset))
    except DatasetNotFoundError:
        return


def set_metadata(reports: TreeReports, value: Any, name: str) -> None:
    """Sets the metadata of a name; see `FileTree.set_metadata`."""
    if hasattr(value, "to_dict"):
        value = value.to_dict(orient="list")
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(
            f"metadata must be what JSON can hold, or a DataFrame of such values: {error}"
        ) from None
    reports.add(METADATA, name, text=text)


def get_metadata(reports: TreeReports, name: str) -> Any:
    """Returns the metadata of a name; None if there is none."""
    texts = [row["text"] for row in reports.rows(METADATA) if row["title"] == name]
    return json.loads(texts[-1]) if texts else None


def read_media(path: Path, limit: int) -> tuple[str, bytes]:
    """Returns the name and the bytes of a local file.

    Raises:
        InvalidArgumentError: it is larger than ``limit`` bytes.
    """
    size = path.stat().st_size
    if size > limit:
        raise InvalidArgumentError(f"{str(path)!r} has {size:,} bytes; a report may have files of at most {limit:,}")
    return path.name, path.read_bytes()
