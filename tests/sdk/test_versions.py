"""Rows M03, M05 to M07, M25 and M50 of the acceptance table: versions, what changed between them, and going back."""

from __future__ import annotations

import datetime as dt
import pickle
import time
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.expressions import EqualTo

from lakefeed import Changes, Dataset, Image, Provenance, SchemaChanges, get_dataset
from lakefeed.catalog.lake import Lake
from lakefeed.errors import (
    ColumnNotFoundError,
    InvalidArgumentError,
    InvalidNameError,
    SchemaError,
    TagExistsError,
    TagNotFoundError,
    TypeMismatchError,
    UnsavedDatasetError,
    VersionNotFoundError,
)
from tests.sdk.prepared_homes import PreparedHomes
from tests.sdk.processes import Program, finish_all

SCHEMA = pa.schema([("id", pa.int32()), ("x", pa.uint8()), ("v", pa.list_(pa.float32(), 2)), ("day", pa.date32())])


def dataset(*ids: int, x: int = 0) -> Dataset:
    day = dt.date(2026, 1, 1)
    rows = [{"id": n, "x": (n + x) % 256, "v": [n, None], "day": day + dt.timedelta(n)} for n in ids]
    return Dataset.from_pylist(rows, schema=SCHEMA)


def ids(rows: Dataset) -> list[int]:
    return [int(value) for value in rows.to_arrow()["id"].to_pylist()]


