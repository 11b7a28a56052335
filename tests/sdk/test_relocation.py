"""A lake that is copied leaves the original alone; one that is moved, linked or restored goes on."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shutil
import sqlite3
import urllib.request
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed import Dataset, Settings, collect_garbage, list_datasets
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.path_roots import Roots
from lakefeed.errors import AccessDeniedError, CatalogUnavailableError, ConfigError, SharedWarehouseError
from lakefeed.routines import Routine, run_routine
from tests.sdk.media.pictures import write
from tests.sdk.s3 import new_bucket, s3_server
from tests.sdk.test_garbage import age

NOW = dt.timedelta(0)


def tree(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def values(name: str = "t", **pin: int) -> list[int]:
    return sorted(Dataset(name, **pin).to_arrow()["x"].to_pylist())


def copy(home: Path, to: Path) -> Path:
    return Path(shutil.copytree(home, to, symlinks=True))


@pytest.fixture
def filled(home: Path, tmp_path: Path) -> Path:
    """A home with a dataset of two versions, one of files, and one that is about to go."""
    Dataset.from_dict({"x": [1, 2, 3]}).save("t")
    Dataset.from_dict({"x": [4]}).append_to("t")
    Dataset.from_dict({"file": [write(tmp_path / "a.bin", b"a")]}).save("files", column_types={"file": "file"})
    Dataset.from_dict({"x": [9]}).save("gone")
    return home


def work() -> None:
    """Everything that writes or deletes."""
    Dataset.from_dict({"x": [5]}).append_to("t")
    Dataset("t").delete_rows("x == 1")
    Dataset("gone").delete(permanent=True)
    Dataset("files").delete(permanent=True)
    Dataset.from_dict({"x": [7]}).save("new")
    Dataset("t").tag("here")
    Dataset("t").add_column("y", pa.int64())
    age(Lake.current().settings.home)
    report = collect_garbage(False, NOW, patience=NOW)
    assert (report.packs, report.damaged) == (1, ())
    assert values() == [2, 3, 4, 5]
    assert values(version=2) == [1, 2, 3, 4]
    assert [each.name for each in list_datasets()] == ["new", "t"]


@pytest.mark.parametrize("writer", ["copy", "original"])
def test_a_copied_home_and_its_original_do_not_touch_each_other(
    writer: str, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = copy(filled, tmp_path / "copy")
    here, there = (other, filled) if writer == "copy" else (filled, other)
    before = tree(there)
    monkeypatch.setenv("LAKEFEED_HOME", str(here))
    work()
    assert tree(there) == before
    monkeypatch.setenv("LAKEFEED_HOME", str(there))
    assert values() == [1, 2, 3, 4]
    assert next(iter(Dataset("files").rows()))["file"].bytes() == b"a"
    Dataset("t").delete_rows("x > 2")
    monkeypatch.setenv("LAKEFEED_HOME", str(here))
    assert values() == [2, 3, 4, 5]


def test_a_moved_home_goes_on_wherever_it_lies(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, place in enumerate(("b", "c/deeper", "home")):  # the last one is where it was at first
        new = tmp_path / place
        new.parent.mkdir(exist_ok=True)
        Lake.current().settings.home.rename(new)
        monkeypatch.setenv("LAKEFEED_HOME", str(new))
        assert values() == sorted([1, 2, 3, 4, *range(10, 10 + number)])
        Dataset.from_dict({"x": [10 + number]}).append_to("t")
    link = tmp_path / "link"
    link.symlink_to(new)
    monkeypatch.setenv("LAKEFEED_HOME", str(link))
    Dataset.from_dict({"x": [20]}).append_to("t")
    Dataset.from_dict({"x": [1]}).save("by_link")
    monkeypatch.setenv("LAKEFEED_HOME", str(new))
    link.unlink()
    assert (values(), values("by_link")) == ([1, 2, 3, 4, 10, 11, 12, 20], [1])
    work_folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert work_folders == {"home", "cache", "c"}


def test_a_home_that_moves_away_under_a_process_is_told_and_not_made_anew(home: Path) -> None:
    saved = Dataset.from_dict({"x": [1]}).save("t")
    elsewhere = home.with_name("elsewhere")
    home.rename(elsewhere)
    for _ in range(2):
        for use in (saved.to_arrow, values, list_datasets, lambda: Dataset.from_dict({"x": [2]}).append_to("t")):
            with pytest.raises(CatalogUnavailableError, match=f"{home}/catalog.db.*moved or removed"):
                use()
        assert not list(home.glob("*"))
        home.mkdir(exist_ok=True)
    sqlite3.connect(home / "catalog.db").close()
    (home / "catalog.db").touch()
    with pytest.raises(CatalogUnavailableError, match=f"{home}/catalog.db.*moved or removed"):
        values()
    shutil.rmtree(home)
    elsewhere.rename(home)
    assert values() == [1]


def test_checkpoints_and_positions_fit_after_a_move(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    routine = Routine("double", lambda rows: rows.with_column("y", "x * 2"), "t", "doubled")
    while run_routine(routine):
        pass
    Dataset("t").cache()
    loader = Dataset("t", version=2).shuffle(seed=1).to_torch(batch_size=1)
    batches = iter(loader)
    first = [next(batches)["x"].tolist() for _ in range(2)]
    state = loader.state_dict()
    rest = [batch["x"].tolist() for batch in batches]
    new = tmp_path / "moved"
    filled.rename(new)
    monkeypatch.setenv("LAKEFEED_HOME", str(new))
    assert run_routine(routine) is None
    resumed = Dataset("t", version=2).shuffle(seed=1).to_torch(batch_size=1)
    resumed.load_state_dict(state)
    assert [batch["x"].tolist() for batch in resumed] == rest
    assert len(first) + len(rest) == 4
    Dataset.from_dict({"x": [6]}).append_to("t")
    run_routine(routine)
    assert sorted(Dataset("doubled").to_arrow()["y"].to_pylist()) == [2, 4, 6, 8, 12]


def test_a_lake_of_earlier_code_is_understood_where_it_was_copied_to(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect(filled / "catalog.db") as database:
        database.execute("DROP TABLE lakefeed_lake")
    other = copy(filled, tmp_path / "copy")
    shutil.rmtree(other / "warehouse" / "default" / next(iter((other / "warehouse/default").glob("gone-*"))).name)
    before = tree(filled)
    monkeypatch.setenv("LAKEFEED_HOME", str(other))
    assert values("gone") == [9], "a table that was not copied is read where it is"
    Dataset("t").delete(permanent=True)
    Dataset("gone").delete(permanent=True)
    assert tree(filled) == before


def test_a_copied_catalog_only_reads_the_warehouse_of_the_original(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFEED__CATALOG__WAREHOUSE", f"file://{tmp_path}/warehouse")
    Dataset.from_dict({"x": [1, 2]}).save("t")
    before = tree(tmp_path / "warehouse")
    other = copy(home, tmp_path / "copy")
    monkeypatch.setenv("LAKEFEED_HOME", str(other))
    assert values() == [1, 2]

    def append() -> Dataset:
        return Dataset.from_dict({"x": [5]}).append_to("t")

    for write_or_delete in (
        append,
        lambda: Dataset.from_dict({"x": [5]}).save("u"),
        lambda: Dataset("t").delete(permanent=True),
        lambda: Dataset("t").delete_rows("x == 1"),
        lambda: Dataset("t").add_column("y", pa.int64()),
        lambda: Dataset("t").update(description="mine"),
        lambda: collect_garbage(False, NOW, patience=NOW),
    ):
        with pytest.raises(
            SharedWarehouseError, match=r"belongs to the catalog .*/home/catalog\.db.*catalog\.warehouse"
        ):
            write_or_delete()
    assert tree(tmp_path / "warehouse") == before
    monkeypatch.setenv("LAKEFEED_HOME", str(home))
    append()
    # With its own copy of the warehouse it goes on; and where the original is no more, it takes its place.
    shutil.copytree(tmp_path / "warehouse", tmp_path / "warehouse2")
    shutil.copy(home / "catalog.db", other / "catalog.db")
    monkeypatch.setenv("LAKEFEED_HOME", str(other))
    monkeypatch.setenv("LAKEFEED__CATALOG__WAREHOUSE", f"file://{tmp_path}/warehouse2")
    before = tree(tmp_path / "warehouse")
    append()
    Dataset("t").delete(permanent=True)
    assert tree(tmp_path / "warehouse") == before
    home.rename(tmp_path / "moved")
    monkeypatch.setenv("LAKEFEED_HOME", str(tmp_path / "moved"))
    monkeypatch.setenv("LAKEFEED__CATALOG__WAREHOUSE", f"file://{tmp_path}/warehouse")
    append()
    assert values() == [1, 2, 5, 5]


def test_a_copied_catalog_beside_a_warehouse_in_the_home_of_the_original_only_reads(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(filled / "warehouse")
    shutil.copy(filled / "catalog.db", tmp_path / "copy.db")
    monkeypatch.setenv("LAKEFEED__CATALOG__URI", f"sqlite:///{tmp_path}/copy.db")
    assert values() == [1, 2, 3, 4]
    with pytest.raises(SharedWarehouseError):
        Dataset("t").delete(permanent=True)
    assert tree(filled / "warehouse") == before


def test_a_warehouse_that_the_settings_put_elsewhere_is_another_one(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFEED__CATALOG__WAREHOUSE", str(tmp_path / "larger"))
    Dataset.from_dict({"x": [1]}).save("u")
    Dataset.from_dict({"x": [5]}).append_to("t")
    assert (values(), values("u")) == ([1, 2, 3, 4, 5], [1])
    assert [path.name.split("-")[0] for path in (tmp_path / "larger" / "default").iterdir()] == ["u"]
    # The larger disk is mounted elsewhere.
    (tmp_path / "larger").rename(tmp_path / "mounted")
    monkeypatch.setenv("LAKEFEED__CATALOG__WAREHOUSE", str(tmp_path / "mounted"))
    Dataset.from_dict({"x": [2]}).append_to("u")
    assert (values(), values("u")) == ([1, 2, 3, 4, 5], [1, 2])
    for name in ("t", "u"):
        Dataset(name).delete(permanent=True)
    assert not [path for path in tmp_path.rglob("*.parquet") if "/t-" in str(path) or "/u-" in str(path)]


def test_a_home_that_cannot_be_written_to_is_read(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect(filled / "catalog.db") as database:
        database.execute("DROP TABLE lakefeed_lake")
    other = copy(filled, tmp_path / "backup")
    filled.rename(tmp_path / "away")
    (other / "catalog.db").chmod(0o444)
    other.chmod(0o555)
    monkeypatch.setenv("LAKEFEED_HOME", str(other))
    try:
        assert values() == [1, 2, 3, 4]
    finally:
        other.chmod(0o755)


def test_another_file_io_cannot_follow_a_lake(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.rename(tmp_path / "moved")
    monkeypatch.setenv("LAKEFEED_HOME", str(tmp_path / "moved"))
    properties = {"py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"}
    monkeypatch.setenv("LAKEFEED__CATALOG__PROPERTIES", json.dumps(properties))
    with pytest.raises(ConfigError, match="py-io-impl"):
        list_datasets()


def test_pyiceberg_writes_through_a_moved_lake(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.rename(tmp_path / "moved")
    monkeypatch.setenv("LAKEFEED_HOME", str(tmp_path / "moved"))
    lake = Lake(Settings.load())
    rows = Dataset.from_dict({"x": [8]}).to_arrow()
    lake.catalog.load_table("default.t").append(rows)
    lake.catalog.create_table("default.theirs", rows.schema).append(rows)
    assert (values(), values("theirs")) == ([1, 2, 3, 4, 8], [8])
    Dataset("theirs").delete(permanent=True)
    lake.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "cache", "moved"]


@pytest.mark.live
def test_a_warehouse_in_an_object_store_belongs_to_one_catalog(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server() as options:
        bucket, endpoint = new_bucket(options, "one-catalog"), options["client_kwargs"]["endpoint_url"]
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
            monkeypatch.setenv(name, "any")
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("LAKEFEED__CATALOG__WAREHOUSE", f"{bucket}/warehouse")
        Dataset.from_dict({"x": [1, 2]}).save("t")
        monkeypatch.setenv("LAKEFEED_HOME", str(copy(home, tmp_path / "copy")))
        assert values() == [1, 2]
        for write_or_delete in (Dataset("t").delete, lambda: Dataset.from_dict({"x": [3]}).append_to("t")):
            with pytest.raises(SharedWarehouseError, match="can only read it"):
                write_or_delete()
        monkeypatch.setenv("LAKEFEED_HOME", str(home))
        Dataset.from_dict({"x": [3]}).append_to("t")
        Dataset("t").delete(permanent=True)
        Lake.current().close()
        monkeypatch.setenv("LAKEFEED_HOME", str(tmp_path / "new"))
        monkeypatch.setenv("LAKEFEED__CATALOG__WAREHOUSE", "s3://no-such-bucket/warehouse")
        with pytest.raises(AccessDeniedError, match=r"bucket of .*catalog\.warehouse"):
            Dataset.from_dict({"x": [1]}).save("t")
        keys = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", b"0", {"content-type": "text/plain"})
        with urllib.request.urlopen(keys):  # from now on keys are looked at
            monkeypatch.setenv("LAKEFEED__CATALOG__WAREHOUSE", f"{bucket}/other")
        with pytest.raises(AccessDeniedError, match="AWS_ACCESS_KEY_ID"):
            Dataset.from_dict({"x": [1]}).save("t")


def test_roots_the_longest_counts() -> None:
    roots = Roots.of({"/a": "/x", "/a/b": "/a/b", "/c d": "/a"})
    assert Roots.parse(roots.dump()) == roots
    for location, now in {
        "file:///a/t/1": "file:///x/t/1",
        "/a/t/1": "file:///x/t/1",
        "file:/a//t/1": "file:///x/t/1",
        "file:///a/b/1": "file:///a/b/1",
        "file:///ab/1": "file:///ab/1",
        "file:///c d/1": "file:///a/1",
        "s3://a/1": "s3://a/1",
    }.items():
        assert roots.actual(location) == now
