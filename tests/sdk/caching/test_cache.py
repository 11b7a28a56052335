"""M49: rows kept on local disk."""

from __future__ import annotations

import logging
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import (
    ColumnNotFoundError,
    DatasetNotFoundError,
    InvalidArgumentError,
    MissingFileError,
    UnsupportedError,
)
from lakefeed.plan import fingerprint
from tests.sdk.processes import Program, finish_all, run

ROWS = pa.table(
    {
        "x": pa.array([3, 1, None, 2, 5, 4]),
        "text": ["c", "a", None, "b", "e", "d"],
        "small": pa.array([1, 2, 3, 4, 5, 255], pa.uint8()),
        "vector": pa.array([[1.0, 2.0]] * 6, pa.list_(pa.float16(), 2)),
        "kind": pa.array(["red", "blue"] * 3).dictionary_encode(),
    }
)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "2")
    Dataset.from_arrow(ROWS.slice(0, 3)).save("rows", column_types=None)
    return Dataset.from_arrow(ROWS.slice(3)).append_to("rows")


def manifests(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "datasets").rglob("manifest.json"))


def test_a_mirror_has_the_same_rows_types_and_order(rows: Dataset, tmp_path: Path) -> None:
    kept = rows.cache()
    assert kept.to_arrow().equals(rows.to_arrow(), check_metadata=True)
    assert kept.schema == rows.schema
    assert len(kept) == 6
    assert kept.slice(1, 5).to_arrow().to_pylist() == ROWS.slice(1, 4).to_pylist()
    assert kept.filter("x >= 3").to_arrow()["x"].to_pylist() == [3, 5, 4]
    snapshot = rows.list_versions()[0].snapshot_id
    assert manifests(tmp_path) == [tmp_path / "cache" / "datasets" / "rows" / str(snapshot) / "all" / "manifest.json"]
    assert "cache of rows@v2" in kept.explain()


def test_a_shuffled_order_and_a_checkpoint_are_those_of_the_source(rows: Dataset) -> None:
    for window in (1, 2, 4, 100):
        shuffled = rows.shuffle(seed=3, global_=False, window=window)
        kept = rows.cache().shuffle(seed=3, global_=False, window=window)
        assert kept.to_arrow().to_pylist() == shuffled.to_arrow().to_pylist()
        assert fingerprint(kept._plan) == fingerprint(shuffled._plan)
    assert rows.shuffle(seed=1).cache().to_arrow().to_pylist() == rows.shuffle(seed=1).to_arrow().to_pylist()


def test_only_needed_columns_are_mirrored_and_a_wider_mirror_serves(rows: Dataset, tmp_path: Path) -> None:
    narrow = rows.filter("small > 1").select(["x", "text"]).cache()
    assert narrow.to_arrow()["text"].to_pylist() == ["a", None, "b", "e", "d"]
    assert len(manifests(tmp_path)) == 1
    rows.select(["text"]).cache()
    assert len(manifests(tmp_path)) == 1
    rows.cache()
    assert len(manifests(tmp_path)) == 2
    with pytest.raises(ColumnNotFoundError):
        narrow.select(["vector"])


def test_a_new_snapshot_gets_a_new_mirror_and_pins_theirs(rows: Dataset, tmp_path: Path) -> None:
    assert Dataset("rows").cache().count() == 6
    Dataset.from_arrow(ROWS.slice(0, 1)).append_to("rows")
    assert Dataset("rows").cache().count() == 7
    assert Dataset("rows", version=1).cache().count() == 3
    assert Dataset("rows", version=2).cache().count() == 6
    assert len(manifests(tmp_path)) == 3
    assert Dataset("rows").added_since(1).cache().to_arrow()["x"].to_pylist() == [2, 5, 4, 3]
    assert len(manifests(tmp_path)) == 4


def test_an_empty_dataset_and_one_in_memory(tmp_path: Path) -> None:
    empty = Dataset.from_arrow(ROWS.slice(0, 0)).save("empty", column_types=None)
    assert empty.cache().to_arrow().equals(empty.to_arrow())
    assert Dataset.from_dict({"x": [1]}).cache().to_arrow().to_pydict() == {"x": [1]}
    assert len(manifests(tmp_path)) == 1


