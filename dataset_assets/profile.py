"""What a version is, for the UI: statistics of its added rows, a preview table, thumbnails, who wrote it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.compute as pc
from dagster import MetadataValue, TableColumn, TableRecord, TableSchema

from lakefeed import Dataset, Image, Video
from lakefeed.catalog import DatasetVersion, Lake, list_versions, resolve
from lakefeed.errors import FormatError, LakefeedError

PREVIEW_ROWS = 8
THUMBNAILS = 16
THUMBNAIL_PIXELS = 48
CELL_CHARACTERS = 60
BLOBS_SAMPLED = 200
ORDERED = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_timestamp,
)


@dataclass(frozen=True)
class ColumnStatistics:
    """Of one column in the rows that a version added; ``total`` (for the mean) only of numbers."""

    nulls: int = 0
    values: int = 0
    least: Any = None
    greatest: Any = None
    total: float | None = None

    def plus(self, other: ColumnStatistics) -> ColumnStatistics:
        """Of the rows of both."""
        totals = [part.total for part in (self, other) if part.total is not None]
        return ColumnStatistics(
            nulls=self.nulls + other.nulls,
            values=self.values + other.values,
            least=min((v for v in (self.least, other.least) if v is not None), default=None),
            greatest=max((v for v in (self.greatest, other.greatest) if v is not None), default=None),
            total=sum(totals) if totals else None,
        )


@dataclass(frozen=True)
class Profile:
    """A version as it was found when read: ``rows`` were really there, ``digests`` are some of its files' sha256.

    A version that changed rows in place has no statistics yet: which of its rows are new is not told apart.
    """

    version: DatasetVersion
    schema: pa.Schema
    rows: int | None = None
    columns: Mapping[str, ColumnStatistics] = field(default_factory=dict)
    first_rows: tuple[dict[str, Any], ...] = ()
    digests: tuple[str, ...] = ()


def profile(name: str, version: int) -> Profile:
    """Reads the rows that the version added, once, in bounded memory.

    Raises:
        VersionNotFoundError: the dataset has no such version.
    """
    found = resolve(Lake.current().table(name), version)
    dataset = Dataset(name, version=version)
    if found.operation == "overwrite":
        return Profile(found, dataset.schema)
    added = dataset.added_since(_previous(name, version), version)
    rows, columns = 0, dict.fromkeys(dataset.schema.names, ColumnStatistics())
    digests: list[str] = []
    for batch in added.batches(format="arrow", load_files=False):
        rows += batch.num_rows
        for column, values in zip(batch.schema.names, batch.columns, strict=True):
            columns[column] = columns[column].plus(statistics(values))
            digests += _digests(values)[: BLOBS_SAMPLED - len(digests)]
    first_rows = tuple(added.head(max(PREVIEW_ROWS, THUMBNAILS)).rows())
    return Profile(found, dataset.schema, rows, columns, first_rows, tuple(digests))


def statistics(values: pa.Array[Any]) -> ColumnStatistics:
    """Of one array; least and greatest only where the type has an order that means something to a reader."""
    kind = values.type
    found = ColumnStatistics(nulls=values.null_count, values=len(values) - values.null_count)
    if pa.types.is_dictionary(kind):
        return statistics(values.cast(kind.value_type))
    if not found.values or not any(is_kind(kind) for is_kind in ORDERED):
        return found
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    comparable = values.cast(pa.float64(), safe=False) if pa.types.is_float16(kind) else values
    extremes: dict[str, Any] = pc.min_max(comparable).as_py()  # type: ignore[assignment]
    total = pc.sum(values.cast(pa.float64(), safe=False)).as_py() if numeric else None
    return ColumnStatistics(found.nulls, found.values, extremes["min"], extremes["max"], total)


def metadata(found: Profile) -> dict[str, Any]:
    """The profile as metadata of a materialization."""
    version = found.version
    facts = {
        "rows_added": version.added_records,
        "rows_deleted": version.deleted_records,
        "rows_total": version.total_records,
        "operation": version.operation,
        # As text: it exceeds 2^53, and the UI would round it.
        "snapshot_id": str(version.snapshot_id),
        "committed_at": MetadataValue.timestamp(datetime.fromtimestamp(version.timestamp_ms / 1000, tz=UTC)),
        "written_by": ", ".join(filter(None, [version.user, version.message])),
        "dagster/column_schema": _schema(found.schema),
        "statistics": _statistics(found),
        "preview": MetadataValue.md(_preview(found.first_rows[:PREVIEW_ROWS])),
        **{f"thumbnails_{name}": MetadataValue.md(strip) for name, strip in _thumbnails(found).items()},
    }
    return facts | ({"written_by_run": version.run} if version.run else {})


def _digests(values: pa.Array[Any]) -> list[str]:
    if not (pa.types.is_struct(values.type) and values.type.get_field_index("sha256") >= 0):
        return []
    return [digest for digest in pc.struct_field(values, "sha256").to_pylist() if digest]


def _schema(schema: pa.Schema) -> TableSchema:
    return TableSchema([TableColumn(field.name, _type_text(field)) for field in schema])


def _type_text(field: pa.Field[Any]) -> str:
    media = (field.metadata or {}).get(b"lakefeed.type")
    return media.decode() if media else str(field.type)


def _statistics(found: Profile) -> MetadataValue:
    columns = [TableColumn("column"), *(TableColumn(name) for name in ("nulls", "values", "min", "max", "mean"))]
    records = [
        TableRecord(
            {
                "column": name,
                "nulls": stats.nulls,
                "values": stats.values,
                "min": _cell(stats.least),
                "max": _cell(stats.greatest),
                "mean": "" if stats.total is None else f"{stats.total / stats.values:.6g}",
            }
        )
        for name, stats in found.columns.items()
    ]
    return MetadataValue.table(records, TableSchema(columns))


def _preview(rows: Iterable[Mapping[str, Any]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(map(_cell, row.values())) + " |" for row in rows]
    if not lines:
        return "no new rows to show"
    names = list(next(iter(rows)))
    return "\n".join(["| " + " | ".join(names) + " |", "|" + " --- |" * len(names), *lines])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Image | Video):
        return _thumbnail(value)
    text = f"{value:.6g}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")
    return text if len(text) <= CELL_CHARACTERS else text[: CELL_CHARACTERS - 1] + "…"


def _thumbnails(found: Profile) -> dict[str, str]:
    """For each column of images or videos the first of them, side by side."""
    columns = [field.name for field in found.schema if _type_text(field) in {"image", "video"}]
    images = {name: [row[name] for row in found.first_rows[:THUMBNAILS] if row[name] is not None] for name in columns}
    return {name: " ".join(map(_thumbnail, cells)) for name, cells in images.items() if cells}


def _thumbnail(cell: Image | Video) -> str:
    """The image, or the video's first frame, scaled to fit, in Markdown. What cannot be had is the check's business."""
    try:
        picture = _picture(cell)
    except (LakefeedError, OSError) as error:  # missing, changed, broken, or no library to read it
        return f"({type(error).__name__})"
    scale = THUMBNAIL_PIXELS / max(picture.size)
    # Whole pixels of a tiny image stay visible: no smoothing when it is enlarged.
    shown = picture.resize([max(1, round(side * scale)) for side in picture.size], resample=0 if scale > 1 else None)
    sink = io.BytesIO()
    shown.save(sink, format="PNG")
    return f"![](data:image/png;base64,{base64.b64encode(sink.getvalue()).decode()})"


def _picture(cell: Image | Video) -> PIL.Image.Image:
    if isinstance(cell, Image):
        return cell.pil().convert("RGB")
    for frame in cell.frames(stop=1):
        return PIL.Image.fromarray(frame)
    raise FormatError(f"{cell!r} has no frames")


def _previous(name: str, version: int) -> int | None:
    """The version before; None before the first."""
    earlier = (each.version for each in list_versions(Lake.current().table(name)) if each.version < version)
    return max(earlier, default=None)
