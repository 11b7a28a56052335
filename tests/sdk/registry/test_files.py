"""Files: contents of any kind, by themselves or by the thousand, with versions of their own."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import lakefeed
import lakefeed.registry as ln
from lakefeed.catalog.lake import Lake
from lakefeed.errors import (
    FileError,
    FormatError,
    ImmutableRecordError,
    InvalidArgumentError,
    MissingFileError,
    SchemaError,
    TypeMismatchError,
    UnsavedDatasetError,
)
from tests.sdk.test_garbage import age

pytestmark = pytest.mark.live  # many lakes


def test_files_are_loaded_by_their_suffix(lake: Lake, tmp_path: Path) -> None:
    contents = {
        "a.csv": b"x,y\n1,a\n", "a.tsv": b"x\ty\n1\ta\n", "a.jsonl": b'{"x": 1, "y": "a"}\n', "a.json": b'{"x": [1]}',
        "a.txt": "é".encode(), "a.bin": b"\0\1", "README": b"raw", "bad.csv": b"\xff\xfe\0", "bad.json": b"{",
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    files = {name: ln.File(tmp_path / name) for name in contents}
    ln.File.save_all(list(files.values()))
    for name in ("a.csv", "a.tsv", "a.jsonl"):
        assert files[name].load().to_dict("list") == {"x": [1], "y": ["a"]}
    assert files["a.csv"].load(dtype=str)["x"].tolist() == ["1"]
    assert files["a.json"].load() == {"x": [1]}
    assert [files[name].load() for name in ("a.txt", "a.bin", "README")] == ["é", b"\0\1", b"raw"]
    for name in ("bad.csv", "bad.json"):
        with pytest.raises(FormatError, match="cannot be read as"):
            files[name].load()
    assert Path(files["a.bin"].stage()).read_bytes() == b"\0\1"
    assert (files["a.csv"].suffix, files["README"].suffix, files["a.csv"].size) == (".csv", "", 8)


def test_data_in_memory_become_files(lake: Lake) -> None:
    frame = pd.DataFrame({"x": [1, 2]}, index=pd.Index(["a", "b"], name="id"))
    file = ln.File(frame, key="frames/a.parquet", description="two rows", labels=["raw"])
    assert (file.suffix, file.uid) == (".parquet", None)
    file.save()
    pd.testing.assert_frame_equal(file.load(), frame)
    same = ln.File(pa.table({"x": [1]}))
    same.save()
    assert same.load()["x"].tolist() == [1]
    found = ln.File.filter(key__startswith="frames/", ulabels="raw").one()
    assert (found, found.description, found.version) == (file, "two rows", "1")


def test_a_folder_of_files_is_one_transaction(lake: Lake, tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number % 7}").mkdir(exist_ok=True)
        (tmp_path / f"{number % 7}/{number:04}.txt").write_text(str(number))
    files = ln.File.from_dir(tmp_path, key="texts")
    assert [file.key for file in files] == sorted(str(file.key) for file in files)
    ln.File.save_all(files)
    assert len({file.uid for file in files}) == ln.File.filter(key__startswith="texts/").count() == 300
    again = ln.File.from_dir(tmp_path, key="texts")
    ln.File.save_all(again)
    assert [file.uid for file in again] == [file.uid for file in files]
    assert files[5].load() == again[5].load()
    with pytest.raises(MissingFileError):
        ln.File.from_dir(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match="no files"):
        ln.File.from_dir(tmp_path / "empty")


def test_nothing_is_saved_of_files_of_which_one_is_missing(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    files = [ln.File(tmp_path / "a.txt"), ln.File(tmp_path / "gone.txt")]
    with pytest.raises(MissingFileError, match=r"gone\.txt"):
        ln.File.save_all(files)
    assert (ln.File.filter().count(), files[0].uid) == (0, None)
    with pytest.raises(FileError, match="is a folder"):
        ln.File(tmp_path).save()
    with pytest.raises(MissingFileError):
        ln.Dataset(files, name="x").save()
    assert (ln.File.filter().count(), ln.Dataset.filter().count()) == (0, 0)
    for wrong in (None, 7, ["a"], files[0]):
        with pytest.raises(InvalidArgumentError):
            ln.File.save_all(wrong)  # type: ignore[arg-type]


def test_files_have_versions(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    first = ln.File(path, key="a.txt")
    first.save()
    path.write_text("two")
    second = ln.File(path, is_new_version_of=first)
    assert (second.version, second.initial_version) == ("2", first)
    second.save()
    assert (str(second.uid)[:16], second.key, first.load(), second.load()) == (
        str(first.uid)[:16],
        "a.txt",
        "one",
        "two",
    )
    path.write_text("three")
    with pytest.raises(InvalidArgumentError, match="is taken"):
        ln.File(path, is_new_version_of=second, version="1").save()
    assert ln.File.get(str(first.uid)[:16]) == second
    assert [each.version for each in first.versions] == ["1", "2"]
    with pytest.raises(UnsavedDatasetError):
        ln.File(path, is_new_version_of=ln.File(path)).save()
    with pytest.raises(TypeMismatchError):
        ln.Dataset(path, is_new_version_of=first)  # type: ignore[arg-type]
    with pytest.raises(ImmutableRecordError):
        first.key = "b.txt"


def test_contents_of_files_are_kept_until_their_records_are_gone(lake: Lake, home: Path, tmp_path: Path) -> None:
    for name in ("kept", "trashed", "gone"):
        (tmp_path / f"{name}.txt").write_text(name)
    files = {name: ln.File(tmp_path / f"{name}.txt") for name in ("kept", "trashed", "gone")}
    ln.File.save_all(list(files.values()))
    files["trashed"].delete()
    files["gone"].delete(permanent=True)
    assert [each.key for each in ln.File.filter()] == [None]
    age(home)
    lakefeed.collect_garbage(dry_run=False, grace=dt.timedelta(0))
    assert files["kept"].load() == "kept"
    files["trashed"].restore()
    assert files["trashed"].load() == "trashed"


@pytest.mark.filterwarnings("ignore:.*names are not unique")
def test_files_with_repeated_variables_are_not_joined(lake: Lake) -> None:
    anndata = pytest.importorskip("anndata")
    files = [
        ln.File(anndata.AnnData(np.ones((1, 2), np.float32), var=pd.DataFrame(index=names)), key=f"{names[1]}.h5ad")
        for names in (["a", "b"], ["c", "c"])
    ]
    dataset = ln.Dataset(files, name="cells")
    dataset.save()
    with pytest.raises(SchemaError, match=r"'c\.h5ad'.*var_names_make_unique"):
        dataset.load()
