"""Versions by time."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lakefeed.catalog import Lake, append, create, list_versions, resolve
from lakefeed.catalog.versions import AsOf
from lakefeed.errors import VersionNotFoundError

SCHEMA = pa.schema([("x", pa.int64())])


def test_the_newest_version_at_a_time(lake: Lake) -> None:
    create(lake, "t", SCHEMA, [])
    append(lake, "t", [pa.record_batch({"x": [1]})], schema=SCHEMA)
    table = lake.table("t")
    first, second = (version.timestamp_ms for version in reversed(list_versions(table)))
    assert resolve(table, AsOf(second)).version == 2
    assert resolve(table, AsOf(second + 10**12)).version == 2
    assert resolve(table, AsOf(second - 1)).version == 1
    assert resolve(table, AsOf(first)).version == 1
    with pytest.raises(VersionNotFoundError, match=r"no version as of 1970-01-01.*the oldest, version 1"):
        resolve(table, AsOf(0))


def test_a_table_without_versions(lake: Lake) -> None:
    lake.catalog.create_table(("default", "t"), SCHEMA)
    with pytest.raises(VersionNotFoundError, match="no version yet"):
        resolve(lake.table("t"), AsOf(0))