def test_works_in_another_process_without_catalog_and_source(rows: Dataset, home: Path) -> None:
    expected = Dataset("rows").cache().to_arrow().to_pylist()
    Dataset("rows", version=1).cache()
    shutil.rmtree(home)
    program = """
        from lakefeed import Dataset
        print(Dataset("rows").cache().select(["x", "text"]).to_arrow().to_pylist())
        print(Dataset("rows", version=1).cache().count())
    """
    found = run(program).splitlines()
    assert found == [str([{"x": row["x"], "text": row["text"]} for row in expected]), "3"]
    with pytest.raises(DatasetNotFoundError):
        Dataset("others").cache()


def test_an_unreachable_catalog_is_survived_and_said(
    rows: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture, home: Path
) -> None:
    rows.cache()
    database = home / "catalog.db"
    database.write_bytes(b"this is no database, it is a broken disk" * 100)
    rows._lake.close()
    with caplog.at_level(logging.WARNING):
        assert Dataset("rows").cache().count() == 6
    assert "local mirror of version 2" in caplog.text


def test_mirrors_of_another_lake_are_not_taken(rows: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows.cache()
    monkeypatch.setenv("LAKEFEED_HOME", str(tmp_path / "other"))
    with pytest.raises(DatasetNotFoundError):
        Dataset("rows").cache()


def test_stored_files_are_there_without_the_store(tmp_path: Path, home: Path) -> None:
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(name.encode() * 10)
    paths = [str(tmp_path / "a.bin"), None, str(tmp_path / "b.bin"), str(tmp_path / "a.bin")]
    Dataset.from_dict({"f": paths}).save("files", column_types={"f": "file"})
    Dataset("files").cache(load_files=False)
    shutil.copytree(home, tmp_path / "copy")
    shutil.rmtree(home)
    with pytest.raises(MissingFileError):
        Dataset("files").cache()
    shutil.copytree(tmp_path / "copy", home)
    Dataset("files").cache()
    shutil.rmtree(home)
    program = """
        from lakefeed import Dataset
        ds = Dataset("files").cache()
        print([row["f"] and row["f"].bytes() for row in ds.rows()])
        print([path and open(path, "rb").read() for path in ds.load_files("path").to_arrow()["f"].to_pylist()])
    """
    expected = str([b"a.bin" * 10, None, b"b.bin" * 10, b"a.bin" * 10])
    assert run(program).splitlines() == [expected, expected]


BIG = """
    import numpy as np, pyarrow as pa
    from lakefeed import Dataset

    def batches():
        for start in range(0, 400_000, 20_000):
            numbers = np.arange(start, start + 20_000)
            yield pa.record_batch({"x": numbers, "text": [f"{n:060d}" for n in numbers.tolist()]})

    schema = pa.schema({"x": pa.int64(), "text": pa.string()})
    Dataset.from_batches(batches, schema=schema).save("big", column_types=None)
"""


def test_complete_or_absent_whoever_is_killed(tmp_path: Path) -> None:
    run(BIG)
    program = "from lakefeed import Dataset; print('go', flush=True); print(Dataset('big').cache().count())"
    killed = complete = 0
    for attempt in range(8):
        process = Program(program)
        process.stdout.readline()
        time.sleep(0.05 + 0.12 * attempt)
        process.kill()
        process.finish()
        killed += process.returncode == -signal.SIGKILL
        complete += bool(manifests(tmp_path))
        if manifests(tmp_path):
            found = Dataset("big").cache()
            assert found.count() == 400_000
            break
    assert killed
    kept = Dataset("big").cache()
    assert np.array_equal(kept.select(["x"]).to_arrow()["x"].to_numpy(), np.arange(400_000))
    assert len(list(tmp_path.rglob("rows-*.parquet"))) == 1


def test_two_processes_at_once_make_one_mirror(tmp_path: Path) -> None:
    run(BIG)
    program = """
        import lakefeed.caching.atomic_folder as folder
        from lakefeed import Dataset
        original, written = folder.Folder.write, []
        folder.Folder.write = lambda self, *args: written.append(1) or original(self, *args)
        print(Dataset("big").cache().count(), len(written))
    """
    found = sorted(printed.strip() for printed in finish_all([Program(program) for _ in range(2)]))
    assert found == ["400000 0", "400000 1"]
    assert len(manifests(tmp_path)) == 1
    assert len(list(tmp_path.rglob("rows-*.parquet"))) == 1


def test_a_failure_leaves_nothing(rows: Dataset, tmp_path: Path) -> None:
    def broken(row: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("broken")

    with pytest.raises(KeyError):
        rows.map(broken, schema=pa.schema({"x": pa.int64()})).cache(tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["lock"]
    strange = pa.table({"x": pa.array([(1, 2, 3)], pa.month_day_nano_interval())})
    with pytest.raises(UnsupportedError, match="Parquet"):
        Dataset.from_arrow(strange).cache(tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["lock"]


def doubled(rows: Dataset, calls: list[int]) -> Dataset:
    def double(row: dict[str, Any]) -> dict[str, Any]:
        calls.append(1)
        return {"y": (row["x"] or 0) * 2}

    return rows.filter("small > 1").map(double, schema=pa.schema({"y": pa.int64()}))


def test_path_keeps_the_whole_output_and_later_calls_take_it(
    rows: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []
    first = doubled(Dataset("rows"), calls).cache(tmp_path / "kept")
    assert first.to_arrow()["y"].to_pylist() == [2, 0, 4, 10, 8]
    assert len(calls) == 5
    with caplog.at_level(logging.WARNING):
        again = doubled(Dataset("rows"), calls).cache(str(tmp_path / "kept"))
    assert again.to_arrow().equals(first.to_arrow())
    assert (len(calls), caplog.text) == (5, "")
    Dataset.from_arrow(ROWS.slice(1, 1)).append_to("rows")
    with caplog.at_level(logging.WARNING):
        moved = doubled(Dataset("rows"), calls).cache(tmp_path / "kept")
    assert moved.count() == 5
    assert "moved on to rows@v3" in caplog.text
    fresh = doubled(Dataset("rows"), calls).cache(tmp_path / "kept", overwrite=True)
    assert fresh.to_arrow()["y"].to_pylist() == [2, 0, 4, 10, 8, 2]
    assert len(list((tmp_path / "kept").glob("rows-*"))) == 1


def test_path_never_gives_another_plans_rows(rows: Dataset, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    rows.filter("x > 1").cache(kept)
    others = {
        "another predicate": rows.filter("x > 2"),
        "another column": rows.filter("x > 1").select(["x"]),
        "another operation": rows.filter("x > 1").head(2),
        "another source": Dataset.from_arrow(ROWS).filter("x > 1"),
        "a function": rows.filter(lambda row: True),
    }
    for other in others.values():
        with pytest.raises(InvalidArgumentError, match="another plan"):
            other.cache(kept)
    assert rows.filter("x > 1").cache(kept).count() == 4
    assert others["another column"].cache(kept, overwrite=True).schema.names == ["x"]
    memory = Dataset.from_dict({"x": [1]})
    memory.cache(tmp_path / "memory")
    with pytest.raises(InvalidArgumentError, match="another plan"):
        Dataset.from_dict({"x": [2]}).cache(tmp_path / "memory")


def test_path_touches_no_files_of_others(rows: Dataset, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InvalidArgumentError, match="other files"):
            rows.cache(tmp_path / "mine", overwrite=overwrite)
        with pytest.raises(InvalidArgumentError, match="folder"):
            rows.cache(tmp_path / "mine" / "notes.txt", overwrite=overwrite)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_arguments_are_checked_at_the_call(rows: Dataset) -> None:
    wrong: list[dict[str, Any]] = [
        {"path": 3},
        {"load_files": "yes"},
        {"overwrite": 1, "path": "x"},
        {"overwrite": True},
    ]
    for arguments in wrong:
        with pytest.raises(InvalidArgumentError, match="cache"):
            rows.cache(**arguments)


def test_a_mirror_is_complete_before_it_is_named(rows: Dataset, tmp_path: Path) -> None:
    rows.cache()
    (manifest,) = manifests(tmp_path)
    (data,) = manifest.parent.glob("rows-*")
    data.unlink()  # somebody cleans up
    assert rows.cache().count() == 6
    (manifest,) = manifests(tmp_path)
    manifest.write_text("{")
    assert rows.cache().count() == 6
    assert len(list(manifest.parent.glob("rows-*"))) == 1
