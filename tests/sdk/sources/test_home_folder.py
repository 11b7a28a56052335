"""Paths that begin with ``~``."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed import Dataset, Image
from lakefeed.config import Settings
from lakefeed.errors import MissingFileError
from lakefeed.ingest import FolderSource, ManifestSource
from lakefeed.storage.urls import local_path
from tests.sdk.media.pictures import HEIGHT, WIDTH, write


@pytest.fixture
def user_folder(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "user"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def test_paths_that_begin_with_the_home_folder(user_folder: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), user_folder / "x.parquet")
    (user_folder / "y.csv").write_text("a\n1\n")
    with zipfile.ZipFile(user_folder / "z.zip", "w") as archive:
        archive.writestr("y.csv", "a\n1\n")
    for location in ("~/x.parquet", Path("~/x.parquet"), "~/*.csv", "zip://y.csv::~/z.zip", "file://~/y.csv"):
        assert Dataset.from_file(location).to_arrow().to_pydict() == {"a": [1]}
    with pytest.raises(MissingFileError, match=str(user_folder)):
        Dataset.from_file("~/nosuch.csv")
    assert local_path("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")
    assert local_path("a/~/b") == Path("a/~/b")


def test_files_of_the_home_folder(user_folder: Path) -> None:
    write(user_folder / "cat.png")
    assert Image("~/cat.png").numpy().shape == (HEIGHT, WIDTH, 3)
    rows = Dataset.from_dict({"photo": ["~/cat.png"]})
    assert [row["photo"].filename for row in rows.save("photos")] == ["cat.png"]
    [row] = rows.save("names", copy_files=False).rows()
    assert row["photo"].url == (user_folder / "cat.png").as_uri()
    [row] = rows.with_column_types({"photo": "image"}).load_files("path").rows()
    assert row["photo"] == str(user_folder / "cat.png")


def test_settings_and_ingestions_of_the_home_folder(user_folder: Path) -> None:
    (user_folder / "a.csv").write_text("a\n1\n")
    (user_folder / "list.txt").write_text("a.csv\n")
    folder = FolderSource("folder", into="rows", folder="~", pattern="*.csv", settle=0)
    assert [file.path for file in folder.list_files()] == ["a.csv"]
    manifest = ManifestSource("list", into="rows", manifest="~/list.txt")
    assert [file.path for file in manifest.list_files()] == ["a.csv"]
    settings = Settings.load(**{"home": "~/lake", "catalog.warehouse": "~/files", "blobs.url": "s3://bucket/~"})
    assert settings.home == user_folder / "lake"
    assert (settings.warehouse, settings.blob_url) == (str(user_folder / "files"), "s3://bucket/~")
