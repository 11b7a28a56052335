"""Large files in datasets and file trees: stored in chunks, and read like any others."""

from __future__ import annotations

import datetime as dt
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from lakefeed import Dataset, collect_garbage
from lakefeed.catalog.lake import Lake
from lakefeed.cli.main import cli
from lakefeed.errors import IntegrityError, MissingFileError
from lakefeed.storage.blobs.packs import read_index
from lakefeed.trees import FileTree
from tests.sdk.media.pictures import write
from tests.sdk.media.recorded import make_video, number
from tests.sdk.test_garbage import age

MIB = 1 << 20
SIZE = 3 * MIB
DATA = random.Random(5).randbytes(SIZE)
EDITED = DATA[: SIZE // 2] + b"1234567" + DATA[SIZE // 2 + 7 :]
EDIT_BYTES = MIB


@pytest.fixture(autouse=True)
def chunked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of these sizes are stored in chunks."""
    monkeypatch.setenv("LAKEFEED__BLOBS__CHUNK_FROM_BYTES", "200000")
    monkeypatch.setenv("LAKEFEED__BLOBS__PACK_BELOW_BYTES", "100000")


def stored_bytes(home: Path) -> int:
    return sum(path.stat().st_size for path in (home / "blobs").rglob("*") if path.is_file())


def recipes() -> int:
    objects = Lake.current().blobs.backend.objects
    return sum(int(read_index(objects, pack)["is_recipe"].sum()) for pack in objects.list("packs"))


def damage_chunks(home: Path) -> None:
    """Changes a byte of each chunk."""
    objects = Lake.current().blobs.backend.objects
    for pack in objects.list("packs"):
        path = home / "blobs" / pack.key
        path.chmod(0o644)
        with path.open("r+b") as stream:
            for entry in read_index(objects, pack):
                if not entry["is_recipe"]:
                    stream.seek(int(entry["offset"]))
                    first = stream.read(1)[0]
                    stream.seek(-1, 1)
                    stream.write(bytes([first ^ 1]))


def test_versions_of_a_file_share_chunks_and_are_read_in_every_way(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "weights.bin", DATA)
    saved = Dataset.from_dict({"file": [path, write(tmp_path / "other.bin", DATA[::-1])], "x": [1, 2]}).save(
        "one", column_types={"file": "file"}
    )
    before = stored_bytes(home)
    write(tmp_path / "weights.bin", EDITED)
    Dataset.from_dict({"file": [path], "x": [3]}).overwrite("one")
    Dataset.from_dict({"file": [EDITED], "x": [4]}).append_to("one")  # from memory
    assert stored_bytes(home) - before < EDIT_BYTES
    assert recipes() == 3
    assert [row["file"].bytes() for row in saved.rows()] == [DATA, DATA[::-1]]
    Dataset("one").save("copy")  # records that are passed on
    shutil.move(home, tmp_path / "moved")
    monkeypatch.setenv("LAKEFEED_HOME", str(tmp_path / "moved"))
    first, second = (row["file"] for row in Dataset("copy").rows())
    assert (first.sha256, first.size) == (second.sha256, SIZE)
    assert first.path().read_bytes() == EDITED
    with second.open() as stream:
        stream.seek(SIZE // 2)
        assert stream.read(7) == b"1234567"
    loaded = Dataset("copy").load_files("bytes").collect()
    assert loaded.column("file").to_pylist() == [EDITED, EDITED]


@pytest.mark.live
def test_readers_of_formats_open_what_they_need(home: Path, tmp_path: Path) -> None:
    table = pa.table({"x": pa.array(random.Random(1).choices(range(1 << 40), k=300_000))})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=50_000, compression="none")
    video = make_video(tmp_path / "v.avi", frames=10, size=(320, 240), codec="rawvideo")
    Dataset.from_dict({"file": [str(tmp_path / "x.parquet")], "video": [video]}).save(
        "media", column_types={"file": "file", "video": "video"}
    )
    assert recipes() == 2
    [row] = Dataset("media").rows()
    with row["file"].open() as stream:
        assert pq.ParquetFile(stream).read_row_group(3).equals(table.slice(150_000, 50_000))
    assert [number(frame) for frame in row["video"].frames(4, 7)] == [4, 5, 6]
    assert row["video"].info()["num_frames"] == 10
    assert not [path for path in (tmp_path / "cache" / "sha256").rglob("*") if path.is_file()]  # no copy was needed


@pytest.mark.live
def test_damage_names_the_file(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    write(folder / "models" / "weights.bin", DATA)
    tree = FileTree.create("model", "nets")
    tree.add_files(folder)
    tree.upload(show_progress=False)
    tree.finalize()
    Dataset.from_dict({"file": [str(folder / "models" / "weights.bin")]}).save("one", column_types={"file": "file"})
    verify = lambda: CliRunner().invoke(cli, ["verify", "one", "--files", "--no-header"])  # noqa: E731
    assert verify().exit_code == 0
    damage_chunks(home)
    with pytest.raises(IntegrityError, match=r"the file 'models/weights.bin' of .*: a chunk of the blob .*#bytes="):
        tree.get_local_copy()
    result = verify()
    assert result.exit_code != 0
    assert "weights.bin\ta chunk of the blob" in result.output
    handle = next(iter(Dataset("one").rows()))["file"]
    for read in (handle.path, handle.bytes, lambda: handle.open().read()):
        with pytest.raises(IntegrityError, match="a chunk of the blob"):
            read()
    for pack in (home / "blobs" / "packs").iterdir():
        pack.unlink()
    with pytest.raises(MissingFileError, match=r"the file 'models/weights.bin' of"):
        tree.get_local_copy()


def test_files_that_were_damaged_are_stored_anew(home: Path, tmp_path: Path) -> None:
    """By adding the same files, large and small, to the next version; a collection leaves the sound copies."""
    folder = tmp_path / "files"
    write(folder / "weights.bin", DATA)
    write(folder / "small.txt", b"small")
    write(folder / "alone.bin", DATA[:150_000])
    write(folder / "sound.txt", b"sound")
    tree = FileTree.create("model", "nets")
    tree.add_files(folder)
    tree.finalize(auto_upload=True)
    damage_chunks(home)
    for path in (home / "blobs" / "sha256").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(b"x" * path.stat().st_size)
    child = FileTree.create("model", parent_datasets=[tree])
    assert tuple(child.sync_folder(folder)) == (0, 0)
    assert not child.is_dirty()
    for name in ("weights.bin", "small.txt", "alone.bin"):
        with pytest.raises(IntegrityError, match=name):
            tree.get_local_copy(files=name)
    assert tuple(child.sync_folder(folder)) == (0, 0)
    assert child.add_files(folder).unchanged == 4
    assert child.is_dirty()
    assert child.finalize(auto_upload=True)
    assert (child.list_modified_files(), child.list_files(dataset_id=child.id)) == ([], [])
    for name in ("weights.bin", "small.txt", "alone.bin"):
        for each in (tree, child):
            assert (Path(str(each.get_local_copy(files=name))) / name).read_bytes() == (folder / name).read_bytes()
    age(home)
    shutil.rmtree(Lake.current().settings.cache)  # as on another machine
    collect_garbage(dry_run=False, grace=dt.timedelta(0))
    for name in ("weights.bin", "small.txt", "alone.bin"):
        assert (Path(str(tree.get_local_copy(files=name))) / name).read_bytes() == (folder / name).read_bytes()


def test_a_tree_stores_the_change_of_a_large_file(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    write(folder / "weights.bin", DATA)
    write(folder / "small.txt", b"small")
    tree = FileTree.create("model", "nets")
    tree.add_files(folder)
    tree.upload(show_progress=False)
    tree.finalize()
    before = stored_bytes(home)
    write(folder / "weights.bin", EDITED)
    child = FileTree.create("model", parent_datasets=[tree])
    assert child.sync_folder(folder).modified == 1
    child.upload(show_progress=False)
    child.finalize()
    assert stored_bytes(home) - before < EDIT_BYTES
    for each, data in ((tree, DATA), (child, EDITED)):
        assert (Path(str(each.get_local_copy())) / "weights.bin").read_bytes() == data
    target = tmp_path / "mutable"
    child.get_mutable_local_copy(str(target))
    assert (target / "weights.bin").read_bytes() == EDITED
