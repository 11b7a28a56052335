"""Rows of datasets as files."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from lakefeed import _paths, errors
from lakefeed.cli.cell_text import to_json
from lakefeed.cli.progress_bar import show_progress
from lakefeed.cli.rows import group

if TYPE_CHECKING:
    import pyarrow as pa

    from lakefeed import Dataset

Writer: TypeAlias = "Callable[[Iterator[pa.RecordBatch], pa.Schema, Path, str | None], None]"

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
UNSAFE = re.compile(r"[^\w.\- ]")
THREADS = 8
ROWS_AT_ONCE = 256


def export_file(rows: Dataset, target: Path, *, replace: bool = False) -> int:
    """Writes rows to a file whose suffix gives the format, and returns their number. Files are records in it.

    Raises:
        InvalidArgumentError: the suffix is unknown, or the file exists and is not to be replaced.
    """
    compression = COMPRESSIONS.get(target.suffix.lower())
    suffix = Path(target.stem).suffix.lower() if compression else target.suffix.lower()
    if suffix not in WRITERS or (compression and suffix not in TEXT_SUFFIXES):
        raise errors.InvalidArgumentError(
            f"{str(target)!r}: unknown format; choose from {', '.join(WRITERS)}, or {', '.join(TEXT_SUFFIXES)} "
            f"followed by {', '.join(COMPRESSIONS)}, or give --files for a folder"
        )
    if _paths.is_folder(target) or (_paths.exists(target) and not replace):
        raise errors.InvalidArgumentError(f"{str(target)!r} exists; choose another name, or replace it with --force")
    number = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal number
        for batch in show_progress(rows.batches(format="arrow", load_files=False), "rows"):
            number += batch.num_rows
            yield batch

    with _complete(target) as path:
        WRITERS[suffix](batches(), rows.schema, path, compression)
    return number


@contextmanager
def _complete(target: Path) -> Iterator[Path]:
    """Yields a path beside the target, which takes its place at the end; after an error it is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.with_name(f".{target.name[:100]}.{os.getpid()}.part")
    try:
        yield path
        path.replace(target)
    finally:
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)


def _write_parquet(batches: Iterator[pa.RecordBatch], schema: pa.Schema, path: Path, compression: str | None) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_arrow(batches: Iterator[pa.RecordBatch], schema: pa.Schema, path: Path, compression: str | None) -> None:
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_jsonl(batches: Iterator[pa.RecordBatch], schema: pa.Schema, path: Path, compression: str | None) -> None:
    with _open_text(path, compression) as sink:
        for batch in batches:
            rows = (to_json(_with_entries(row)) for row in batch.to_pylist())
            lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
            sink.write("".join(lines).encode())


def _with_entries(value: Any) -> Any:
    """Returns a value in which each entry of a map is an object, because lists of JSON have values of one type."""
    match value:
        case dict():
            return {key: _with_entries(item) for key, item in value.items()}
        case list():
            return [_with_entries(item) for item in value]
        case (key, item):
            return {"key": _with_entries(key), "value": _with_entries(item)}
    return value


def _write_csv(batches: Iterator[pa.RecordBatch], schema: pa.Schema, path: Path, compression: str | None) -> None:
    import pyarrow as pa
    from pyarrow import csv

    flat = pa.schema([field if _is_plain(field.type) else pa.field(field.name, pa.string()) for field in schema])
    with _open_text(path, compression) as sink, csv.CSVWriter(sink, flat) as writer:
        for batch in batches:
            writer.write_batch(pa.record_batch([_flat(values) for values in batch.columns], schema=flat))


def _open_text(path: Path, compression: str | None) -> Any:
    import pyarrow as pa

    return pa.output_stream(str(path), compression=cast("Any", compression))


def _is_plain(kind: pa.DataType) -> bool:
    """Returns whether the CSV writer of Arrow has text for the type that can be read again."""
    import pyarrow as pa

    types = pa.types
    text = types.is_string(kind) or types.is_large_string(kind)
    number = types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind) or types.is_boolean(kind)
    return text or number or types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind)


def _flat(values: pa.Array[Any]) -> pa.Array[Any]:
    """Returns values that CSV can hold: nested ones as JSON."""
    import pyarrow as pa

    if _is_plain(values.type):
        return values
    plain = (to_json(value) for value in values.to_pylist())
    texts = [each if each is None or isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in plain]
    return pa.array(texts, pa.string())


WRITERS: dict[str, Writer] = {
    ".parquet": _write_parquet,
    ".arrow": _write_arrow,
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
}
TEXT_SUFFIXES = (".csv", ".jsonl")


def export_folder(rows: Dataset, target: Path) -> int:
    """Writes the files of rows into a new folder, with ``rows.jsonl``, which has their paths in it.

    Returns:
        The number of rows.

    Raises:
        InvalidArgumentError: the folder exists and is not empty.
        FileError: a file cannot be read.
    """
    if _paths.exists(target) and (not _paths.is_folder(target) or any(target.iterdir())):
        raise errors.InvalidArgumentError(f"{str(target)!r} exists and is not an empty folder; choose another name")
    number = 0
    with _complete(target) as folder, ThreadPoolExecutor(THREADS) as pool:
        folder.mkdir()
        with (folder / "rows.jsonl").open("w", encoding="utf-8") as lines:
            for some in group(show_progress(rows.rows(), "rows"), ROWS_AT_ONCE):
                first = number
                numbered = list(enumerate(some, first))
                for row in pool.map(lambda pair: _store_files(folder, *pair), numbered):
                    lines.write(json.dumps(to_json(row), ensure_ascii=False, allow_nan=False) + "\n")
                number += len(some)
    return number


def _store_files(folder: Path, number: int, row: dict[str, Any]) -> dict[str, Any]:
    """Writes the files of a row, and returns the row with their paths in the folder."""
    return {name: _store_file(folder, number, name, value) for name, value in row.items()}


def _store_file(folder: Path, number: int, column: str, value: Any) -> Any:
    if not hasattr(value, "record"):
        return value
    name = UNSAFE.sub("_", Path(value.name).name)[-150:]
    path = folder / UNSAFE.sub("_", column) / f"{number:08d}-{name}"
    path.parent.mkdir(exist_ok=True)
    with value.open() as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
    return path.relative_to(folder).as_posix()
