"""Which files a version has, and which a range of versions added."""

from __future__ import annotations

import pickle
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.expressions import EqualTo, GreaterThan, IsNull

from lakefeed.catalog import Lake, added_rows, append, create, data_files, resolve
from lakefeed.catalog.durability import local_path
from lakefeed.catalog.file_io import LakeFileIO
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.config import Settings
from lakefeed.errors import VersionNotFoundError

SCHEMA = pa.schema([("x", pa.int64())])


def add(lake: Lake, *values: int | None) -> None:
    append(lake, "t", [pa.record_batch({"x": pa.array(values, pa.int64())})], schema=SCHEMA)


def grow(lake: Lake, count: int) -> None:
    create(lake, "t", SCHEMA, [])
    for value in range(2, count + 1):
        add(lake, value)


def rows(files: tuple[DataFileRef, ...]) -> list[int]:
    return [value for file in files for value in pq.read_table(local_path(file.path))["x"].to_pylist()]


def added(lake: Lake, start: int | None, end: int | None) -> list[int]:
    deltas = added_rows(lake.table("t"), start, end)
    assert not any(delta.less for delta in deltas)
    return [value for delta in deltas for value in rows(delta.files)]


def test_files_come_in_the_order_of_writing(home: object) -> None:
    lake = Lake(Settings.load(**{"write.file_bytes": 1, "write.row_group_rows": 2}))
    create(lake, "t", SCHEMA, [pa.record_batch({"x": pa.array(range(30))})])
    append(lake, "t", [pa.record_batch({"x": pa.array(range(30, 50))})], schema=SCHEMA)
    files = data_files(lake, lake.table("t"))
    assert len(files) == 25
    assert rows(files) == list(range(50))
    assert [file.sequence for file in files] == [1] * 15 + [2] * 10


def test_a_ref_says_what_the_file_is(lake: Lake) -> None:
    create(lake, "t", SCHEMA, [pa.record_batch({"x": pa.array([1, None])})])
    (file,) = data_files(lake, lake.table("t"))
    path = local_path(file.path)
    assert (file.rows, file.size, file.sequence, file.has_deletes) == (2, path.stat().st_size, 1, False)
    assert file.null_value_counts == {1: 1}
    assert int.from_bytes(file.upper_bounds[1], "little") == 1
    assert pickle.loads(pickle.dumps(file)) == file


def test_a_pinned_snapshot_keeps_its_files(lake: Lake) -> None:
    grow(lake, 3)
    pinned = resolve(lake.table("t"), 2)
    assert rows(data_files(lake, lake.table("t"), pinned.snapshot_id)) == [2]
    with pytest.raises(VersionNotFoundError, match="no snapshot 1"):
        data_files(lake, lake.table("t"), 1)


