"""A disk that is full for real: a small file system in memory, where this user may mount one."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lakefeed import Dataset
from lakefeed.compute import Processes, append_to, save
from lakefeed.errors import StorageError, StorageFullError
from tests.sdk.media import pictures

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """24 MiB on which home, cache and temporary files are."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("may not mount a file system")
    monkeypatch.setenv("LAKEFEED_HOME", str(place / "home"))
    monkeypatch.setenv("LAKEFEED_CACHE_DIR", str(place / "cache"))
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@contextmanager
def for_reading_only(disk: Path) -> Iterator[None]:
    """Mounts the disk over itself: it cannot be changed while something has a file of it open for writing."""
    subprocess.run(["mount", "--bind", disk, disk], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", disk], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def files(disk: Path) -> set[Path]:
    return {path for path in disk.rglob("*") if path.is_file()}


def many(size: int = MIB, count: int = 48) -> Dataset:
    return Dataset.from_dict({"x": list(range(count)), "b": [os.urandom(size) for _ in range(count)]})


@pytest.mark.live
def test_a_disk_that_was_filled_by_a_write_is_not_full_afterwards(disk: Path) -> None:
    small = Dataset.from_dict({"x": [1, 2, 3], "b": [b"a", b"b", b"c"]})
    small.save("t")
    before = files(disk)
    message = r"cannot write '.*\.parquet': No space left on device; .* bytes free; .* bytes were to be written"
    with pytest.raises(StorageFullError, match=message) as failure:
        many().append_to("t")
    assert failure.value.errno == errno.ENOSPC
    assert failure.value.filename is not None
    assert str(disk) in failure.value.filename
    assert failure.value.free_bytes is not None
    assert failure.value.free_bytes < MIB
    assert files(disk) == before
    small.append_to("t")
    assert Dataset("t").collect()["x"].to_pylist() == [1, 2, 3] * 2
    with pytest.raises(StorageFullError):
        many().save("new")
    assert not list((disk / "home" / "warehouse" / "default").glob("new-*"))
    for write in (lambda: many().mapped(disk / "m"), lambda: many().cache(disk / "c")):
        with pytest.raises(StorageFullError):
            write()
    assert not [path for path in files(disk) if path.stat().st_size > MIB]


@pytest.mark.parametrize(("size", "count"), [(2 * MIB, 24), (512 << 10, 96)], ids=["alone", "packs"])
def test_files_that_were_stored_by_a_save_that_filled_the_disk_do_not_stay(
    size: int, count: int, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFEED__BLOBS__PACK_BYTES", str(4 * MIB))
    paths = [pictures.write(tmp_path / f"{number}.bin", os.urandom(size)) for number in range(count)]

    def rows(*numbers: int) -> Dataset:
        return Dataset.from_dict({"file": [paths[number] for number in numbers]})

    rows(0).save("t", column_types={"file": "file"})
    before, free = files(disk / "home" / "blobs"), shutil.disk_usage(disk).free
    for fill in (
        lambda: rows(*range(count)).append_to("t"),
        lambda: rows(*range(1, count)).overwrite("t"),
        lambda: rows(*range(count)).save("new", column_types={"file": "file"}),
    ):
        with pytest.raises(StorageFullError) as failure:
            fill()
        assert failure.value.remaining_objects == ()
        assert files(disk / "home" / "blobs") == before
        assert shutil.disk_usage(disk).free > free - MIB  # some notes are kept in the cache
    rows(1, 2, 0).append_to("t")
    whole = [Path(paths[number]).read_bytes() for number in (0, 1, 2, 0)]
    assert [row["file"].bytes() for row in Dataset("t").rows()] == whole


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.parametrize("fill", ["append", pytest.param("create", marks=pytest.mark.soak)])
def test_workers_that_filled_the_disk_leave_no_files(fill: str, disk: Path, tmp_path: Path) -> None:
    """Each of them has stored files, some of them parts that were complete."""
    paths = [pictures.write(tmp_path / f"{number}.bin", os.urandom(2 * MIB)) for number in range(24)]
    source = Dataset.from_dict({"file": paths[:1]}).save("source", column_types=None)
    for path in paths[1:]:
        source = Dataset.from_dict({"file": [path]}).append_to("source")
    source.slice(0, 2).save("t", column_types={"file": "file"})
    stays = {path for path in files(disk / "home") if path.name != "catalog.db"}
    fills = {
        "append": lambda: append_to(source, "t", Processes(2)),
        "create": lambda: save(source, "new", Processes(2), column_types={"file": "file"}),
    }
    with pytest.raises(StorageFullError) as failure:
        fills[fill]()
    assert failure.value.remaining_objects == ()
    assert {path for path in files(disk / "home") if path.name != "catalog.db"} == stays
    append_to(source.slice(2, 4), "t", Processes(2))
    whole = [Path(path).read_bytes() for path in paths[:6]]
    assert [row["file"].bytes() for row in Dataset("t").rows()] == whole[: len(Dataset("t"))]


@pytest.mark.live
def test_rows_that_are_spilled_to_a_full_disk(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("LAKEFEED__SQL__MEMORY_BYTES", str(64 * MIB))
    many(size=30_000, count=4_000).save("m")
    keys = Dataset.from_dict({"k": [f"{number:0200}" for number in range(400_000)]})
    for rows in (
        Dataset("m").shuffle(seed=1),
        Dataset("m").sort("x", descending=True),
        keys.sql("SELECT * FROM data ORDER BY k DESC"),
    ):
        with pytest.raises(StorageFullError, match=f"cannot write '{disk}/cache/spill'") as failure:
            sum(len(batch["b" if "b" in batch else "k"]) for batch in rows.batches(500))
        assert failure.value.errno == errno.ENOSPC
    assert not [path for path in files(disk) if path.stat().st_size > MIB]


def test_a_disk_for_reading_only_says_so(disk: Path) -> None:
    rows = Dataset.from_dict({"x": [1, 2, 3]})
    rows.save("t")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(StorageError) as failure:
        rows.append_to("t")
    assert str(disk) in str(failure.value)
    assert failure.value.errno == errno.EROFS
    assert Dataset("t").collect()["x"].to_pylist() == [1, 2, 3]


def test_files_of_a_lake_on_a_disk_for_reading_only(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAKEFEED_CACHE_DIR")
    Dataset.from_dict({"img": [pictures.write(disk / f"{n}.png") for n in range(3)]}).save("photos")
    with for_reading_only(disk):
        photos = Dataset("photos")
        [row, *_] = photos.rows()
        assert row["img"].numpy().shape == (pictures.HEIGHT, pictures.WIDTH, 3)
        assert row["img"].open().read() == row["img"].bytes() == pictures.encoded()
        assert len(photos.load_files("bytes").collect()) == 3
        for act in (row["img"].path, photos.load_files("path").collect, photos.shuffle(seed=1).collect, photos.cache):
            with pytest.raises(StorageError, match=r"Read-only file system; set \$LAKEFEED_CACHE_DIR") as failure:
                act()
            assert failure.value.errno == errno.EROFS


def test_a_filled_cache_on_a_disk_for_reading_only(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED_HOME", str(tmp_path / "home"))
    saved = Dataset.from_dict({"img": [pictures.write(tmp_path / "a.png")]}).save("photos")
    [cached] = saved.load_files("path").collect()["img"].to_pylist()
    os.utime(cached)  # a copy that was copied once more has lost its time, and is hashed again
    with for_reading_only(disk):
        for _ in range(2):
            assert Dataset("photos").load_files("path").collect()["img"].to_pylist() == [cached]
            assert Dataset("photos").load_files("bytes").collect()["img"].to_pylist() == [pictures.encoded()]


def test_the_error_travels_between_processes() -> None:
    error = StorageFullError("cannot write 'a'", errno.ENOSPC, "a", 12)
    same = pickle.loads(pickle.dumps(error))
    assert isinstance(same, OSError)
    assert (type(same), str(same), same.errno, same.filename, same.free_bytes) == (
        StorageFullError,
        "cannot write 'a'",
        errno.ENOSPC,
        "a",
        12,
    )
