"""Versions by time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.catalog import Lake, append, create, list_versions, metadata_files, resolve
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
    with pytest.raises(VersionNotFoundError, match=r"no version as of 1970-01-01.*the oldest is version 1"):
        resolve(table, AsOf(0))


def test_a_table_without_versions(lake: Lake) -> None:
    lake.catalog.create_table(("default", "t"), SCHEMA)
    with pytest.raises(VersionNotFoundError, match="no version yet"):
        resolve(lake.table("t"), AsOf(0))


# ------------------------------------------------------------------------------------------ by the snapshot log


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the time, in milliseconds, that commits and rollbacks are stamped with."""
    now = [0]

    class Clock(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return dt.datetime.fromtimestamp(now[0] / 1000, tz)

    monkeypatch.setattr("pyiceberg.table.update.datetime", Clock)
    monkeypatch.setattr("pyiceberg.table.snapshots.time.time", lambda: now[0] / 1000)
    return lambda moment: now.__setitem__(0, moment)


def timed(lake: Lake, clock: Callable[[int], None]) -> None:
    """Versions 1 to 3, each a second after the one before."""
    clock(1_000)
    create(lake, "t", SCHEMA, [pa.record_batch({"x": [1]})])
    for second in (2, 3):
        clock(second * 1_000)
        append(lake, "t", [pa.record_batch({"x": [second]})], schema=SCHEMA)


def as_of(lake: Lake, moment: int) -> int:
    return resolve(lake.table("t"), AsOf(moment)).version


def set_current(lake: Lake, number: int) -> None:
    (snapshot,) = (s for s in lake.table("t").metadata.snapshots if s.sequence_number == number)
    lake.table("t").manage_snapshots().set_current_snapshot(snapshot.snapshot_id).commit()


def expire(lake: Lake, number: int) -> None:
    (snapshot,) = (s for s in lake.table("t").metadata.snapshots if s.sequence_number == number)
    lake.table("t").maintenance.expire_snapshots().by_id(snapshot.snapshot_id).commit()


def test_a_rollback_counts_from_when_it_was_done(lake: Lake, clock: Callable[[int], None]) -> None:
    timed(lake, clock)
    clock(4_000)
    set_current(lake, 1)
    clock(5_000)
    append(lake, "t", [pa.record_batch({"x": [5]})], schema=SCHEMA)
    assert [as_of(lake, moment) for moment in (1_500, 2_500, 3_999, 4_000, 4_999, 5_000)] == [1, 2, 3, 1, 1, 4]
    late = Dataset("t", as_of=3_500)
    assert late.to_arrow()["x"].to_pylist() == [1, 2, 3]
    assert late.added_since(1).to_arrow()["x"].to_pylist() == [2, 3]


def test_a_branch_counts_from_when_it_was_published(lake: Lake, clock: Callable[[int], None]) -> None:
    timed(lake, clock)
    table = lake.table("t")
    table.manage_snapshots().create_branch(table.current_snapshot().snapshot_id, "side").commit()
    clock(4_000)
    lake.table("t").append(pa.table({"x": [4]}), branch="side")
    clock(6_000)
    lake.table("t").manage_snapshots().set_current_snapshot(ref_name="side").commit()
    assert [as_of(lake, moment) for moment in (3_000, 5_999, 6_000)] == [3, 3, 4]


def test_a_time_whose_version_has_expired(lake: Lake, clock: Callable[[int], None]) -> None:
    timed(lake, clock)
    clock(9_000)
    expire(lake, 2)
    assert [as_of(lake, moment) for moment in (1_000, 1_999, 3_000, 9_500)] == [1, 1, 3, 3]
    with pytest.raises(
        VersionNotFoundError, match="as of that time has expired; version 1 is the newest one before it"
    ):
        as_of(lake, 2_500)
    for entry in lake.table("t").metadata.metadata_log:
        Path(entry.metadata_file.removeprefix("file://")).unlink()
    metadata_files._read_cached.cache_clear()  # as in a process that has not read them
    with pytest.raises(VersionNotFoundError, match="is unknown"):
        as_of(lake, 2_500)
