from __future__ import annotations

import datetime as dt
import json
import os
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from lakefeed import Dataset, GarbageReport, collect_garbage
from lakefeed.catalog.lake import Lake
from lakefeed.errors import (
    IntegrityError,
    InvalidArgumentError,
    MissingFileError,
    UnsupportedError,
    VersionNotFoundError,
)
from lakefeed.storage.blobs.packs import is_pack_key
from tests.sdk.media.pictures import write
from tests.sdk.s3 import new_bucket, s3_server

NOW = dt.timedelta(0)


def files_of(home: Path, folder: str = "blobs") -> list[str]:
    return sorted(str(path.relative_to(home)) for path in (home / folder).rglob("*") if path.is_file())


def age(home: Path, hours: float = 48) -> None:
    """Everything in the home was written so long ago."""
    then = time.time() - hours * 3600
    for path in home.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def collected(**options: object) -> GarbageReport:
    return collect_garbage(False, **{"grace": NOW, "patience": NOW, **options})  # type: ignore[arg-type]


def save(name: str, folder: Path, *contents: bytes) -> Dataset:
    paths = [write(folder / f"{name}-{number}.bin", data) for number, data in enumerate(contents)]
    return Dataset.from_dict({"file": paths}).save(name, column_types={"file": "file"})


def contents(name: str) -> list[bytes]:
    return [row["file"].bytes() for row in Dataset(name).rows()]


def test_gc_nothing_is_garbage_in_a_lake_that_was_only_written_to(home: Path, tmp_path: Path) -> None:
    save("one", tmp_path, b"a", b"b", b"x" * (2 << 20))
    Dataset("one").append_to("one")
    age(home)
    report = collected()
    assert report == GarbageReport(False, files_read=report.files_read)
    assert contents("one") == [b"a", b"b", b"x" * (2 << 20)] * 2


def test_gc_a_deleted_dataset_becomes_garbage(home: Path, tmp_path: Path) -> None:
    save("kept", tmp_path, b"a", b"common")
    save("gone", tmp_path, b"b", b"common", b"y" * (2 << 20))
    Dataset("gone").delete(permanent=True)
    report = collected()
    assert (report.packs, report.blobs) == (1, 1)
    assert report.bytes > 2 << 20
    assert len(report.locations) == 2
    assert contents("kept") == [b"a", b"common"]
    assert collected().bytes == 0


def test_gc_a_dry_run_deletes_nothing_and_lists_bytes(home: Path, tmp_path: Path) -> None:
    save("gone", tmp_path, b"b", b"y" * (2 << 20))
    Dataset("gone").delete(permanent=True)
    before = files_of(home)
    report = collect_garbage(grace=NOW)
    assert (report.dry_run, report.packs, report.blobs) == (True, 1, 1)
    assert report.bytes > 2 << 20
    assert files_of(home) == before
    assert {Path(location.removeprefix("file://")).is_file() for location in report.locations} == {True}


def test_gc_the_grace_keeps_what_is_new(home: Path, tmp_path: Path) -> None:
    save("gone", tmp_path, b"b")
    Dataset("gone").delete(permanent=True)
    assert collected(grace=dt.timedelta(hours=1)).packs == 0
    age(home, hours=2)
    assert collected(grace=dt.timedelta(hours=3)).packs == 0
    assert collected(grace=dt.timedelta(hours=1)).packs == 1
    assert not [key for key in files_of(home) if is_pack_key(key.removeprefix("blobs/"))]


def test_gc_old_versions_and_tags_are_live(home: Path, tmp_path: Path) -> None:
    save("one", tmp_path, b"a", b"b")
    Dataset("one").tag("first")
    Dataset.from_dict({"file": [write(tmp_path / "c.bin", b"c")]}).overwrite("one")
    age(home)
    assert collected().bytes == 0
    assert [row["file"].bytes() for row in Dataset("one", version="first").rows()] == [b"a", b"b"]


@pytest.mark.parametrize("read_before", [True, False])
def test_gc_a_dataset_pinned_to_a_version_that_has_expired_says_so(home: Path, read_before: bool) -> None:
    Dataset.from_dict({"x": [1, 2]}).save("one")
    old = Dataset("one", version=1)
    if read_before:
        assert old.to_arrow()["x"].to_pylist() == [1, 2]
    Dataset.from_dict({"x": [3]}).overwrite("one")
    table = Lake.current().table("one")
    table.maintenance.expire_snapshots().by_id(table.metadata.snapshots[0].snapshot_id).commit()
    age(home)
    assert collected().table_files > 0
    with pytest.raises(VersionNotFoundError, match="has expired"):
        old.to_arrow()
    assert Dataset("one").to_arrow()["x"].to_pylist() == [3]


def test_gc_what_a_fence_points_at_is_live(home: Path) -> None:
    from lakefeed import Fence

    blob = Lake.current().blobs.put_bytes(b"ledger")
    other = Lake.current().blobs.put_bytes(b"nobody's")
    fence = Fence("ingest/x", None, f"blob:{blob.sha256}")
    Dataset.from_dict({"x": [1]}).save("one", fence=fence)
    assert collected().blobs == 1
    assert Lake.current().blobs.has(blob.sha256)
    assert not Lake.current().blobs.has(other.sha256)


def test_gc_the_second_time_reads_new_files_only(tmp_path: Path) -> None:
    save("one", tmp_path, b"a")
    for number in range(3):
        Dataset.from_dict({"file": [write(tmp_path / f"{number}.bin", b"%d" % number)]}).append_to("one")
    assert collected().files_read == 4
    assert collected().files_read == 0
    Dataset.from_dict({"file": [write(tmp_path / "new.bin", b"new")]}).append_to("one")
    assert collected().files_read == 1


