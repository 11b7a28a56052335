"""Profiles of versions as metadata of materializations: numbers, tables, a preview, thumbnails, links."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from dagster import (
    AssetKey,
    MetadataValue,
    TableColumn,
    TableColumnDep,
    TableColumnLineage,
    TableRecord,
    TableSchema,
)

from dataset_assets.asset_checks import PASSED, PASSED_BLOCKING, CheckReport
from dataset_assets.asset_keys import dataset_key, routine_key
from dataset_assets.preview_cells import preview_cell, thumbnail
from dataset_assets.tree_metadata import source_columns, tree_metadata
from lakefeed.profiles import ColumnStatistics, Profile
from lakefeed.routines import routine_of

PREVIEW_ROWS = 8
THUMBNAILS = 16
STATISTICS = ("nulls", "values", "unreadable", "distinct", "min", "max", "mean", "5%", "25%", "50%", "75%", "95%")
# Beyond this the plots of a materialization would be more than its page can show.
PLOTTED_COLUMNS = 20
RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def profile_metadata(
    report: CheckReport,
    descriptions: Mapping[str, str] | None = None,
    lineage: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Returns the metadata of a materialization. ``descriptions`` and ``lineage`` are by column."""
    profile, version = report.profile, report.profile.version
    facts = {
        "rows_added": version.added_records,
        "rows_deleted": version.deleted_records,
        "rows_total": version.total_records,
        "dagster/row_count": version.total_records,
        "bytes_added": profile.bytes_added,
        "bytes_total": profile.bytes_total,
        "bytes_of_files": profile.file_bytes,
        "operation": version.operation,
        # As text: it exceeds 2^53, and the UI would round it.
        "snapshot_id": str(version.snapshot_id),
        "table_uuid": profile.table_uuid,
        "committed_at": MetadataValue.timestamp(datetime.fromtimestamp(version.timestamp_ms / 1000, tz=UTC)),
        "written_by": ", ".join(filter(None, [version.user, version.message])),
        PASSED: not report.failed,
        PASSED_BLOCKING: report.passed_blocking,
        "checks_failed": ", ".join(report.failed),
        "dagster/column_schema": column_schema(profile.schema, descriptions or {}),
        "schema_changes": _schema_changes(profile),
        "statistics": _statistics(profile),
        "preview": MetadataValue.md(_preview(profile.first_rows[:PREVIEW_ROWS])),
        **{f"thumbnails_{name}": MetadataValue.md(strip) for name, strip in _thumbnails(profile).items()},
        **_plot_values(profile),
    }
    tree = {} if report.tree is None else tree_metadata(report.tree, profile.first_rows)
    return facts | tree | _optional(report, lineage or {})


def run_link(run: str) -> MetadataValue:
    """Returns a link to the run that wrote a version, or its id as text if it is not a Dagster run."""
    return MetadataValue.dagster_run(run) if RUN_ID.fullmatch(run) else MetadataValue.text(run)


def _optional(report: CheckReport, lineage: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    profile = report.profile
    if profile.version.run:
        facts["written_by_run"] = run_link(profile.version.run)
    if profile.unread:
        facts["unread"] = profile.unread
    written_by = routine_of(profile.version)
    deps = {name: [(routine_key(written_by), name)] for name in profile.schema.names} if written_by else {}
    if report.tree is not None:
        deps |= source_columns(report.tree)
    if deps := deps | {column: list(map(_declared_origin, sources)) for column, sources in lineage.items()}:
        facts["dagster/column_lineage"] = column_lineage(deps)
    return facts


def column_lineage(deps: Mapping[str, Iterable[tuple[AssetKey, str]]]) -> TableColumnLineage:
    """Returns the lineage of columns in Dagster's form."""
    return TableColumnLineage(
        {name: [TableColumnDep(key, column) for key, column in origins] for name, origins in deps.items()}
    )


def _declared_origin(source: str) -> tuple[AssetKey, str]:
    dataset, _, column = source.rpartition(".")
    return dataset_key(dataset), column


def column_schema(schema: pa.Schema, descriptions: Mapping[str, str] | None = None) -> TableSchema:
    """Returns the columns in Dagster's form."""
    descriptions = descriptions or {}
    return TableSchema(
        [TableColumn(field.name, _type_text(field), description=descriptions.get(field.name)) for field in schema]
    )


def _type_text(field: pa.Field[Any]) -> str:
    media = (field.metadata or {}).get(b"lakefeed.type")
    return media.decode() if media else str(field.type)


def _schema_changes(profile: Profile) -> str:
    changed = profile.changed
    lines = [
        *(f"+ {name}: {kind}" for name, kind in changed.added.items()),
        *(f"- {name}: {kind}" for name, kind in changed.dropped.items()),
        *(f"{old} → {new}" for old, new in changed.renamed.items()),
        *(f"{name}: {old} → {new}" for name, (old, new) in changed.retyped.items()),
    ]
    return "; ".join(lines) or "none"


def _statistics(profile: Profile) -> MetadataValue:
    records = [TableRecord({"column": name, **_cells(stats)}) for name, stats in _with_fields(profile).items()]
    return MetadataValue.table(records, TableSchema([TableColumn(name) for name in ("column", *STATISTICS)]))


def _with_fields(profile: Profile) -> dict[str, ColumnStatistics]:
    """Returns the statistics of the columns, each followed by those of its files' fields, such as ``image.width``."""
    columns: dict[str, ColumnStatistics] = {}
    for name, stats in profile.columns.items():
        columns[name] = stats
        columns |= {f"{name}.{entry}": of_entry for entry, of_entry in stats.fields.items()}
    return columns


def _cells(stats: ColumnStatistics) -> dict[str, Any]:
    about = "" if stats.exact else "~"
    cells = [
        stats.nulls,
        stats.values,
        "" if stats.unreadable is None else stats.unreadable,
        "" if stats.distinct is None else f"{about}{stats.distinct}",
        preview_cell(stats.least),
        preview_cell(stats.greatest),
        "" if stats.mean is None else f"{stats.mean:.6g}",
        *(f"{value:.6g}" for value in stats.quantiles or ()),
    ]
    return dict(zip(STATISTICS, cells + [""] * (len(STATISTICS) - len(cells)), strict=True))


def _plot_values(profile: Profile) -> dict[str, float]:
    """Returns numbers by column, which Dagster plots over the versions."""
    plotted: dict[str, float] = {}
    for name, stats in list(_with_fields(profile).items())[:PLOTTED_COLUMNS]:
        if stats.unreadable:
            plotted[f"unreadable/{name}"] = stats.unreadable
        rows = stats.nulls + stats.values
        if rows and stats.nulls:
            plotted[f"null_share/{name}"] = stats.nulls / rows
        if stats.mean is not None:
            plotted[f"mean/{name}"] = stats.mean
    return plotted


def _preview(rows: Iterable[Mapping[str, Any]]) -> str:
    """Returns rows as a Markdown table."""
    lines = ["| " + " | ".join(map(preview_cell, row.values())) + " |" for row in rows]
    if not lines:
        return "no new rows to show"
    names = list(next(iter(rows)))
    return "\n".join(["| " + " | ".join(names) + " |", "|" + " --- |" * len(names), *lines])


def _thumbnails(profile: Profile) -> dict[str, str]:
    """Returns for each column of images or videos the first of them, side by side."""
    columns = [field.name for field in profile.schema if _type_text(field) in {"image", "video"}]
    images = {name: [row[name] for row in profile.first_rows[:THUMBNAILS] if row[name] is not None] for name in columns}
    return {name: " ".join(map(thumbnail, cells)) for name, cells in images.items() if cells}
