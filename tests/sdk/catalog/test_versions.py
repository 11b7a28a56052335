"""Versions are the ancestry of the current snapshot."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lakefeed.catalog import Lake, append, create, list_versions, resolve, versions_between
from lakefeed.errors import InvalidArgumentError, VersionNotFoundError

SCHEMA = pa.schema([("x", pa.int64())])


def grow(lake: Lake, count: int) -> None:
    create(lake, "t", SCHEMA, [pa.record_batch({"x": [1]})])
    for value in range(2, count + 1):
        append(lake, "t", [pa.record_batch({"x": [value]})], schema=SCHEMA)


def between(lake: Lake, start: int | None, end: int | None) -> list[int]:
    return [version.version for version in versions_between(lake.table("t"), start, end)]


def test_newest_first(lake: Lake) -> None:
    grow(lake, 3)
    versions = list_versions(lake.table("t"))
    assert [version.version for version in versions] == [3, 2, 1]
    assert [version.total_records for version in versions] == [3, 2, 1]
    assert [version.parent_id for version in versions] == [versions[1].snapshot_id, versions[2].snapshot_id, None]
    assert versions[0].timestamp_ms >= versions[2].timestamp_ms > 0


def test_resolve(lake: Lake) -> None:
    grow(lake, 2)
    assert resolve(lake.table("t")).version == 2
    assert resolve(lake.table("t"), 1).version == 1


def test_unknown_version_lists_at_most_ten(lake: Lake) -> None:
    grow(lake, 12)
    with pytest.raises(VersionNotFoundError, match=r"no version 99; .* '12', .*'3' and 2 more$"):
        resolve(lake.table("t"), 99)


def test_table_without_snapshots_has_no_version(lake: Lake) -> None:
    lake.catalog.create_table(("default", "t"), SCHEMA)
    assert list_versions(lake.table("t")) == []
    with pytest.raises(VersionNotFoundError, match="no version yet"):
        resolve(lake.table("t"))


def test_ranges_run_from_old_to_new(lake: Lake) -> None:
    grow(lake, 4)
    assert between(lake, None, None) == [1, 2, 3, 4]
    assert between(lake, 1, 3) == [2, 3]
    assert between(lake, None, 2) == [1, 2]
    assert between(lake, 2, None) == [3, 4]
    assert between(lake, 3, 3) == []


def test_ranges_that_cannot_be(lake: Lake) -> None:
    grow(lake, 2)
    with pytest.raises(InvalidArgumentError, match="from_version=2 must not be newer than to_version=1"):
        between(lake, 2, 1)
    for start, end in ((7, None), (None, 7), (0, None), (7, 1)):
        with pytest.raises(VersionNotFoundError):
            between(lake, start, end)


def test_rolled_back_commits_are_no_versions(lake: Lake) -> None:
    grow(lake, 3)
    first = resolve(lake.table("t"), 1)
    lake.table("t").manage_snapshots().rollback_to_snapshot(first.snapshot_id).commit()
    append(lake, "t", [pa.record_batch({"x": [9]})], schema=SCHEMA)
    versions = list_versions(lake.table("t"))
    assert [version.version for version in versions] == [4, 1]
    assert [version.total_records for version in versions] == [2, 1]
    assert between(lake, 1, None) == [4]
    with pytest.raises(VersionNotFoundError, match="'4', '1'"):
        resolve(lake.table("t"), 2)


def test_expired_versions_are_gone(lake: Lake) -> None:
    grow(lake, 3)
    oldest = resolve(lake.table("t"), 1)
    lake.table("t").maintenance.expire_snapshots().by_id(oldest.snapshot_id).commit()
    assert [version.version for version in list_versions(lake.table("t"))] == [3, 2]
    with pytest.raises(VersionNotFoundError):
        between(lake, 1, 3)
