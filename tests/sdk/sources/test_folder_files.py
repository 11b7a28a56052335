"""A folder of files as rows, at once and as they arrive."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lakefeed import Dataset
from lakefeed.errors import FileError, InvalidArgumentError, MissingFileError
from lakefeed.ingest import FileAsRow, FolderSource, ingest
from tests.sdk.media.pictures import encoded


def photos(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded())
    return folder


def test_files_are_rows_with_the_names_of_their_folders(home: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "p", "cats/1.png", "cats/old/2.png", "dogs/é 3.PNG", "4.png")
    for name in (".hidden.png", "dogs/x.png.part", "dogs/Thumbs.db", "_tmp/5.png"):
        photos(folder, name)
    (folder / "circle").symlink_to(folder)
    os.mkfifo(folder / "fifo.png")
    rows = Dataset.from_folder(folder, label="parent")
    assert rows.select(["label"]).to_arrow()["label"].to_pylist() == [None, "cats", "old", "dogs"]
    assert next(iter(rows))["file"].bytes() == encoded()
    saved = rows.save("photos")
    assert saved.schema.field("file").metadata == {b"lakefeed.type": b"image"}
    found = saved.to_arrow().to_pylist()
    assert [(row["file"]["filename"], row["label"]) for row in found] == [
        ("4.png", None),
        ("1.png", "cats"),
        ("2.png", "old"),
        ("é 3.PNG", "dogs"),
    ]
    assert {row["file"]["sha256"] is not None for row in found} == {True}
    assert Dataset.from_folder(str(folder / "cats")).schema.names == ["file"]
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    assert Dataset.from_folder(tmp_path / "texts").schema.field("file").metadata == {b"lakefeed.type": b"file"}


def test_wrong_folders_and_labels(home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for folder, error in (
        (tmp_path / "absent", MissingFileError),
        (tmp_path / "empty", MissingFileError),
        (tmp_path / "file", FileError),
        ("", InvalidArgumentError),
        (None, InvalidArgumentError),
        (b"x", InvalidArgumentError),
        ("s3://bucket/x", InvalidArgumentError),
    ):
        with pytest.raises(error):
            Dataset.from_folder(folder)  # type: ignore[arg-type]
    for label in ("grandparent", True, 7, ""):
        with pytest.raises(InvalidArgumentError, match="label"):
            Dataset.from_folder(tmp_path, label=label)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match="label"):
            FileAsRow(label)  # type: ignore[arg-type]
    photos(tmp_path / "bad", os.fsdecode(b"\xff.png"))
    with pytest.raises(FileError, match=r"\\xff\.png"):
        Dataset.from_folder(tmp_path / "bad")


def test_files_that_arrive_are_added_to_what_was_there(home: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "p", "cats/1.png", "dogs/2.png")
    source = FolderSource("photos", "photos", str(folder), "*/*.png", read=FileAsRow("parent"), settle=0)
    assert sum(result.rows for result in ingest(source)) == 2
    photos(folder, "cats/3.png")
    assert sum(result.rows for result in ingest(source)) == 1
    rows = Dataset("photos")
    assert rows.to_arrow()["label"].to_pylist() == ["cats", "dogs", "cats"]
    assert rows.schema == Dataset.from_folder(folder, label="parent").schema
    assert [row["file"].bytes() for row in rows][2] == encoded()
