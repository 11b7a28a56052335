"""Commits need nothing from the embedded catalog: PyIceberg's own SQL catalog, as an example of another, will do."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed.catalog import Fence, Lake, append, create, list_versions, update_properties
from lakefeed.config import Settings
from lakefeed.errors import DatasetExistsError, DatasetNotFoundError, FenceError

BATCH = pa.record_batch({"x": [1]})


@pytest.fixture
def other(home: Path) -> Iterator[Lake]:
    home.mkdir()
    lake = Lake(Settings.load(**{"catalog.type": "in-memory", "catalog.uri": f"sqlite:///{home}/other.db"}))
    assert type(lake.catalog).__name__ == "InMemoryCatalog"
    yield lake
    lake.close()


def test_create_append_and_drop(other: Lake) -> None:
    create(other, "t", BATCH.schema, [BATCH])
    with pytest.raises(DatasetExistsError):
        create(other, "t", BATCH.schema, [BATCH])
    append(other, "t", [BATCH], schema=BATCH.schema, fence=Fence("f", None, "1"))
    with pytest.raises(FenceError):
        append(other, "t", [BATCH], schema=BATCH.schema, fence=Fence("f", None, "1"))
    update_properties(other, "t", {"a": "1"})
    assert [version.total_records for version in list_versions(other.table("t"))] == [2, 1]
    other.drop("t")
    with pytest.raises(DatasetNotFoundError):
        other.table("t")


def test_appends_at_once_all_land(other: Lake) -> None:
    create(other, "t", BATCH.schema, [])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: append(other, "t", [BATCH], schema=BATCH.schema), range(16)))
    assert other.table("t").scan().count() == 16
