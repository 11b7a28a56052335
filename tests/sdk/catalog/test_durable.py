"""What a commit refers to is on disk before the commit."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed.catalog import Lake, append, create, durability
from lakefeed.catalog.durability import local_path, sync_files, sync_folder


def test_local_path() -> None:
    assert local_path("file:///a/b c%20.parquet") == Path("/a/b c%20.parquet")
    assert local_path("/a/b") == Path("/a/b")
    assert local_path("s3://bucket/a") is None


def test_other_stores_need_no_sync() -> None:
    sync_files(["s3://bucket/a"])
    sync_folder("s3://bucket/a")


def test_every_file_of_a_commit_is_synced_before_it(lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = pa.record_batch({"x": [1]})
    create(lake, "t", batch.schema, [batch])
    before = {path for path in home.rglob("*") if path.is_file()}
    synced: set[Path] = set()
    swap = type(lake.catalog)._swap_metadata_location
    seen_at_swap: list[set[Path]] = []
    monkeypatch.setattr(durability, "_sync", synced.add)
    monkeypatch.setattr(
        type(lake.catalog), "_swap_metadata_location", lambda *args: (seen_at_swap.append(set(synced)), swap(*args))[1]
    )
    append(lake, "t", [batch], schema=batch.schema)
    new = {path for path in home.rglob("*") if path.is_file()} - before
    assert new | {path.parent for path in new} <= seen_at_swap[0]
    assert len(new) == 4  # data, manifest, manifest list, metadata
