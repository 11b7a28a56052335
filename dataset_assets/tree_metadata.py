"""Versions of file trees as metadata of materializations: their names, the paths that changed, reports, images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dagster import AssetKey, MetadataValue, TableColumn, TableRecord, TableSchema

from dataset_assets.asset_keys import dataset_key
from dataset_assets.preview_cells import preview_cell, thumbnail
from lakefeed import File, Image
from lakefeed.profiles import Profile
from lakefeed.trees import TreeSummary, summarize

MAX_PICTURES = 16
MAX_PICTURE_BYTES = 8 << 20
COLUMNS = ("path", "file", "executable", "etag")


def summary_of(profile: Profile) -> TreeSummary | None:
    """Returns the summary of a version; None for a dataset whose rows are not the files of a tree."""
    # The columns tell most others without a look at their table.
    return summarize(profile.name, profile.version.version) if set(COLUMNS) <= set(profile.schema.names) else None


def tree_metadata(tree: TreeSummary, first_rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the metadata of a version of a file tree. ``first_rows`` are rows that it added."""
    parents = [f"{parent} ({label or 'deleted'})" for parent, label in tree.parents.items()]
    facts: dict[str, Any] = {
        "tree": "/".join(tree.title),
        "tree_label": tree.label,
        "tree_id": tree.id,
        "tree_parents": ", ".join(parents) or "none",
        "tree_tags": ", ".join(tree.tags),
        "tree_status": tree.status,
    }
    if tree.description is not None:
        facts["tree_description"] = tree.description
    if tree.unread is not None:
        facts["unread_files"] = tree.unread
    for change, number in (tree.changes or {}).items():
        facts[f"files_{change}"] = number
    if tree.files is not None:
        facts["files_total"] = tree.files
    if tree.paths is not None:
        facts["changed_files"] = _changed_files(tree.paths, tree.changes or {})
    if tree.reports:
        facts["reports"] = _reports(tree.reports)
    if tree.images:
        facts["reported_images"] = _strip(tree.images)
    if pictures := list(_pictures(first_rows)):
        facts["thumbnails_file"] = _strip(pictures)
    return facts


def source_columns(tree: TreeSummary) -> dict[str, list[tuple[AssetKey, str]]]:
    """Returns the columns of the other datasets from which the columns of a tree come."""
    return {column: [(dataset_key(name), column) for name in tree.sources] for column in COLUMNS if tree.sources}


def _changed_files(paths: Mapping[str, Sequence[str]], numbers: Mapping[str, int]) -> MetadataValue:
    records = []
    for change, each in paths.items():
        records += [TableRecord({"change": change, "path": path}) for path in each]
        if more := numbers[change] - len(each):
            records.append(TableRecord({"change": change, "path": f"… and {more:,} more"}))
    return MetadataValue.table(records, TableSchema([TableColumn("change"), TableColumn("path")]))


def _reports(reports: Sequence[Mapping[str, Any]]) -> MetadataValue:
    names = ("kind", "title", "series", "iteration", "report")
    records = [
        TableRecord({**{name: preview_cell(row[name]) for name in names[:-1]}, "report": preview_cell(_content(row))})
        for row in reports
    ]
    return MetadataValue.table(records, TableSchema([TableColumn(name) for name in names]))


def _content(row: Mapping[str, Any]) -> Any:
    """Returns what a report says in one line."""
    if row["file"] is not None:
        return row["file"]["filename"]
    if row["kind"] == "table" and row["text"] is not None:
        table = json.loads(row["text"])
        return f"{table['total']:,} rows of {', '.join(table['columns'])}"
    return row["value"] if row["text"] is None else row["text"]


def _pictures(rows: Sequence[Mapping[str, Any]]) -> Iterable[Image]:
    """Yields the images among the first files, without those that are large or elsewhere."""
    for row in rows[:MAX_PICTURES]:
        file = row.get("file")
        if not isinstance(file, File) or file.sha256 is None or (file.size or 0) > MAX_PICTURE_BYTES:
            continue
        if (file.content_type or "").startswith("image/"):
            yield Image(sha256=file.sha256, size=file.size, filename=file.filename, store=file.store)


def _strip(images: Iterable[Image]) -> MetadataValue:
    return MetadataValue.md(" ".join(map(thumbnail, images)))
