"""Deleted datasets: they keep their bytes until the trash is emptied, and come back whole."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from lakefeed import Dataset, collect_garbage, list_datasets
from lakefeed.catalog.lake import Lake
from lakefeed.errors import DamagedDatasetError, DatasetExistsError, DatasetNotFoundError, InvalidArgumentError
from tests.sdk.test_deletion import collected
from tests.sdk.test_garbage import contents, save


def save_numbers(name: str, *values: int) -> None:
    Dataset.from_dict({"x": list(values)}).save(name)


def values(name: str) -> list[int]:
    return sorted(Dataset(name).to_arrow()["x"].to_pylist())


def test_a_deleted_dataset_comes_back_whole(home: Path, tmp_path: Path) -> None:
    save("photos", tmp_path, b"a")
    Dataset("photos").tag("gold")
    loaded = Dataset("photos", version=1).to_arrow()
    Dataset("photos").delete()
    assert (Dataset.exists("photos"), list_datasets()) == (False, [])
    with pytest.raises(DatasetNotFoundError, match=r"deleted at .* after version 1.*list_trash\(\)"):
        Dataset("photos").count()
    (trashed,) = Dataset.list_trash()
    assert (trashed.name, trashed.versions, trashed.rows, trashed.damaged) == ("photos", 1, 1, False)
    assert dt.datetime.now(dt.UTC) - trashed.deleted_at < dt.timedelta(minutes=5)
    report = collected(home)
    assert (report.blobs, report.packs, report.table_files) == (0, 0, 0)
    assert Dataset.undelete("photos").tags() == {"gold": 1}
    assert Dataset.list_trash() == []
    assert contents("photos") == [b"a"]
    assert Dataset("photos", version=1).to_arrow() == loaded
    with pytest.raises(DatasetNotFoundError, match="no longer in the trash"):
        trashed.restore()
    assert not trashed.delete()
    Dataset("photos").delete()
    (removed,) = Dataset.empty_trash()
    assert (removed.name, Dataset.list_trash()) == ("photos", [])
    assert collected(home).packs + collected(home).blobs == 1 or collect_garbage().packs == 0
    assert not [path for path in (home / "warehouse").rglob("*") if path.is_file()]


def test_several_of_one_name(home: Path) -> None:
    for value in (1, 2, 3):
        save_numbers("x", value)
        Dataset("x").delete()
    save_numbers("x", 4)
    assert [each.version for each in Dataset("x").list_versions()] == [4]
    with pytest.raises(DatasetExistsError, match="another name"):
        Dataset.undelete("x")
    assert Dataset.undelete("x", "team.y").name == "team.y"
    assert values("team.y") == [3]
    oldest = Dataset.list_trash()[-1]
    assert oldest.restore("first") == "first"
    assert values("first") == [1]
    with pytest.raises(DatasetNotFoundError, match="it has 'x'"):
        Dataset.undelete("first")
    save_numbers("z", 1)
    Dataset("z").delete()
    assert Dataset.empty_trash(older_than=dt.timedelta(hours=1)) == []
    assert [each.name for each in Dataset.empty_trash(name="x")] == ["x"]
    assert [each.name for each in Dataset.list_trash()] == ["z"]
    for wrong in (dt.timedelta(-1), 3):
        with pytest.raises(InvalidArgumentError, match="older_than"):
            Dataset.empty_trash(wrong)  # type: ignore[arg-type]
    assert (values("x"), Dataset("x").version) == ([4], 4)


def test_damaged_datasets(home: Path) -> None:
    save_numbers("lost", 1)
    save_numbers("half", 1)
    save_numbers("later", 1)
    locations = Lake.current().heads()
    next(Path(locations["half"].removeprefix("file://")).parent.glob("snap-*.avro")).unlink()
    Path(locations["lost"].removeprefix("file://")).unlink()
    with pytest.raises(DamagedDatasetError):
        Dataset("lost").delete()
    for name in ("lost", "half"):
        Dataset(name).delete(force=True)
    assert Dataset.list_trash() == []
    Dataset("later").delete()
    Path(Lake.current().catalog.heads()[0][2].removeprefix("file://")).unlink()
    Lake.current().close()
    (trashed,) = Dataset.list_trash()
    assert trashed.damaged
    with pytest.raises(DamagedDatasetError):
        trashed.restore("again")
    assert "empty_trash" in str(collected(home).postponed)
    assert len(Dataset.empty_trash()) == 1
    assert (Dataset.list_trash(), collected(home).postponed) == ([], None)