def test_gc_files_of_tables_that_no_version_names(home: Path, tmp_path: Path) -> None:
    save("one", tmp_path, b"a")
    [data] = (home / "warehouse").rglob("*.parquet")
    orphans = [data.with_name("orphan.parquet"), data.parents[1] / "metadata" / "orphan-m0.avro"]
    lost = data.parents[2] / "lost-0123456789ab" / "data" / "rows.parquet"
    foreign = [home / "warehouse" / "notes.txt", data.parents[2] / "not a table" / "data" / "x.parquet"]
    lost.parent.mkdir(parents=True)
    foreign[1].parent.mkdir(parents=True)
    for path in (*orphans, lost, *foreign):
        path.write_bytes(b"12345")
    assert collected().table_files == 0, "too young: somebody may be writing them"
    age(home)
    report = collected()
    assert (report.table_files, report.bytes) == (3, 15)
    assert not any(path.exists() for path in (*orphans, lost, lost.parents[1]))
    assert all(path.exists() for path in foreign)
    assert contents("one") == [b"a"]


def test_gc_a_failed_save_leaves_nothing_but_whole_packs(home: Path, tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.bin", b"a"), str(tmp_path / "missing.bin")]
    with pytest.raises(MissingFileError, match=r"column 'file', row 1: .*missing\.bin"):
        Dataset.from_dict({"file": paths}).save("one", column_types={"file": "file"})
    assert [name.split("/")[1] for name in files_of(home)] == ["lakes"]
    assert not files_of(home, "warehouse")


def test_gc_sparse_packs_are_written_anew(home: Path, tmp_path: Path) -> None:
    save("gone", tmp_path, *(b"%d" % n * 1_000 for n in range(10)), b"kept" * 100, b"also kept" * 100)
    save("one", tmp_path, b"kept" * 100, b"also kept" * 100)
    [pack] = [key for key in files_of(home) if is_pack_key(key.removeprefix("blobs/"))]
    before = Dataset("one").batches(format="arrow")
    Dataset("gone").delete(permanent=True)
    there = files_of(home)
    found = collect_garbage(grace=NOW)
    assert (found.packs, found.sparse_packs, found.moved_bytes) == (1, 1, 1_300)
    assert files_of(home) == there
    report = collected()
    assert (report.packs, report.sparse_packs, report.moved_bytes) == (1, 1, 1_300)
    assert pack not in files_of(home)
    [new] = (home / "blobs" / "packs").rglob("*.pack")
    assert new.stat().st_size < 2_000
    assert contents("one") == [b"kept" * 100, b"also kept" * 100]
    assert [row for batch in before for row in batch.to_pylist()]
    assert collected().bytes == 0


def test_gc_a_pack_that_is_half_full_stays(tmp_path: Path) -> None:
    save("gone", tmp_path, b"x" * 900, b"kept" * 250)
    save("one", tmp_path, b"kept" * 250)
    Dataset("gone").delete(permanent=True)
    assert (collected().packs, contents("one")) == (0, [b"kept" * 250])


def test_gc_what_is_damaged_keeps_its_sparse_pack(home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save("gone", tmp_path, b"x" * 9_000, b"bad" * 100, b"good" * 100)
    save("one", tmp_path, b"bad" * 100, b"good" * 100)
    Dataset("gone").delete(permanent=True)
    [pack] = (home / "blobs" / "packs").rglob("*.pack")
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes().replace(b"badbad", b"BADBAD", 1))
    assert (collected().packs, pack.exists()) == (0, True)
    assert "1 contents of" in caplog.text
    assert [row["file"].bytes() for row in Dataset("one").slice(1, 2)] == [b"good" * 100]
    with pytest.raises(IntegrityError):
        contents("one")


@pytest.mark.parametrize("kind", ["memory", pytest.param("s3", marks=pytest.mark.live)])
def test_gc_in_an_object_store(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() if kind == "s3" else nullcontext({}) as options:
        url = f"{new_bucket(options, tmp_path.name[-20:].replace('_', '-'))}" if kind == "s3" else "memory://gc-test"
        monkeypatch.setenv("LAKEFEED__BLOBS__URL", f"{url}/blobs")
        monkeypatch.setenv("LAKEFEED__BLOBS__OPTIONS", json.dumps(options))
        save("kept", tmp_path, b"a", b"x" * (2 << 20))
        save("gone", tmp_path, b"b", b"y" * (2 << 20))
        Dataset("gone").delete(permanent=True)
        assert collect_garbage().bytes == 0
        assert collect_garbage(grace=NOW).bytes > 2 << 20
        report = collected()
        assert (report.packs, report.blobs, report.postponed) == (1, 1, None)
        assert contents("kept") == [b"a", b"x" * (2 << 20)]
        objects = Lake.current().blobs.backend.objects
        assert [len(list(objects.list(folder))) for folder in ("packs", "sha256", "leases", "doomed")] == [1, 1, 0, 0]


def test_gc_a_store_that_two_lakes_share_is_left_alone(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFEED__BLOBS__URL", str(tmp_path / "shared"))
    save("one", tmp_path, b"a")
    monkeypatch.setenv("LAKEFEED_HOME", str(tmp_path / "another"))
    save("two", tmp_path, b"b")
    with pytest.raises(UnsupportedError, match=r"also belongs to .*the sql catalog sqlite:///.*/home/catalog.db"):
        collect_garbage()


def test_gc_bad_arguments() -> None:
    with pytest.raises(InvalidArgumentError, match="grace"):
        collect_garbage(grace=-dt.timedelta(1))
