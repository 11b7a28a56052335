"""Deleting a dataset, and collecting garbage, spare what others use; a damaged dataset does not hold up the others."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table import Table

from lakefeed import Dataset, GarbageReport, collect_garbage, list_datasets
from lakefeed.catalog.lake import Lake
from lakefeed.errors import DamagedDatasetError, DatasetNotFoundError
from tests.sdk.test_garbage import age, contents, save

NOW = dt.timedelta(0)
ROWS = pa.table({"x": [1, 2]})


def values(name: str) -> list[int]:
    return sorted(Dataset(name).to_arrow()["x"].to_pylist())


def theirs(name: str, location: str | None = None, **properties: str) -> Table:
    """A table that PyIceberg makes."""
    lake = Lake.current()
    lake.ensure_namespace("default")
    return lake.catalog.create_table(f"default.{name}", ROWS.schema, location, properties=properties)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def collected(home: Path) -> GarbageReport:
    age(home)
    return collect_garbage(False, NOW, patience=NOW)


@pytest.mark.parametrize("gc", ["true", "false"])
def test_files_that_others_registered_stay(gc: str, home: Path, tmp_path: Path) -> None:
    source = tmp_path / "mine.parquet"
    pq.write_table(ROWS, source)
    made, own = theirs("theirs", **{"gc.enabled": gc}), Dataset.from_dict({"x": [3]}).save("own")
    made.add_files([f"file://{source}"])
    own._lake.catalog.load_table("default.own").add_files([f"file://{source}"], check_duplicate_files=False)
    Dataset.from_dict({"x": [4]}).append_to("theirs")
    location = Path(made.location().removeprefix("file://"))
    before = files(location)
    for name in ("theirs", "own"):
        Dataset(name).delete(permanent=True)
        assert not Dataset.exists(name)
    assert files(location) == (before if gc == "false" else [])
    assert [path.name for path in (home / "warehouse" / "default").iterdir()] == (["theirs"] if gc == "false" else [])
    collected(home)
    assert source.is_file()
    assert files(location) == (before if gc == "false" else [])


def test_gc_enabled_false_keeps_files_and_blobs_for_ever(home: Path, tmp_path: Path) -> None:
    save("kept", tmp_path, b"a")
    lake = Lake.current()
    with lake.catalog.load_table("default.kept").transaction() as change:
        change.set_properties({"gc.enabled": "false"})
    metadata = lake.heads()["kept"]
    orphan = Path(metadata.removeprefix("file://")).with_name("orphan.avro")
    orphan.write_bytes(b"orphan")
    assert collected(home).table_files == 0
    Dataset("kept").delete(permanent=True)
    report = collected(home)
    assert (report.table_files, report.packs, report.blobs, orphan.exists()) == (0, 0, 0, True)
    lake.catalog.register_table("default.again", metadata)
    assert contents("again") == [b"a"]


@pytest.mark.parametrize("first", ["one", "team.two"])
def test_a_table_with_two_names_lives_until_both_are_gone(first: str, home: Path) -> None:
    Dataset.from_dict({"x": [1, 2]}).save("one")
    lake = Lake.current()
    lake.ensure_namespace("team")
    lake.catalog.register_table("team.two", lake.heads()["one"])
    second = "team.two" if first == "one" else "one"
    Dataset.from_dict({"x": [3]}).append_to(first)
    Dataset.from_dict({"x": [4]}).append_to(second)
    assert collected(home).table_files == 0
    Dataset(first).delete(permanent=True)
    lake.close()
    assert (values(second), collected(home).table_files) == ([1, 2, 4], 0)
    Dataset(second).delete(permanent=True)
    assert collected(home).postponed is None
    assert files(home / "warehouse") == []


def test_metadata_at_which_another_name_stands_is_not_forgotten() -> None:
    Dataset.from_dict({"x": [0]}).save("one")
    lake = Lake.current()
    with lake.catalog.load_table("default.one").transaction() as change:
        change.set_properties({"write.metadata.previous-versions-max": "1"})
    lake.catalog.register_table("default.two", lake.heads()["one"])
    for value in (1, 2, 3):
        Dataset.from_dict({"x": [value]}).append_to("one")
    lake.close()
    assert (values("two"), values("one")) == ([0], [0, 1, 2, 3])


def test_files_that_another_table_took_over_stay(home: Path) -> None:
    Dataset.from_dict({"x": [1, 2]}).save("one")
    [data] = (home / "warehouse").rglob("*.parquet")
    inner = theirs("inner", f"file://{data.parent}/inner")
    inner.append(ROWS)
    theirs("other").add_files([f"file://{data}"])
    Dataset("one").delete(permanent=True)
    collected(home)
    assert (values("other"), values("inner")) == ([1, 2], [1, 2])
    Dataset("inner").delete(permanent=True)
    Dataset("other").delete(permanent=True)
    assert files(home / "warehouse") == [data], "nobody's any more, but not where the last one that had it lay"
    assert collected(home).table_files == 1


def test_files_outside_of_the_location_stay(home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    places = {"write.data.path": f"file://{elsewhere}/d", "write.metadata.path": f"file://{elsewhere}/m"}
    theirs("spread", **places).append(ROWS)
    theirs("apart", f"file://{tmp_path}/apart").append(ROWS)
    before = files(elsewhere), files(tmp_path / "apart")
    assert values("spread") == values("apart") == [1, 2]
    Dataset("spread").delete(permanent=True)
    Dataset("apart").delete(permanent=True)
    collected(home)
    assert (files(elsewhere), files(tmp_path / "apart")) == before
    assert list_datasets() == []


def lose(path: Path) -> None:
    path.unlink()


def garble(path: Path) -> None:
    path.write_bytes(b"{]")


@pytest.mark.parametrize("harm", [lose, garble])
@pytest.mark.parametrize("what", ["metadata.json", "avro", "m0.avro"])
def test_a_damaged_dataset_does_not_hold_up_the_others(
    harm: Callable[[Path], None], what: str, home: Path, tmp_path: Path
) -> None:
    save("good", tmp_path, b"a")
    save("gone", tmp_path, b"b")
    save("bad", tmp_path, b"c")
    lake = Lake.current()
    metadata = Path(lake.heads()["bad"].removeprefix("file://"))
    names = {"metadata.json": metadata.name, "avro": "snap-*.avro", "m0.avro": "*-m0.avro"}
    harm(next(metadata.parent.glob(names[what])))
    folder = metadata.parents[1]
    (folder / "data" / "orphan.parquet").write_bytes(b"12345")
    lost = folder.parent / "lost-0123456789ab" / "data" / "rows.parquet"
    lost.parent.mkdir(parents=True)
    lost.write_bytes(b"12345")
    lake.close()
    Dataset("gone").delete(permanent=True)
    assert [each.name for each in list_datasets()] == ["bad", "good"]
    if what == "metadata.json":
        assert repr(list_datasets()[0]) == "Dataset('bad'): damaged"
    with pytest.raises(DamagedDatasetError, match=r"'(default\.)?bad' is damaged.*delete\(force=True\)"):
        Dataset("bad").to_arrow()
    with pytest.raises(DamagedDatasetError):
        Dataset("bad").delete_rows("file is null")
    report = collected(home)
    assert (report.damaged, report.table_files, report.packs) == (("default.bad",), 1, 0)
    assert "damaged ('default.bad'), so blobs and their folders stay" in (report.postponed or "")
    assert (lost.exists(), (folder / "data" / "orphan.parquet").exists()) == (False, True)
    assert contents("good") == [b"a"]
    if what == "metadata.json":
        with pytest.raises(DamagedDatasetError):
            Dataset("bad").delete(permanent=True)
    Dataset("bad").delete(force=True)
    with pytest.raises(DatasetNotFoundError):
        Dataset("bad").to_arrow()
    assert not folder.exists()
    report = collected(home)
    assert (report.damaged, report.packs, report.postponed) == ((), 2, None)
    assert Dataset.from_dict({"x": [1]}).save("bad").version == 2
    assert contents("good") == [b"a"]
