"""A version that this machine has read before is read without PyIceberg, and is the same."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset, col, connect
from lakefeed.catalog import data_files, plan_cache
from lakefeed.catalog.column_files import column_snapshot_id
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.path_roots import Roots
from lakefeed.catalog.plan_cache import PlanCache, PlanKey
from lakefeed.catalog.versions import AsOf, Pin
from lakefeed.config import Settings
from lakefeed.errors import DamagedDatasetError, DatasetNotFoundError, VersionNotFoundError
from lakefeed.plan import fingerprint
from lakefeed.run import LocalRunner
from lakefeed.run.dataset_reference import Identity, Reference

TYPES = pa.table(
    {
        "id": pa.array([1, 2, 3], pa.int16()),
        "text": pa.array(["a", None, "c"]).dictionary_encode(),
        "time": pa.array([dt.datetime(2024, 1, 2, tzinfo=dt.UTC)] * 3, pa.timestamp("ns", "UTC")),
        "nested": [{"a": [1], "b": {"c": "x"}}, None, {"a": [], "b": {"c": None}}],
        "pairs": pa.array([[("k", 1.5)], [], None], pa.map_(pa.string(), pa.float32())),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(range(6), pa.float32()), 2),
        "when": pa.array([None, 5, 6], pa.date32()),
    }
)


def read(settings: Settings, name: str = "rows", pin: Pin | None = None) -> tuple[pa.Table, str, bool]:
    """Returns the rows and fingerprint of a version as a new process reads them, and whether it loaded the table."""
    lake = Lake(settings)
    scan = Reference(lake, name, pin).scan()
    rows = pa.Table.from_batches(LocalRunner(settings).batches(scan), scan.schema)
    loaded = lake._embedded is not None or lake._catalog is not None
    return rows, fingerprint(scan), loaded


def check_both(settings: Settings, name: str = "rows", pin: Pin | None = None) -> pa.Table:
    """Reads a version twice, as two processes do, and returns its rows."""
    rows, mark, loaded = read(settings, name, pin)
    again, same, loaded_again = read(settings, name, pin)
    assert (loaded, loaded_again) == (True, False)
    assert again.schema.equals(rows.schema, check_metadata=True)
    assert (again, same) == (rows, mark)
    return rows


def test_rows_schema_and_fingerprint_are_the_same_for_all_types_and_after_changes_of_columns(lake: Lake) -> None:
    saved = Dataset.from_arrow(TYPES).save("rows")
    assert check_both(lake.settings)["text"].to_pylist() == ["a", None, "c"]
    Dataset.from_arrow(TYPES.slice(1)).append_to("rows")
    dataset = Dataset("rows")
    dataset.rename_column("when", "day")
    dataset.drop_column("pairs")
    dataset.add_column("later", pa.int64())
    assert check_both(lake.settings).column_names == ["id", "text", "time", "nested", "vector", "day", "later"]
    assert check_both(lake.settings, pin=1).schema.names == TYPES.schema.names
    saved.tag("first")
    assert check_both(lake.settings, pin="first").num_rows == 3
    assert check_both(lake.settings, pin=2).num_rows == 5


def test_filters_ranges_and_shuffles_of_a_cached_plan_are_those_of_the_table(lake: Lake) -> None:
    Dataset.from_dict({"x": list(range(10))}).save("rows")
    for start in range(10, 40, 10):
        Dataset.from_dict({"x": list(range(start, start + 10))}).append_to("rows")
    check_both(lake.settings)
    Lake.current().close()

    def results() -> list[Any]:
        rows = Dataset("rows")
        plans = (
            rows.filter(col("x") >= 25),
            rows.slice(7, 23),
            rows.shuffle(seed=1),
            rows.shuffle(seed=1, global_=False),
        )
        return [rows.version, len(rows), *(plan.to_arrow()["x"].to_pylist() for plan in plans)]

    cached = results()
    assert Lake.current()._catalog is None
    Lake.current().table("rows")
    assert results() == cached
    assert cached[:4] == [4, 40, list(range(25, 40)), list(range(7, 23))]


def test_the_newest_version_is_looked_up_and_a_deleted_dataset_is_missed(lake: Lake) -> None:
    saved = Dataset.from_dict({"x": [1]}).save("rows")
    check_both(lake.settings)
    Dataset.from_dict({"x": [2]}).append_to("rows")
    assert check_both(lake.settings)["x"].to_pylist() == [1, 2]
    check_both(lake.settings, pin=1)
    saved.tag("best")
    assert check_both(lake.settings, pin="best").num_rows == 1
    Dataset("rows").tag("best", move=True)
    assert check_both(lake.settings, pin="best").num_rows == 2
    identity = Identity()
    assert Reference(Lake(lake.settings), "rows", 1, identity).scan().schema.names == ["x"]
    Dataset("rows").delete()
    with pytest.raises(DatasetNotFoundError):
        read(lake.settings)
    Dataset.from_dict({"x": [7]}).save("rows")
    assert check_both(lake.settings)["x"].to_pylist() == [7]
    with pytest.raises(VersionNotFoundError, match="deleted"):
        Reference(Lake(lake.settings), "rows", 1, identity).scan()


def test_a_plan_is_not_used_where_its_metadata_is_missing_or_damaged(lake: Lake) -> None:
    Dataset.from_dict({"x": [1]}).save("rows")
    table = lake.table("rows")
    snapshot = table.current_snapshot()
    assert snapshot is not None
    manifest = snapshot.manifests(table.io)[0].manifest_path
    for location in (table.metadata_location, snapshot.manifest_list, manifest):
        path = Path(location.removeprefix("file://"))
        content = path.read_bytes()
        read(lake.settings)
        assert not read(lake.settings)[2]
        path.write_bytes(content)  # the same bytes, written again
        assert read(lake.settings)[2]
        for damage in (lambda path=path: path.write_bytes(b"damage"), path.unlink):
            damage()
            _forget_files()
            with pytest.raises(DamagedDatasetError):
                read(lake.settings)
        path.write_bytes(content)


def _forget_files() -> None:
    """Empties the cache of files in this process, as in a new one."""
    from lakefeed.catalog import column_files, manifest_cache, position_lists, version_files

    column_files._indexes.clear()
    position_lists._decoded.clear()
    version_files._plans.clear()
    version_files._manifests.clear()
    manifest_cache._manifests.clear()


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-9], lambda data: data[:99] + b"\0" + data[100:]]
)
def test_a_damaged_plan_is_made_anew(lake: Lake, damage: Callable[[bytes], bytes]) -> None:
    Dataset.from_dict({"x": [1]}).save("rows")
    check_both(lake.settings)
    (path,) = (lake.settings.cache / "plans").iterdir()
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(damage(data))
    assert check_both(lake.settings)["x"].to_pylist() == [1]


def test_times_are_read_with_the_table(lake: Lake) -> None:
    Dataset.from_dict({"x": list(range(100))}).save("rows")
    now = AsOf(Lake(lake.settings).table("rows").metadata.last_updated_ms)
    Dataset("rows").delete_rows("x = 5")
    for _ in range(2):
        rows, _, loaded = read(lake.settings, pin=now)
        assert (rows.num_rows, loaded) == (100, True)


def test_plans_have_delete_files_and_column_files(lake: Lake) -> None:
    client = connect(lake.settings)
    table = client.create_table("rows", key_schema={"x": pa.int64()})
    for start in (0, 100):
        table.write({"x": list(range(start, start + 100)), "text": ["a"] * 100})
    table.enrich({"y": table["x"] * 2}).apply()
    table.enrich({"z": table["x"] * 3}).apply()
    Dataset("rows").delete_rows("x in (5, 105)")
    Dataset("rows").delete_rows("x = 6")
    table.enrich({"y": table["x"] * 4}).apply()
    files = data_files(lake, lake.table("rows"))
    assert any(file.deletes for file in files)
    assert all(file.columns for file in files)
    lake.close()
    rows = check_both(lake.settings)
    assert rows.sort_by("x").to_pydict() == {
        "x": (x := [x for x in range(200) if x not in (5, 6, 105)]),
        "text": ["a"] * 197,
        "y": [4 * each for each in x],
        "z": [3 * each for each in x],
    }
    for pin in range(1, 6):
        check_both(lake.settings, pin=pin)
    narrow = Lake(lake.settings)
    assert Reference(narrow, "rows", None).scan().source.count() == 197
    assert narrow._embedded is None
    assert narrow._catalog is None


def test_a_plan_is_not_used_without_the_metadata_of_its_delete_files_and_column_files(lake: Lake) -> None:
    table = connect(lake.settings).create_table("rows", key_schema={"x": pa.int64()})
    table.write({"x": list(range(100))})
    table.enrich({"y": table["x"] * 2}).apply()
    Dataset("rows").delete_rows("x = 5")
    loaded = lake.table("rows")
    (file,) = data_files(lake, loaded)
    beside = loaded.metadata.snapshot_by_id(column_snapshot_id(loaded, loaded.current_snapshot()) or 0)
    assert beside is not None
    for location in (file.deletes[0].manifest, file.columns[0].manifest, beside.manifest_list):
        path = Path(location.removeprefix("file://"))
        content = path.read_bytes()
        read(lake.settings)
        assert not read(lake.settings)[2]
        path.unlink()
        _forget_files()
        with pytest.raises(DamagedDatasetError):
            read(lake.settings)
        path.write_bytes(content)
    read(lake.settings)
    Path(file.deletes[0].path.removeprefix("file://")).unlink()
    _forget_files()
    with pytest.raises(DamagedDatasetError, match="delete"):
        read(lake.settings)


def test_a_lake_that_was_moved_or_copied_reads_its_own_files(lake: Lake, tmp_path: Path) -> None:
    Dataset.from_dict({"x": [1]}).save("rows")
    check_both(lake.settings)
    lake.close()
    copy = Settings.load(home=shutil.copytree(lake.settings.home, tmp_path / "copy"))
    assert check_both(copy)["x"].to_pylist() == [1]
    shutil.rmtree(lake.settings.home)
    moved = Settings.load(home=shutil.move(copy.home, tmp_path / "moved"))
    assert read(moved)[0]["x"].to_pylist() == [1]
    assert not read(moved)[2]


def test_an_unwritable_cache_costs_time_only(lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Dataset.from_dict({"x": [1]}).save("rows")
    (tmp_path / "file").write_text("")
    settings = Settings.load(cache_dir=tmp_path / "file")
    assert [read(settings)[2] for _ in range(2)] == [True, True]


def test_the_oldest_plans_are_removed(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_cache, "MAX_PLANS", 3)
    saved = Dataset.from_dict({"x": [1]}).save("rows")
    for label in "abcde":
        saved.tag(label)
        check_both(lake.settings, pin=label)
    assert len(list((lake.settings.cache / "plans").iterdir())) == 3
    assert [read(lake.settings, pin=label)[2] for label in "ae"] == [True, False]
    assert PlanCache(lake.settings.cache, Roots()).find(PlanKey("file:///nowhere", None)) is None


def test_a_plan_is_stored_once(lake: Lake) -> None:
    Dataset.from_dict({"a": [1, 2]}).save("rows")
    folder = lake.settings.cache / "plans"
    Dataset("rows").to_arrow()
    (plan,) = folder.iterdir()
    written = plan.stat().st_mtime_ns
    Dataset("rows").to_arrow()
    assert plan.stat().st_mtime_ns == written
    plan.unlink()
    Dataset("rows").to_arrow()
    assert plan.exists()