@pytest.fixture(params=["one file", "small row groups", "appended"])
def photos(request: pytest.FixtureRequest, prepared_homes: PreparedHomes, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Rows 0 to 19, saved in one go, in small row groups, or with appends."""
    if request.param != "one file":
        monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "3")

    def build() -> None:
        for part in (range(8), range(8, 9), range(9, 20)) if request.param == "appended" else (range(20),):
            dataset(*part).save("photos", if_exists="append")

    prepared_homes.enter(request.param, build, monkeypatch)
    return Dataset("photos")


# ------------------------------------------------------------------ M03


def test_every_action_is_one_version(photos: Dataset) -> None:
    start = photos.version
    dataset(20).append_to("photos")
    photos.delete_rows("id = 3")
    dataset(4, 30, x=1).upsert_into("photos", keys="id")
    dataset(1, 2).overwrite("photos")
    photos.restore(start)
    versions = photos.list_versions()[:6]
    assert [version.version for version in versions] == list(range(start + 5, start - 1, -1))
    assert [version.operation for version in versions[:5]] == ["overwrite"] * 4 + ["append"]
    assert [version.total_records for version in versions] == [20, 2, 21, 20, 21, 20]


def test_a_pinned_reference_never_changes(photos: Dataset) -> None:
    pinned = Dataset("photos", version=photos.version)
    before = pinned.to_arrow()
    photos.delete_rows("id < 10")
    photos.add_column("more", pa.int64())
    dataset(11, x=9).upsert_into("photos", keys="id")
    photos.drop_column("x")
    again = Dataset("photos", version=pinned.version)
    assert pinned.to_arrow() == again.to_arrow() == pickle.loads(pickle.dumps(again)).to_arrow() == before
    assert len(again) == len(pinned) == 20
    assert again.schema == SCHEMA


# ------------------------------------------------------------------ M05


def test_versions_say_what_and_who(photos: Dataset) -> None:
    wrote = Provenance(run="run-7", user="ada", code="abc", message="why")
    photos.delete_rows("id >= 18", provenance=wrote)
    dataset(5, 50, x=1).upsert_into("photos", keys="id", provenance=wrote)
    upserted, deleted = photos.list_versions()[:2]
    for version in (upserted, deleted):
        assert (version.run, version.user, version.code, version.message) == ("run-7", "ada", "abc", "why")
    assert (deleted.added_records, deleted.deleted_records, deleted.total_records) == (0, 2, 18)
    assert (upserted.added_records, upserted.deleted_records, upserted.total_records) == (2, 1, 19)
    assert upserted.timestamp_ms >= deleted.timestamp_ms
    assert upserted.parent_id == deleted.snapshot_id


# ------------------------------------------------------------------ M06, M07


def test_untouched_rows_never_appear(photos: Dataset) -> None:
    start = photos.version
    photos.delete_rows("id in (2, 12)")
    assert ids(photos.added_since(start)) == []
    dataset(4, 5, 60, x=1).upsert_into("photos", keys="id")
    assert ids(photos.added_since(start)) == [4, 5, 60]
    photos.filter("id > 4").overwrite("photos")
    assert ids(photos.added_since(start)) == [4, 5, 60]
    dataset(70).append_to("photos")
    assert ids(photos.added_since(start)) == [4, 5, 60, 70]
    assert sorted(ids(photos.added_since())) == sorted([*range(20), 4, 5, 60, 70])
    assert ids(photos.added_since(start + 1, start + 2)) == [4, 5, 60]
    assert ids(photos.added_since(start + 2, start + 2)) == []


def test_an_overwrite_adds_what_is_new(photos: Dataset) -> None:
    start = photos.version
    dataset(3, 4, 4, 90).overwrite("photos")
    added = photos.added_since(start)
    assert ids(added) == [4, 90]  # one of the two rows 4 was there
    assert added.count() == 2
    assert ids(added.filter("id > 50")) == [90]
    assert ids(added.slice(1, 5)) == [90]
    assert ids(added.shuffle(seed=1).head(1)) in ([4], [90])
    assert ids(pickle.loads(pickle.dumps(added))) == [4, 90]
    assert "less those of" in added.explain()


def test_rows_that_another_program_rewrote(photos: Dataset) -> None:
    start = photos.version
    Lake.current().table("photos").delete(EqualTo("id", 3))
    dataset(80).append_to("photos")
    assert ids(photos.added_since(start)) == [80]
    assert ids(photos.removed_since(start)) == [3]


def test_cost_is_that_of_what_changed(photos: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from lakefeed.formats.parquet_format import ParquetFile

    start = photos.version
    dataset(7, 77, x=1).upsert_into("photos", keys="id")
    photos.delete_rows("id = 9")
    read: set[str] = set()
    honest = ParquetFile.read
    monkeypatch.setattr(
        ParquetFile, "read", lambda file, *args, **more: read.add(file.url) or honest(file, *args, **more)
    )
    assert ids(photos.added_since(start)) == [7, 77]
    assert len(read) == 1


def test_bad_ranges(photos: Dataset) -> None:
    dataset(20).append_to("photos")
    for ask in (photos.added_since, photos.removed_since, photos.changes):
        with pytest.raises(InvalidArgumentError, match="must not be newer"):
            ask(photos.version, 1)
        with pytest.raises(VersionNotFoundError, match="no version 99"):
            ask(99)
        with pytest.raises(VersionNotFoundError, match="no version 98"):
            ask(1, 98)
        with pytest.raises(InvalidArgumentError):
            ask(0)
        with pytest.raises(TagNotFoundError):
            ask("nowhere")
    with pytest.raises(UnsavedDatasetError):
        photos.filter("id > 1").added_since()


def test_commit_order_and_a_view(photos: Dataset) -> None:
    start = photos.version
    dataset(40, 41).append_to("photos")
    dataset(0, 42, x=1).upsert_into("photos", keys="id")
    dataset(43).append_to("photos")
    added = photos.added_since(start)
    assert ids(added) == [40, 41, 0, 42, 43]
    assert (added.from_version, added.version) == (start, start + 3)
    assert all(isinstance(batch, pa.RecordBatch) for batch in added)
    assert len(added) == 5
    assert added.map(lambda row: {"n": row["id"]}, schema=pa.schema({"n": pa.int64()})).count() == 5
    assert ids(Dataset("photos", version=start + 1).added_since(start)) == [40, 41]


def test_removed_rows(photos: Dataset) -> None:
    start = photos.version
    photos.delete_rows("id in (1, 2)")
    dataset(3, x=5).upsert_into("photos", keys="id")
    removed = photos.removed_since(start)
    assert [(row["id"], row["x"]) for batch in removed for row in batch.to_pylist()] == [(1, 1), (2, 2), (3, 3)]
    assert (removed.from_version, removed.version) == (start, start + 2)
    assert removed.schema == SCHEMA
    dataset(9).overwrite("photos")
    assert sorted(ids(photos.removed_since(start + 2))) == sorted({*range(20), 3} - {1, 2, 9})
    assert repr(removed) == f"RemovedRows('photos', from_version={start}, version={start + 2})"


def test_changes_count_the_difference(photos: Dataset) -> None:
    start = photos.version
    photos.delete_rows("id in (1, 2)")
    dataset(1, 100).append_to("photos")
    dataset(3, 4, x=5).upsert_into("photos", keys="id")
    assert photos.changes(start) == Changes(start, start + 3, added=3, removed=3)
    assert photos.changes(start, keys="id") == Changes(start, start + 3, added=1, removed=1, changed=2)
    assert photos.changes(start, start + 1, keys=["id", "day"]) == Changes(start, start + 1, 0, 2, 0)
    assert not photos.changes(start, start)
    whole = photos.changes()
    assert (whole.added, whole.removed, list(whole.schema.added)) == (20, 0, SCHEMA.names)
    with pytest.raises(ColumnNotFoundError, match="'idd'"):
        photos.changes(start, keys="idd")


def test_changes_of_columns(photos: Dataset) -> None:
    start = photos.version
    photos.add_column("note", pa.string())
    photos.rename_column("day", "date")
    photos.widen_column("x", pa.uint16())
    photos.drop_column("v")
    report = photos.changes(start)
    assert report.schema == SchemaChanges(
        added={"note": pa.string()},
        dropped={"v": pa.list_(pa.float32(), 2)},
        renamed={"day": "date"},
        retyped={"x": (pa.uint8(), pa.uint16())},
    )
    assert (report.added, report.removed) == (0, 0)
    assert bool(report)
    assert not Dataset("photos", version=start).changes(start)


# ------------------------------------------------------------------ time travel, restore, tags


def test_time_travel(photos: Dataset) -> None:
    start = photos.version
    time.sleep(0.005)
    between = dt.datetime.now(dt.UTC)
    time.sleep(0.005)
    photos.delete_rows("id >= 0")
    moment = Dataset("photos", as_of=between)
    assert (moment.version, len(moment)) == (start, 20)
    assert Dataset("photos", as_of=int(between.timestamp() * 1000)).version == start
    assert get_dataset("photos", as_of=dt.datetime.now(dt.timezone(dt.timedelta(hours=5)))).count() == 0
    assert pickle.loads(pickle.dumps(moment)).version == start
    with pytest.raises(VersionNotFoundError, match="no version as of 2001"):
        Dataset("photos", as_of=dt.datetime(2001, 1, 1, tzinfo=dt.UTC)).count()


@pytest.mark.parametrize("as_of", [dt.datetime(2026, 1, 1), "yesterday", -1, 1.5, True])
def test_times_that_are_none(as_of: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="as_of"):
        Dataset("photos", as_of=as_of)
    with pytest.raises(InvalidArgumentError, match="either version or as_of"):
        Dataset("photos", version=1, as_of=as_of)


def test_restored_rows(photos: Dataset) -> None:
    start = photos.version
    before = photos.to_arrow()
    photos.delete_rows("id in (4, 5)")
    dataset(1, 50, x=3).upsert_into("photos", keys="id")
    restored = photos.restore(start)
    assert restored.version == start + 3
    assert photos.to_arrow() == restored.to_arrow() == before
    assert ids(photos.added_since(start + 2)) == []
    assert ids(photos.added_since(start)) == [1, 50]
    assert sorted(ids(photos.removed_since(start + 2))) == [1, 50]
    assert not photos.changes(start)
    with pytest.raises(VersionNotFoundError):
        photos.restore(77)
    with pytest.raises(InvalidArgumentError):
        photos.restore(None)


def test_tags_do_not_move_silently(photos: Dataset) -> None:
    start = photos.version
    assert photos.tag("stable") == start
    photos.delete_rows("id < 5")
    stable = Dataset("photos", version="stable")
    assert (stable.version, len(stable), len(photos)) == (start, 20, 15)
    with pytest.raises(TagExistsError, match="move=True"):
        photos.tag("stable")
    assert photos.tag("stable", move=True) == start + 1
    assert (stable.version, len(stable)) == (start + 1, 15)
    assert Dataset("photos", version=start).tag("old") == start
    assert photos.tags() == {"old": start, "stable": start + 1}
    assert ids(photos.added_since("old", "stable")) == []
    assert photos.changes("old", "stable").removed == 5
    assert len(photos.restore("old")) == 20
    photos.untag("old")
    with pytest.raises(TagNotFoundError, match="the tags are 'stable'"):
        Dataset("photos", version="old").count()
    with pytest.raises(InvalidArgumentError, match="a tag"):
        Dataset("photos", version="v3")
    assert pickle.loads(pickle.dumps(stable)).version == start + 1


# ------------------------------------------------------------------ columns


def test_appends_after_columns_changed(photos: Dataset) -> None:
    start = photos.version
    photos.add_column("score", pa.float16())
    photos.rename_column("x", "count")
    photos.widen_column("count", pa.uint16())
    photos.drop_column("v")
    assert photos.version == start
    new = pa.schema([("id", pa.int32()), ("count", pa.uint16()), ("day", pa.date32()), ("score", pa.float16())])
    assert photos.schema == new
    Dataset.from_pylist(
        [{"id": 20, "count": 300, "score": 0.5}], schema=pa.schema([new.field(n) for n in (0, 1, 3)])
    ).append_to("photos")
    rows = photos.to_arrow().to_pylist()
    assert [row["count"] for row in rows] == [*range(20), 300]
    assert [row["score"] for row in rows] == [None] * 20 + [0.5]
    assert ids(photos.filter("count >= 19")) == [19, 20]
    assert ids(photos.filter("score is null and id > 17")) == [18, 19]
    assert Dataset("photos", version=start).schema == SCHEMA
    assert Dataset("photos", version=start + 1).schema == new
    assert ids(photos.added_since(start)) == [20]
    with pytest.raises(ColumnNotFoundError, match="'v'"):
        dataset(30).append_to("photos")
    with pytest.raises(TypeMismatchError, match="'count'"):
        Dataset.from_dict({"count": [1.5]}).append_to("photos")


def test_edits_after_columns_changed(photos: Dataset) -> None:
    start = photos.version
    photos.rename_column("x", "n")
    photos.add_column("x", pa.string())  # another column of the old name
    photos.widen_column("n", pa.int64())
    photos.delete_rows("n = 3 or x is not null")
    Dataset.from_dict({"id": pa.array([4], pa.int32()), "x": ["four"], "n": [1 << 40]}).upsert_into("photos", keys="id")
    rows = photos.to_arrow().to_pylist()
    assert [row["id"] for row in rows] == [n for n in range(20) if n not in (3, 4)] + [4]
    assert (rows[-1]["n"], rows[-1]["x"], rows[-1]["v"]) == (1 << 40, "four", [4, None])
    assert rows[0]["x"] is None
    assert ids(photos.filter("x = 'four'")) == [4]
    photos.restore(start)
    assert photos.schema == SCHEMA
    assert ids(photos) == list(range(20))


def test_file_columns(tmp_path: Any) -> None:
    Dataset.from_dict({"a": ["x.png"], "b": ["y.png"], "n": [1]}).save("t", column_types=None)
    before = Dataset("t").version
    Dataset("t").add_column("thumb", Image)
    assert Dataset("t").column_types == {"thumb": "image"}
    assert Dataset("t").update(description="new")["description"] == "new"
    Dataset("t").rename_column("thumb", "small")
    assert Dataset("t").column_types == {"small": "image"}
    Dataset("t").set_column_types({})
    assert Dataset("t").column_types == {}
    with pytest.raises(ColumnNotFoundError):
        Dataset("t").set_column_types({"nope": "image"})
    assert Dataset("t").version == before


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda t: t.add_column("x", pa.int8()), SchemaError),
        (lambda t: t.add_column("", pa.int8()), InvalidArgumentError),
        (lambda t: t.add_column("new", "no such type"), InvalidArgumentError),
        (lambda t: t.add_column("new", pa.month_day_nano_interval()), TypeMismatchError),
        (lambda t: t.rename_column("nope", "new"), ColumnNotFoundError),
        (lambda t: t.rename_column("x", 3), InvalidArgumentError),
        (lambda t: t.drop_column([]), InvalidArgumentError),
        (lambda t: t.drop_column(["x", "nope"]), ColumnNotFoundError),
        (lambda t: t.widen_column("x", pa.int8()), TypeMismatchError),
        (lambda t: t.widen_column("x", "int64"), InvalidArgumentError),
        (lambda t: t.tag("bad tag"), InvalidNameError),
        (lambda t: t.tag("good", move="yes"), InvalidArgumentError),
        (lambda t: t.filter("id > 1").delete_rows("id = 1"), UnsavedDatasetError),
    ],
)
def test_mistakes_leave_everything_as_it_was(photos: Dataset, act: Any, error: type[Exception]) -> None:
    before = Lake.current().table("photos").metadata
    with pytest.raises(error):
        act(photos)
    assert Lake.current().table("photos").metadata == before


# ------------------------------------------------------------------ real processes

HEAD = """
import sys
import pyarrow as pa
from lakefeed import Dataset
me = int(sys.argv[1])

def rows(*ids):
    return Dataset.from_dict({"id": list(ids), "by": [me] * len(ids)})
"""
UPSERTER = "for step in range(10):\n    rows(step, step + 1, 100 * me + step).upsert_into('t', keys='id')"
APPENDER = "for step in range(20):\n    rows(step, 100 + step).append_to('t')"
DELETER = "for step in range(20):\n    Dataset('t').delete_rows(f'id = {step}')"
EDITOR = """
step = 0
while True:
    print(step, flush=True)
    rows(step % 7, 1000 + step).upsert_into('t', keys='id')
    step += 1
"""


def start(code: str, *args: object) -> Program:
    return Program(HEAD + code, *args)


def check_whole(name: str) -> None:
    """Every version's totals and rows agree, and what was added less what was removed is what is there."""
    versions = Dataset(name).list_versions()
    assert [version.version for version in versions] == list(range(len(versions), 0, -1))
    for version in versions:
        assert Dataset(name, version=version.version).to_arrow().num_rows == version.total_records
    added, removed = ids(Dataset(name).added_since()), ids(Dataset(name).removed_since())
    for gone in removed:
        added.remove(gone)
    assert sorted(added) == sorted(ids(Dataset(name)))


@pytest.mark.live
def test_upserts_racing_on_new_keys_make_one_row_each() -> None:
    Dataset.from_dict({"id": [-1], "by": [0]}).save("t")
    finish_all([start(UPSERTER, me) for me in (1, 2, 3)])
    found = ids(Dataset("t"))
    assert len(found) == len(set(found))
    assert set(found) == {-1, *range(11)} | {100 * me + step for me in (1, 2, 3) for step in range(10)}
    check_whole("t")


@pytest.mark.live
def test_deletes_racing_with_appends_lose_nothing() -> None:
    Dataset.from_dict({"id": [-1], "by": [0]}).save("t")
    finish_all([start(APPENDER, 1), start(APPENDER, 2), start(DELETER, 3)])
    for step in range(20):
        Dataset("t").delete_rows(f"id = {step}")
    assert sorted(ids(Dataset("t"))) == sorted([-1, *(100 + step for step in range(20) for _ in range(2))])
    check_whole("t")


@pytest.mark.parametrize("after", [0.01, 0.05, 0.11])
def test_a_killed_upsert_leaves_the_dataset_whole(after: float) -> None:
    Dataset.from_dict({"id": [-1], "by": [0]}).save("t")
    editor = start(EDITOR, 1)
    for _ in range(3):
        editor.stdout.readline()
    time.sleep(after)
    editor.kill()
    editor.finish()
    found = ids(Dataset("t"))
    steps = Dataset("t").version - 1
    assert set(found) == {-1, *(step % 7 for step in range(steps)), *(1000 + step for step in range(steps))}
    assert len(found) == len(set(found))
    check_whole("t")
    dataset_after = Dataset.from_dict({"id": [-1, 5000], "by": [9, 9]}).upsert_into("t", keys="id")
    assert len(dataset_after) == len(set(found) | {5000})


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.delete(),
        lambda rows: rows.update(description="x"),
        lambda rows: rows.set_column_types({}),
        lambda rows: rows.tag("stable"),
        lambda rows: rows.untag("stable"),
        lambda rows: rows.delete_rows("x > 0"),
        lambda rows: rows.restore(1),
        lambda rows: rows.add_column("y", pa.int64()),
        lambda rows: rows.rename_column("x", "y"),
        lambda rows: rows.drop_column("x"),
        lambda rows: rows.widen_column("x", pa.int64()),
    ],
)
def test_rows_of_a_range_change_no_dataset(change: Any) -> None:
    Dataset.from_dict({"x": [1], "z": [1]}).save("whole")
    Dataset.from_dict({"x": [2], "z": [2]}).append_to("whole")
    for rows in (Dataset("whole").added_since(1), Dataset("whole").removed_since(1)):
        with pytest.raises(UnsavedDatasetError, match=r"Dataset\('whole'\)"):
            change(rows)
    assert (Dataset("whole").version, Dataset("whole").count(), Dataset("whole").tags()) == (2, 2, {})