def test_a_snapshot_is_planned_once(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(lake, 3)
    table = lake.table("t")
    first = data_files(lake, table)
    monkeypatch.setattr(LakeFileIO, "new_input", lambda *_: pytest.fail("read again"))
    assert data_files(lake, table) is first
    assert len(data_files(lake, table, row_filter=EqualTo("x", 2))) == 1


def test_versions_share_the_files_of_their_manifests(lake: Lake) -> None:
    grow(lake, 4)
    before = data_files(lake, lake.table("t"))
    add(lake, 5)
    after = data_files(lake, lake.table("t"))
    assert len(after) == len(before) + 1
    assert all(one is other for one, other in zip(before, after, strict=False))


def test_a_filter_leaves_out_what_cannot_match(lake: Lake) -> None:
    create(lake, "t", SCHEMA, [])
    add(lake, 1, 2)
    add(lake, 10, 20)
    add(lake, None, None)
    table = lake.table("t")
    assert rows(data_files(lake, table, row_filter=GreaterThan("x", 5))) == [10, 20]
    assert rows(data_files(lake, table, row_filter=IsNull("x"))) == [None, None]
    assert data_files(lake, table, row_filter=EqualTo("x", 99)) == ()


def test_table_without_snapshots_has_no_files(lake: Lake) -> None:
    lake.catalog.create_table(("default", "t"), SCHEMA)
    assert data_files(lake, lake.table("t")) == ()
    assert added_rows(lake.table("t")) == ()


def test_added_rows_of_a_range(lake: Lake) -> None:
    grow(lake, 5)
    assert added(lake, None, None) == [2, 3, 4, 5]
    assert added(lake, 2, 4) == [3, 4]
    assert added(lake, 4, None) == [5]
    assert added(lake, 3, 3) == []
    assert added(lake, None, 1) == []


@pytest.mark.live
def test_added_rows_through_merged_manifests(lake: Lake) -> None:
    grow(lake, 80)
    assert len(lake.table("t").current_snapshot().manifests(lake.table("t").io)) < 40
    for start, end in ((None, None), (1, 2), (10, 70), (33, 34), (79, 80), (30, 40), (64, 67)):
        assert added(lake, start, end) == list(range((start or 1) + 1, (end or 80) + 1))
    assert rows(data_files(lake, lake.table("t"))) == list(range(2, 81))


@pytest.mark.live
def test_cost_follows_what_was_added(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(lake, 30)
    table = lake.table("t")
    opened: list[str] = []
    real = LakeFileIO.new_input
    monkeypatch.setattr(LakeFileIO, "new_input", lambda io, place: opened.append(place) or real(io, place))
    assert [len(delta.files) for delta in added_rows(table, 27, 30)] == [3]
    assert len(opened) == 4  # one manifest list, and a manifest for each version


def test_rolled_back_rows_are_not_added(lake: Lake) -> None:
    grow(lake, 3)
    lake.table("t").manage_snapshots().rollback_to_snapshot(resolve(lake.table("t"), 2).snapshot_id).commit()
    add(lake, 9)
    assert added(lake, 1, None) == [2, 9]


def test_deletes_add_nothing(lake: Lake) -> None:
    grow(lake, 4)
    lake.table("t").delete(EqualTo("x", 3))
    add(lake, 9)
    assert added(lake, 1, None) == [2, 3, 4, 9]
    assert added(lake, 4, None) == [9]
    assert rows(data_files(lake, lake.table("t"))) == [2, 4, 9]


def test_files_that_another_writer_rewrote_are_compared(lake: Lake) -> None:
    create(lake, "t", SCHEMA, [])
    add(lake, 1, 2)
    lake.table("t").delete(EqualTo("x", 1))
    add(lake, 9)
    first, rewritten, last = added_rows(lake.table("t"), 1, None)
    assert (rows(first.files), rows(last.files)) == ([1, 2], [9])
    assert (rows(rewritten.files), rows(rewritten.less)) == ([2], [1, 2])


def test_an_expired_beginning_is_the_oldest_version_kept(lake: Lake) -> None:
    grow(lake, 4)
    for version in (1, 2):
        oldest = resolve(lake.table("t"), version).snapshot_id
        lake.table("t").maintenance.expire_snapshots().by_id(oldest).commit()
    assert added(lake, None, None) == [2, 3, 4]
    assert added(lake, 3, None) == [4]


def test_rows_of_an_append_that_lost_first_are_those_of_its_own_version(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(lake, 2)
    kind = type(lake.catalog)
    honest = kind.commit_table

    def commit(*args: Any) -> Any:
        monkeypatch.setattr(kind, "commit_table", honest)
        add(lake, 7)
        return honest(*args)

    monkeypatch.setattr(kind, "commit_table", commit)
    add(lake, 9)
    assert [file.sequence for file in data_files(lake, lake.table("t"))] == [2, 3, 4]
    assert (added(lake, 2, 3), added(lake, 3, 4)) == ([7], [9])
    assert rows(data_files(lake, lake.table("t"))) == [2, 7, 9]
